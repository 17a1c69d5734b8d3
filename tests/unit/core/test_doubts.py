"""What may be asked or tried about a step whose outcome nobody knows."""

import pytest

from aumai_transactions.core.definition import Policy, Retry, StepDefinition
from aumai_transactions.core.doubts import (
    UNKNOWN_ATTEMPTS_MAX,
    asks,
    may_run_again,
    must_be_asked,
    needs_person,
    probe_of,
)
from aumai_transactions.core.saga import SagaStep
from aumai_transactions.models import StepState

NOW = 5


def doubtful(policy=None, **options):
    """A step in doubt, after its first attempt."""
    options.setdefault("compensating_action", "undo")
    made = SagaStep(
        0, StepDefinition("a", "agent", "do", {}, policy=Policy(**policy or {}), **options), 0
    )
    made.state, made.doubt, made.attempt = StepState.in_doubt, "unknown", 1
    return made


@pytest.mark.parametrize(
    "options,person",
    [
        ({}, False),
        ({"on_unknown": "compensate"}, False),
        ({"on_unknown": "ask"}, True),
        ({"compensating_action": None}, True),
        ({"compensating_action": None, "on_unknown": "compensate"}, False),
        ({"compensating_action": None, "effect": "none"}, False),
        ({"compensating_action": None, "effect": "irreversible"}, True),
        ({"pivot": True}, True),
        ({"pivot": True, "on_unknown": "compensate"}, True),
        ({"on_commit": True}, True),
        ({"on_commit": True, "effect": "none", "compensating_action": None}, True),
    ],
    ids=str,
)
def test_a_person_is_asked_where_nothing_undoes_it_or_nobody_may_go_back_over_it(options, person):
    step = doubtful(**options)
    assert asks(step) is person
    assert needs_person(step) is person


def test_a_person_comes_after_everything_that_can_be_tried():
    step = doubtful({"has_probe": True}, on_unknown="ask", idempotent=True)
    assert not needs_person(step)
    step.probe_spent = True
    assert not needs_person(step)
    step.attempt = UNKNOWN_ATTEMPTS_MAX
    assert needs_person(step)


@pytest.mark.parametrize(
    "name,value", [("probing", True), ("due_at", 9), ("retry_requested", True)]
)
def test_a_person_is_not_asked_while_something_is_under_way(name, value):
    step = doubtful(on_unknown="ask")
    setattr(step, name, value)
    assert not needs_person(step)


def test_a_participant_is_asked_until_it_has_nothing_more_to_say():
    step = doubtful({"has_probe": True})
    assert must_be_asked(step)
    assert not must_be_asked(doubtful())
    step.probe_attempt = 2
    call = probe_of(step, NOW)
    assert (call.operation, call.step, call.intent) == ("probe", step, (NOW, "a", 3))
    step.probe_spent = True
    assert not must_be_asked(step)


@pytest.mark.parametrize("cause", ["unknown", "timeout", "cancelled"])
def test_an_idempotent_step_runs_once_more_by_itself(cause):
    step = doubtful(idempotent=True)
    step.doubt = cause
    assert may_run_again(step)
    step.attempt = UNKNOWN_ATTEMPTS_MAX
    assert not may_run_again(step)


def test_what_is_not_idempotent_never_runs_again_by_itself():
    step = doubtful({"retry": Retry()})
    for step.doubt in ("crash", "unknown"):
        assert not may_run_again(step)


def test_with_a_policy_it_runs_again_where_that_was_scheduled_and_after_a_crash():
    step = doubtful({"retry": Retry()}, idempotent=True)
    assert not may_run_again(step)
    step.due_at = 9
    assert may_run_again(step)
    step.due_at, step.doubt, step.attempt = None, "crash", 99
    assert may_run_again(step)
