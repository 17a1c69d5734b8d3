"""The plans have teeth: each mutant breaks one rule, and a random plan shows it.

    I1  act_without_an_intent
    I2  forget_what_is_in_doubt, commit_over_a_failure
    I3  run_more_at_once_than_allowed, run_before_its_turn, undo_in_the_order_of_execution,
        undo_at_the_same_time
    I4  go_on_after_the_rollback
    I5  run_an_unknown_step_again
    A   run_one_at_a_time

How to read this: see the mutants of the state machine.
"""
# mypy: disable-error-code="attr-defined"

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from aumai_transactions.core import evolution, planning, undo_planning, undoing
from aumai_transactions.core.commands import Record
from aumai_transactions.core.entries import CommitRequested, TransactionCommitted
from aumai_transactions.models import TransactionState

UNTIL_CAUGHT = settings(
    max_examples=400,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def blind(monkeypatch):
    for module in (evolution, undoing):
        monkeypatch.setattr(module, "require", lambda holds, otherwise: None)


def act_without_an_intent(monkeypatch):
    """I1: a request stands where the intent should be."""
    monkeypatch.setattr(planning, "StepStarted", lambda at, *rest: CommitRequested(at))


def forget_what_is_in_doubt(monkeypatch):
    """I2: only what succeeded for certain is undone."""
    blind(monkeypatch)
    sound = undoing.rollback_started

    def started(saga, entry):
        sound(saga, entry)
        saga.undo = [index for index in saga.undo if saga.steps[index].doubt is None]

    monkeypatch.setattr(undoing, "rollback_started", started)


def commit_over_a_failure(monkeypatch):
    """I2: a step that failed is passed over."""
    blind(monkeypatch)
    sound = planning._plan_forward

    def plan_forward(saga, now, parallel_max):
        if saga.failed and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now, parallel_max)

    monkeypatch.setattr(planning, "_plan_forward", plan_forward)


def run_more_at_once_than_allowed(monkeypatch):
    """I3: the bound is ignored."""
    sound = planning._plan_forward
    monkeypatch.setattr(planning, "_plan_forward", lambda saga, now, _bound: sound(saga, now, 99))


def run_one_at_a_time(monkeypatch):
    """A: what could run at the same time waits."""
    sound = planning._plan_forward
    monkeypatch.setattr(planning, "_plan_forward", lambda saga, now, _bound: sound(saga, now, 1))


def run_before_its_turn(monkeypatch):
    """I3: a step does not wait for what it depends on."""
    monkeypatch.setattr(evolution, "dependencies", lambda steps, _name: [() for _step in steps])


def undo_in_the_order_of_execution(monkeypatch):
    """I3: forward instead of backwards."""
    blind(monkeypatch)
    monkeypatch.setattr(undo_planning, "reversed", iter, raising=False)


def undo_at_the_same_time(monkeypatch):
    """I3: undos that are to be made one after the other overlap."""
    blind(monkeypatch)
    sound = evolution._plan_recorded

    def recorded(saga, definition):
        sound(saga, definition._replace(parallel_compensation=True))

    monkeypatch.setattr(evolution, "_plan_recorded", recorded)


def go_on_after_the_rollback(monkeypatch):
    """I4: the next step starts while the others are undone."""
    sound, sound_start = planning.plan_undo, evolution._step_started

    def plan_undo(saga, now, parallel_max):
        if saga.ready and saga.ran:
            return planning._plan_ready(saga, saga.ready, now, 1)
        return sound(saga, now, parallel_max)

    def started(saga, entry):
        state, saga.state = saga.state, TransactionState.active
        sound_start(saga, entry)
        saga.state = state

    monkeypatch.setattr(evolution, "_step_started", started)
    monkeypatch.setattr(planning, "plan_undo", plan_undo)


def run_an_unknown_step_again(monkeypatch):
    """I5: whether or not it is idempotent."""
    blind(monkeypatch)
    monkeypatch.setattr(planning, "may_run_again", lambda step: step.attempt < 3)


MUTANTS = [
    act_without_an_intent,
    forget_what_is_in_doubt,
    commit_over_a_failure,
    run_more_at_once_than_allowed,
    run_one_at_a_time,
    run_before_its_turn,
    undo_in_the_order_of_execution,
    undo_at_the_same_time,
    go_on_after_the_rollback,
    run_an_unknown_step_again,
]


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda one: one.__name__)
def test_the_plans_have_teeth_against_a_core_that_would(
    mutate, monkeypatch, carry_out, plans, living
):
    rules = mutate.__doc__.partition(": ")[0].replace(", ", "|")
    mutate(monkeypatch)

    @UNTIL_CAUGHT
    @given(plans)
    def live(plan):
        carry_out(plan, patience=3)

    with pytest.raises(living.violation, match=f"^({rules}): ") as caught:
        live()
    print(f"{mutate.__name__} → {caught.value}")
