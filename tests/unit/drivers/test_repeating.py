"""How a program that is run again is compared with what is recorded."""
# mypy: disable-error-code="arg-type, union-attr"

import pytest

from aumai_transactions import IdempotencyKeyReused, RetryPolicy, Transaction, TransactionState
from aumai_transactions.actions import journaled_retry
from aumai_transactions.core.definition import Policy, StepDefinition
from aumai_transactions.drivers.repeating import check_whole, repeat_of, repeated, start_repeating
from aumai_transactions.models import TransactionStep

RECORDED = (
    StepDefinition("s1", "agent", "book", {"n": 1}, "cancel"),
    StepDefinition(
        "s2",
        "agent",
        "pay",
        {},
        policy=Policy(retry=journaled_retry(RetryPolicy()), timeout_seconds=5.0),
    ),
)


def step(number=0, **changes):
    recorded = RECORDED[number]
    fields = {
        "agent_id": recorded.agent_id,
        "action": recorded.action,
        "data": dict(recorded.data),
        "compensating_action": recorded.compensating_action,
    }
    return TransactionStep(**fields | changes)


@pytest.fixture
def found():
    shown = [
        TransactionStep(step_id=item.step_id, agent_id=item.agent_id, action=item.action)
        for item in RECORDED
    ]
    tx = Transaction(state=TransactionState.active, steps=shown, idempotency_key="k")
    start_repeating(tx, RECORDED)
    return tx


def test_what_was_not_found_repeats_nothing():
    assert repeat_of(Transaction()) is None
    assert repeated(Transaction(), step(), None) is None


def test_each_repeated_step_is_the_recorded_one_in_turn(found):
    assert [repeated(found, step(number), None) for number in range(2)] == found.steps
    assert repeat_of(found).position == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_id": "other"},
        {"action": "other"},
        {"data": {"n": 2}},
        {"data": {"n": True}},
        {"data": {}},
        {"compensating_action": None},
        {"retry": RetryPolicy()},
        {"timeout_seconds": 5},
    ],
)
def test_whatever_is_different_is_named(found, changes):
    (field,) = changes
    with pytest.raises(IdempotencyKeyReused, match=f"step 1 of its plan has another {field}"):
        repeated(found, step(**changes), None)
    # What was refused was not counted.
    assert repeated(found, step(), None) is found.steps[0]


@pytest.mark.parametrize("changes", [{}, {"retry": RetryPolicy()}, {"timeout_seconds": 5}])
def test_policies_are_compared_where_the_step_names_them(found, changes):
    repeated(found, step(), None)
    assert repeated(found, step(1, **changes), None) is found.steps[1]


def test_the_data_is_compared_as_the_hook_returns_it(found):
    given = step(data={"n": "secret"})
    assert repeated(found, given, lambda step: {"n": 1}) is found.steps[0]
    assert given.data == {"n": "secret"}


def test_a_step_behind_the_recorded_ones_is_added_only_while_nothing_has_begun(found):
    for number in range(2):
        repeated(found, step(number), None)
    with pytest.raises(IdempotencyKeyReused, match="has 2 steps, and this is number 3"):
        repeated(found, step(), None)
    found.state = TransactionState.pending
    assert repeated(found, step(), None) is None


@pytest.mark.parametrize("count", [0, 2])
def test_none_or_all_of_the_steps_may_be_repeated(found, count):
    for number in range(count):
        repeated(found, step(number), None)
    check_whole(found, repeat_of(found))


def test_only_a_part_of_the_steps_may_not(found):
    repeated(found, step(), None)
    with pytest.raises(IdempotencyKeyReused, match="has 2 steps, and here are 1"):
        check_whole(found, repeat_of(found))
