"""The model has teeth: each mutant breaks one rule, and the model catches it.

The core checks some of its rules twice, when it decides and when it evolves; `blind` switches the
second check off where it would hide the mutant. A mutant's docstring begins with the rules by which
it may be caught, and says what it does.
"""

# mypy: disable-error-code="attr-defined"

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import Phase, given, settings

from aumai_transactions import RetryPolicy, calls
from aumai_transactions.core import (
    claims,
    decider,
    evolution,
    late_returns,
    planning,
    settling,
    undo_planning,
    undoing,
)
from aumai_transactions.core.commands import Call, Record
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    CompensationStarted,
    RollbackStarted,
    StepFailed,
    TransactionCommitted,
)
from aumai_transactions.core.transitions import take_effect
from aumai_transactions.models import StepState, TransactionState
from aumai_transactions.stores.memory import MemoryStore

UNTIL_CAUGHT = settings(max_examples=600, phases=[Phase.generate], report_multiple_bugs=False)


def blind(monkeypatch):
    for module in (claims, evolution, undoing, late_returns):
        monkeypatch.setattr(module, "require", lambda holds, otherwise: None)


def tell_handlers(monkeypatch, changes):
    """Tell every handler something else than the core does."""
    sound = calls.context_of

    def context_of(saga, step, operation):
        found = sound(saga, step, operation)
        return replace(found, **changes(found))

    monkeypatch.setattr(calls, "context_of", context_of)


def act_without_an_intent(monkeypatch):
    """I1: a request stands where the intent should be."""

    monkeypatch.setattr(planning, "StepStarted", lambda at, *rest: CommitRequested(at))


def undo_without_an_intent(monkeypatch):
    """I1: likewise, of a compensation."""

    monkeypatch.setattr(undo_planning, "CompensationStarted", lambda at, *rest: CommitRequested(at))


def forget_what_is_in_doubt(monkeypatch):
    """I2: only what succeeded for certain is undone."""
    blind(monkeypatch)
    sound = undoing.rollback_started

    def started(saga, entry):
        sound(saga, entry)
        saga.undo = [index for index in saga.undo if saga.steps[index].doubt is None]

    monkeypatch.setattr(undoing, "rollback_started", started)


def take_a_lost_answer_for_a_failure(monkeypatch):
    """I2, I5: a `TimeoutError` counts as not done."""
    sound = calls.outcome_of

    def outcome_of(action, error):
        return "not_done" if isinstance(error, TimeoutError) else sound(action, error)

    monkeypatch.setattr(calls, "outcome_of", outcome_of)


def commit_over_a_failure(monkeypatch):
    """I2: a step that failed is passed over."""
    blind(monkeypatch)
    sound = planning._plan_forward

    def plan_forward(saga, now, parallel_max):
        if saga.failed and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now, parallel_max)

    monkeypatch.setattr(planning, "_plan_forward", plan_forward)


def stop_undoing_at_the_first_failure(monkeypatch):
    """I2: the rest is left standing, and nobody says so."""
    blind(monkeypatch)
    sound = undoing.compensation_failed

    def failed(saga, entry):
        sound(saga, entry)
        saga.undo.clear()

    monkeypatch.setattr(undoing, "compensation_failed", failed)


def undo_in_the_order_of_execution(monkeypatch):
    """I3: forward instead of backwards."""
    blind(monkeypatch)
    monkeypatch.setattr(undo_planning, "reversed", iter, raising=False)


def undo_over_a_halted_step(monkeypatch):
    """I3: what a failed undo depends on is undone all the same."""
    blind(monkeypatch)
    monkeypatch.setattr(undoing, "ancestors", lambda edges, of: set())


def go_on_after_the_rollback(monkeypatch):
    """I4: the next step starts while the others are undone."""
    sound = planning.plan_undo

    def plan_undo(saga, now, parallel_max):
        if saga.ready and saga.ran:
            return planning._plan_ready(saga, saga.ready, now, 1)
        return sound(saga, now, parallel_max)

    def started(saga, entry):
        state, saga.state = saga.state, TransactionState.active
        sound_start(saga, entry)
        saga.state = state

    sound_start = evolution._step_started
    monkeypatch.setattr(evolution, "_step_started", started)
    monkeypatch.setattr(planning, "plan_undo", plan_undo)


def run_an_unknown_step_again(monkeypatch):
    """I5: whether or not it is idempotent."""
    blind(monkeypatch)
    monkeypatch.setattr(planning, "may_run_again", lambda step: step.attempt < 3)


def forget_that_a_step_was_running(monkeypatch):
    """I2, I5: after a crash a running step counts as never started."""
    sound = claims.claimed

    def claimed(saga, entry):
        sound(saga, entry)
        for step in saga.steps:
            if step.state.value == "running":
                step.state = StepState.pending
                saga.ready.append(step.index)
                saga.running -= 1

    monkeypatch.setattr(claims, "claimed", claimed)
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
                    return (Call("compensation", step, intent),)
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


def make_every_key_a_new_one(monkeypatch):
    """I9: another key for each call."""
    numbers = count()

    def key(transaction_id, step_id, operation):
        return f"{transaction_id}/{step_id}/{operation}/{next(numbers)}"

    monkeypatch.setattr(calls, "idempotency_key", key)


def make_the_key_of_the_attempt(monkeypatch):
    """I9: a retry under another key is no repeat to its participant."""

    def key(found):
        return {"idempotency_key": f"{found.idempotency_key}/{found.attempt}"}

    tell_handlers(monkeypatch, key)


def make_the_key_of_the_step_alone(monkeypatch):
    """I9: an undo under the key of its action would be taken for a repeat of it."""
    monkeypatch.setattr(calls, "idempotency_key", lambda tx, step, operation: f"{tx}/{step}")


def take_no_answer_for_a_no(monkeypatch):
    """I2, I5, I13: an unknown outcome clears the step."""
    blind(monkeypatch)
    sound = settling.raised

    def raised(saga, seen, now):
        step = saga.step(seen.step_id)
        if seen.operation == "action" and seen.outcome != "not_done":
            return [StepFailed(now, seen.step_id, step.attempt, seen.error)]
        return sound(saga, seen, now)

    monkeypatch.setattr(settling, "raised", raised)


def hide_the_doubt_from_the_undo(monkeypatch):
    """I13: the undo of a doubtful step is not told so."""
    tell_handlers(monkeypatch, lambda found: {"in_doubt": False})


def ask_no_probe(monkeypatch):
    """C4: what is in doubt runs again or is undone, and nobody was asked."""
    blind(monkeypatch)
    for module in (planning, undo_planning):
        monkeypatch.setattr(module, "must_be_asked", lambda step: False)


def undo_without_asking(monkeypatch):
    """C4: while going back the probe is not asked."""
    blind(monkeypatch)
    monkeypatch.setattr(undo_planning, "must_be_asked", lambda step: False)


def try_again_what_was_rejected(monkeypatch):
    """C2: `StepRejected` is tried again like any other error."""

    def is_worth_it(step, seen):
        return step.definition.policy.retry is not None

    monkeypatch.setattr(settling, "_is_worth_it", is_worth_it)


def let_a_no_clear_an_earlier_doubt(monkeypatch):
    """I2, I13: also where the action is not idempotent, or nobody was reached."""
    monkeypatch.setattr(settling, "_clears", lambda step, seen: True)


def take_a_timeout_for_a_failure(monkeypatch):
    """I2, I5: a call that was given up counts as not done."""
    sound = settling.raised

    def raised(saga, seen, now):
        if seen.operation == "action" and seen.outcome == "timeout":
            seen = seen._replace(outcome="not_done")
        return sound(saga, seen, now)

    monkeypatch.setattr(settling, "raised", raised)


def count_a_late_success(monkeypatch):
    """I2, I3: a call that was given up makes its step succeed when it returns."""
    sound = late_returns._late_success

    def late_success(saga, step, entry, note):
        if saga.state is TransactionState.active and step.state is StepState.in_doubt:
            step.output = entry.output
            take_effect(saga, step)
            return
        sound(saga, step, entry, note)

    monkeypatch.setattr(late_returns, "_late_success", late_success)


def continue_after_another_undo(monkeypatch):
    """D3: `Continue` is heard whatever was undone before."""
    blind(monkeypatch)

    def may_continue(saga, step):
        return saga.state is TransactionState.compensating and saga.ran

    for module in (undoing, settling, calls):
        monkeypatch.setattr(module, "may_continue", may_continue)


def overlook_what_an_undo_left(monkeypatch):
    """I2: a residue counts as clean."""
    sound = undoing.verification_answered

    def answered(saga, entry):
        answer = "clean" if entry.answer == "residue" else entry.answer
        sound(saga, entry._replace(answer=answer))

    monkeypatch.setattr(undoing, "verification_answered", answered)


def try_again_at_once(monkeypatch):
    """R2: the wait before the next attempt is ignored."""
    monkeypatch.setattr(planning, "_due", lambda saga, now: saga.ready)


def try_again_for_ever(monkeypatch):
    """R1: the limit of attempts is ignored."""
    sound = settling.next_due

    def next_due(retry, attempts, first_at, now, **options):
        return sound(retry._replace(attempts_max=9), attempts, first_at, now, **options)

    monkeypatch.setattr(settling, "next_due", next_due)


def try_again_beyond_the_budget(monkeypatch):
    """R1: the budget is ignored."""
    sound = settling.next_due

    def next_due(retry, attempts, first_at, now, **options):
        return sound(retry._replace(budget_seconds=None), attempts, first_at, now, **options)

    monkeypatch.setattr(settling, "next_due", next_due)


def try_again_behind_the_deadline(monkeypatch):
    """D1: an attempt is scheduled when no step may start any more."""
    sound = settling._due_after

    def due_after(saga, step, seen, now):
        plan, saga.definition = saga.plan, saga.plan._replace(timeout_scope="start")
        found = sound(saga, step, seen, now)
        saga.definition = plan
        return found

    monkeypatch.setattr(settling, "_due_after", due_after)


def undo_what_still_runs(monkeypatch):
    """C5: an undo does not wait for a call that was left behind."""
    monkeypatch.setattr(undo_planning, "abandon_at", lambda step: None)


def forget_what_still_runs(monkeypatch):
    """I2, I3: after its undo nobody says that a call may still act."""
    sound = undoing._undone

    def undone(saga, step):
        step.left_behind = {}
        sound(saga, step)

    monkeypatch.setattr(undoing, "_undone", undone)


def take_others_for_dead(monkeypatch):
    """I2, C5, D3: with one driver the calls of an earlier one, which lives, are forgotten."""
    sound = claims.claimed

    def claimed(saga, entry):
        sound(saga, entry)
        if entry.takeover:
            for step in saga.steps:
                step.left_behind = {}

    monkeypatch.setattr(claims, "claimed", claimed)


def hide_the_output_from_the_undo(monkeypatch):
    """C5: the undo does not get what the action returned, late or not."""
    tell_handlers(monkeypatch, lambda found: {"output": None})


def wait_for_what_is_over(monkeypatch):
    """I15, I2: it wakes for the time of a step that cannot start, and never rests."""

    def wake_at(saga):
        if saga.state is TransactionState.active:
            return min(saga.waiting.values()) if saga.waiting and not saga.running else None
        return sound(saga)

    from aumai_transactions.core import outcome
    from aumai_transactions.drivers import asking, pauses

    sound = planning.wake_at
    for module in (outcome, asking, pauses):
        monkeypatch.setattr(module, "wake_at", wake_at)


SHORTLY = RetryPolicy(first_delay_seconds=5, delay_factor=1, jitter=0, budget_seconds=8)
SLOWLY = RetryPolicy(attempts_max=2, first_delay_seconds=70, delay_seconds_max=70, jitter=0)
SURE = {
    "undo": [True],
    "undo_idempotent": [False],
    "undo_retry": [None],
    "on_unknown": [None],
    "has_probe": [False],
    "has_verify": [False],
}
# Each mutant, and the choice of programs in which it shows soon.
MUTANTS = [
    (act_without_an_intent, {}),
    (undo_without_an_intent, {"forward": ["ok", "fail"]}),
    (forget_what_is_in_doubt, {}),
    (take_a_lost_answer_for_a_failure, {"forward": ["late"]}),
    (commit_over_a_failure, {}),
    (stop_undoing_at_the_first_failure, {"forward": ["ok", "ok", "fail"], "back": ["ok", "fail"]}),
    (undo_in_the_order_of_execution, {"forward": ["ok", "ok", "fail"]}),
    (
        undo_over_a_halted_step,
        {**SURE, "forward": ["ok", "ok", "ok", "fail"], "back": ["fail"], "kills_max": 0},
    ),
    (go_on_after_the_rollback, {"forward": ["ok", "ok", "fail"], "back": ["ok"]}),
    (run_an_unknown_step_again, {}),
    (forget_that_a_step_was_running, {"forward": ["ok"]}),
    (undo_what_was_committed, {"forward": ["ok"]}),
    (roll_back_what_was_committed, {"forward": ["ok"]}),
    (make_every_key_a_new_one, {}),
    (make_the_key_of_the_attempt, {}),
    (make_the_key_of_the_step_alone, {"forward": ["ok", "fail"]}),
    (take_no_answer_for_a_no, {}),
    (hide_the_doubt_from_the_undo, {"forward": ["ok", "lost"], "has_probe": [False]}),
    (ask_no_probe, {"has_probe": [True]}),
    (
        undo_without_asking,
        {"forward": ["lost", "ok"], "has_probe": [True], "probe": ["unknown"]},
    ),
    (try_again_what_was_rejected, {"forward": ["fail"]}),
    (let_a_no_clear_an_earlier_doubt, {"forward": ["lost", "refused"], "has_probe": [False]}),
    (take_a_timeout_for_a_failure, {"forward": ["ok", "cut", "slow"]}),
    (count_a_late_success, {"forward": ["ok", "slow", "slow_early"], "on_unknown": ["ask"]}),
    (continue_after_another_undo, {"forward": ["ok", "ok", "fail"], "back": ["ok", "continue"]}),
    (
        overlook_what_an_undo_left,
        {"forward": ["ok", "ok", "fail"], "back": ["residue"], "has_verify": [True]},
    ),
    (try_again_at_once, {"forward": ["error", "later"]}),
    (try_again_for_ever, {"forward": ["error", "later"]}),
    (try_again_beyond_the_budget, {"forward": ["error"], "retry": [SHORTLY]}),
    (
        try_again_behind_the_deadline,
        {"forward": ["error"], "retry": [SLOWLY], "kills_max": 0},
    ),
    (undo_what_still_runs, {"forward": ["slow", "slow_never"]}),
    (
        forget_what_still_runs,
        {**SURE, "forward": ["slow_never"], "back": ["ok"], "size_max": 2, "kills_max": 0},
    ),
    (
        take_others_for_dead,
        {"forward": ["slow_never"], "has_probe": [True], "probe": ["unknown"]},
    ),
    (hide_the_output_from_the_undo, {"forward": ["ok", "ok", "fail"]}),
    (wait_for_what_is_over, {"forward": ["ok", "later", "lost"], "probe": ["unknown"]}),
]


@pytest.mark.parametrize("mutate,focus", MUTANTS, ids=lambda one: getattr(one, "__name__", ""))
def test_the_model_catches_a_core_that_would(mutate, focus, monkeypatch, simulate, programs):
    rules = mutate.__doc__.partition(": ")[0].replace(", ", "|")
    mutate(monkeypatch)
    lives = count(1)

    @UNTIL_CAUGHT
    @given(programs(**focus))
    def live(program):
        next(lives)
        simulate(MemoryStore(), program)

    with pytest.raises(simulate.violation, match=f"^({rules}): ") as caught:
        live()
    print(f"{mutate.__name__} → {caught.value} (after {next(lives) - 1} lives)")
