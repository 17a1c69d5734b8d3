"""What is damaged about a store itself, and not about one of its journals.

Owns: looking for it. Nothing here changes anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING

from aumai_transactions.errors import StoreFormatError
from aumai_transactions.stores.sqlite import connection as connections
from aumai_transactions.stores.sqlite import schema, statements
from aumai_transactions.stores.sqlite.log import damage_of
from aumai_transactions.stores.sqlite.writer import WriterLock

if TYPE_CHECKING:
    from pathlib import Path

    from aumai_transactions.stores.sqlite.database import Database

PROBLEMS_MAX = 20
WRITER_WAIT_SECONDS = 5.0
_NEXT = "Stop every process that uses it and restore a backup."


def problems_of(database: Database) -> list[str]:
    """Return what is wrong, one sentence each."""
    found = []
    try:
        with closing(database.extra_connection()) as connection:
            found += [f"{database.path}: {what}. {_NEXT}" for what in _in_file(connection)]
    except connections.ERRORS as error:
        found.append(str(connections.store_error(error, database.path)))
    try:
        refuse_damaged_log(database)
    except StoreFormatError as error:
        found.append(str(error))
    return found


def _in_file(connection: sqlite3.Connection) -> Iterator[str]:
    rows = connection.execute(statements.STORE_ROW_WHOLE).fetchall()
    if len(rows) != 1:
        yield f"it has {len(rows)} identities"
    for row in rows:
        if (problem := identity_problem(*row)) is not None:
            yield problem
    there = dict(connection.execute(statements.SCHEMA).fetchall())
    for name, text in _schema().items():
        if there.get(name) != text:
            yield f"its schema has another {name} than this release has made"
    checked = connection.execute(statements.INTEGRITY, {"limit": PROBLEMS_MAX}).fetchall()
    yield from (f"SQLite says: {row[0]}" for row in checked if row[0] != "ok")
    (orphans,) = connection.execute(statements.ORPHANS).fetchone()
    if orphans:
        yield f"{orphans:,} entries belong to no transaction: one was removed without its journal"
    for name, last, highest in connection.execute(statements.COUNTERS).fetchall():
        # Why the types: no table of SQLite's own is strict.
        numbers = isinstance(last, int) and isinstance(highest, int)
        if not numbers or last < highest:
            yield f"the counter of {name} stands at {last!r:.40}, and has been at {highest!r:.40}"


def identity_problem(
    store_id: object, changes: object, store_id_twice: object, changes_down: object
) -> str | None:
    """Return what is wrong where the two copies of a store's identity do not fit."""
    if store_id != store_id_twice:
        return f"its id stands there twice, as {store_id!r:.80} and as {store_id_twice!r:.80}"
    if not isinstance(changes, int) or not isinstance(changes_down, int):
        return "its change counter is no number"
    if changes + changes_down:
        return f"its change counter stands there twice, as {changes} and as {-changes_down}"
    return None


@lru_cache(maxsize=1)
def _schema() -> dict[str, str]:
    """Return what this release makes, by name."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, "a trial", schema.migrations())
        return dict(connection.execute(statements.SCHEMA).fetchall())


def refuse_damaged_log(database: Database) -> None:
    """Refuse a log of which SQLite would silently leave out what was committed.

    Raises:
        StoreFormatError: It is damaged; names the place.
        StoreUnavailable: Another process writes, and does not let go.
        OSError: It cannot be read.
    """
    log = database.log
    if damage_of(log) is None:
        return
    # Why again: somebody may have written while it was read. Why a lock of its own: that of the
    # handle may be held by another thread, and a lock is not held twice by one file.
    lock = WriterLock(database.path, WRITER_WAIT_SECONDS)
    lock.acquire()
    try:
        damage = damage_of(log)
    finally:
        lock.release()
        lock.close()
    if damage is not None:
        raise StoreFormatError(_log_text(database.path, log, damage.frame, damage.offset))


def _log_text(path: Path, log: Path, frame: int, offset: int) -> str:
    where = f"frame {frame}, byte {offset}" if frame else "its header"
    return (
        f"{log} is damaged at {where}: SQLite would leave out what was committed behind it. {path} "
        "was left as it is. Stop every process that uses it and restore a backup; to go on with "
        f"what stands before the damage instead, copy both files and cut the log: "
        f"truncate -s {offset} {log}"
    )
