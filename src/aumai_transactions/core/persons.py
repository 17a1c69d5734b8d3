"""What it means that a person wants something tried again, or says what happened.

Owns: the part of `evolve` that is about these two requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core import committing, undoing
from aumai_transactions.core.poison import is_poisoned
from aumai_transactions.core.states import COMMITTING, STEP_IN_DOUBT
from aumai_transactions.core.transitions import known_done, not_done, require

if TYPE_CHECKING:
    from aumai_transactions.core.entries import ResolutionGiven, RetryRequested
    from aumai_transactions.core.saga import Saga


def retry_requested(saga: Saga, entry: RetryRequested) -> None:
    """Let something be tried once more, or at once."""
    step = saga.step(entry.step_id)
    stopped = step.state is STEP_IN_DOUBT or step.outstanding is not None
    if is_poisoned(saga) and not stopped and step.index not in saga.stuck:
        return  # It had its turn, and has it again.
    if step.due_at is not None:
        step.due_at = saga.waiting[step.index] = entry.at
        return
    if step.to_undo and step.left_behind and not step.undo_attempt:
        step.abandoned = True
        return
    if step.state is STEP_IN_DOUBT:
        step.retry_requested = True
        step.probe_spent = False
        step.probe_base = step.probe_attempt
        saga.stuck.pop(step.index, None)
        return
    if saga.state is COMMITTING:
        committing.retry_requested(saga, step)
        return
    undoing.retry_requested(saga, step)


def resolution_given(saga: Saga, entry: ResolutionGiven) -> None:
    """Let a step be what a person says that it is."""
    step = saga.step(entry.step_id)
    said = f"{entry.by} decided for step {step.step_id}: {entry.answer.replace('_', ' ')}"
    saga.warnings.append(f"{said} ({entry.note})")
    if saga.state is COMMITTING and step.state is not STEP_IN_DOUBT:
        committing.resolved(saga, step, entry.answer)
        return
    if entry.answer in ("happened", "did_not_happen"):
        require(step.state is STEP_IN_DOUBT, "the step is not in doubt")
        if entry.answer == "happened":
            if step.late_output is not None:
                (step.output,) = step.late_output
            known_done(saga, step)
        else:
            # Why again then: behind the commit point it only goes forward.
            not_done(saga, step, step.error, saga.state is COMMITTING)
        undoing.settled(saga, step)
        return
    undoing.resolved(saga, step, entry.answer)
