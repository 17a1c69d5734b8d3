"""What a block is to a program that wants to hear what others change.

Owns: how a program says so, and what it has heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.drivers.noticing import OnConflict, TaskTeller, ThreadTeller
from aumai_transactions.errors import DefinitionError, TransactionNotActive

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.shared import Shared
    from aumai_transactions.models import (
        ConflictNotice,
        Transaction,
        TransactionResult,
        TransactionState,
    )

C = TypeVar("C", bound=OnConflict)


class Listener:
    """Hold the part of a block that hears of changes."""

    _transaction: Transaction
    _shared_run: Shared | None
    _result: TransactionResult | None
    _teller: ThreadTeller | TaskTeller | None = None
    is_left: bool

    def on_conflict(self, callback: C) -> C:
        """Let the program be told when others change what the transaction has read.

        That is: of what it reads with `isolation="validated"`; whatever it holds nobody changes.
        The callback is given a `ConflictNotice`, once for each resource and version, one after the
        other, until the block is left. It may look (`describe`, `conflicts`, `state`), set an event
        or wake whoever can act; it must not act on the transaction itself, which is refused. What
        it raises becomes a warning.

        Under threads it is called in a thread of its own, under asyncio in a task of the loop,
        which a plain function must not hold up. A callback that still runs when the block is left
        is waited for, for a second; a task of it is cancelled.

        Args:
            callback: A function, plain or async.

        Returns:
            The callback, so that this can be a decorator.

        Raises:
            DefinitionError: It cannot be called.
            TransactionNotActive: The block has been left.
        """
        self._check_open()
        if not callable(callback):
            message = f"on_conflict takes a function, not {type(callback).__name__}."
            raise DefinitionError(message)
        if self._transaction.isolation == "validated":
            noticed = self._shared.noticed
            with noticed.guard:
                if self.is_left:
                    call = "hear of conflicts in"
                    raise TransactionNotActive(self.transaction_id, self.state.value, call)
                if self._teller is None:
                    self._teller = self._new_teller()
                    noticed.tellers.append(self._teller)
                self._teller.callbacks.append(callback)
            self._desk.watch(noticed)
        return callback

    def conflicts(self) -> list[ConflictNotice]:
        """Return the notices so far; none are known where `on_conflict` was never called."""
        return [] if self._shared_run is None else list(self._shared_run.noticed.notices)

    def _new_teller(self) -> ThreadTeller | TaskTeller:
        raise NotImplementedError

    def _tell_no_more(self) -> ThreadTeller | TaskTeller | None:
        if self._shared_run is None:
            return None
        noticed = self._shared_run.noticed
        with noticed.guard:
            teller, self._teller = self._teller, None
            if teller is not None:
                noticed.tellers.remove(teller)
        return teller

    def _keep_warnings(self) -> None:
        """Let the outcome say as well what a callback did while it was being made."""
        result = self._result
        if result is not None and self._shared_run is not None:
            said = self._shared_run.run.hook_warnings
            result.warnings += [text for text in said if text not in result.warnings]

    @property
    def transaction_id(self) -> str:
        """Its id."""
        raise NotImplementedError

    @property
    def state(self) -> TransactionState:
        """Where the transaction stands."""
        raise NotImplementedError

    def _check_open(self) -> None:
        raise NotImplementedError

    @property
    def _desk(self) -> Desk:
        raise NotImplementedError

    @property
    def _shared(self) -> Shared:
        raise NotImplementedError
