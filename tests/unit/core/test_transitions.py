"""The small steps, one by one."""

import pytest

from aumai_transactions.core.entries import ErrorRecord, PlanRecorded, StepInDoubt, StepStarted
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.core.transitions import (
    known_done,
    no_longer_waiting,
    not_done,
    require,
    skip_pending,
    take_effect,
)
from aumai_transactions.models import TransactionState

ERROR = ErrorRecord("T", "m")


@pytest.fixture
def saga(play, make_step):
    """a ← c, b ← c; a runs."""
    tx = play(make_step("a", after=()), make_step("b", after=()), make_step("c"))
    evolve(tx.saga, PlanRecorded(1, tx.definition))
    tx.saga.state = TransactionState.active
    evolve(tx.saga, StepStarted(1, "a", 1))
    return tx.saga


def in_doubt(saga, *, left_behind=False):
    evolve(saga, StepInDoubt(1, "a", 1, "timeout", ERROR, left_behind))
    return saga.step("a")


def test_what_is_required_and_does_not_hold_is_an_illegal_entry():
    require(True, "fine")
    with pytest.raises(IllegalEntry, match="not so"):
        require(False, "not so")


def test_what_takes_effect_gives_its_turn_to_what_waited_for_all_of_it(saga):
    take_effect(saga, saga.step("a"))
    assert (saga.completed, saga.effects, saga.ready) == ([0], [0], [1])
    saga.ready.remove(1)
    take_effect(saga, saga.step("b"))
    assert (saga.completed, saga.ready, saga.unsettled) == ([0, 1], [2], 1)


def test_what_takes_effect_after_a_doubt_stands_in_the_order_of_its_success(saga):
    step = in_doubt(saga)
    assert saga.effects == [0]
    take_effect(saga, saga.step("b"))
    take_effect(saga, step)
    assert (saga.effects, step.doubt, saga.doubtful) == ([1, 0], None, {})


def test_what_is_known_to_be_done_is_not_waited_for_any_more(saga):
    step = in_doubt(saga, left_behind=True)
    assert list(step.left_behind) == [1]
    known_done(saga, step)
    assert (dict(step.left_behind), step.accounted) == ({}, {1})


def test_what_was_not_done_has_failed_or_has_its_turn_again(saga):
    step = in_doubt(saga)
    not_done(saga, step, ERROR, True)
    assert (step.state.value, saga.failed, saga.effects) == ("pending", [], [])
    assert step.index in saga.ready
    other = saga.step("b")
    not_done(saga, other, ERROR, False)
    assert (other.state.value, saga.failed, other.error) == ("failed", [1], ERROR)


def test_a_wait_ends_once_and_what_does_not_wait_has_none(saga):
    step = saga.step("b")
    no_longer_waiting(saga, step)
    step.due_at = saga.waiting[step.index] = 9
    no_longer_waiting(saga, step)
    assert (step.due_at, saga.waiting) == (None, {})


def test_only_what_never_began_is_skipped(saga):
    skip_pending(saga)
    assert [step.state.value for step in saga.steps] == ["running", "skipped", "skipped"]
