"""What drivers and people ask of a store, while what has finished grows from 10^3 to 10^6.

    python benchmarks/growth.py                              both stores, up to a million
    python benchmarks/growth.py --most 10000 --times 20      some seconds
    python benchmarks/growth.py --store postgresql://…       a PostgreSQL that runs

Owns: the measurement of one promise, and nothing asserts here: on PostgreSQL, each of these takes
less than 10 ms (95th percentile) however much has finished.
Rules:
  1. What has finished is copied inside of the database from one real transaction of three steps,
     with every entry it has. Copies have ids of their own, and their chains do not fit: they are
     there to be in the way. What is claimed, shown or needs a person is real, and a sample of the
     finished ones is as well.
  2. After each filling stands what autovacuum would have done by then, a VACUUM (ANALYZE), what
     was filled is on the disk (CHECKPOINT, where the role may), and the caches are warm: each
     question is asked once before it is measured.
  3. A question goes through the store's own methods, with the connection that it keeps.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from race.machine import machine

from aumai_transactions import RetryPolicy, TransactionManager, TransactionState
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.store import Append, AppendAnswer, Query, Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "fleet"))

TARGET_MS = 10.0
SIZES = (1_000, 10_000, 100_000, 1_000_000)
OPEN, OUTSTANDING, HELD, SAMPLE = 300, 200, 100, 50
COMMITTED, ACTIVE = TransactionState.committed, TransactionState.active
PAGE = 100
NOT_PROMISED = ("count of all", "count of committed")
numbers = count(1)

TRANSACTION = """
    sequence, head_hash, token, created_at, updated_at, timeout_seconds, steps, completed, agents,
    name, state, attention, runnable, due_at, tenant, next_agent
"""
COPY_ENTRIES = """
    INSERT INTO entries (transaction_ordinal, sequence, body, hash)
    SELECT t.ordinal, e.sequence, e.body, e.hash FROM transactions AS t, entries AS e
    WHERE t.ordinal > {last} AND e.transaction_ordinal = {template}
"""
FILL_POSTGRES = (
    """
    INSERT INTO transactions (transaction_id, change, purgeable_at, {columns})
    SELECT gen_random_uuid()::text, change, purgeable_at, {columns}
    FROM transactions, generate_series(1, {many}) WHERE transaction_id = '{name}'
    """,
    COPY_ENTRIES,
    "VACUUM (ANALYZE) transactions",
    "VACUUM (ANALYZE) entries",
)
FILL_SQLITE = (
    """
    INSERT INTO transactions (transaction_id, {columns})
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {many})
    SELECT lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(12))), {columns}
    FROM transactions, n WHERE transaction_id = '{name}'
    """,
    COPY_ENTRIES,
)


class Figure(NamedTuple):
    """Hold how long one question takes.

    Args:
        store: `postgresql` or `sqlite`.
        finished: How many transactions have finished.
        question: What was asked.
        median_ms: The median, in milliseconds.
        p95_ms: The 95th percentile.
    """

    store: str
    finished: int
    question: str
    median_ms: float
    p95_ms: float


def act(action: str, data: dict[str, Any]) -> str:
    return "done"


def fail(action: str, data: dict[str, Any]) -> None:
    raise ValueError("no")


class Question(NamedTuple):
    """Hold one thing that is asked.

    Args:
        name: What.
        ask: Asks it.
        afterwards: Makes ready for the next time; not measured.
    """

    name: str
    ask: Callable[[], object]
    afterwards: Callable[[], object] = lambda: None


class Filled:
    """A store that is filled further and further.

    Args:
        url: How to open it.
        run: Carries out statements, and returns the rows of the last one.
        fill: The statements that fill it.
    """

    def __init__(
        self, url: str, run: Callable[[list[str]], list[Any]], fill: tuple[str, ...]
    ) -> None:
        self.run, self.fill = run, fill
        self.kind = url.partition(":")[0]
        self.manager = TransactionManager(store=url)
        self.finished = 0
        for name in ("act", "undo"):
            self.manager.action(name, compensating_action="undo", idempotent=True)(act)
        stuck = self.manager.action("stuck", retry=RetryPolicy(attempts_max=1), idempotent=True)
        stuck(fail)
        self.manager.action("fails")(fail)
        self.names = [self.one("act", "act", "act") for _ in range(SAMPLE)]
        self.template = self.names[0]
        for number in range(OUTSTANDING):
            held = [f"seat:{number}"] if number < HELD else []
            self.names.append(self.one("act", "fails", undo="stuck", resources=held))

    @property
    def store(self) -> Store:
        """What is asked."""
        return self.manager._desk().store

    def one(self, *actions: str, undo: str = "undo", submits: bool = False, **uses: Any) -> str:
        """Make one real transaction, and finish it unless it is only submitted."""
        tx = self.manager.begin(name=f"order {next(numbers)}", timeout_seconds=86_400)
        for name in actions:
            self.manager.add_step(tx, f"{name}_agent", name, {"order": 17}, undo, **uses)
            uses = {}
        if submits:
            self.manager.submit(tx)
        else:
            self.manager.commit(tx)
        return tx.transaction_id

    def grow(self, finished: int, claims: int) -> None:
        """Let so many have finished, and hundreds be open besides those that will be claimed."""
        many, self.finished = finished - self.finished, finished
        [(last,)] = self.run(["SELECT max(ordinal) FROM transactions"])
        [(template,)] = self.run(
            [f"SELECT ordinal FROM transactions WHERE transaction_id = '{self.template}'"]
        )
        values = {
            "columns": TRANSACTION,
            "many": many,
            "name": self.template,
            "last": last,
            "template": template,
        }
        self.run([statement.format(**values) for statement in self.fill])
        self.names += [self.one("act", "act", "act") for _ in range(SAMPLE)]
        open_now = self.store.count(Query(states=(TransactionState.pending,)))
        for _ in range(OPEN + claims - open_now):
            self.names.append(self.one("act", "act", "act", submits=True))


# -------------------------------------------------------------------------------- the questions


def questions(filled: Filled) -> Iterator[Question]:
    """Yield what is asked."""
    store, manager, dice = filled.store, filled.manager, random.Random(filled.finished)
    driver, claims = manager._desk().driver_id, Claims(filled)
    now = time.time_ns() // 1_000

    def listed(**query: Any) -> Callable[[], object]:
        return lambda: store.find(Query(limit=PAGE, newest_first=True, **query))

    def outstanding() -> object:
        return store.count(Query(attention=True)), store.find(Query(attention=True, limit=PAGE))

    def shown_whole() -> object:
        name = dice.choice(filled.names)
        return store.find(Query(prefix=name[:8], limit=2)), manager.get_result(name)

    for name, ask in {
        "due": lambda: store.due(driver, 16, now, reserve_seconds=0.001),
        "list, newest first": listed(),
        "list, oldest first": lambda: store.find(Query(limit=PAGE)),
        "list of committed": listed(states=(COMMITTED,)),
        "list of active": listed(states=(ACTIVE,)),
        "list of pending": listed(states=(TransactionState.pending,)),
        "list, attention": listed(attention=True),
        "show (find by 8 characters, read, load)": shown_whole,
        "outstanding (count and page)": outstanding,
        "locks": manager.locks,
        "purge (nothing is old enough)": lambda: store.purge(1, 500),
        "count of all": lambda: store.count(Query()),
        "count of committed": lambda: store.count(Query(states=(COMMITTED,))),
    }.items():
        yield Question(name, ask)
    yield Question("claim (due, read, load, append)", claims.one, claims.finish)


class Claims:
    """Take one open transaction after the other, as a worker does.

    Args:
        filled: Where. Its manager's driver takes them, and finishes each before the next.
    """

    def __init__(self, filled: Filled) -> None:
        self.manager, self.store = filled.manager, filled.store
        self.driver = self.manager._desk().driver_id
        self.name = ""

    def one(self) -> None:
        """Find what is due, read it, and claim it."""
        now = time.time_ns() // 1_000
        self.name = self.store.due(self.driver, 16, now, reserve_seconds=0.001)[0]
        journal = self.store.read(self.name)
        if journal is None:
            raise LookupError(self.name)
        saga = load(journal)
        claim = Claimed(now, saga.token + 1, self.driver)
        expected = saga.sequence
        evolve(saga, claim)
        append = Append(
            self.name,
            expected,
            f"growth-{self.name}",
            [claim],
            summary_of(saga),
            claim.token,
            self.driver,
        )
        if self.store.append([append]) != [AppendAnswer.appended]:
            raise LookupError(f"{self.name} could not be claimed")

    def finish(self) -> None:
        """Let the manager go on with it to its end."""
        result = self.manager.wait(self.name)
        if result.state is not COMMITTED:
            raise LookupError(f"{self.name} is {result.state}")


def measured(filled: Filled, times: int) -> Iterator[Figure]:
    """Ask each question so many times."""
    for question, ask, afterwards in questions(filled):
        seconds = []
        for _ in range(times + 1):
            began = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - began)
            afterwards()
        yield Figure(
            filled.kind,
            filled.finished,
            question,
            median(seconds[1:]) * 1e3,
            quantiles(seconds[1:], n=20)[-1] * 1e3,
        )


# ------------------------------------------------------------------------------------ the stores


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

        fill = FILL_POSTGRES
        role = db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if role == (True,):
            fill += ("CHECKPOINT",)
        mark = "&" if "?" in url else "?"
        store = f"{url}{mark}schema={schema}"
        try:
            filled = Filled(store, run, fill)
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

    filled = Filled(f"sqlite:///{path}", run, FILL_SQLITE)
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


def figures_of(filled: Filled, options: argparse.Namespace) -> Iterator[Figure]:
    """Fill further and further, and measure at each size."""
    for size in options.sizes:
        began = time.perf_counter()
        filled.grow(size, options.times + 1)
        if not options.json:
            took = time.perf_counter() - began
            total = filled.store.count(Query())
            print(f"{filled.kind}: {total:,} transactions (filled in {took:.0f} s)", flush=True)
        for figure in measured(filled, options.times):
            if not options.json:
                print(shown(figure), flush=True)
            yield figure


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    verdict = ""
    if figure.question not in NOT_PROMISED and figure.store == "postgresql":
        verdict = "met" if figure.p95_ms < TARGET_MS else "NOT met"
    numbers = f"{figure.median_ms:10.2f} ms{figure.p95_ms:10.2f} ms"
    return f"  {figure.question:<40}{numbers}   {verdict}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--most", type=int, default=1_000_000, help="how many have finished at most"
    )
    parser.add_argument("--times", type=int, default=200, help="how often each question is asked")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one of the two stores")
    parser.add_argument("--store", help="the URL of a PostgreSQL that runs")
    parser.add_argument("--folder", help="where to make the SQLite file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    options.sizes = [size for size in SIZES if size < options.most] + [options.most]
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="aumai-growth-", dir=options.folder) as folder:
        about = machine(Path(folder))
        if not options.json:
            print(f"{about}\nmedian and 95th percentile of {options.times}\n")
        if options.only != "sqlite":
            with postgres(options.store) as filled:
                found += figures_of(filled, options)
        if options.only != "postgresql":
            with sqlite_in(Path(folder)) as filled:
                found += figures_of(filled, options)
    if options.json:
        report = {"machine": about, "figures": [figure._asdict() for figure in found]}
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
