"""What is said where a transaction cannot be carried on here.

Owns: those sentences, which say what holds and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors import InternalError, StoreUnavailable

if TYPE_CHECKING:
    from aumai_transactions.core.saga import IllegalEntry
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.models import TransactionResult


def our_bug(run: Run, error: IllegalEntry) -> InternalError:
    """Return the error for a decision that cannot be."""
    steps = [f"{step.step_id}: {step.state.value}" for step in run.saga.steps[-20:]]
    message = f"transaction {run.transaction_id} ({run.saga.state.value}) decided on an entry: "
    return InternalError(f"{message}{error}.", steps)


def unavailable(run: Run, error: StoreUnavailable) -> StoreUnavailable:
    """Return the error for a journal that cannot be written."""
    if run.token:
        what = (
            "No further step of it runs. Once the store works again, call recover() on this "
            "manager; or end this process, and then: aumai-transactions recover"
        )
    elif error.outcome_unknown:
        what = (
            "It may have been recorded all the same, so do not begin it a second time: once the "
            "store works again, call recover() on this manager, and then get_result()."
        )
    else:
        what = "Nothing of it has run; try again once the store works."
    return StoreUnavailable(
        f"the journal of transaction {run.transaction_id} could not be written: {error} {what}",
        outcome_unknown=error.outcome_unknown,
    )


def annotate(interrupt: BaseException, result: TransactionResult) -> None:
    """Say in a cancellation's note what became of the transaction."""
    left = ", ".join(item.step_id for item in result.outstanding)
    note = f"transaction {result.transaction_id} is {result.state.value}"
    note += f"; needs a person: {left}" if left else ""
    # Why: it may pass through more than one place that says so.
    if note not in getattr(interrupt, "__notes__", ()):
        interrupt.add_note(note)
