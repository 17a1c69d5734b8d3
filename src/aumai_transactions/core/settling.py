"""What must be recorded about a call that ended.

Owns: the part of `decide` that is about the answers of handlers, and whether another attempt
follows.
Rules:
  1. "Not done" clears a step only where no earlier attempt may have arrived, or where the action
     is idempotent and the answer came from the participant (SEMANTICS C2).
  2. What was recorded as in doubt becomes done or not done only by an answer (invariant I13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.doubts import UNKNOWN_ATTEMPTS_MAX
from aumai_transactions.core.entries import (
    CallReturnedLate,
    CompensationFailed,
    CompensationSucceeded,
    ConfirmationFailed,
    ConfirmationSucceeded,
    Entry,
    ErrorRecord,
    InDoubtCause,
    ProbeAnswered,
    RereadAnswered,
    RetryScheduled,
    RollbackRevoked,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepSucceeded,
    VerificationAnswered,
)
from aumai_transactions.core.observations import (
    HandlerRaised,
    HandlerReturned,
    ProbeReturned,
    VerificationReturned,
)
from aumai_transactions.core.retries import DEFAULT_RETRY, next_due, undo_retry
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import ACTIVE, COMMITTING, STEP_RUNNING
from aumai_transactions.core.undoing import may_continue

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Retry
    from aumai_transactions.core.observations import (
        HandlerMissing,
        LateReturn,
        Observation,
        RereadReturned,
    )
    from aumai_transactions.core.saga import Saga, SagaStep

_CAUSES: dict[str, InDoubtCause] = {"cancelled": "cancelled", "timeout": "timeout"}
_CONTRADICTED = ErrorRecord(
    "Contradicted", "the probe says not done, and the call itself returned late, and succeeded"
)
_TOO_LATE = ErrorRecord(
    "ContinueRefused",
    "it answered Continue, which is heard only while a failed or unknown step sends the "
    "transaction back, before the undo of any other step has begun, and once for each step; "
    "so the step was not undone",
)


def is_awaited(saga: Saga, seen: Observation) -> bool:
    """Tell whether an observation answers a call that is still under way, as the journal says."""
    step = saga.by_id.get(getattr(seen, "step_id", ""))
    if step is None:
        return False
    match seen:
        case HandlerReturned(operation="action") | HandlerRaised(operation="action"):
            return step.state is STEP_RUNNING
        case HandlerReturned(operation="confirmation") | HandlerRaised(operation="confirmation"):
            return step.confirming
        case HandlerReturned() | HandlerRaised():
            return step.undo_running
        case ProbeReturned():
            return step.probing
        case VerificationReturned():
            return step.verifying
        case _:
            return False


def returned(saga: Saga, seen: HandlerReturned, now: int) -> list[Entry]:
    """Return what to record about a handler that returned."""
    step = saga.step(seen.step_id)
    if seen.operation == "action":
        entry = StepSucceeded(now, seen.step_id, step.attempt, seen.output, False, seen.warning)  # noqa: FBT003
        return [entry]
    if seen.operation == "confirmation":
        return [ConfirmationSucceeded(now, seen.step_id, step.confirm_attempt)]
    if not seen.continues:
        return [CompensationSucceeded(now, seen.step_id, step.undo_attempt, note=seen.note)]
    if may_continue(saga, step):
        return [RollbackRevoked(now, seen.step_id, step.undo_attempt, seen.output, seen.warning)]
    return [CompensationFailed(now, seen.step_id, step.undo_attempt, _TOO_LATE)]


def raised(saga: Saga, seen: HandlerRaised, now: int) -> list[Entry]:
    """Return what to record about a handler that raised, or did not return in time."""
    step = saga.step(seen.step_id)
    if seen.operation == "compensation":
        return _undo_raised(step, seen, now)
    if seen.operation == "confirmation":
        return _confirmation_raised(step, seen, now)
    if seen.outcome == "not_done" and _clears(step, seen):
        due = _due_after(saga, step, seen, now) if _is_worth_it(step, seen) else None
        failed = StepFailed(now, seen.step_id, step.attempt, seen.error, due is not None)
        return [failed, *_scheduled(step, due, seen.draw, now)]
    cause = _CAUSES.get(seen.outcome, "unknown")
    doubt = StepInDoubt(now, seen.step_id, step.attempt, cause, seen.error, seen.left_behind)
    if step.definition.policy.has_probe or not _is_worth_it(step, seen):
        return [doubt]
    return [doubt, *_rerun(saga, step, seen, now)]


def _clears(step: SagaStep, seen: HandlerRaised) -> bool:
    # Why not over a call that was left behind: this one's answer says nothing about what that one
    # may do yet, or has said since that it did.
    if step.late_output is not None:
        return False
    if step.doubt is None:
        return True
    if step.left_behind:
        return False
    return step.definition.idempotent and seen.is_answer


def _is_worth_it(step: SagaStep, seen: HandlerRaised) -> bool:
    if step.definition.policy.retry is not None or step.definition.on_commit:
        return seen.may_retry
    # Why only then: a maybe says when to ask again, a "later" says that it should be asked again.
    return seen.after_seconds is not None and (
        seen.outcome == "not_done" or step.attempt < UNKNOWN_ATTEMPTS_MAX
    )


def _rerun(
    saga: Saga, step: SagaStep, seen: HandlerRaised | ProbeReturned, now: int
) -> list[Entry]:
    """Return when a step in doubt runs again with the same key, where that is safe."""
    if not step.definition.idempotent:
        return []
    return _scheduled(step, _due_after(saga, step, seen, now), seen.draw, now)


def _due_after(
    saga: Saga, step: SagaStep, seen: HandlerRaised | ProbeReturned, now: int
) -> int | None:
    """Return when the next attempt of an action may begin, by its policy."""
    if not _goes_forward(saga, step):
        return None
    retry = step.definition.policy.retry or DEFAULT_RETRY
    due = next_due(
        retry, step.attempt, step.first_at, now, draw=seen.draw, asked_seconds=seen.after_seconds
    )
    if due is None or saga.plan.timeout_scope != "transaction" or saga.state is COMMITTING:
        return due
    return due if due <= saga.plan.deadline else None


def _goes_forward(saga: Saga, step: SagaStep) -> bool:
    if saga.state is COMMITTING:
        return True
    return saga.state is ACTIVE and not saga.rollback_requested and not step.undo_wanted


def _due(
    retry: Retry,
    attempts: int,
    first_at: int,
    now: int,
    seen: HandlerRaised | ProbeReturned | VerificationReturned,
) -> int | None:
    return next_due(
        retry, attempts, first_at, now, draw=seen.draw, asked_seconds=seen.after_seconds
    )


def _scheduled(step: SagaStep, due: int | None, draw: float, now: int) -> list[Entry]:
    if due is None:
        return []
    return [RetryScheduled(now, step.step_id, "action", step.attempt + 1, due, draw)]


def _undo_raised(step: SagaStep, seen: HandlerRaised, now: int) -> list[Entry]:
    attempt = step.undo_attempt
    # Why once more after a cancellation: like a crash, it says nothing about the undo.
    if seen.outcome == "cancelled" and attempt == 1:
        return [CompensationFailed(now, seen.step_id, attempt, seen.error, will_retry=True)]
    policy = step.definition.policy
    retry = undo_retry(policy)
    if seen.outcome == "not_done" and seen.after_seconds is not None and policy.undo_retry is None:
        retry = DEFAULT_RETRY
    due = None
    if seen.may_retry:
        due = next_due(
            retry,
            attempt,
            step.undo_first_at,
            now,
            draw=seen.draw,
            asked_seconds=seen.after_seconds,
        )
    again = due is not None
    failed = CompensationFailed(now, seen.step_id, attempt, seen.error, again, seen.left_behind)
    if due is None:
        return [failed]
    return [
        failed,
        RetryScheduled(now, seen.step_id, "compensation", attempt + 1, due, seen.draw),
    ]


def _confirmation_raised(step: SagaStep, seen: HandlerRaised, now: int) -> list[Entry]:
    """Return what to record about a confirmation that raised; it is idempotent, and tried again."""
    attempt = step.confirm_attempt
    retry = step.definition.policy.confirm_retry or DEFAULT_RETRY
    due = None
    if seen.may_retry:
        due = next_due(
            retry,
            attempt,
            step.confirm_first_at,
            now,
            draw=seen.draw,
            asked_seconds=seen.after_seconds,
        )
    failed = ConfirmationFailed(now, seen.step_id, attempt, seen.error, due is not None)
    if due is None:
        return [failed]
    later = RetryScheduled(now, seen.step_id, "confirmation", attempt + 1, due, seen.draw)
    return [failed, later]


def reread(saga: Saga, seen: RereadReturned, now: int) -> list[Entry]:
    """Return what to record about what was read again before the commit point."""
    step = saga.step(seen.step_id)
    if saga.state is not ACTIVE or step.index in saga.rereads or not is_in_force(step):
        return []
    return [RereadAnswered(now, seen.step_id, seen.holds, seen.error)]


def missing(saga: Saga, seen: HandlerMissing, now: int) -> list[Entry]:
    """Return what to record where there is no handler here."""
    step = saga.step(seen.step_id)
    if seen.operation == "action":
        return [StepSucceeded(now, seen.step_id, step.attempt, simulated=True)]
    why = ErrorRecord("UnknownAction", f"{step.definition.action!r} has no {seen.operation} here")
    if seen.operation == "probe":
        return [ProbeAnswered(now, seen.step_id, step.probe_attempt, "unknown", error=why)]
    if seen.operation == "verification":
        return [VerificationAnswered(now, seen.step_id, step.verify_attempt, "unknown", error=why)]
    if seen.operation == "reread":
        return [RereadAnswered(now, seen.step_id, holds=False, error=why)]
    if seen.operation == "confirmation":
        if step.simulated:
            return [ConfirmationSucceeded(now, seen.step_id, step.confirm_attempt, simulated=True)]
        return [ConfirmationFailed(now, seen.step_id, step.confirm_attempt, why)]
    if step.simulated or not saga.ran:
        return [CompensationSucceeded(now, seen.step_id, step.undo_attempt, simulated=True)]
    name = step.definition.compensating_action
    error = ErrorRecord("UnknownAction", f"no handler for compensating action {name!r}")
    return [StepOutstanding(now, seen.step_id, "no_handler", error)]


def probed(saga: Saga, seen: ProbeReturned, now: int) -> list[Entry]:
    """Return what to record about the answer of a probe."""
    step = saga.step(seen.step_id)
    if not step.probing:
        return []  # A person, or the call itself, was faster.
    attempt = step.probe_attempt
    if seen.answer == "not_done" and step.late_output is not None:
        # Why no answer: the call itself has said that it was done, late as it was.
        return [ProbeAnswered(now, seen.step_id, attempt, "unknown", error=_CONTRADICTED)]
    if seen.answer == "done":
        return [
            ProbeAnswered(now, seen.step_id, attempt, "done", seen.output, seen.error, seen.warning)
        ]
    if seen.answer == "not_done":
        due = _due_when_not_done(saga, step, seen, now)
        again = due is not None
        answer = ProbeAnswered(
            now, seen.step_id, attempt, "not_done", None, seen.error, None, again
        )
        return [answer, *_scheduled(step, due, seen.draw, now)]
    retry = step.definition.policy.probe_retry or DEFAULT_RETRY
    asked = attempt - step.probe_base
    due = next_due(
        retry, asked, step.probe_first_at, now, draw=seen.draw, asked_seconds=seen.after_seconds
    )
    answer = ProbeAnswered(
        now, seen.step_id, attempt, "unknown", None, seen.error, None, due is not None
    )
    if due is not None:
        return [answer, RetryScheduled(now, seen.step_id, "probe", attempt + 1, due, seen.draw)]
    if step.definition.policy.retry is None and not step.definition.on_commit:
        return [answer]
    return [answer, *_rerun(saga, step, seen, now)]


def _due_when_not_done(saga: Saga, step: SagaStep, seen: ProbeReturned, now: int) -> int | None:
    """Return when a step may run that is known not to be done.

    What a crash cut off is run as if for the first time; so is what would have been run again
    had nobody known. All else is as if the call itself had said no.
    """
    if not _goes_forward(saga, step):
        return None
    unasked = step.definition.idempotent and step.attempt < UNKNOWN_ATTEMPTS_MAX
    if step.doubt == "crash" or step.retry_requested:
        return now
    if step.definition.policy.retry is None and not step.definition.on_commit:
        return now if unasked else None
    return _due_after(saga, step, seen, now)


def verified(saga: Saga, seen: VerificationReturned, now: int) -> list[Entry]:
    """Return what to record about what was found after an undo."""
    step = saga.step(seen.step_id)
    if not step.verifying:
        return []
    attempt = step.verify_attempt
    due = None
    if seen.answer == "unknown":
        retry = step.definition.policy.verify_retry or DEFAULT_RETRY
        asked = attempt - step.verify_base
        due = next_due(
            retry,
            asked,
            step.verify_first_at,
            now,
            draw=seen.draw,
            asked_seconds=seen.after_seconds,
        )
    answer = VerificationAnswered(
        now, seen.step_id, attempt, seen.answer, seen.left, seen.error, due is not None
    )
    if due is None:
        return [answer]
    scheduled = RetryScheduled(now, seen.step_id, "verification", attempt + 1, due, seen.draw)
    return [answer, scheduled]


def returned_late(saga: Saga, seen: LateReturn, now: int) -> list[Entry]:
    """Return what to record about a call that returned after it had been given up."""
    step = saga.step(seen.step_id)
    if seen.operation == "action" and seen.attempt in step.late_attempts:
        return []
    return [
        CallReturnedLate(
            now, seen.step_id, seen.operation, seen.attempt, seen.outcome, seen.output, seen.error
        )
    ]
