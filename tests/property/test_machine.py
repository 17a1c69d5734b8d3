"""Random plans, random deaths, one plain model: the invariants hold; and the model has teeth."""

import os
from itertools import count

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aumai_transactions import actions
from aumai_transactions.core import decider, evolution
from aumai_transactions.core.commands import Record, RunCompensation
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    CompensationStarted,
    RollbackStarted,
    StepFailed,
    TransactionCommitted,
)
from aumai_transactions.models import StepState, TransactionState
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
IN_MEMORY = settings(max_examples=20_000 if NIGHTLY else 200)
ON_DISK = settings(max_examples=1_000 if NIGHTLY else 25)
UNTIL_CAUGHT = settings(max_examples=400, phases=[Phase.generate], report_multiple_bugs=False)

FORWARD = ["ok", "ok", "ok", "fail", "lost", "late", "void"]


@st.composite
def programs(draw, simulate):
    size = draw(st.integers(1, 5))
    steps = []
    for index in range(size):
        sequence = draw(st.booleans())
        after = (
            None
            if sequence
            else tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=2))))
            if index
            else ()
        )
        undo = draw(st.integers(0, 3)) > 0
        steps.append(
            simulate.step(
                after=after,
                idempotent=draw(st.booleans()),
                undo=undo,
                on_unknown=draw(st.sampled_from([None, None, "ask", "compensate"])),
                effect=None if undo else draw(st.sampled_from([None, None, "none"])),
                forward=tuple(draw(st.lists(st.sampled_from(FORWARD), min_size=1, max_size=3))),
                back=tuple(
                    draw(st.lists(st.sampled_from(["ok", "ok", "fail"]), min_size=1, max_size=3))
                ),
            )
        )
    return simulate.program(
        steps=tuple(steps),
        start=draw(st.sampled_from(["commit"] * 6 + ["rollback"])),
        timeout_scope=draw(st.sampled_from(["start", "transaction"])),
        on_crash=draw(st.sampled_from([None, None, "resume", "roll_back"])),
        on_compensation_failure=draw(st.sampled_from(["continue", "halt"])),
        kills=tuple(draw(st.lists(st.integers(1, 30), max_size=4))),
        jumps=tuple(draw(st.lists(st.sampled_from([0, 0, 1, 100]), max_size=4))),
        wish=draw(st.none() | st.integers(2, 40)),
        person=draw(st.sampled_from(["retry", "undone", "left_in_place"])),
    )


def test_the_invariants_hold_in_memory_whatever_happens(simulate):
    ends = set()

    @IN_MEMORY
    @given(programs(simulate))
    def live(program):
        result = simulate(MemoryStore(), program)
        ends.add(result.state.value if result else "never begun")

    live()
    assert {"committed", "rolled_back"} <= ends


def test_the_invariants_hold_on_sqlite_whatever_happens(simulate, tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/journal.db", create=True)

    @ON_DISK
    @given(programs(simulate))
    def live(program):
        simulate(store, program)

    live()
    store.close()


@pytest.mark.parametrize("kill", range(1, 40))
def test_every_single_moment_of_a_trip_that_fails_can_be_the_last(simulate, kill):
    steps = [simulate.step(), simulate.step(idempotent=True), simulate.step(forward=("fail",))]
    for again in (0, 1, 3):
        kills = (kill, again) if again else (kill,)
        result = simulate(MemoryStore(), simulate.program(tuple(steps), kills=kills))
        assert result is None or result.clean


# ---------------------------------------------------------------------------------------- mutants
#
# Each breaks one rule of the core. The core checks some of its rules twice, when it decides and
# when it evolves; `blind` switches the second check off where it would hide the mutant.


def blind(monkeypatch):
    monkeypatch.setattr(evolution, "_require", lambda holds, otherwise: None)


def act_without_an_intent(monkeypatch):
    """I1: a request stands where the intent should be."""

    def no_intent(at, step_id, attempt, data=None):
        return CommitRequested(at)

    monkeypatch.setattr(decider, "StepStarted", no_intent)


def undo_without_an_intent(monkeypatch):
    """I1, of a compensation."""

    def no_intent(at, step_id, attempt, in_doubt):
        return CommitRequested(at)

    monkeypatch.setattr(decider, "CompensationStarted", no_intent)


def forget_what_is_in_doubt(monkeypatch):
    """I2: only what succeeded for certain is undone."""
    blind(monkeypatch)
    sound = evolution._rollback_started

    def started(saga, entry):
        sound(saga, entry)
        saga.undo = [index for index in saga.undo if saga.steps[index].doubt is None]

    monkeypatch.setattr(evolution, "_rollback_started", started)


def take_a_timeout_for_a_failure(monkeypatch):
    """I2 and I13: a call that timed out counts as not done."""
    sound = actions.outcome_of

    def outcome_of(action, error):
        return "not_done" if isinstance(error, TimeoutError) else sound(action, error)

    monkeypatch.setattr(actions, "outcome_of", outcome_of)


def commit_over_a_failure(monkeypatch):
    """I2: a step that failed is passed over."""
    blind(monkeypatch)

    def plan_forward(saga, now, parallel_max):
        if saga.failed and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now, parallel_max)

    sound = decider._plan_forward
    monkeypatch.setattr(decider, "_plan_forward", plan_forward)


def stop_undoing_at_the_first_failure(monkeypatch):
    """I2: the rest is left standing, and nobody says so."""
    blind(monkeypatch)
    sound = evolution._compensation_failed

    def failed(saga, entry):
        sound(saga, entry)
        saga.undo.clear()

    monkeypatch.setattr(evolution, "_compensation_failed", failed)


def undo_in_the_order_of_execution(monkeypatch):
    """I3: forward instead of backwards."""
    blind(monkeypatch)
    monkeypatch.setattr(decider, "reversed", iter, raising=False)


def undo_over_a_halted_step(monkeypatch):
    """I3: what a failed undo depends on is undone all the same."""
    blind(monkeypatch)
    monkeypatch.setattr(evolution, "ancestors", lambda edges, of: set())


def go_on_after_the_rollback(monkeypatch):
    """I4: the next step starts while the others are undone."""
    sound = decider._plan_undo

    def plan_undo(saga, now):
        if saga.ready and saga.ran:
            return decider._plan_ready(saga, now, 1)
        return sound(saga, now)

    def started(saga, entry):
        state, saga.state = saga.state, TransactionState.active
        sound_start(saga, entry)
        saga.state = state

    sound_start = evolution._step_started
    monkeypatch.setattr(evolution, "_step_started", started)
    monkeypatch.setattr(decider, "_plan_undo", plan_undo)


def run_an_unknown_step_again(monkeypatch):
    """I5: whether or not it is idempotent."""
    blind(monkeypatch)
    monkeypatch.setattr(decider, "_may_run_again", lambda step: step.attempt < 3)


def forget_that_a_step_was_running(monkeypatch):
    """I5: after a crash a running step counts as never started."""
    sound = evolution._claimed

    def claimed(saga, entry):
        sound(saga, entry)
        for step in saga.steps:
            if step.state.value == "running":
                step.state = StepState.pending
                saga.ready.append(step.index)
                saga.running -= 1

    monkeypatch.setattr(evolution, "_claimed", claimed)
    monkeypatch.setattr(
        decider,
        "_driver_arrived",
        lambda saga, seen, now: [Claimed(now, saga.token + 1, seen.driver_id, seen.takeover)],
    )


def undo_what_was_committed(monkeypatch):
    """I8: back over the commit point."""
    blind(monkeypatch)
    sound = decider.plan

    def plan(saga, now, parallel_max=1):
        if saga.state is TransactionState.committed:
            for index in reversed(saga.effects):
                step = saga.steps[index]
                if step.definition.compensating_action and not step.undo_running:
                    intent = CompensationStarted(now, step.step_id, step.undo_attempt + 1)
                    return (RunCompensation(step, intent),)
        return sound(saga, now, parallel_max)

    monkeypatch.setattr(decider, "plan", plan)


def roll_back_what_was_committed(monkeypatch):
    """I8: the decision itself is taken back."""
    blind(monkeypatch)
    sound = decider.plan

    def plan(saga, now, parallel_max=1):
        if saga.state is TransactionState.committed:
            return (Record(RollbackStarted(now, "requested")),)
        return sound(saga, now, parallel_max)

    monkeypatch.setattr(decider, "plan", plan)


def make_the_key_of_the_attempt(monkeypatch):
    """I9: another key for each attempt."""
    numbers = count()

    def key(transaction_id, step_id, operation):
        return f"{transaction_id}/{step_id}/{operation}/{next(numbers)}"

    monkeypatch.setattr(actions, "idempotency_key", key)


def make_the_key_of_the_step_alone(monkeypatch):
    """I9: an undo under the key of its action would be taken for a repeat of it."""
    monkeypatch.setattr(actions, "idempotency_key", lambda tx, step, operation: f"{tx}/{step}")


def take_no_answer_for_a_no(monkeypatch):
    """I2: an unknown outcome clears the step."""
    blind(monkeypatch)

    def raised(saga, seen, now):
        step = saga.step(seen.step_id)
        if seen.operation == "action" and seen.outcome != "not_done":
            return StepFailed(now, seen.step_id, step.attempt, seen.error)
        return sound(saga, seen, now)

    sound = decider._raised
    monkeypatch.setattr(decider, "_raised", raised)


def hide_the_doubt_from_the_undo(monkeypatch):
    """I13: the undo of a doubtful step is not told so."""
    sound = actions.context_of

    def context_of(saga, step, operation):
        found = sound(saga, step, operation)
        object.__setattr__(found, "in_doubt", False)
        return found

    monkeypatch.setattr(actions, "context_of", context_of)


MUTANTS = [
    act_without_an_intent,
    undo_without_an_intent,
    forget_what_is_in_doubt,
    take_a_timeout_for_a_failure,
    commit_over_a_failure,
    stop_undoing_at_the_first_failure,
    undo_in_the_order_of_execution,
    undo_over_a_halted_step,
    go_on_after_the_rollback,
    run_an_unknown_step_again,
    forget_that_a_step_was_running,
    undo_what_was_committed,
    roll_back_what_was_committed,
    make_the_key_of_the_attempt,
    make_the_key_of_the_step_alone,
    take_no_answer_for_a_no,
    hide_the_doubt_from_the_undo,
]


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_the_model_catches_a_core_that_would(mutate, monkeypatch, simulate):
    invariants = mutate.__doc__.partition(":")[0].replace(" and ", ", ").partition(",")[0]
    mutate(monkeypatch)

    @UNTIL_CAUGHT
    @given(programs(simulate))
    def live(program):
        simulate(MemoryStore(), program)

    with pytest.raises(simulate.violation, match=f"^{invariants}: ") as caught:
        live()
    print(mutate.__name__, "→", caught.value)
