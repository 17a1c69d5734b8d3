"""`approve` and `deny`, and what is shown of a step that waits for a person."""

import re

import pytest


@pytest.fixture
def asking(cli, made, app):
    """A transaction whose second step waits for a person."""
    name = made(
        ("pay", "refund"), ("send", "unsend", "--requires-approval", "--data", '{"amount": 850}')
    )
    ran = cli(f"commit {name} {app.option} --wait-max 0", code=5)
    assert app.calls == ["pay"]
    assert "waits for an approval" in ran.out
    return name


def digest_of(cli, name):
    (asked,) = cli(f"show {name} --json").json["approvals"]
    return asked["digest"]


def test_what_is_to_be_allowed_is_shown_whole_with_the_commands_that_answer(cli, asking):
    digest = digest_of(cli, asking)
    for command in (f"show {asking}", "outstanding"):
        said = cli(command).out
        assert "s2: an_agent does send, undone by unsend" in said
        assert 'data    {"amount": 850}' in said
        assert f"digest  {digest}" in said
        approve = f"aumai-transactions approve {asking} s2 --digest {digest} --app module:attribute"
        assert approve in said
        assert f"aumai-transactions deny {asking} s2 --note 'why not'" in said
    assert "a person: approval" in cli("list").out


def test_json_has_what_is_to_be_allowed(cli, asking):
    (found,) = cli("outstanding --json").json
    assert found["attention"] == "approval"
    (asked,) = found["approvals"]
    assert asked.pop("digest")
    assert asked == {
        "step_id": "s2",
        "agent_id": "an_agent",
        "action": "send",
        "compensating_action": "unsend",
        "data": {"amount": 850},
        "until": None,
    }


def test_an_approval_is_waited_for_and_is_no_trouble(cli, asking):
    for command in (f"show {asking}", f"status {asking}", "outstanding", "list"):
        cli(command)
        cli(f"{command} --exit-status", code=5)


def test_allowed_it_goes_on_and_says_who_allowed_it(cli, asking, app):
    ran = cli("approve", asking, "s2", "--note", "in budget", "--by", "alice", *app.option.split())
    assert app.calls == ["pay", "send"]
    assert "about to allow, as alice:" in ran.err
    assert ran.err.index('{"amount": 850}') < ran.err.index("allowed, by alice (in budget)")
    assert ": committed" in ran.out
    shown = cli(f"show {asking}").out
    assert re.search(r"decisions\n    s2  allowed, by alice \(in budget\)\n", shown)
    assert re.search(r"course\n    \S+ \S+  s2: a person must allow it\n", shown)
    assert cli("outstanding").err == "nothing needs a person\n"


def test_who_sits_here_answers_where_nobody_is_named(cli, asking, app, monkeypatch):
    monkeypatch.setenv("LOGNAME", "carol")
    assert "allowed, by carol" in cli(f"approve {asking} s2 {app.option}").err


def test_only_what_was_shown_is_allowed(cli, asking, app):
    ran = cli(f"approve {asking} s2 --digest 0123 {app.option}", code=7)
    assert "What was shown has the digest 0123" in ran.err
    assert app.calls == ["pay"]
    cli(f"approve {asking} s2 --digest {digest_of(cli, asking)} {app.option}")
    assert app.calls == ["pay", "send"]


@pytest.mark.parametrize("command", ["approve {} s1", "deny {} s1 --note x"])
def test_a_step_that_waits_for_nobody_is_refused_and_those_that_wait_are_named(
    cli, asking, command
):
    ran = cli(command.format(asking), code=7)
    assert f"step s1 of transaction {asking} waits for no approval. These do: s2." in ran.err
    ran = cli(command.format(asking).replace("s1", "s9"), code=6)
    assert "Its steps: s1, s2." in ran.err


def test_a_second_answer_comes_too_late(cli, asking, app):
    cli(f"approve {asking} s2 {app.option}")
    for command in (f"approve {asking} s2", f"deny {asking} s2 --note x"):
        assert "waits for no approval. See: " in cli(command, code=7).err


def test_denied_everything_is_undone(cli, asking, app):
    ran = cli(
        "deny", asking, "s2", "--note", "too dear", "--by", "bob", *app.option.split(), code=3
    )
    assert app.calls == ["pay", "refund"]
    assert "rolled_back (denied)" in ran.out
    assert "bob denied step s2 (too dear)" in ran.out
    shown = cli(f"show {asking}").out
    assert "s2  denied, by bob (too dear)" in shown
    assert re.search(r"s2 +an_agent +send +denied +unsend +-\n", shown)


def test_a_denial_says_why(cli, asking):
    assert "--note" in cli(f"deny {asking} s2", code=2).err
    assert "--note is empty" in cli(f"deny {asking} s2 --note ' '", code=2).err
    for command in (f"approve {asking} s2", f"deny {asking} s2 --note x"):
        assert "--by is empty" in cli("--quiet", *command.split(), "--by", " ", code=2).err


def test_an_answer_without_handlers_is_recorded_and_says_who_can_go_on(cli, asking, app):
    ran = cli(f"approve {asking} s2", code=5)
    assert "recorded, but not carried out yet. No handler here for " in ran.err
    assert "not finished: it is under way; nobody carries it on: aumai-transactions" in ran.out
    assert cli("outstanding").err == "nothing needs a person\n"
    assert "recover" in cli("list").out.split()
    cli(f"recover {app.option}")
    assert app.calls == ["pay", "send"]


def test_nobody_answered_in_time_counts_as_denied(cli, made, app):
    """The time is over after 0.05 seconds."""
    name = made(("pay", "refund"), ("asked_briefly", None, *app.option.split()))
    ran = cli(f"commit {name} {app.option}", code=3)
    assert f"allow it with: aumai-transactions approve {name} s2\n" in ran.err
    assert "nobody answered in time, so it denied step s2" in ran.out
    assert app.calls == ["pay", "refund"]
    assert (
        "s2  denied, for nobody answered in time (it waited for 0.05 s)" in cli(f"show {name}").out
    )


def test_a_wait_is_over_when_somebody_has_allowed_it(cli, asking, app):
    ran = cli(f"wait {asking} --timeout 0 {app.option}", code=5)
    assert "waits for an approval" in ran.out
    cli(f"approve {asking} s2", code=5)
    assert ": committed" in cli(f"wait {asking} {app.option}").out


def test_a_transaction_that_waits_for_an_approval_can_be_undone(cli, asking, app):
    cli(f"rollback {asking} {app.option}")
    assert app.calls == ["pay", "refund"]
    assert "waits for an approval" not in cli(f"show {asking}").out
