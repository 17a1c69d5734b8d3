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
