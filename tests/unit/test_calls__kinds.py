"""What each kind of call is given: its own key, the action's, and copies."""
# mypy: disable-error-code="arg-type, list-item, operator, union-attr"

from aumai_transactions import (
    Action,
    Done,
)
from aumai_transactions.actions import ActionRegistry
from aumai_transactions.calls import (
    arguments_of,
    attempt_of,
    call,
    context_of,
)
from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import Definition, Policy, Retry, StepDefinition
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerRaised,
    HandlerReturned,
    PlanGiven,
    ProbeReturned,
)
from aumai_transactions.core.saga import Saga, SagaStep

STEP = SagaStep(0, StepDefinition("s1", "agent", "act", {"x": 1}), 0)


# ----------------------------------------------------------------------- the four kinds of calls


ASKED = Policy(has_probe=True, has_verify=True, probe_retry=Retry(1), undo_retry=Retry(2, 0.0))


def test_each_kind_of_call_gets_its_own_key_and_knows_that_of_the_action():
    saga = Saga("tx")
    definition = StepDefinition("s1", "agent", "act", {"x": 1}, "undo", policy=ASKED)
    plan = PlanGiven(Definition(1, 10**9, (definition,)))
    seen = [plan, CommitCalled(), DriverArrived("d")]
    found = {}
    problem = ErrorRecord("T", "m")
    answers = {
        "action": HandlerRaised("s1", "action", "in_doubt", problem),
        "probe": ProbeReturned("s1", "unknown"),
        "compensation": HandlerReturned("s1", "compensation"),
    }
    while True:
        _entries, planned = advance(saga, seen, 1)
        if not planned:
            break
        operation = planned[0].operation
        found[operation] = context_of(saga, planned[0].step, operation)
        if operation == "verification":
            break
        seen = [answers[operation]]
    assert list(found) == ["action", "probe", "compensation", "verification"]
    for operation, context in found.items():
        assert context.operation == operation
        assert context.idempotency_key == f"tx/s1/{operation}"
        assert context.forward_key == "tx/s1/action"
        assert context.forward_attempt == 1
        assert context.attempt == 1 == attempt_of(saga.step("s1"), operation)
        assert context.in_doubt is (operation != "action")
        assert context.can_continue is (operation == "compensation")
        assert (context.error is None) is (operation != "compensation")
        assert context.action == ("undo" if operation == "compensation" else "act")


def test_a_confirmation_and_a_reread_know_what_they_are_about():
    definition = StepDefinition("s1", "agent", "act", {"x": 1}, "undo", confirming_action="confirm")
    saga, step = Saga("tx"), SagaStep(0, definition, 0)
    step.output, step.confirm_attempt, step.attempt = {"id": 7}, 2, 1
    found = context_of(saga, step, "confirmation")
    assert (found.action, found.attempt, found.output) == ("confirm", 2, {"id": 7})
    assert found.idempotency_key == "tx/s1/confirmation"
    assert found.forward_key == "tx/s1/action"
    read = context_of(saga, step, "reread")
    assert (read.action, read.attempt, read.output) == ("act", 1, {"id": 7})
    assert (attempt_of(step, "reread"), attempt_of(step, "confirmation")) == (1, 2)


def test_arguments_are_taken_once_and_are_copies():
    registry = ActionRegistry()
    registry.add(Action("act", lambda action, data, context: (action, data, context.attempt)))
    registry.add(Action("confirm", lambda action, data: (action, data)))
    callee = registry.find("action", STEP.definition)
    arguments = arguments_of(callee, Saga("tx"), STEP, "action")
    positional, named = arguments
    assert positional == ("act", {"x": 1})
    assert list(named) == ["context"]
    assert call(callee, arguments) == ("act", {"x": 1}, STEP.attempt)
    positional[1]["x"] = 2
    assert STEP.definition.data == {"x": 1}
    confirmed = STEP.definition._replace(confirming_action="confirm")
    callee = registry.find("confirmation", confirmed)
    positional, named = arguments_of(callee, Saga("tx"), SagaStep(0, confirmed, 0), "confirmation")
    assert (positional, named) == (("confirm", {"x": 1}), {})


def test_a_question_is_called_without_the_name_and_with_a_copy_of_the_data():
    def probe(data, context):
        data["x"] = 2
        return Done([data, context.operation])

    registry = ActionRegistry()
    registry.add(Action("act", print, probe=probe))
    callee = registry.find("probe", STEP.definition)
    answer = call(callee, arguments_of(callee, Saga("tx"), STEP, "probe"))
    assert answer == Done([{"x": 2}, "probe"])
    assert STEP.definition.data == {"x": 1}
