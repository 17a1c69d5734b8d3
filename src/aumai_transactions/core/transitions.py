"""The small steps of which the meaning of entries is made.

Owns: what several kinds of entries do to a step alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.saga import IllegalEntry, Saga, SagaStep
from aumai_transactions.core.states import (
    STEP_FAILED,
    STEP_PENDING,
    STEP_SKIPPED,
    STEP_SUCCEEDED,
)

if TYPE_CHECKING:
    from aumai_transactions.core.entries import ErrorRecord


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (an assertion that -O keeps)
    """Refuse an entry where something does not hold."""
    if not holds:
        raise IllegalEntry(otherwise)


def take_effect(saga: Saga, step: SagaStep) -> None:
    """Let a step have succeeded, and let those that waited for it have their turn."""
    step.state = STEP_SUCCEEDED
    step.error = None
    if step.doubt is not None:
        no_longer_in_doubt(saga, step)
    saga.effects.append(step.index)
    saga.completed.append(step.index)
    saga.succeeded += 1
    for index in step.dependents:
        dependent = saga.steps[index]
        dependent.unmet -= 1
        if dependent.unmet == 0:
            saga.ready.append(index)
    saga.touched.append(step.index)


def known_done(saga: Saga, step: SagaStep) -> None:
    """Let a step have succeeded because somebody else says so, whatever its own calls answer."""
    if step.attempt > 1:
        # Nobody says which of several calls did it; the others may act or answer yet.
        take_effect(saga, step)
        return
    step.accounted |= {*step.left_behind, step.attempt}
    step.left_behind = {}
    take_effect(saga, step)


def not_done(
    saga: Saga,
    step: SagaStep,
    error: ErrorRecord | None,
    again: bool,  # noqa: FBT001 (one meaning, said by the name)
) -> None:
    """Let a step have failed; or let it have its turn again."""
    step.error = error
    if step.doubt is not None:
        no_longer_in_doubt(saga, step)
    if again:
        step.state = STEP_PENDING
        saga.ready.append(step.index)
    else:
        step.state = STEP_FAILED
        saga.failed.append(step.index)
    saga.touched.append(step.index)


def no_longer_in_doubt(saga: Saga, step: SagaStep) -> None:
    """Let it be known what became of a step; the entry says what."""
    step.doubt = None
    step.probing = False
    step.retry_requested = False
    saga.effects.remove(step.index)
    saga.doubtful.pop(step.index, None)
    no_longer_waiting(saga, step)


def no_longer_waiting(saga: Saga, step: SagaStep) -> None:
    """Let the wait of a step be over."""
    if step.due_at is not None:
        step.due_at = None
        del saga.waiting[step.index]


def no_longer_to_undo(saga: Saga, step: SagaStep) -> None:
    """Take a step off the stack of those that are to be undone."""
    step.undo_running = False
    step.to_undo = False
    # Why not just remove: the step is nearly always the last one, and remove() searches from
    # the first, which makes a long rollback quadratic.
    if saga.undo[-1] == step.index:
        saga.undo.pop()
    else:
        saga.undo.remove(step.index)
    no_longer_waiting(saga, step)
    saga.touched.append(step.index)


def skip_pending(saga: Saga) -> None:
    """Let what has never begun be skipped."""
    for step in saga.steps:
        if step.state is STEP_PENDING:
            step.state = STEP_SKIPPED
            saga.touched.append(step.index)
