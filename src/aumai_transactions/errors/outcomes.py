"""Outcomes that are not the one that was wanted; each carries its result.

Owns: those errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors.root import TransactionError

if TYPE_CHECKING:
    from aumai_transactions.models import TransactionResult


class TransactionRolledBack(TransactionError):
    """Say that a commit was wanted and a rollback came out.

    The exception that the failing step raised, where this process saw it, is the `__cause__`.

    Args:
        result: The whole outcome.
    """

    def __init__(self, result: TransactionResult) -> None:
        self.result = result
        parts = [f"transaction {result.transaction_id} is {result.state.value}"]
        if result.failed_step:
            parts.append(f"step {result.failed_step} failed")
        if result.error:
            parts.append(result.error)
        message = ": ".join(parts) + "."
        if result.outstanding:
            names = ", ".join(item.step_id for item in result.outstanding)
            message += f" Not undone, needs a person: {names} (see result.outstanding)."
        super().__init__(message)


class TransactionExpired(TransactionRolledBack):
    """Say that the deadline had passed before `commit()` began; nothing ran."""


class ReadConflict(TransactionRolledBack):
    """Say that what a step had read changed before the commit point, so that all was undone."""


class Deadlock(TransactionRolledBack):
    """Say that transactions waited for each other's resources, and this one was undone for that.

    Run the whole of it again (`manager.run` does): the others go on meanwhile.
    """


def rolled_back(result: TransactionResult) -> TransactionRolledBack:
    """Return the exception that says why a transaction went back."""
    return _BY_REASON.get(result.reason or "", TransactionRolledBack)(result)


_BY_REASON: dict[str, type[TransactionRolledBack]] = {
    "conflict": ReadConflict,
    "deadlock": Deadlock,
}


class TransactionNotFinal(TransactionError):
    """Say that an outcome was asked for while the transaction still waits for something.

    Args:
        result: What is known so far; `result.waiting` says what it waits for.
    """

    def __init__(self, result: TransactionResult) -> None:
        self.result = result
        waiting = result.waiting.detail if result.waiting else "it is still running"
        super().__init__(
            f"transaction {result.transaction_id} is {result.state.value}, not final: {waiting}"
        )
