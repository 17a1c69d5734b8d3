"""What should be done next.

Owns: `plan`, and what else follows from how a transaction stands: when it has to be looked at
again, and whether only a person can move it.
Rules:
  1. Journal before act: a call is handed out together with its intent.
  2. A decision that needs no new observation (commit, go back, done) is a `Record` command.
  3. Time decides only when something is tried or given up, never what is true.
  4. In doubt, in this order: ask the probe; run again with the same key where that is safe; then
     what the action declares (SEMANTICS C4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core.commands import Call, Command, Record
from aumai_transactions.core.entries import (
    CompensationStarted,
    ErrorRecord,
    ProbeStarted,
    RollbackStarted,
    StepFailed,
    StepOutstanding,
    StepStarted,
    TransactionActivated,
    TransactionCommitted,
    TransactionExpired,
    TransactionRolledBack,
    VerificationStarted,
)
from aumai_transactions.core.references import UnresolvedReference, resolved
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.models import RollbackReason

# Why two: one call and, where the action is idempotent, one more with the same key to ask
# the participant what became of it. More is a retry policy, which an action must declare.
UNKNOWN_ATTEMPTS_MAX = 2

ABANDON_AFTER_SECONDS = 60.0
"""How long an undo waits for a call that was left behind, where its action does not say."""

CRASH = ErrorRecord("ProcessDied", "the process that ran this step died before it could tell")


def plan(saga: Saga, now: int, parallel_max: int = 1) -> Sequence[Command]:
    """Return what should be done next: one decision to record, or calls to make, or nothing.

    Nothing means that the transaction is finished, or waits for a person, for a call that is
    under way, or until `wake_at`.

    Args:
        saga: The transaction.
        now: Microseconds since 1970 UTC.
        parallel_max: How many steps may run at once.
    """
    state = saga.state
    if state is ACTIVE:
        return _plan_forward(saga, now, parallel_max)
    if state is PENDING:
        return _plan_start(saga, now)
    if state is COMPENSATING:
        return _plan_undo(saga, now) or _plan_end_of_undo(saga, now)
    if state is ROLLED_BACK:
        return _plan_undo(saga, now)
    if state is COMMITTED or state is FAILED or state is COMMITTING:
        return ()
    assert_never(state)


def wake_at(saga: Saga) -> int | None:
    """Return when time alone gives something to do; None where only a call or a person does."""
    if saga.state is ACTIVE:
        if not saga.waiting or saga.running or saga.rollback_requested or saga.failed:
            return None
        # Why not all of them: while something is in doubt, nothing else begins.
        waiting = saga.doubtful or saga.waiting
        return min((at for index, at in saga.waiting.items() if index in waiting), default=None)
    step = next_to_undo(saga)
    if step is None or step.undo_running or step.probing or step.verifying:
        return None
    return step.due_at if step.due_at is not None else abandon_at(step)


def asks(step: SagaStep) -> bool:
    """True where a person must say what became of this step once it stays in doubt."""
    policy = step.definition.on_unknown
    if policy is None:
        return step.definition.compensating_action is None and step.definition.effect != "none"
    return policy == "ask"


def needs_person(step: SagaStep) -> bool:
    """True where everything was tried on a step in doubt, and a person must say what became."""
    return asks(step) and not (
        step.probing
        or step.due_at is not None
        or step.retry_requested
        or _must_be_asked(step)
        or _may_run_again(step)
    )


def next_to_undo(saga: Saga) -> SagaStep | None:
    """Return the step that is undone next; None where nothing is, or a failed undo blocks it."""
    for index in reversed(saga.undo):
        if index not in saga.blocked:
            return saga.steps[index]
    return None


def abandon_at(step: SagaStep) -> int | None:
    """Return until when an undo waits for calls that were left behind; None where for none."""
    if not step.left_behind or step.undo_attempt or step.abandoned:
        return None
    seconds = step.definition.policy.abandon_after_seconds
    seconds = ABANDON_AFTER_SECONDS if seconds is None else seconds
    return step.doubt_at + round(seconds * 1_000_000)


def deadline_error(saga: Saga, now: int) -> ErrorRecord:
    """Return the error of a deadline that has passed."""
    late = (now - saga.plan.deadline) / 1_000_000
    return ErrorRecord(
        "DeadlineExceeded",
        f"the timeout of {saga.plan.timeout_seconds:g} s was over {late:.3f} s ago",
    )


def _plan_start(saga: Saga, now: int) -> Sequence[Command]:
    if saga.rollback_requested:
        return (Record(RollbackStarted(now, saga.rollback_requested)),)
    if not saga.commit_requested:
        return ()
    if now > saga.plan.deadline:
        return (Record(TransactionExpired(now, deadline_error(saga, now))),)
    return (Record(TransactionActivated(now)),)


def _plan_forward(saga: Saga, now: int, parallel_max: int) -> Sequence[Command]:
    back = _reason_to_go_back(saga, now)
    if back is not None:
        return () if saga.running else (Record(back),)
    if saga.doubtful:
        return _plan_doubtful(saga, now)
    if not saga.ready:
        if saga.succeeded == len(saga.steps):
            return (Record(TransactionCommitted(now)),)
        return ()
    ready = _due(saga, now) if saga.waiting else saga.ready
    free = parallel_max - saga.running
    if free <= 0 or not ready:
        return ()
    if saga.plan.timeout_scope == "transaction" and now > saga.plan.deadline:
        if saga.running:
            return ()
        return (Record(RollbackStarted(now, "deadline", None, deadline_error(saga, now))),)
    return _plan_ready(saga, ready, now, free)


def _due(saga: Saga, now: int) -> list[int]:
    return [index for index in saga.ready if saga.waiting.get(index, now) <= now]


def _plan_ready(saga: Saga, ready: list[int], now: int, free: int) -> Sequence[Command]:
    if len(ready) > 1:
        ready.sort()
    commands: list[Command] = []
    for index in ready[:free]:
        step = saga.steps[index]
        data = None
        if step.definition.references:
            outputs = {r.step_id: saga.step(r.step_id).output for r in step.definition.references}
            try:
                data = resolved(step.definition, outputs)
            except UnresolvedReference as error:
                problem = ErrorRecord("UnresolvedReference", str(error))
                return (Record(StepFailed(now, step.step_id, 0, problem)),)
        intent = StepStarted(now, step.definition.step_id, step.attempt + 1, data)
        commands.append(Call("action", step, intent))
    return commands


def _reason_to_go_back(saga: Saga, now: int) -> RollbackStarted | None:
    if saga.failed:
        step = saga.steps[saga.failed[0]]
        return RollbackStarted(now, "step_failed", step.step_id, step.error)
    if saga.rollback_requested:
        return RollbackStarted(now, saga.rollback_requested)
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.doubt == "cancelled":
            return RollbackStarted(now, "cancelled", step.step_id, step.error)
    if saga.taken_over_at is not None:
        return _back_after_crash(saga, saga.taken_over_at, now)
    return None


def _back_after_crash(saga: Saga, taken_over_at: int, now: int) -> RollbackStarted | None:
    reason: RollbackReason
    if saga.plan.on_crash == "roll_back":
        reason, error = "crash", CRASH
    elif saga.plan.on_crash is None and taken_over_at > saga.plan.deadline:
        reason, error = "deadline", deadline_error(saga, taken_over_at)
    else:
        return None
    first = next((saga.steps[index].step_id for index in saga.doubtful), None)
    return RollbackStarted(now, reason, first, error)


def _plan_doubtful(saga: Saga, now: int) -> Sequence[Command]:
    """Settle what is in doubt: ask, re-run where that is safe, else go back or ask a person."""
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.probing or (step.due_at is not None and now < step.due_at):
            continue
        if _must_be_asked(step):
            return (_probe(step, now),)
        if step.retry_requested or _may_run_again(step):
            if saga.plan.timeout_scope == "transaction" and now > saga.plan.deadline:
                late = deadline_error(saga, now)
                return () if saga.running else (Record(_too_late(now, step, late)),)
            intent = StepStarted(now, step.step_id, step.attempt + 1, step.data)
            return (Call("action", step, intent),)
        if not asks(step) and not saga.running:
            return (Record(RollbackStarted(now, "in_doubt", step.step_id, step.error)),)
    return ()


def _too_late(now: int, step: SagaStep, error: ErrorRecord) -> RollbackStarted:
    return RollbackStarted(now, "deadline", step.step_id, error)


def _must_be_asked(step: SagaStep) -> bool:
    return step.definition.policy.has_probe and not step.probe_spent


def _probe(step: SagaStep, now: int) -> Call:
    return Call("probe", step, ProbeStarted(now, step.step_id, step.probe_attempt + 1))


def _may_run_again(step: SagaStep) -> bool:
    """True where a step in doubt may be run again with the same key, by itself.

    With a retry policy that is where the next attempt was scheduled; but what a crash cut off
    is always asked for once more.
    """
    if not step.definition.idempotent:
        return False
    if step.doubt == "crash" or step.due_at is not None:
        return True
    return step.definition.policy.retry is None and step.attempt < UNKNOWN_ATTEMPTS_MAX


def _plan_undo(saga: Saga, now: int) -> Sequence[Command]:
    step = next_to_undo(saga)
    if step is None or step.undo_running or step.probing or step.verifying:
        return ()
    if step.due_at is not None and now < step.due_at:
        return ()
    if step.to_verify:
        intent = VerificationStarted(now, step.step_id, step.verify_attempt + 1)
        return (Call("verification", step, intent),)
    if step.state is STEP_IN_DOUBT and _must_be_asked(step):
        return (_probe(step, now),)
    if step.definition.compensating_action is None:
        return (Record(StepOutstanding(now, step.step_id, "no_compensation", step.error)),)
    abandon = abandon_at(step)
    if abandon is not None and now < abandon:
        return ()
    in_doubt = step.doubt is not None
    attempt = step.undo_attempt + 1
    undo = CompensationStarted(now, step.definition.step_id, attempt, in_doubt)
    return (Call("compensation", step, undo),)


def _plan_end_of_undo(saga: Saga, now: int) -> Sequence[Command]:
    if saga.undo or saga.halted:
        return ()
    return (Record(TransactionRolledBack(now)),)
