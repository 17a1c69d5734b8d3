import json

import pytest

PLAN = """
name = "purchase"
timeout_seconds = 30
[actions.note]
kind = "command"
argv = ["sh", "-c", 'echo "$0" >> notes; echo {\\"id\\": 7}', "noted"]
[actions.forget]
kind = "command"
argv = ["sh", "-c", "echo forgotten >> notes"]
[actions.refuse]
kind = "command"
argv = ["sh", "-c", "echo too expensive >&2; exit 1"]
"""
STEP = '[[steps]]\nagent = "a"\naction = "a"\n'


@pytest.fixture
def plan(tmp_path, home):
    """Write a plan file; each step is (name, action)."""

    def write(*steps):
        text = PLAN + "".join(
            f'[[steps]]\nname = "{name}"\nagent = "buyer"\naction = "{action}"\n'
            'compensating_action = "forget"\n'
            for name, action in steps
        )
        (tmp_path / "here" / "plan.toml").write_text(text)
        return "plan.toml"

    return write


@pytest.fixture
def notes(tmp_path):
    def read():
        path = tmp_path / "here" / "notes"
        return path.read_text().split() if path.exists() else []

    return read


def test_a_plan_that_works_commits(cli, plan, notes):
    ran = cli(f"run {plan(('one', 'note'), ('two', 'note'))}")
    assert notes() == ["noted", "noted"]
    first = ran.out.splitlines()[0]
    assert first.startswith("Transaction ")
    assert first.endswith(": committed")
    assert first.split()[1].rstrip(":") in ran.err.splitlines()[0]


def test_a_plan_that_fails_is_undone_and_ends_with_3(cli, plan, notes):
    ran = cli(f"run {plan(('one', 'note'), ('two', 'refuse'))}", code=3)
    assert notes() == ["noted", "forgotten"]
    assert "too expensive" in ran.out
    row = next(line for line in ran.out.splitlines() if line.split()[:1] == ["one"])
    assert "done" in row
    assert "undone" in row.partition("forget")[2]


def test_events_are_told_line_by_line_where_nobody_sits_at_a_terminal(cli, plan):
    said = cli(f"run {plan(('one', 'note'), ('two', 'refuse'))}", code=3).err
    for text in (
        "one: buyer starts note",
        "one: done",
        "two: failed",
        "rolling back (step failed): two: ",
        "one: undoing it with forget",
        "one: undone",
    ):
        assert text in said
    assert "\x1b" not in said


def test_quiet_says_only_the_id(cli, plan):
    ran = cli(f"run --quiet {plan(('one', 'note'))}")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("transaction ")


def test_json_is_the_whole_result(cli, plan):
    ran = cli(f"run --json {plan(('one', 'note'), ('two', 'refuse'))}", code=3)
    found = json.loads(ran.out)
    assert found["state"] == "rolled_back"
    assert found["completed_steps"] == ["one"]
    assert found["failed_step"] == "two"
    assert found["durable"] is True


def test_the_journal_holds_what_recovery_needs(cli, plan):
    cli(f"run {plan(('one', 'note'))}")
    name = cli("list --json").json["items"][0]["transaction_id"]
    transaction = cli(f"show {name} --json").json["transaction"]
    assert set(transaction["actions"]) == {"note", "forget", "refuse"}
    assert transaction["name"] == "purchase"
    assert transaction["timeout_seconds"] == 30


@pytest.mark.parametrize(
    "text,said",
    [
        ("", "is empty"),
        ("x = [", "is not TOML"),
        ('[[steps]]\nagent = "a"\naction = "nope"\n', "steps[1].action"),
        ('[[steps]]\nagent = "a"\n', "steps[1]"),
        (
            '[actions.a]\nkind = "command"\nargv = ["no-such-program-here"]\n' + STEP,
            "no-such-program-here",
        ),
        (
            '[actions.a]\nkind = "python"\ncall = "no_such_module:f"\n' + STEP,
            "no_such_module",
        ),
    ],
)
def test_a_plan_that_cannot_run_leaves_nothing_behind(cli, tmp_path, folder, text, said):
    (tmp_path / "here" / "plan.toml").write_text(text)
    for command in ("run", "check"):
        assert said in cli(f"{command} plan.toml", code=2).err
    assert not folder.exists()


def test_a_plan_may_use_an_apps_handlers(cli, tmp_path, app):
    (tmp_path / "here" / "plan.toml").write_text('[[steps]]\nagent = "a"\naction = "pay"\n')
    assert "pay" in cli("run plan.toml", code=2).err
    cli(f"run plan.toml {app.option}")
    assert app.calls == ["pay"]


def test_a_plan_may_run_in_memory(cli, plan, folder):
    assert "in memory only" in cli(f"run {plan(('one', 'note'))} --store memory:").out
    assert not folder.exists()


def test_commit_carries_out_what_was_put_together(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    ran = cli(f"commit {name} {app.option} --json")
    assert ran.json["state"] == "committed"
    assert app.calls == ["pay", "send"]


def test_a_transaction_without_steps_commits(cli, made):
    assert "committed" in cli(f"commit {made()}").out


def test_an_unknown_action_is_refused_before_anything_runs(cli, made, app):
    name = made(("pay", "refund"), ("nobody_knows", None))
    ran = cli(f"commit {name} {app.option}", code=2)
    assert "'nobody_knows'" in ran.err
    assert "--app module:attribute" in ran.err
    assert app.calls == []
    assert cli(f"status {name}").json["state"] == "pending"


def test_committing_twice_is_a_conflict(cli, made):
    name = made()
    cli(f"commit {name}")
    assert "it is committed" in cli(f"commit {name}", code=7).err


def test_a_deadline_that_has_passed_fails_the_transaction(cli, app):
    name = cli("create --timeout 0.000001").json["transaction_id"]
    cli("add-step", name, "--agent", "a", "--action", "pay")
    assert "failed" in cli(f"commit {name} {app.option}", code=3).out
    assert app.calls == []


def test_rollback_runs_every_compensating_action_in_reverse(cli, made, app):
    name = made(("pay", "refund"), ("send", "unsend"))
    assert "--app" in cli(f"rollback {name}", code=2).err
    assert cli(f"status {name}").json["state"] == "pending"
    cli(f"rollback {name} {app.option}", code=0)
    assert app.calls == ["unsend", "refund"]


def test_an_error_with_line_ends_cannot_pretend_to_be_a_line_of_ours(cli, made, app):
    name = made(("pay", "refund"))
    app.fails("pay", "broken\n  undone: s1, s2, s3")
    ran = cli(f"commit {name} {app.option}", code=3)
    assert r"broken\n  undone: s1, s2, s3" in ran.out
    assert "\n  undone: s1, s2, s3" not in ran.out + ran.err


def test_what_a_plan_says_about_order_approval_and_commit_is_journaled(cli, tmp_path):
    (tmp_path / "here" / "plan.toml").write_text(
        "parallel_compensation = true\nallow_irreversible_first = true\n"
        'on_undo_window = "roll_back"\n'
        '[actions.a]\nkind = "command"\nargv = ["true"]\nidempotent = true\n'
        '[[steps]]\nname = "one"\nagent = "x"\naction = "a"\nafter = []\n'
        'requires_approval = true\napproval_timeout_seconds = 90\nconfirming_action = "a"\n'
        "undo_within_seconds = 900\n"
        '[[steps]]\nname = "two"\nagent = "x"\naction = "a"\npivot = true\n'
        'data = { id = { "$output" = "one", type = "null" } }\n'
        '[[steps]]\nname = "three"\nagent = "x"\naction = "a"\non_commit = true\n'
    )
    name = cli("run plan.toml --wait-max 0 --json", code=5).json["transaction_id"]
    found = cli(f"show {name} --json").json["transaction"]
    assert (found["parallel_compensation"], found["allow_irreversible_first"]) == (True, True)
    assert found["on_undo_window"] == "roll_back"
    one, two, three = found["steps"]
    assert (one["after"], one["requires_approval"], one["confirming_action"]) == ([], True, "a")
    assert (one["approval_timeout_seconds"], one["undo_within_seconds"]) == (90, 900)
    assert (two["pivot"], two["references"][0]["type"]) == (True, "null")
    assert (three["on_commit"], three["pivot"]) == (True, False)


def test_an_approval_that_is_waited_for_is_told_to_a_program_too(cli, tmp_path):
    (tmp_path / "here" / "plan.toml").write_text(
        '[actions.a]\nkind = "command"\nargv = ["true"]\nrequires_approval = true\n'
        '[[steps]]\nagent = "x"\naction = "a"\n'
    )
    waiting = cli("run plan.toml --wait-max 0 --json", code=5).json["waiting"]
    assert (waiting["reason"], waiting["step_ids"]) == ("approval", ["s1"])
