"""What a new store begins with, where it does not begin empty.

Owns: how contents are written into the file that becomes a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.appending import columns_of

if TYPE_CHECKING:
    import sqlite3

    from aumai_transactions.store import Contents, Filled


def fill(connection: sqlite3.Connection, contents: Contents) -> None:
    """Write all of it in one transaction; commit, or leave it as it was."""
    execute = connection.execute
    execute(statements.BEGIN)
    for filled in contents.transactions():
        _add(connection, filled)
    for name, fence in contents.fences().items():
        execute(statements.MOVE_FENCE, (name, fence.token, fence.version))
    for transaction_id, held in contents.holdings():
        values = (held.resource, transaction_id, held.mode, held.token, held.cost)
        execute(statements.ADD_LOCK, values)
    execute(statements.SET_CHANGES, {"changes": contents.changes})
    execute(statements.COMMIT)


def _add(connection: sqlite3.Connection, filled: Filled) -> None:
    journal = filled.journal
    values = columns_of(
        filled.summary,
        sequence=journal.head_sequence,
        head_hash=journal.head_hash,
        token=journal.token,
        driver_id=journal.driver_id,
    )
    row = (journal.transaction_id, *values)
    ordinal = connection.execute(statements.ADD_TRANSACTION, row).lastrowid
    entries = [(ordinal, *entry) for entry in journal.entries]
    connection.executemany(statements.ADD_ENTRY, entries)
