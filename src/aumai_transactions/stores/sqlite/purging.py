"""What is deleted because it has long ended.

Owns: which transactions may go, and their deletion.
Rules:
  1. They are looked for outside of the write lock: where much has ended that is not old enough,
     that takes a second, in which nobody could commit. Inside of it each is looked at again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from aumai_transactions.models import TransactionState
from aumai_transactions.stores.sqlite import statements

FINAL_STATES = tuple(state.value for state in TransactionState if state.is_final)


class Old(NamedTuple):
    """Name a transaction that may go.

    Args:
        ordinal: Its key; never used for another one.
        state: How it has ended.
    """

    ordinal: int
    state: str


def find_old(connection: sqlite3.Connection, before: int, limit: int) -> list[Old]:
    """Return finished transactions that need nobody and changed last before a time."""
    found: list[Old] = []
    for state in FINAL_STATES:
        values = (state, before, max(limit - len(found), 0))
        rows = connection.execute(statements.PURGEABLE, values).fetchall()
        found += [Old(ordinal, state) for (ordinal,) in rows]
    return found


def delete_old(connection: sqlite3.Connection, found: Sequence[Old], before: int) -> int:
    """Delete those of them that still may go, in a write transaction; return how many."""
    gone = [
        (old.ordinal,)
        for old in found
        if connection.execute(statements.STILL_PURGEABLE, (*old, before)).fetchone()
    ]
    connection.executemany(statements.PURGE_DELIVERIES, gone)
    connection.executemany(statements.PURGE_ENTRIES, gone)
    connection.executemany(statements.PURGE_TRANSACTION, gone)
    return len(gone)
