"""A store as it was at one moment.

Owns: reading a whole store in one read transaction, on a connection of its own.
Rules:
  1. Nobody waits for it; but what is written meanwhile stays in the log until it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.journal import Journal
from aumai_transactions.core.locking import Fence
from aumai_transactions.core.witnesses import Head
from aumai_transactions.stores.sqlite import connection as connections
from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.journals import journal_of

if TYPE_CHECKING:
    from aumai_transactions.stores.sqlite.database import Database

PAGE = 500


class SqliteSnapshot:
    """Show a store as it was when its read transaction began.

    Args:
        connection: In that transaction.
        database: Whose it is.
    """

    def __init__(self, connection: sqlite3.Connection, database: Database) -> None:
        self._connection = connection
        self._path = database.path
        row = self._all(statements.STORE_ROW, ())[0]
        self.store_id: str = row[0]
        self.changes: int = row[1]

    def names(self) -> Iterator[str]:
        """Yield the id of each transaction, in order of arrival."""
        after = 0
        while rows := self._all(statements.NAMES, (after, PAGE)):
            yield from (name for _ordinal, name in rows)
            after = rows[-1][0]

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal of a transaction."""
        try:
            return journal_of(self._connection, transaction_id)
        except connections.ERRORS as error:
            raise connections.store_error(error, self._path) from error

    def heads(self) -> Iterator[Head]:
        """Yield where each journal ends, as the heads say, in order of arrival."""
        after = 0
        while rows := self._all(statements.HEADS_AFTER, (after, PAGE)):
            for _ordinal, name, sequence, digest, updated_at, is_over in rows:
                yield Head(name, sequence, digest, updated_at, bool(is_over))
            after = rows[-1][0]

    def fences(self) -> Iterator[tuple[str, Fence]]:
        """Yield what is remembered about each resource, by its name."""
        after = ""
        while rows := self._all(statements.FENCES_AFTER, (after, PAGE)):
            yield from ((name, Fence(token, version)) for name, token, version in rows)
            after = rows[-1][0]

    def waiting(self) -> Iterator[tuple[str, str]]:
        """Yield resource and transaction for each that waits, first come first."""
        yield from self._all(statements.WAITING, ())

    def _all(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute(statement, values).fetchall()

        try:
            try:
                return work(self._connection)
            except sqlite3.OperationalError as error:
                if not connections.is_undecodable(error):
                    raise
                return connections.leniently(self._connection, work)
        except connections.ERRORS as error:
            raise connections.store_error(error, self._path) from error


@contextmanager
def snapshot(database: Database) -> Iterator[SqliteSnapshot]:
    """Hold a store still for the reader in the block.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        connection = database.extra_connection()
    except connections.ERRORS as error:
        raise connections.store_error(error, database.path) from error
    try:
        # Why not IMMEDIATE: it only reads, and its first statement fixes what it sees.
        connection.execute("BEGIN")
        yield SqliteSnapshot(connection, database)
    except connections.ERRORS as error:
        raise connections.store_error(error, database.path) from error
    finally:
        connection.close()
