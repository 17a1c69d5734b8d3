"""What a program is told of a step that it has asked for.

Owns: the way from how a step stands to what its caller gets: an output, or an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.states import (
    ACTIVE,
    STEP_COMPENSATED,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_SUCCEEDED,
)
from aumai_transactions.errors import (
    ApprovalPending,
    CommitPointPassed,
    DefinitionError,
    InvalidTransactionState,
    LockTimeout,
    StepFailed,
    StepInDoubt,
    StepUndone,
    TransactionError,
    TransactionNotActive,
    TransactionNotFinal,
    rolled_back,
)

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.interests import StepOutcome
    from aumai_transactions.drivers.shared import Shared


class Executed(NamedTuple):
    """Tell what became of a step that was asked for.

    Args:
        step_id: The step.
        output: What it returned, as recorded.
        is_replayed: True where it was not carried out now.
    """

    step_id: str
    output: Any
    is_replayed: bool


def told(
    desk: Desk,
    shared: Shared,
    step_id: str,
    outcome: StepOutcome,
    cause: BaseException | None,
    *,
    is_replayed: bool,
) -> Executed:
    """Return what a step returned; or raise what became of it."""
    name, state = shared.run.transaction_id, outcome.state
    if state is STEP_SUCCEEDED and outcome.is_in_force:
        return Executed(step_id, outcome.output, is_replayed)
    if outcome.transaction is ACTIVE and outcome.is_held and state is STEP_PENDING:
        return Executed(step_id, None, is_replayed)
    if outcome.transaction is not ACTIVE:
        if outcome.is_decided:
            call = f"execute step {step_id} of"
            raise CommitPointPassed(name, outcome.transaction.value, call)
        result = desk.result_of(shared.run)
        if not result.is_final:
            raise TransactionNotFinal(result) from cause
        raise rolled_back(result) from cause
    if state is STEP_PENDING:
        raise _not_begun(shared, step_id, outcome)
    if state is STEP_FAILED:
        _raise_failed(name, step_id, outcome, cause)
    if state is STEP_IN_DOUBT:
        raise StepInDoubt(name, step_id, outcome.error or "unknown", undone=False) from cause
    if state is STEP_COMPENSATED and cause is not None:
        raise StepInDoubt(name, step_id, f"{type(cause).__name__}: {cause}", undone=True) from cause
    raise StepUndone(name, step_id, state.value.replace("_", " "))


def _not_begun(shared: Shared, step_id: str, outcome: StepOutcome) -> TransactionError:
    name, saga = shared.run.transaction_id, shared.saga
    if outcome.digest is not None:
        return ApprovalPending(name, step_id, outcome.digest)
    if saga.rollback_requested is None and saga.denied is None and saga.pivot is not None:
        return InvalidTransactionState(
            name,
            outcome.transaction.value,
            f"carry out the pivot {step_id} of",
            "Other steps have not ended: they run, wait for an approval, or are in doubt. It was "
            "not begun, and is taken back; execute it once they have ended.",
        )
    hint = "It is being rolled back. Nothing was done; begin a new transaction."
    return TransactionNotActive(name, outcome.transaction.value, f"execute {step_id} in", hint)


def _raise_failed(
    name: str, step_id: str, outcome: StepOutcome, cause: BaseException | None
) -> None:
    if isinstance(cause, StopIteration):
        message = f"the handler raised StopIteration: {cause}"
        raise RuntimeError(message) from cause  # noqa: TRY004 (no procedure may raise the other)
    if cause is not None:
        raise cause
    if outcome.error_type == "LockTimeout":
        raise LockTimeout(name, step_id, (outcome.error or "").partition(": ")[2])
    if outcome.attempt == 0:
        raise DefinitionError(f"step {step_id} of transaction {name}: {outcome.error}.")
    raise StepFailed(name, step_id, outcome.error or "unknown")
