"""The schema of a store, and how an older one is brought up to date.

Owns: the numbered files in `migrations/`, and nothing that they say.
Rules:
  1. All of it in one IMMEDIATE transaction, and the version is read again inside of it: a crash
     leaves the old schema or the new one, and of two processes only one migrates.
  2. Forwards only. A newer schema than ours is refused by name.
  3. Each file sets `user_version` to its own number, with its last statement.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from aumai_transactions.errors import InternalError, SchemaVersionError
from aumai_transactions.stores.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA_VERSION = 7


@lru_cache(maxsize=1)
def migrations() -> dict[int, str]:
    """Return every migration by the version that it leads to."""
    folder = Path(__file__).parent / "migrations"
    return {int(file.stem): file.read_text("utf-8") for file in sorted(folder.glob("*.sql"))}


def migrate(connection: sqlite3.Connection, place: object, scripts: Mapping[int, str]) -> int:
    """Bring a schema up to the newest version, and return the version that it had.

    Raises:
        SchemaVersionError: It is newer than the newest script.
    """
    connection.execute(statements.BEGIN)
    try:
        found = _run(connection, place, scripts)
        connection.execute(statements.COMMIT)
    except BaseException:
        if connection.in_transaction:
            connection.execute(statements.ROLLBACK)
        raise
    return found


def _run(connection: sqlite3.Connection, place: object, scripts: Mapping[int, str]) -> int:
    found = version_of(connection)
    known = max(scripts)
    if found > known:
        raise SchemaVersionError(str(place), found, known)
    for version in range(found + 1, known + 1):
        for statement in _split(scripts[version]):
            connection.execute(statement).fetchall()
        if version_of(connection) != version:
            raise InternalError(f"migration {version} does not set user_version {version}.")
    return found


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a schema; 0 where there is none."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _split(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one: `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise InternalError(f"a migration ends inside of a statement: {statement.strip()[:80]!r}.")
