"""What happens around the commit point: reads looked at again, confirmations, held steps.

Owns: the part of `evolve` that is about it.
Rules:
  1. After the commit decision nothing goes back (invariant I8): what fails then is tried again,
     or waits for a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTING,
    STEP_FAILED,
    STEP_PENDING,
    STEP_RESOLVED,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.transitions import no_longer_waiting, require, take_effect

if TYPE_CHECKING:
    from aumai_transactions.core.entries import (
        Answer,
        CommitDecided,
        ConfirmationFailed,
        ConfirmationStarted,
        ConfirmationSucceeded,
        ErrorRecord,
        RereadAnswered,
    )
    from aumai_transactions.core.saga import Saga, SagaStep


def reread_answered(saga: Saga, entry: RereadAnswered) -> None:
    """Take note whether what a step had read still holds."""
    step = saga.step(entry.step_id)
    require(saga.state is ACTIVE, "something is read again out of turn")
    step.rereading = False
    saga.rereads[step.index] = entry.holds
    step.rereading = False
    if not entry.holds:
        saga.conflict = saga.conflict or (entry.step_id, entry.error)


def commit_decided(saga: Saga, entry: CommitDecided) -> None:
    """Pass the commit point."""
    require(saga.state is ACTIVE, "it is not active any more")
    pivot = saga.pivot is not None and saga.steps[saga.pivot].state is STEP_SUCCEEDED
    if pivot:
        saga.stuck.clear()  # What acted late while the pivot ran is left to a person.
    open_ends = saga.unsettled or saga.undo or saga.running or saga.doubtful or saga.stuck
    require(not open_ends, "the commit is decided before every step has ended well")
    require(saga.commit_requested or pivot, "the commit is decided, and nobody asked for it")
    saga.decided_at = entry.at
    saga.windows.clear()
    saga.closing.clear()
    saga.to_confirm = [
        step.index
        for step in saga.steps
        if step.definition.confirming_action is not None
        and step.state is STEP_SUCCEEDED
        and not step.withdrawn
    ]


def held_step_starts(saga: Saga, step: SagaStep) -> None:
    """Let a held step have its turn; they run in order, one at a time."""
    turn = not saga.to_confirm and saga.deferred[:1] == [step.index]
    require(turn and step.state in (STEP_PENDING, STEP_FAILED), "the step cannot start")
    if step.state is STEP_FAILED:
        require(step.retry_requested, "a held step that failed runs again, and nobody asked")
        step.retry_requested = False
    saga.stuck.pop(step.index, None)


def held_step_fails(saga: Saga, step: SagaStep, error: ErrorRecord) -> None:
    """Let a held step be known to be impossible before it is called."""
    require(step.state in (STEP_PENDING, STEP_FAILED), "a held step fails out of its turn")
    require(saga.state in (ACTIVE, COMMITTING), "a held step fails out of its turn")
    step.state = STEP_FAILED
    step.error = error
    step.retry_requested = False
    if saga.state is COMMITTING:
        saga.stuck[step.index] = None  # It only goes forward: a person has to look at it.
        saga.warnings.append(f"the held step {step.step_id} was not carried out: {error}")
    else:
        saga.deferred.remove(step.index)
        saga.failed.append(step.index)
    saga.touched.append(step.index)


def confirmation_started(saga: Saga, entry: ConfirmationStarted) -> None:
    """Call the confirming action."""
    step = saga.step(entry.step_id)
    require(saga.state is COMMITTING, "something is confirmed before the commit point")
    require(saga.to_confirm[:1] == [step.index], "a confirmation starts out of turn")
    require(not step.confirming, "a confirmation starts while one runs")
    require(entry.attempt == step.confirm_attempt + 1, "its attempt does not follow")
    if step.confirm_attempt == 0:
        step.confirm_first_at = entry.at
    step.confirm_attempt = entry.attempt
    step.confirming = True
    step.retry_requested = False
    saga.stuck.pop(step.index, None)
    no_longer_waiting(saga, step)


def confirmation_succeeded(saga: Saga, entry: ConfirmationSucceeded) -> None:
    """Take a step for confirmed."""
    step = _confirming(saga, entry.step_id)
    _confirmed(saga, step)


def confirmation_failed(saga: Saga, entry: ConfirmationFailed) -> None:
    """Leave the step to a person, unless another attempt follows."""
    step = _confirming(saga, entry.step_id)
    step.error = entry.error
    if not entry.will_retry:
        saga.stuck[step.index] = None
        saga.touched.append(step.index)


def _confirming(saga: Saga, step_id: str) -> SagaStep:
    step = saga.step(step_id)
    require(step.confirming, "a confirmation ends that does not run")
    step.confirming = False
    return step


def _confirmed(saga: Saga, step: SagaStep) -> None:
    step.confirmed = True
    step.error = None
    saga.to_confirm.remove(step.index)
    saga.touched.append(step.index)


def retry_requested(saga: Saga, step: SagaStep) -> None:
    """Let what is stuck behind the commit point be tried once more."""
    require(step.index in saga.stuck, "there is nothing to try again")
    del saga.stuck[step.index]
    step.retry_requested = True
    saga.touched.append(step.index)


def resolved(saga: Saga, step: SagaStep, answer: Answer) -> None:
    """Take a person's word for what became of something that is stuck behind the commit point."""
    require(step.index in saga.stuck, "the step is not stuck")
    del saga.stuck[step.index]
    if answer == "left_in_place":
        saga.left_out.add(step.index)
    if step.index in saga.to_confirm:
        _confirmed(saga, step)
    elif answer == "happened":
        take_effect(saga, step)
    else:
        saga.deferred.remove(step.index)
        step.state = STEP_RESOLVED
    saga.touched.append(step.index)
