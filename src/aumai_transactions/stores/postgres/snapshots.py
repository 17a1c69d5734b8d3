"""A store as it was at one moment.

Owns: reading a whole store in one REPEATABLE READ transaction, on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

from aumai_transactions.core.journal import Journal, StoredEntry
from aumai_transactions.core.locking import Fence
from aumai_transactions.core.witnesses import Head
from aumai_transactions.stores.postgres.connections import connect
from aumai_transactions.stores.postgres.failures import store_error
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from aumai_transactions.stores.postgres.address import Address
    from aumai_transactions.stores.postgres.connections import Connection

PAGE: Final = 500


class PostgresSnapshot:
    """Show a store as it was when its transaction began.

    Args:
        connection: In that transaction.
        address: Whose it is.
        store_id: The store's random name.
    """

    def __init__(self, connection: Connection, address: Address, store_id: str) -> None:
        self._connection = connection
        self._address = address
        self.store_id = store_id
        self.changes: int = self._all("changes")[0][0]

    def names(self) -> Iterator[str]:
        """Yield the id of each transaction, in order of arrival."""
        after = 0
        while rows := self._all("names", after=after, limit=PAGE):
            yield from (name for _ordinal, name in rows)
            after = rows[-1][0]

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal of a transaction."""
        return journal_of(transaction_id, self._all("journal", id=transaction_id))

    def heads(self) -> Iterator[Head]:
        """Yield where each journal ends, as the heads say, in order of arrival."""
        after = 0
        while rows := self._all("heads_after", after=after, limit=PAGE):
            for _ordinal, name, sequence, digest, updated_at, is_over in rows:
                yield Head(name, sequence, digest, updated_at, bool(is_over))
            after = rows[-1][0]

    def fences(self) -> Iterator[tuple[str, Fence]]:
        """Yield what is remembered about each resource, by its name."""
        after = ""
        while rows := self._all("fences_after", after=after, limit=PAGE):
            yield from ((name, Fence(token, version)) for name, token, version in rows)
            after = rows[-1][0]

    def waiting(self) -> Iterator[tuple[str, str]]:
        """Yield resource and transaction for each that waits, first come first."""
        yield from ((resource, name) for resource, name in self._all("waiting"))

    def _all(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement(name), values).fetchall()
        except psycopg.Error as error:
            raise store_error(error, self._address, is_writing=False) from error


def journal_of(transaction_id: str, rows: list[tuple[Any, ...]]) -> Journal | None:
    """Return the journal that these rows hold; None where there is none."""
    if not rows:
        return None
    sequence, digest, token, driver_id, _ordinal = rows[0][:5]
    # Why the condition: a journal without entries is one row without an entry.
    entries = tuple(StoredEntry(*row[5:8]) for row in rows if row[5] is not None)
    return Journal(transaction_id, entries, sequence, digest, token, driver_id)


@contextmanager
def snapshot(address: Address, store_id: str) -> Iterator[PostgresSnapshot]:
    """Hold a store still for the reader in the block.

    Raises:
        StoreError: It cannot be read.
    """
    connection, _doubts, _promises = connect(address)
    try:
        connection.execute(statement("reads_one_moment"))
        # Why: what is read is checked and written elsewhere between two statements.
        connection.execute(b"SET LOCAL idle_in_transaction_session_timeout = 0")
        yield PostgresSnapshot(connection, address, store_id)
    except psycopg.Error as error:
        raise store_error(error, address, is_writing=False) from error
    finally:
        connection.close()
