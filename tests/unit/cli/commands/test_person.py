import re

import pytest


@pytest.fixture
def left(cli, made, app):
    """A transaction whose first step could not be undone."""
    name = made(("pay", "refund"), ("send", None))
    app.fails("send")
    app.fails("refund", "the bank is closed")
    cli(f"commit {name} {app.option}", code=4)
    return name


@pytest.fixture
def doubtful(cli, made, app):
    """A transaction that waits for a person to say whether a mail was sent."""
    name = made(("pay", "refund"), ("mail", None))
    app.unknown("mail")
    ran = cli(f"commit {name} {app.option}", code=4)
    assert f"resolve {name} s2 --happened" in ran.out
    return name


def test_what_needs_a_person_is_listed_with_the_next_command(cli, left, made):
    made()
    ran = cli("outstanding")
    assert "the bank is closed" in ran.out
    assert f"aumai-transactions retry {left} s1 --app module:attribute\n" in ran.out
    assert f"aumai-transactions resolve {left} s1 --undone --note " in ran.out
    cli("outstanding --exit-status", code=4)
    (found,) = cli("outstanding --json").json
    assert found["transaction_id"] == left
    assert found["outstanding"][0]["step_id"] == "s1"


def test_nothing_outstanding_is_said_on_stderr(cli, made):
    made()
    ran = cli("outstanding --exit-status")
    assert ran.err == "nothing needs a person\n"
    assert not ran.out


def test_a_retry_that_works_settles_it(cli, left, app):
    app.works("refund")
    assert "undone" in cli(f"retry {left} s1 {app.option}").out
    assert cli("outstanding").err == "nothing needs a person\n"


def test_a_retry_that_fails_again_still_needs_a_person(cli, left, app):
    assert "attempt 2" in cli(f"retry {left} s1 {app.option}", code=4).out


def test_a_retry_without_the_handler_is_refused_and_stays_on_the_list(cli, left):
    assert "--app" in cli(f"retry {left} s1", code=2).err
    cli("outstanding --exit-status", code=4)


def test_a_resolution_is_recorded_and_settles_it(cli, left):
    cli("resolve", left, "s1", "--undone", "--note", "called the bank")
    ran = cli(f"show {left}")
    assert "undone by hand" in ran.out
    assert "called the bank" in ran.out
    assert cli("outstanding").err == "nothing needs a person\n"


def test_the_wrong_pair_of_answers_is_refused_with_the_right_one(cli, left, doubtful):
    ran = cli(f"resolve {left} s1 --happened --note x", code=7)
    assert "undone or left-in-place" in ran.err
    ran = cli(f"resolve {doubtful} s2 --undone --note x", code=7)
    assert "happened or did-not-happen" in ran.err


def test_a_note_and_exactly_one_answer_are_required(cli, left):
    assert "--note" in cli(f"resolve {left} s1 --undone", code=2).err
    assert "--note" in cli(f"resolve {left} s1 --undone --note ' '", code=2).err
    assert "exactly one" in cli(f"resolve {left} s1 --note x", code=2).err
    assert "exactly one" in cli(f"resolve {left} s1 --undone --left-in-place --note x", code=2).err


def test_a_step_that_does_not_exist_ends_with_6(cli, left):
    for command in (f"retry {left} s9", f"resolve {left} s9 --undone --note x"):
        assert "Its steps: s1, s2." in cli(command, code=6).err


def test_what_happened_lets_the_transaction_commit(cli, doubtful, app):
    ran = cli(f"resolve {doubtful} s2 --happened --note 'in the outbox' {app.option}")
    assert "committed" in ran.out


def test_what_did_not_happen_rolls_it_back(cli, doubtful, app):
    ran = cli(f"resolve {doubtful} s2 --did-not-happen --note 'no mail' {app.option}", code=3)
    assert "rolled_back" in ran.out
    assert app.calls[-1] == "refund"


def test_an_answer_without_handlers_is_recorded_and_says_who_can_go_on(cli, doubtful, app):
    ran = cli(f"resolve {doubtful} s2 --did-not-happen --note 'no mail'", code=5)
    assert "recorded, but not carried out yet" in ran.err
    assert "aumai-transactions recover --app" in ran.err
    ran = cli(f"recover {app.option}")
    assert doubtful in ran.out
    assert app.calls[-1] == "refund"


def test_a_step_that_waits_for_its_next_attempt_is_tried_at_once(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    app.says("later", "send")
    cli(f"commit {name} {app.option}", code=5)
    assert "--app" in cli(f"retry {name} s2", code=2).err
    assert "next try" in cli(f"retry {name} s2 {app.option} --wait-max 0", code=5).out
    app.no_longer("later", "send")
    ran = cli(f"retry {name} s2 {app.option}")
    assert "committed" in ran.out
    assert re.search(r"s2 .* attempt 3", ran.out)


def test_an_undo_that_waits_for_its_next_attempt_is_tried_at_once(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    app.fails("send")
    app.says("later", "refund")
    ran = cli(f"commit {name} {app.option}", code=5)
    assert f"retry {name} s1" in ran.out
    assert f"rollback {name}" not in ran.out
    assert "'refund'" in cli(f"retry {name} s1", code=2).err
    app.no_longer("later", "refund")
    ran = cli(f"retry {name} s1 {app.option}")
    assert "undone: s1" in ran.out


def test_a_step_that_nothing_is_the_matter_with_is_not_tried_again(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    app.says("later", "send")
    cli(f"commit {name} {app.option}", code=5)
    ran = cli(f"retry {name} s1 {app.option}", code=7)
    assert "The step is succeeded; only a step in doubt" in ran.err
    ran = cli(f"resolve {name} s2 --happened --note x {app.option}", code=7)
    assert "Nothing is to be resolved there." in ran.err


def test_a_probe_that_waits_is_asked_at_once_and_a_person_may_be_faster(cli, made, app):
    asked, told = made(("charge", "refund")), made(("charge", "refund"))
    app.unknown("charge")
    for name in (asked, told):
        ran = cli(f"commit {name} {app.option}", code=5)
        assert "in doubt, next probe" in ran.out
        assert "the probe says: it cannot tell: Unknown: later" in ran.out
    app.says("done", "charge")
    ran = cli(f"retry {asked} s1 {app.option}")
    assert "the probe says: done (asked 2 times)" in ran.out
    ran = cli(f"resolve {told} s1 --did-not-happen --note 'no entry' {app.option}", code=3)
    assert "decided not done" in ran.out


def test_what_an_undo_has_left_is_told_with_the_commands_to_go_on(cli, made, app):
    name = made(("book", "unsend"), ("send", None))
    app.fails("send")
    app.says("residue", "book")
    ran = cli(f"commit {name} {app.option}", code=4)
    assert "unsend has undone book, and something is still there" in ran.out
    assert 'verified: something is left: {"seats": 2}' in ran.out
    assert f"aumai-transactions retry {name} s1" in ran.out
    assert f"aumai-transactions resolve {name} s1 --left-in-place" in ran.out
    assert "something is still there" in cli("outstanding").out
    app.no_longer("residue", "book")
    ran = cli(f"retry {name} s1 {app.option}")
    assert "verified: nothing is left (asked 2 times)" in ran.out
    assert cli("outstanding").err == "nothing needs a person\n"


def test_a_call_that_was_given_up_and_may_still_act_needs_a_person(cli, made, app):
    name = made(("hang", "unsend"))
    ran = cli(f"commit {name} {app.option}", code=4)
    assert re.search(r"hang +given up after \d+ ms, may still act +unsend +undone", ran.out)
    assert "s1: undone, and a call of hang that was given up may act yet: Timeout" in ran.out
    assert "undone or left-in-place" in cli(f"resolve {name} s1 --happened --note x", code=7).err
    cli("resolve", name, "s1", "--undone", "--note", "looked: nothing there")
    assert cli("outstanding").err == "nothing needs a person\n"


def test_an_undo_that_waits_for_a_call_says_until_when_and_can_be_hurried(cli, made, app):
    name = made(("hang_long", "unsend"))
    ran = cli(f"commit {name} {app.option}", code=5)
    assert "its undo waits for a call that was given up" in ran.out
    assert "at once" not in ran.out
    cli(f"retry {name} s1 {app.option}", code=4)
    assert app.calls == ["unsend"]
