"""The table of locks, as SQL.

Owns: how it is read, and how a transaction's lines in it are made to say what its journal says.
Rules:
  1. What may be held is decided by `core.locking`; here it is only looked up and written.
  2. A line that nobody has ever written so is damaged, and nothing is decided by it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.locking import (
    Fence,
    Holding,
    Lock,
    LockTable,
    change_of,
    is_refused,
    whose_turn,
)
from aumai_transactions.errors import StoreFormatError
from aumai_transactions.stores.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aumai_transactions.store import Append


def table_of(connection: sqlite3.Connection, resources: Collection[str] | None) -> LockTable:
    """Return the locks on these resources and on all that are waited for; None for all locks.

    Raises:
        StoreFormatError: A line of it is damaged.
    """
    if resources is None:
        rows = connection.execute(statements.ALL_LOCKS).fetchall()
        resources = {row[0] for row in rows}
    else:
        values = (json.dumps(list(resources)),)
        rows = connection.execute(statements.LOCKS, values).fetchall()
    return LockTable(_locks(rows), _fences(connection, resources))


def _locks(rows: Iterable[tuple[Any, ...]]) -> list[Lock]:
    found = []
    for row in rows:
        lock = Lock(*row)
        numbers = (lock.ticket, lock.cost, 0 if lock.token is None else lock.token)
        if lock.mode not in ("exclusive", "shared") or not _are_numbers(numbers):
            raise _damaged(lock.resource)
        found.append(lock)
    return found


def _fences(connection: sqlite3.Connection, resources: Collection[str]) -> dict[str, Fence]:
    found = {name: Fence() for name in resources}
    rows = connection.execute(statements.FENCES, (json.dumps(list(resources)),)).fetchall()
    for name, *numbers in rows:
        if not _are_numbers(numbers):
            raise _damaged(name)
        found[name] = Fence(*numbers)
    return found


def _are_numbers(values: Iterable[object]) -> bool:
    """Tell whether these are whole numbers: STRICT keeps others from being written, no more."""
    return all(isinstance(value, int) for value in values)


def _damaged(resource: object) -> StoreFormatError:
    return StoreFormatError(
        f"the table of locks is damaged where it tells of {resource!r:.100}: nobody can know who "
        "has it. See what else is damaged with: aumai-transactions verify. Restore a backup."
    )


class LockKeeper:
    """Take one append's locks, inside of a write transaction.

    Args:
        connection: In a write transaction.
        append: What is to be appended; it says something about resources.
    """

    def __init__(self, connection: sqlite3.Connection, append: Append) -> None:
        self._connection = connection
        self._append = append
        name = append.transaction_id
        named = [holding.resource for holding in append.holdings or ()]
        named += [read.name for read in append.reads]
        values = (json.dumps(named), name)
        rows = connection.execute(statements.LOCKS_OF, values).fetchall()
        self._table = LockTable(_locks(rows), _fences(connection, {*named}))

    def is_refused(self) -> bool:
        """Tell whether the transaction must not hold this, or has read what has changed."""
        append = self._append
        return is_refused(self._table, append.transaction_id, append.holdings or (), append.reads)

    def take(self) -> list[str]:
        """Let the table say what the append says; return whose turn it is now."""
        append, execute = self._append, self._connection.execute
        if append.holdings is None:
            return []
        change = change_of(self._table, append.transaction_id, append.holdings)
        for lock in change.gone:
            execute(statements.REMOVE_LOCK, (lock.ticket,))
        for holding in change.granted:
            self._add(holding)
            version = holding.token if holding.mode == "exclusive" else 0
            execute(statements.MOVE_FENCE, (holding.resource, holding.token, version))
        for holding in change.queued:
            self._add(holding)
        if change.gone or change.waits:
            names = change.freed | {use.name for use in change.waits}
            rows = execute(statements.LOCKS_ON, (json.dumps(sorted(names)),)).fetchall()
            woken = list(whose_turn(_locks(rows), {append.transaction_id: [change]}))
            for name in woken:
                execute(statements.WAKE, (name,))
            return woken
        return []

    def _add(self, holding: Holding) -> None:
        values = (
            holding.resource,
            self._append.transaction_id,
            holding.mode,
            holding.token,
            holding.cost,
        )
        self._connection.execute(statements.ADD_LOCK, values)
