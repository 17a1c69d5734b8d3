"""Stores as earlier releases left them.

Owns: the making of a SQLite store of schema version 1, for what is to be shown of migrations.
Rules:
  1. What is written is what that release wrote: its columns, its tables, nothing that came later.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from aumai_transactions.core.codec import encode
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.stores.sqlite.connection import APPLICATION_ID
from aumai_transactions.stores.sqlite.schema import migrate, migrations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aumai_transactions.core.entries import Entry

_ADD_TRANSACTION = """
INSERT INTO transactions (
    transaction_id, sequence, head_hash, token, created_at, updated_at, timeout_seconds, steps,
    completed, agents, name, driver_id, state, attention, runnable
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_ENTRY = "INSERT INTO entries VALUES (?, ?, ?, ?)"
_ADD_STORE = "INSERT INTO store VALUES (1, 'the-store', 7)"
# Why written out: a pragma takes no parameter. A check below sees that it is still the same.
_APPLICATION_ID = "PRAGMA application_id = 1098214740"


def write_version_1(path: Path, journals: Mapping[str, Sequence[tuple[str, Entry]]]) -> None:
    """Make a store as the release before retries left it, its process gone.

    Args:
        path: Where; nothing may be there.
        journals: Entry ids and entries of each transaction, by its id.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, path, {1: migrations()[1]})
        connection.execute(_APPLICATION_ID)
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            raise ValueError("the application id has changed; say it here as well")
        connection.execute(_ADD_STORE)
        for name, entries in journals.items():
            _add_journal(connection, name, entries)
    path.chmod(0o600)


def _add_journal(
    connection: sqlite3.Connection, name: str, entries: Sequence[tuple[str, Entry]]
) -> None:
    saga, before, stored = Saga(name), NO_HASH, []
    for number, (entry_id, entry) in enumerate(entries, 1):
        evolve(saga, entry)
        body = encode(entry, entry_id)
        before = chain_hash(name, number, before, body)
        stored.append((number, body, before))
    summary = summary_of(saga)
    driver_id = None if summary.state.is_final else saga.driver_id
    cursor = connection.execute(
        _ADD_TRANSACTION,
        (
            *(name, saga.sequence, before, saga.token, summary.created_at, summary.updated_at),
            *(summary.timeout_seconds, summary.steps, summary.completed),
            *(json.dumps(list(summary.agents)), None, driver_id),
            *(summary.state.value, summary.attention, int(summary.runnable)),
        ),
    )
    connection.executemany(_ADD_ENTRY, [(cursor.lastrowid, *one) for one in stored])
