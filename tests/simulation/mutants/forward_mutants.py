"""Mistakes on the way forward: turns, deadlines, approvals, retries, the commit point.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from tests.simulation.mutants.planting import mutant

from aumai_transactions.core import (
    approvals,
    commit_planning,
    committing,
    decider,
    evolution,
    planning,
    retries,
    transitions,
)
from aumai_transactions.core.commands import Call, Record
from aumai_transactions.core.entries import (
    RollbackStarted,
    StepStarted,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.core.states import ACTIVE, COMMITTING, COMPENSATING

YEAR = 365 * 86_400 * 1_000_000


@mutant(seed=1)
def run_before_its_turn(plant):
    """I3: a step does not wait for what it depends on."""
    plant.put(evolution, "dependencies", lambda steps, _name: [() for _step in steps])


@mutant(seed=3, needs=("rolled_back",))
def go_on_after_the_rollback(plant):
    """I4: the next step starts while the others are undone."""
    plant.blind()
    sound, sound_start = planning.plan_undo, evolution._step_started

    def plan_undo(saga, now, parallel_max):
        if saga.ready and saga.ran:
            return planning._plan_ready(saga, saga.ready, now, 1)
        return sound(saga, now, parallel_max)

    def started(saga, entry):
        state = saga.state
        saga.state = ACTIVE if state is COMPENSATING else state
        sound_start(saga, entry)
        saga.state = state

    plant.put(evolution, "_step_started", started)
    plant.put(planning, "plan_undo", plan_undo)


@mutant(seed=11, needs=("rolled_back",))
def go_back_while_a_step_runs(plant):
    """D5: the rollback does not wait for what runs."""
    plant.blind()
    sound = planning._plan_forward

    def plan_forward(saga, now, parallel_max):
        back = planning.reason_to_go_back(saga, now)
        if back is not None and saga.running:
            return (Record(back),)
        return sound(saga, now, parallel_max)

    plant.put(planning, "_plan_forward", plan_forward)


@mutant(seed=4)
def never_look_at_the_deadline_at_the_start(plant):
    """D1: what is submitted too late begins all the same."""
    sound = planning._plan_start

    def plan_start(saga, now):
        found = sound(saga, now)
        begins = saga.commit_requested and not saga.rollback_requested
        return (Record(TransactionActivated(now)),) if found and begins else found

    plant.put(planning, "_plan_start", plan_start)


@mutant(seed=3)
def never_look_at_the_deadline_on_the_way(plant):
    """D1: a deadline of the whole is looked at at its start alone."""
    plant.put(planning, "_start_is_late", lambda saga, now: None)
    sound = planning._back_interactive

    def back_interactive(saga, now):
        found = sound(saga, now)
        return None if found is not None and found.reason == "deadline" else found

    plant.put(planning, "_back_interactive", back_interactive)


@mutant(seed=1)
def run_without_an_approval(plant):
    """D18: nobody waits for the person who has to allow a step."""
    plant.blind()
    sound = planning._plan_ready

    def plan_ready(saga, ready, now, free):
        for index in ready:
            saga.steps[index].approved = True
        return sound(saga, ready, now, free)

    plant.put(planning, "_plan_ready", plan_ready)


@mutant(seed=1, needs=("approval_denied",))
def take_a_denial_for_an_approval(plant):
    """D18: a step runs that a person has denied."""

    def denied(saga, entry):
        step = saga.step(entry.step_id)
        del saga.approvals[step.index]
        step.approved = True
        saga.ready.append(step.index)

    plant.put(approvals, "approval_denied", denied)


@mutant(seed=1, needs=("approval_denied",))
def do_not_hear_a_denial(plant):
    """D18, L1: a step waits for ever that a person has denied."""

    def denied(saga, entry):
        del saga.approvals[saga.step(entry.step_id).index]

    plant.put(approvals, "approval_denied", denied)


@mutant(seed=1, needs=("approval_requested",))
def wait_for_an_approval_for_ever(plant):
    """D18, L1: the time within which a person has to answer is not looked at."""
    plant.put(planning, "_overdue", lambda saga, now: ())


@mutant(seed=None)
def do_not_hear_a_wish_to_go_back(plant):
    """D5, L1: it goes on, and commits, though somebody has asked for its rollback."""
    sound = planning.reason_to_go_back

    def reason_to_go_back(saga, now):
        found = sound(saga, now)
        return None if found is not None and found.reason == "requested" else found

    plant.everywhere(sound, reason_to_go_back)


@mutant(seed=2, needs=("takeover",))
def resume_what_is_to_go_back_after_a_crash(plant):
    """E1: it goes on after a crash though it says `on_crash="roll_back"`."""
    plant.put(planning, "_back_after_crash", lambda saga, at, now: None)


@mutant(seed=5)
def abort_for_a_tool_error(plant):
    """D2: what a tool raises sends an interactive transaction back, and not only its caller."""
    sound = transitions.not_done

    def not_done(saga, step, error, again):
        is_interactive, saga.is_interactive = saga.is_interactive, False
        try:
            sound(saga, step, error, again)
        finally:
            saga.is_interactive = is_interactive

    plant.everywhere(sound, not_done)


# ------------------------------------------------------------------------------------ trying again


@mutant(seed=2, needs=("retry_scheduled",))
def try_once_too_often(plant):
    """C8: a policy of n attempts makes n + 1."""
    sound = retries.next_due

    def next_due(retry, attempts, first_at, now, **given):
        one_more = retry._replace(attempts_max=retry.attempts_max + 1)
        return sound(one_more, attempts, first_at, now, **given)

    plant.everywhere(sound, next_due)


@mutant(seed=2, needs=("retry_scheduled",))
def try_for_ever(plant):
    """C8, L1: a policy's limits are not looked at."""
    sound = retries.next_due

    def next_due(retry, attempts, first_at, now, **given):
        endless = retry._replace(attempts_max=2**31, budget_seconds=None)
        return sound(endless, attempts, first_at, now, **given)

    plant.everywhere(sound, next_due)


@mutant(seed=None, needs=("retry_scheduled",))
def spend_more_than_the_budget(plant):
    """C8: the time that all attempts may take together is not looked at."""
    sound = retries.next_due

    def next_due(retry, attempts, first_at, now, **given):
        return sound(retry._replace(budget_seconds=None), attempts, first_at, now, **given)

    plant.everywhere(sound, next_due)


@mutant(seed=1, needs=("retry_scheduled",))
def lose_the_pause_before_the_next_attempt(plant):
    """C8: the next attempt is due at once."""
    plant.everywhere(retries.delay_bound, lambda retry, attempt: 0.0)


@mutant(seed=10, needs=("again_action",))
def do_not_wait_for_the_next_attempt(plant):
    """C8: an attempt begins before it is due."""
    plant.put(planning, "_due", lambda saga, now: list(saga.ready))


@mutant(seed=2, needs=("retry_scheduled",))
def let_nobody_know_when_to_wake(plant):
    """D18, L1: a transaction that is parked is due a year later than it should be."""
    sound = planning.wake_at

    def wake_at(saga):
        at = sound(saga)
        return None if at is None else at + YEAR

    plant.everywhere(sound, wake_at)


@mutant(seed=2)
def try_an_undo_again_that_is_not_idempotent(plant):
    """C8: an undo is retried that nobody has declared idempotent."""
    plant.everywhere(retries.undo_retry, lambda policy: policy.undo_retry or retries.DEFAULT_RETRY)


# ------------------------------------------------------------------------------- the commit point


@mutant(seed=1)
def carry_out_what_is_held_at_once(plant):
    """D15: a step that was to be held until the commit runs before it."""
    plant.blind()
    sound, sound_start = planning._plan_forward, evolution._step_started

    def plan_forward(saga, now, parallel_max):
        for index in saga.deferred:
            step = saga.steps[index]
            if step.attempt == 0 and not saga.running and not step.definition.references:
                return (Call("action", step, StepStarted(now, step.step_id, 1, None)),)
        return sound(saga, now, parallel_max)

    def started(saga, entry):
        state = saga.state
        if saga.step(entry.step_id).definition.on_commit:
            saga.state = COMMITTING
        sound_start(saga, entry)
        saga.state = state

    plant.put(planning, "_plan_forward", plan_forward)
    plant.put(evolution, "_step_started", started)


@mutant(seed=1, needs=("commit_decided",))
def keep_what_is_held(plant):
    """I2: it commits, and what was held until then is never carried out."""
    plant.blind()

    def carry_out(saga, step, now):
        saga.deferred.clear()
        return (Record(TransactionCommitted(now)),)

    plant.put(commit_planning, "_carry_out", carry_out)


@mutant(seed=1, needs=("commit_decided",))
def confirm_nothing(plant):
    """D15: it commits, and what was reserved is never confirmed."""
    sound = committing.commit_decided

    def decided(saga, entry):
        sound(saga, entry)
        saga.to_confirm.clear()

    plant.put(committing, "commit_decided", decided)


@mutant(seed=11, needs=("commit_decided",))
def go_back_behind_the_commit_point(plant):
    """I8: what cannot be carried out behind the commit point takes the commit back."""
    plant.blind()
    sound = decider.plan

    def plan(saga, now, parallel_max=1):
        if saga.state is COMMITTING and (saga.stuck or saga.waiting):
            return (Record(RollbackStarted(now, "step_failed")),)
        return sound(saga, now, parallel_max)

    plant.put(decider, "plan", plan)


@mutant(seed=91, needs=("in_doubt",))
def go_back_over_a_pivot_in_doubt(plant):
    """D14: a pivot of which nobody knows whether it was the commit point is rolled back."""
    plant.blind()
    plant.everywhere(planning.may_have_decided, lambda saga: False)


@mutant(seed=1)
def decide_while_others_run(plant):
    """D14, I3: the pivot waits for what it names, and not until everything else has ended."""
    sound, sound_graph = planning._plan_ready, evolution.dependencies

    def dependencies(steps, name):
        named = [
            step._replace(pivot=False, after=step.after or ()) if step.pivot else step
            for step in steps
        ]
        return sound_graph(named, name)

    def plan_ready(saga, ready, now, free):
        if saga.pivot is None or saga.pivot not in ready:
            return sound(saga, ready, now, free)
        unsettled, running, saga.unsettled, saga.running = saga.unsettled, saga.running, 1, 0
        try:
            return sound(saga, ready, now, free)
        finally:
            saga.unsettled, saga.running = unsettled, running

    plant.put(planning, "_plan_ready", plan_ready)
    plant.put(evolution, "dependencies", dependencies)


@mutant(seed=10, needs=("rolled_back",))
def commit_over_a_failure(plant):
    """I2: a step that failed is passed over."""
    plant.blind()
    sound = planning._plan_forward

    def plan_forward(saga, now, parallel_max):
        if saga.failed and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now, parallel_max)

    plant.put(planning, "_plan_forward", plan_forward)


@mutant(seed=1, needs=("in_doubt",))
def commit_over_what_is_in_doubt(plant):
    """I2: a commit does not wait for what is in doubt."""
    plant.blind()
    sound = planning._plan_forward

    def plan_forward(saga, now, parallel_max):
        if saga.commit_requested and saga.doubtful and not saga.ready and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now, parallel_max)

    plant.put(planning, "_plan_forward", plan_forward)


@mutant(seed=67)
def do_not_read_again(plant):
    """D16: what was to be read again before the commit is not."""
    plant.everywhere(commit_planning.is_read_again, lambda saga: True)


@mutant(seed=7, needs=("reread",))
def commit_though_what_was_read_has_changed(plant):
    """D16: what was read again and does not hold any more is passed over."""
    sound = committing.reread_answered

    def reread_answered(saga, entry):
        sound(saga, entry)
        saga.conflict = None

    plant.put(committing, "reread_answered", reread_answered)


@mutant(seed=44, needs=("undo_window_closing",))
def miss_the_window_of_an_undo(plant):
    """D19: `on_undo_window="roll_back"` warns, and does not go back."""
    plant.put(planning, "_window_closes", lambda saga, now: None)
