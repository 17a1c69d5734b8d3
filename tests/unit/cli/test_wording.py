from datetime import UTC, datetime, timedelta

import pytest

from aumai_transactions.cli.settings import Settings
from aumai_transactions.cli.wording import clock_time, next_commands, until_text
from aumai_transactions.models import (
    OutstandingCompensation,
    TransactionResult,
    TransactionState,
    Waiting,
)

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)
NOW = int(NOON.timestamp() * 1_000_000)


def told(reason, undo="undo", error="RuntimeError: no"):
    item = OutstandingCompensation(
        step_id="s1",
        agent_id="a",
        action="do",
        compensating_action=undo,
        reason=reason,
        error=error,
    )
    state = TransactionState.rolled_back
    result = TransactionResult(transaction_id="t", state=state, outstanding=[item])
    ((what, commands),) = next_commands(Settings(), result, {}, app=False)
    return what, [command.split()[1] for command in commands]


@pytest.mark.parametrize(
    "reason,undo,what,commands",
    [
        ("failed", "undo", "s1: undo could not undo do", ["retry", "resolve", "resolve"]),
        ("no_handler", "undo", "s1: not undone, for undo had", ["retry", "resolve", "resolve"]),
        ("no_compensation", None, "s1: do may have happened, and no", ["resolve", "resolve"]),
        ("residue", "undo", "s1: undo has undone do, and some", ["retry", "resolve", "resolve"]),
        ("may_still_act", "undo", "s1: undone, and a call of do", ["retry", "resolve", "resolve"]),
        ("acted_late", "undo", "s1: a call of do that had been", ["retry", "resolve", "resolve"]),
        ("acted_late", None, "s1: a call of do that had been given", ["resolve", "resolve"]),
        ("of_a_later_release", "undo", "s1: undo could not undo", ["retry", "resolve", "resolve"]),
    ],
)
def test_every_reason_why_an_effect_may_stand_has_words_and_commands(reason, undo, what, commands):
    text, named = told(reason, undo)
    assert text.startswith(what)
    assert named == commands
    assert text.endswith(": RuntimeError: no") or reason == "no_handler"


def test_only_a_person_settles_a_doubt_for_which_nothing_else_is_left():
    waiting = Waiting(reason="in_doubt", detail="", step_ids=["s1"])
    state = TransactionState.active
    result = TransactionResult(transaction_id="t", state=state, waiting=waiting)
    ((what, commands),) = next_commands(Settings(), result, {}, app=True)
    assert what == "s1: nobody knows whether it happened"
    assert [command.split()[4] for command in commands] == ["--happened", "--did-not-happen"]
    assert all(command.endswith("--app module:attribute") for command in commands)


def test_what_waits_for_a_time_needs_nobody():
    waiting = Waiting(reason="retry", detail="", step_ids=["s1"], until=NOON)
    state = TransactionState.active
    result = TransactionResult(transaction_id="t", state=state, waiting=waiting)
    assert next_commands(Settings(), result, {}, app=False) == []


def test_a_time_to_come_says_how_far_away_it_is_and_a_past_one_that_nobody_came():
    later = NOON + timedelta(minutes=3, seconds=20)
    assert until_text(later, NOW) == "waits until 2026-02-27 12:03:20Z, 3 min 20 s from now"
    said = "was due 2026-02-27 12:00:00Z, and nobody has gone on with it"
    assert until_text(NOON, NOW) == said


def test_a_time_has_its_day_where_it_is_another_one():
    assert clock_time(NOON, NOON - timedelta(hours=11)) == "12:00:00Z"
    assert clock_time(NOON, NOON - timedelta(hours=13)) == "2026-02-27 12:00:00Z"
    assert clock_time(NOON, None) == "2026-02-27 12:00:00Z"
