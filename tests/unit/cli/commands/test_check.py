def test_a_plan_is_checked_and_its_risks_are_told(cli, tmp_path, folder):
    (tmp_path / "here" / "plan.toml").write_text(
        '[actions.a]\nkind = "command"\nargv = ["true"]\n[[steps]]\nagent = "x"\naction = "a"\n'
    )
    ran = cli("check plan.toml")
    assert "nothing stands in the way" in ran.out
    assert "nothing undoes 'a'" in ran.out
    found = cli("check plan.toml --json").json
    assert found["ok"] is True
    assert found["warnings"]
    assert not folder.exists()


def test_a_pending_transaction_is_checked_against_the_app(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    ran = cli(f"check {name}", code=2)
    for action in ("pay", "refund", "send"):
        assert repr(action) in ran.err
    assert cli(f"check {name} --json", code=2).json["ok"] is False
    assert "nothing undoes 'send'" in cli(f"check {name} {app.option}").out
    assert app.calls == []


def test_a_plan_that_does_not_exist_is_told_by_its_name(cli):
    assert "nowhere.toml" in cli("check nowhere.toml", code=2).err


def test_the_risks_of_a_transaction_have_codes_and_steps(cli, made, app):
    name = made(("send", None), ("pay", "refund"))
    found = cli(f"check {name} {app.option} --json").json
    told = {(risk["code"], risk["step_id"]) for risk in found["risks"]}
    assert {("not_undone", "s1"), ("no_probe", "s2"), ("undo_not_idempotent", "s2")} <= told
    assert found["warnings"] == [risk["message"] for risk in found["risks"]]
    mapped = cli(f"check {name} {app.mapping} --json").json
    assert "plain_handler" in {risk["code"] for risk in mapped["risks"]}


def test_strict_ends_with_1_where_there_is_any_risk(cli, tmp_path):
    here = tmp_path / "here"
    table = '[actions.a]\nkind = "command"\nargv = ["true"]\nidempotent = true\n'
    step = '[[steps]]\nagent = "x"\naction = "a"\n'
    (here / "risky.toml").write_text(table + step)
    (here / "safe.toml").write_text(table + 'effect = "none"\n' + step)
    assert "worth knowing" in cli("check risky.toml --strict", code=1).out
    assert "worth knowing" not in cli("check safe.toml --strict").out
    cli("check risky.toml")


def test_a_plan_is_held_to_the_rules_of_every_transaction_too(cli, tmp_path):
    (tmp_path / "here" / "plan.toml").write_text(
        'timeout_seconds = 5\n[actions.a]\nkind = "command"\nargv = ["true"]\n'
        '[[steps]]\nname = "one"\nagent = "x"\naction = "a"\ntimeout_seconds = 9\n'
        "retry = { attempts_max = 3 }\n"
        '[steps.data]\npassword = "hunter2"\n'
    )
    found = cli("check plan.toml --json").json
    told = [risk["code"] for risk in found["risks"] if risk["step_id"] == "one"]
    assert set(told) >= {"timeout_beyond_deadline", "retry_not_idempotent", "secret_in_data"}
    stays = [text for text in found["warnings"] if "so its effect stays" in text]
    assert len(stays) == 1
    assert ("not_undone", "one") in {(risk["code"], risk["step_id"]) for risk in found["risks"]}
    assert "hunter2" not in cli("check plan.toml").out


def test_a_finished_transaction_is_checked_and_said_to_be_finished(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"commit {name} {app.option}")
    assert "it is committed" in cli(f"check {name} {app.option}").out


def test_what_steps_declare_about_order_and_commit_is_told(cli, tmp_path):
    (tmp_path / "here" / "plan.toml").write_text(
        '[actions.a]\nkind = "command"\nargv = ["true"]\nidempotent = true\n'
        'requires_approval = true\neffect = "irreversible"\n'
        '[[steps]]\nagent = "x"\naction = "a"\npivot = true\n'
        '[[steps]]\nagent = "x"\naction = "a"\non_commit = true\nrequires_approval = false\n'
    )
    ran = cli("check plan.toml --strict")
    assert "a       -     the pivot: its success is the commit; a person must allow it" in ran.out
    first, second = cli("check plan.toml --json").json["steps"]
    assert (first["pivot"], first["requires_approval"]) == (True, True)
    assert (second["on_commit"], second["requires_approval"]) == (True, False)


def test_what_cannot_be_undone_before_what_can_be_stands_in_the_way(cli, tmp_path):
    text = (
        '[actions.a]\nkind = "command"\nargv = ["true"]\neffect = "irreversible"\n'
        '[actions.b]\nkind = "command"\nargv = ["true"]\ncompensating_action = "b"\n'
        '[[steps]]\nagent = "x"\naction = "a"\n[[steps]]\nagent = "x"\naction = "b"\n'
    )
    plan = tmp_path / "here" / "plan.toml"
    plan.write_text(text)
    assert "plan.toml: steps[1]: nothing can undo" in cli("check plan.toml", code=2).err
    plan.write_text(f"allow_irreversible_first = true\n{text}")
    cli("check plan.toml")
