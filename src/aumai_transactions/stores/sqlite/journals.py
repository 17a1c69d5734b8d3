"""One journal, read from the tables.

Owns: that what cannot be read of one journal is that transaction's matter, and nobody else's.
"""

from __future__ import annotations

import sqlite3

from aumai_transactions.core.journal import Journal, StoredEntry
from aumai_transactions.errors import JournalCorrupt
from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.connection import ERRORS, is_damage


def journal_of(connection: sqlite3.Connection, transaction_id: str) -> Journal | None:
    """Return the whole journal; None where the store does not hold the transaction.

    Raises:
        JournalCorrupt: A page or a text of it cannot be read.
        sqlite3.Error: The store as a whole cannot be read for now.
    """
    try:
        rows = connection.execute(statements.READ, (transaction_id,)).fetchall()
    except UnicodeEncodeError:
        raise JournalCorrupt(transaction_id, 0, "its id is damaged") from None
    except ERRORS as error:
        if not is_damage(error):
            raise
        problem = f"the store cannot read it ({error})"
        raise JournalCorrupt(transaction_id, 0, problem) from error
    if not rows:
        return None
    head_sequence, head_hash, token, driver_id = rows[0][:4]
    # Why the condition: a journal without entries is one row without an entry.
    entries = tuple(StoredEntry(*row[4:]) for row in rows if row[4] is not None)
    return Journal(transaction_id, entries, head_sequence, head_hash, token, driver_id)
