"""`wait`, and what commands do with a transaction that waits for a time."""

import pytest


@pytest.fixture
def waiting(cli, made, app):
    """A transaction whose second step is tried again in an hour."""
    name = made(("pay", "refund"), ("send", None))
    app.says("later", "send")
    ran = cli(f"commit {name} {app.option}", code=5)
    assert "waits until" in ran.out
    assert "recorded, but not carried out" not in ran.err
    return name


def test_waiting_ends_with_5_when_the_time_is_over(cli, waiting, app):
    ran = cli(f"wait {waiting} --timeout 0 {app.option}", code=5)
    assert "waits until" in ran.out
    assert app.calls == ["pay", "send"]


def test_what_is_due_is_carried_on(cli, made, app):
    """The second attempt is due after 0.2 seconds."""
    name = made(("flaky", None))
    cli(f"commit {name} {app.option} --wait-max 0", code=5)
    assert "committed" in cli(f"wait {name} {app.option}").out


def test_a_wait_ends_with_the_code_of_the_outcome(cli, made, app):
    done, back, left = made(("pay", None)), made(("send", None)), made(("mail", None))
    app.fails("send")
    app.unknown("mail")
    for name, code in ((done, 0), (back, 3), (left, 4)):
        cli(f"commit {name} {app.option}", code=code)
        cli(f"wait {name}", code=code)


def test_nobody_waits_for_what_has_not_begun(cli, made):
    name = made()
    ran = cli(f"wait {name}", code=5)
    assert f"it is pending; begin it with: aumai-transactions commit {name}" in ran.err


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(cli, made, seconds):
    name = made()
    for command in (f"wait {name} --timeout", f"commit {name} --wait-max"):
        cli(f"{command} {seconds}", code=2)
    assert cli(f"status {name}").json["state"] == "pending"


def test_a_waiting_transaction_can_be_undone_at_once(cli, waiting, app):
    assert "undone: s1" in cli(f"rollback {waiting} {app.option}").out
    assert app.calls[-1] == "refund"


def test_json_of_a_waiting_transaction_says_until_when_and_stderr_how_to_go_on(cli, made, app):
    name = made(("send", None))
    app.says("later", "send")
    ran = cli(f"commit {name} {app.option} --json -q", code=5)
    assert ran.json["waiting"]["reason"] == "retry"
    assert ran.json["waiting"]["until"].endswith("Z")
    assert f"aumai-transactions retry {name} s1" in ran.err


def test_an_undo_that_finds_nothing_says_why(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    app.fails("send")
    app.says("nothing", "refund")
    ran = cli(f"commit {name} {app.option}", code=3)
    assert "s1: nothing to undo" in ran.err
    assert "nothing to undo: answered 404 Not Found" in ran.out
    assert "nothing to undo: answered 404 Not Found" in cli(f"show {name}").out
