"""The stores that are filled: a schema in a PostgreSQL, and a SQLite file.

Owns: how they are made and removed, and how statements get at their tables.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from growing.stored import FILL_POSTGRES, FILL_SQLITE, Filled
from race.floors import postgres_sink, sqlite_sink


@contextmanager
def postgres_at(url: str) -> Iterator[Filled]:
    """Fill a schema of its own in this database, and remove it."""
    import psycopg

    schema = f"growth_{time.time_ns()}"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"SET search_path = {schema}".encode())
        # Why: what is copied need not survive; what is measured has sessions of its own.
        db.execute("SET synchronous_commit = off")

        def run(statements: list[str]) -> list[Any]:
            for statement in statements:
                rows = db.execute(statement.encode())
            return rows.fetchall() if rows.description else []

        fill: tuple[str, ...] = FILL_POSTGRES
        role = db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if role == (True,):
            fill += ("CHECKPOINT",)
        mark = "&" if "?" in url else "?"
        store = f"{url}{mark}schema={schema}"
        beside = f"{url}{mark}options={quote(f'-csearch_path={schema}')}"
        try:
            filled = Filled(store, run, fill, lambda: postgres_sink(beside))
            with filled.manager:
                yield filled
        finally:
            db.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


@contextmanager
def sqlite_in(folder: Path) -> Iterator[Filled]:
    """Fill a file in this folder."""
    path = folder / "growth.db"
    db: sqlite3.Connection | None = None

    def run(statements: list[str]) -> list[Any]:
        nonlocal db
        db = db or sqlite3.connect(path, isolation_level=None, timeout=60)
        for statement in statements:
            rows = db.execute(statement).fetchall()
        return rows

    beside = folder / "bare.db"
    filled = Filled(f"sqlite:///{path}", run, FILL_SQLITE, lambda: sqlite_sink(str(beside)))
    with filled.manager:
        yield filled
        if db is not None:
            db.close()


@contextmanager
def postgres(url: str | None) -> Iterator[Filled]:
    """Fill the PostgreSQL that runs there, or one from the wheel."""
    from server import running_server

    if url is not None:
        with postgres_at(url) as filled:
            yield filled
        return
    with running_server() as found, postgres_at(found) as filled:
        yield filled


def kinds_of(options: argparse.Namespace, folder: Path) -> Iterator[AbstractContextManager[Filled]]:
    """Yield each store that is wanted, to be filled."""
    if options.only in {None, "postgresql"}:
        yield postgres(options.store)
    if options.only in {None, "sqlite"}:
        yield sqlite_in(folder)
