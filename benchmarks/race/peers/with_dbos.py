"""DBOS Transact, as an entrant: a workflow of three steps on SQLite or PostgreSQL.

    python -m race.peers.with_dbos --database sqlite:///x.sqlite --at-once 64

Owns: what a user of DBOS would write: `@DBOS.workflow()` and `@DBOS.step()`, and an undo list by
hand, as its documentation shows. Many at once are threads, the faster of its ways where this was
tried; its pool of connections is the size that was found best for that.
Not comparable: a step is recorded when it has returned, not before, so that after a crash it may
run again without anybody having known of it; there are no locks, no chain of hashes and no probes.
Its SQLite file is put into WAL mode beforehand (it leaves it in rollback mode), which helps it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from functools import partial
from importlib.metadata import version
from typing import Any

from race.slices import StepFailed, alone, by_threads, serve

try:
    from dbos import DBOS
except ImportError as error:
    sys.exit(f"not installed: pip install dbos ({error})")

POOL_SIZES = {"sqlite": 4, "postgresql": 8}


@DBOS.step()
def act(data: dict[str, Any]) -> dict[str, Any]:
    """Be a step."""
    return data


@DBOS.step()
def fail(data: dict[str, Any]) -> dict[str, Any]:
    """Be a step that fails."""
    raise StepFailed


@DBOS.workflow()
def saga(*, fails: bool) -> str:
    """Carry out three steps, or undo those that were done."""
    data, done = {"n": 1}, []
    try:
        for step in (act, act, fail if fails else act):
            data = step(data)
            done.append(data)
    except StepFailed:
        for output in reversed(done):
            act(output)
        return "rolled_back"
    return "committed"


def prepared(database: str) -> str:
    """Return DBOS's name of the database, which is ready for it."""
    kind, _, rest = database.partition("://")
    if kind != "sqlite":
        return f"postgresql+psycopg://{rest}"
    connection = sqlite3.connect(rest.removeprefix("/"))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.close()
    return database


def main() -> None:
    """Be the entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    kind = options.database.partition(":")[0]
    config = {
        "name": "race",
        "system_database_url": prepared(options.database),
        "log_level": "CRITICAL",
        "run_admin_server": False,
    }
    if options.at_once > 1:
        config["sys_db_pool_size"] = POOL_SIZES[kind]
    DBOS(config=config)
    DBOS.launch()
    one = partial(saga, fails=options.fails)
    if one() != ("rolled_back" if options.fails else "committed"):
        sys.exit("it has ended otherwise")
    run = partial(alone, one)
    if options.at_once > 1:
        run = partial(by_threads, one, count=options.at_once)
    serve(run, f"dbos {version('dbos')}")
    # Why: it waits for its own threads, and nothing of it is needed any more.
    os._exit(0)


if __name__ == "__main__":
    main()
