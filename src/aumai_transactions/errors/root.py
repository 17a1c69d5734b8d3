"""The root of everything that this package raises on purpose, and how it crosses processes.

Owns: `TransactionError`, and how an error is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Portable(Exception):
    """Let an error cross a process boundary as it is, whatever its constructor takes."""

    def __reduce__(self) -> tuple[object, ...]:
        """Say how a copy is made: without calling the constructor again on the message."""
        return _copied, (type(self), self.args, self.__dict__)


def _copied(
    kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]
) -> BaseException:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class TransactionError(Portable):
    """Stand at the root of everything that this package raises on purpose."""


class InternalError(TransactionError):
    """Say that this package broke a promise to itself; please report it.

    Args:
        message: Which invariant does not hold.
        journal_tail: The last entries of the transaction, as text.
    """

    def __init__(self, message: str, journal_tail: Sequence[str] = ()) -> None:
        self.journal_tail = tuple(journal_tail)
        tail = "".join(f"\n  {line}" for line in self.journal_tail)
        super().__init__(
            f"bug in aumai-transactions: {message} Please report it with this text.{tail}"
        )
