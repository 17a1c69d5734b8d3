"""The table of locks, as SQL.

Owns: how it is read, and how a transaction's lines in it are made to say what its journal says.
Rules:
  1. What may be held is decided by `core.locking`; here it is only looked up and written.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from aumai_transactions.core.locking import (
    Fence,
    Holding,
    Lock,
    LockTable,
    change_of,
    is_refused,
    whose_turn,
)
from aumai_transactions.stores.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Collection

    from aumai_transactions.store import Append


def table_of(connection: sqlite3.Connection, resources: Collection[str] | None) -> LockTable:
    """Return the locks on these resources and on all that are waited for; None for all locks."""
    if resources is None:
        rows = connection.execute(statements.ALL_LOCKS).fetchall()
        resources = {row[0] for row in rows}
    else:
        values = (json.dumps(list(resources)),)
        rows = connection.execute(statements.LOCKS, values).fetchall()
    return LockTable([Lock(*row) for row in rows], _fences(connection, resources))


def _fences(connection: sqlite3.Connection, resources: Collection[str]) -> dict[str, Fence]:
    found = {name: Fence() for name in resources}
    rows = connection.execute(statements.FENCES, (json.dumps(list(resources)),)).fetchall()
    found |= {name: Fence(token, version) for name, token, version in rows}
    return found


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
        locks = [Lock(*row) for row in rows]
        self._table = LockTable(locks, _fences(connection, {*named}))

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
            locks = [Lock(*row) for row in rows]
            woken = list(whose_turn(locks, {append.transaction_id: [change]}))
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
