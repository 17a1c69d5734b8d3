"""What it means that a call returned after it had been given up (SEMANTICS C5).

Owns: the part of `evolve` that is about late answers.
Rules:
  1. A late success is never counted: it is undone, or a person looks at it (invariant I4).
  2. What arrives before the undo has begun tells what there is to undo; what arrives later
     changes no state of the transaction, and nothing is undone twice by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core import undoing
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTING,
    COMPENSATING,
    STEP_COMPENSATED,
    STEP_COMPENSATING,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.transitions import (
    has_effect,
    no_longer_waiting,
    not_done,
    require,
    take_effect,
)

if TYPE_CHECKING:
    from aumai_transactions.core.entries import CallReturnedLate
    from aumai_transactions.core.saga import Saga, SagaStep

_OUTCOMES = {
    "succeeded": "and succeeded",
    "not_done": "and had not done it",
    "in_doubt": "and does not know what it did",
}


def call_returned_late(saga: Saga, entry: CallReturnedLate) -> None:
    """Take note of a late answer."""
    step = saga.step(entry.step_id)
    require(entry.attempt >= 1, "a call returns late that was never made")
    what = "call" if entry.operation == "action" else entry.operation
    said = f": {entry.error}" if entry.error else ""
    note = (
        f"a {what} of step {step.step_id} (attempt {entry.attempt}) that had been given up "
        f"returned later, {_OUTCOMES[entry.outcome]}{said}"
    )
    saga.warnings.append(note)
    if entry.operation == "compensation":
        step.undo_left_behind -= {entry.attempt}
        undoing.note_late_undo(step, ErrorRecord("ReturnedLate", note))
        return
    step.left_behind = {
        attempt: driver for attempt, driver in step.left_behind.items() if attempt != entry.attempt
    }
    step.late_attempts |= {entry.attempt}
    if entry.attempt in step.accounted:
        return
    if entry.outcome == "succeeded":
        _late_success(saga, step, entry, note)
    elif entry.outcome == "not_done":
        _late_refusal(saga, step, entry)


def _late_success(saga: Saga, step: SagaStep, entry: CallReturnedLate, note: str) -> None:
    if step.state in (STEP_RUNNING, STEP_IN_DOUBT):
        step.late_output = (entry.output,)
        step.unrecorded = entry.error is not None
        if saga.state is COMPENSATING or step.to_undo:
            step.output = entry.output
            take_effect(saga, step)
            undoing.settled(saga, step)
        return
    is_held = step.definition.on_commit and saga.state is COMMITTING
    if is_held and step.state in (STEP_PENDING, STEP_FAILED):
        # What was to happen behind the commit point has happened.
        saga.stuck.pop(step.index, None)
        no_longer_waiting(saga, step)
        step.output = entry.output
        step.unrecorded = entry.error is not None
        take_effect(saga, step)
        return
    if step.withdrawn:
        return  # There was nothing to undo; whoever had to know was told.
    if step.state is STEP_PENDING:
        step.late_output = (entry.output,)  # Its next attempt, with the same key, is the answer.
        return
    if step.state is STEP_SUCCEEDED:
        return  # The same key was answered by a later attempt or a probe.
    step.acted_late = True
    step.undo_error = ErrorRecord("ReturnedLate", note)
    if saga.state is ACTIVE and not saga.is_interactive:
        return  # It failed, and goes back: then it is left to a person.
    if step.state is not STEP_COMPENSATING:
        if step.index not in saga.effects:
            has_effect(saga, step)
        undoing.leave_outstanding(saga, step, "acted_late")
    else:
        step.error = ErrorRecord("ReturnedLate", note)


def _late_refusal(saga: Saga, step: SagaStep, entry: CallReturnedLate) -> None:
    step.refused |= {entry.attempt}
    if len(step.refused) < step.attempt:
        return  # It answers for itself alone; an earlier or a later call may have arrived.
    if step.state is STEP_IN_DOUBT and saga.state in (ACTIVE, COMPENSATING):
        not_done(saga, step, entry.error, False)  # noqa: FBT003
        undoing.settled(saga, step)
    elif step.outstanding == "may_still_act":
        undoing.no_longer_outstanding(saga, step)
        step.state = STEP_COMPENSATED
        saga.undone.append(step.index)
        undoing.dealt_with(saga, step)
