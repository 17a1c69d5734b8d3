"""Transactions that kill whoever carries them out.

Owns: how the processes are counted that died in the midst of a call, and when that is enough.
Rules:
  1. Only a death during a call counts: who dies between two calls was not killed by them.
  2. Any call that ends, however it ends, and any wish of a person, begins the count again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.entries import (
    CompensationFailed,
    CompensationSucceeded,
    ConfirmationFailed,
    ConfirmationSucceeded,
    Entry,
    ProbeAnswered,
    ResolutionGiven,
    RetryRequested,
    RollbackRequested,
    StepFailed,
    StepInDoubt,
    StepSucceeded,
    TrustGiven,
    VerificationAnswered,
)

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga, SagaStep

_ENDS_OF_CALLS = frozenset(
    {
        StepSucceeded,
        StepFailed,
        CompensationSucceeded,
        CompensationFailed,
        ConfirmationSucceeded,
        ConfirmationFailed,
        ProbeAnswered,
        VerificationAnswered,
        RetryRequested,
        ResolutionGiven,
        RollbackRequested,
        TrustGiven,
    }
)


def is_poisoned(saga: Saga) -> bool:
    """True where so many processes in a row have died of it that a person has to look."""
    return saga.crashes > 0 and saga.crashes >= saga.plan.crashes_max


def begin_again(saga: Saga, entry: Entry) -> None:
    """Let the count begin again where a call has ended, or a person wants something."""
    kind = type(entry)
    if kind in _ENDS_OF_CALLS or (isinstance(entry, StepInDoubt) and entry.cause != "crash"):
        saga.crashes = 0


def under_way(saga: Saga) -> list[SagaStep]:
    """Return the steps of which a call is under way, or was when its driver died."""
    return [
        step
        for step in saga.steps
        if step.state.value == "running"
        or step.undo_running
        or step.probing
        or step.verifying
        or step.confirming
    ]


def suspects(saga: Saga) -> list[SagaStep]:
    """Return the steps whose call is to be made next, which is the one that has killed."""
    # Order matters: a step that was in doubt when the rollback began stays so, and an undo comes
    # before whatever else may be in doubt.
    if saga.undo:
        return [saga.steps[saga.undo[-1]]]
    if saga.doubtful:
        return [saga.steps[index] for index in saga.doubtful]
    named = (*saga.to_confirm, *saga.deferred)
    return [saga.steps[index] for index in named[:1]]
