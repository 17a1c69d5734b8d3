from datetime import UTC, datetime

import pytest

from aumai_transactions.cli.settings import Settings
from aumai_transactions.models import (
    OutstandingCompensation,
    TransactionResult,
    TransactionState,
    Waiting,
)
from aumai_transactions.wording.ways_on import needs_of

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
    (need,) = needs_of(Settings().command, result, {}, app=False)
    return need.what, [way.line.split()[1] for way in need.ways]


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
    (need,) = needs_of(Settings().command, result, {}, app=True)
    commands = [way.line for way in need.ways]
    assert need.what == "s1: nobody knows whether it happened"
    assert [command.split()[4] for command in commands] == ["--happened", "--did-not-happen"]
    assert all(command.endswith("--app module:attribute") for command in commands)


def test_what_waits_for_a_time_needs_nobody():
    waiting = Waiting(reason="retry", detail="", step_ids=["s1"], until=NOON)
    state = TransactionState.active
    result = TransactionResult(transaction_id="t", state=state, waiting=waiting)
    assert needs_of(Settings().command, result, {}, app=False) == []
