"""What drivers and people ask of a store, while what has finished grows from 10^3 to 10^6.

Owns: the filling of a store, and the questions. What is promised: each question takes less than
10 ms (95th percentile) however much has finished, but for counts and for SQLite's purge; and a new
transaction costs at most 1.15 times as much beside a million as it does beside a thousand.
Rules:
  1. What has finished is copied inside of the database from one real transaction of three steps,
     with every entry it has. Copies have ids of their own, and their chains do not fit: they are
     there to be in the way. What is claimed, shown or needs a person is real, and a sample of the
     finished ones is as well.
  2. After each filling stands what autovacuum would have done by then, a VACUUM (ANALYZE), what
     was filled is on the disk (CHECKPOINT, where the role may), and the caches are warm: each
     question is asked once before it is measured.
  3. A question goes through the store's own methods, with the connection that it keeps.
  4. Before each new transaction stands a bare one of four commits on the same disk, so that a disk
     that becomes slower meanwhile is not taken for growth.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from race.floors import Direct, Write, journaled, without_a_loop

from aumai_transactions import RetryPolicy, TransactionManager, TransactionState
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.store import Append, AppendAnswer, Query, Store

TARGET_MS, TARGET_RATIO = 10.0, 1.15
SIZES = (1_000, 10_000, 100_000, 1_000_000)
OPEN, OUTSTANDING, HELD, SAMPLE = 300, 200, 100, 50
COMMITTED, ACTIVE = TransactionState.committed, TransactionState.active
PAGE = 100
PURGE = "purge (nothing is old enough)"
# It goes through all that has ended, and nobody waits for it meanwhile.
SLOW_PURGE = ("sqlite", PURGE)
BARE = "a bare transaction (four commits)"
NEW = "a new transaction (three steps)"
NEW_CPU = "the same, processor time of the program"
NOT_PROMISED = (
    *("count of all", "count of committed", "open the store, and close it"),
    *(BARE, NEW, NEW_CPU, "recover, for each that was open"),
)
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
    "PRAGMA wal_checkpoint(TRUNCATE)",
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


def manager_of(url: str) -> TransactionManager:
    """Return a manager with the actions."""
    manager = TransactionManager(store=url)
    for name in ("act", "undo"):
        manager.action(name, compensating_action="undo", idempotent=True)(act)
    manager.action("stuck", retry=RetryPolicy(attempts_max=1), idempotent=True)(fail)
    manager.action("fails")(fail)
    return manager


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
        beside: Returns what commits rows on the same disk.
    """

    def __init__(
        self,
        url: str,
        run: Callable[[list[str]], list[Any]],
        fill: tuple[str, ...],
        beside: Callable[[], Write],
    ) -> None:
        self.url, self.run, self.fill = url, run, fill
        self.kind = url.partition(":")[0]
        self.manager = manager_of(url)
        self.finished = 0
        self._beside = beside
        self.names = [self.one("act", "act", "act") for _ in range(SAMPLE)]
        self.template = self.names[0]
        for number in range(OUTSTANDING):
            held = [f"seat:{number}"] if number < HELD else []
            self.names.append(self.one("act", "fails", undo="stuck", resources=held))

    @cached_property
    def bare(self) -> Callable[[], None]:
        """Carry out a bare transaction of three steps: four commits."""
        append = Direct(self._beside()).append
        return without_a_loop(partial(journaled, append, 3, fails=False))

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
        "open the store, and close it": partial(opened, filled.url),
        PURGE: lambda: store.purge(1, 500),
        "count of all": lambda: store.count(Query()),
        "count of committed": lambda: store.count(Query(states=(COMMITTED,))),
    }.items():
        yield Question(name, ask)
    yield Question("claim (due, read, load, append)", claims.one, claims.finish)


def opened(url: str) -> None:
    """Open a store with a manager of its own."""
    with manager_of(url) as manager:
        manager.get_store_info()


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
    """Ask each question so many times, and carry out as many new transactions."""
    for question, ask, afterwards in questions(filled):
        seconds = []
        for _ in range(times + 1):
            began = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - began)
            afterwards()
        yield figure(filled, question, seconds[1:])
    yield from new_ones(filled, times)
    yield recovered(filled)


def figure(filled: Filled, question: str, seconds: list[float]) -> Figure:
    """Sum up."""
    p95 = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return Figure(filled.kind, filled.finished, question, median(seconds) * 1e3, p95 * 1e3)


def new_ones(filled: Filled, times: int) -> Iterator[Figure]:
    """Carry out new transactions, each behind a bare one."""
    bare, ours, processor = [], [], []
    for _ in range(times + 1):
        began = time.perf_counter()
        filled.bare()
        bare.append(time.perf_counter() - began)
        began, cpu = time.perf_counter(), time.process_time()
        filled.one("act", "act", "act")
        ours.append(time.perf_counter() - began)
        processor.append(time.process_time() - cpu)
    yield figure(filled, BARE, bare[1:])
    yield figure(filled, NEW, ours[1:])
    yield figure(filled, NEW_CPU, processor[1:])


def recovered(filled: Filled) -> Figure:
    """Let another manager finish all that is open, and return the time for each."""
    with manager_of(filled.url) as manager:
        began = time.perf_counter()
        found = manager.recover()
        took = time.perf_counter() - began
    done = [report for report in found if report.outcome == "finished"]
    return figure(filled, "recover, for each that was open", [took / max(1, len(done))])


def concluded(figures: list[Figure]) -> Iterator[str]:
    """Yield how a new transaction has become dearer, beside a bare one and by itself."""
    medians = {(one.store, one.question, one.finished): one.median_ms for one in figures}
    for store in dict.fromkeys(one.store for one in figures):
        sizes = sorted({one.finished for one in figures if one.store == store})
        for size in sizes[1:]:
            new, cpu, bare = (
                medians[store, question, size] / medians[store, question, sizes[0]]
                for question in (NEW, NEW_CPU, BARE)
            )
            verdict = "met" if new / bare <= TARGET_RATIO else "NOT met"
            yield (
                f"{store}: a new transaction beside {size:,} costs × {new / bare:.2f} of one "
                f"beside {sizes[0]:,} (bare ones × {bare:.2f}; processor × {cpu:.2f}); "
                f"wanted ≤ {TARGET_RATIO}: {verdict}"
            )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--most", type=int, default=1_000_000, help="how many have finished")
    parser.add_argument("--times", type=int, default=200, help="how often each question is asked")


def run(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """Fill each store further and further, and measure at each size."""
    from growing.stores import kinds_of

    wanted = [size for size in SIZES if size < options.most] + [options.most]
    for filling in kinds_of(options, folder):
        with filling as filled:
            for size in wanted:
                filled.grow(size, options.times + 1)
                yield from measured(filled, options.times)


HEADER = f"{'store':<12}{'finished':>10}  {'question':<42}{'median':>13}{'95 %':>13}"


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    verdict = ""
    if figure.question not in NOT_PROMISED and (figure.store, figure.question) != SLOW_PURGE:
        verdict = "met" if figure.p95_ms < TARGET_MS else "NOT met"
    numbers = f"{figure.median_ms:10.2f} ms{figure.p95_ms:10.2f} ms"
    where = f"{figure.store:<12}{figure.finished:>10,}"
    return f"{where}  {figure.question:<42}{numbers}   {verdict}".rstrip()
