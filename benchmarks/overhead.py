"""What a transaction costs over what it is built on, as ratios measured in one run.

    python benchmarks/overhead.py            every figure; some minutes
    python benchmarks/overhead.py --quick    the same figures, roughly; some seconds

Owns: the measurement of two promises, and nothing asserts here.
  In memory: microseconds per step over a hand-written loop with an undo list.
  On SQLite, alone: the time of a transaction of n steps over that of n+1 bare commits.
Rules:
  1. Ours and the floor take turns in slices of some milliseconds, so that a machine that becomes
     slower or faster meanwhile does so for both. A figure is the median over all pairs of
     slices; the spread is the middle 80 %.
  2. Nothing is switched off: garbage collection runs, hash chain, models and checks are those
     of normal use. A slice begins with a new manager, whose making is not measured.
  3. The floor does what the transaction's user would have to write by hand, and no more: it
     builds the same steps, calls the same handlers, and commits rows of the same size to the
     same file system (WAL, synchronous=FULL, one prepared statement in autocommit).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import aumai_transactions
from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.stores.sqlite import SqliteStore

STEP_TARGET_US = 20.0
COMMITS_TARGET = 1.5
WARM_COMMITS = 1_200
LABEL_WIDTH = 52
SECONDS = time.perf_counter
# What never waits is measured in the processor's time: then the machine's other work does not
# count. Where nothing else runs, both clocks say the same.
CPU_SECONDS = time.process_time
Slice = Callable[[], float]
"""Does its work some times, and returns seconds for one time."""


class Figure(NamedTuple):
    """Hold one line of the table.

    Args:
        name: What was measured.
        unit: Of `value`.
        value: The median.
        low: The tenth percentile.
        high: The ninetieth percentile.
        target: What it should be at most; None where it is for information.
        ours_us: Microseconds of ours, median.
        floor_us: Microseconds of the floor, median; None where there is none.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    target: float | None
    ours_us: float
    floor_us: float | None


# ------------------------------------------------------------------------------ the steps


class StepFailed(Exception):
    """Say no."""


def act(action: str, data: dict[str, Any]) -> None:
    return None


def fail(action: str, data: dict[str, Any]) -> None:
    raise StepFailed


async def act_async(action: str, data: dict[str, Any]) -> None:
    return None


async def fail_async(action: str, data: dict[str, Any]) -> None:
    raise StepFailed


HANDLERS = {"act": act, "undo": act, "fail": fail}
HANDLERS_ASYNC = {"act": act_async, "undo": act_async, "fail": fail_async}


def actions(steps: int, *, fails: bool) -> list[str]:
    return ["act"] * (steps - 1) + ["fail" if fails else "act"]


def loop_by_hand(names: list[str]) -> str:
    steps = [(name, {"n": number}, "undo") for number, name in enumerate(names)]
    done = []
    try:
        for name, data, undo in steps:
            HANDLERS[name](name, data)
            done.append((undo, data))
    except StepFailed:
        for undo, data in reversed(done):
            HANDLERS[undo](undo, data)
        return "rolled_back"
    return "committed"


async def loop_by_hand_async(names: list[str]) -> str:
    steps = [(name, {"n": number}, "undo") for number, name in enumerate(names)]
    done = []
    try:
        for name, data, undo in steps:
            await HANDLERS_ASYNC[name](name, data)
            done.append((undo, data))
    except StepFailed:
        for undo, data in reversed(done):
            await HANDLERS_ASYNC[undo](undo, data)
        return "rolled_back"
    return "committed"


def transaction(manager: TransactionManager, names: list[str]) -> str:
    tx = manager.begin()
    for number, name in enumerate(names):
        manager.add_step(tx, "agent", name, {"n": number}, "undo")
    return manager.commit(tx).state.value


async def transaction_async(manager: AsyncTransactionManager, names: list[str]) -> str:
    tx = await manager.begin()
    for number, name in enumerate(names):
        manager.add_step(tx, "agent", name, {"n": number}, "undo")
    return (await manager.commit(tx)).state.value


# ------------------------------------------------------------------------------- measuring


def timed(times: int, work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return seconds for one of so many calls."""
    began = clock()
    for _ in range(times):
        work()
    return (clock() - began) / times


def timed_async(
    times: int, work: Callable[[], Awaitable[object]], clock: Callable[[], float]
) -> float:
    """Return seconds for one of so many awaited calls, one after the other."""

    async def run() -> float:
        began = clock()
        for _ in range(times):
            await work()
        return (clock() - began) / times

    return asyncio.run(run())


def take_turns(ours: Slice, floor: Slice, pairs: int) -> tuple[list[float], list[float]]:
    """Return both sides' seconds of each pair of slices; who begins a pair alternates."""
    ours(), floor()
    mine, bare = [], []
    for pair in range(pairs):
        if pair % 2:
            bare.append(floor())
            mine.append(ours())
        else:
            mine.append(ours())
            bare.append(floor())
    return mine, bare


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return median, tenth and ninetieth percentile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    tenths = quantiles(values, n=10, method="inclusive")
    return median(values), tenths[0], tenths[-1]


# ------------------------------------------------------------------------------- in memory


def memory_slices(names: list[str], *, is_async: bool) -> tuple[Slice, Slice]:
    """Return our slice and the floor's: about 10 ms and 1 ms."""
    times = max(1, 300 // len(names))

    def ours() -> float:
        manager = TransactionManager(HANDLERS)
        return timed(times, lambda: transaction(manager, names), CPU_SECONDS)

    def floor() -> float:
        return timed(times * 5, lambda: loop_by_hand(names), CPU_SECONDS)

    def ours_async() -> float:
        manager = AsyncTransactionManager(HANDLERS_ASYNC)
        return timed_async(times, lambda: transaction_async(manager, names), CPU_SECONDS)

    def floor_async() -> float:
        return timed_async(times * 5, lambda: loop_by_hand_async(names), CPU_SECONDS)

    return (ours_async, floor_async) if is_async else (ours, floor)


def in_memory(pairs: int) -> Iterator[Figure]:
    for is_async in (False, True):
        for fails in (False, True):
            for steps in (3, 10, 100):
                names = actions(steps, fails=fails)
                ours, floor = take_turns(*memory_slices(names, is_async=is_async), pairs)
                over = [(a - b) / steps * 1e6 for a, b in zip(ours, floor, strict=True)]
                kind = "async" if is_async else "sync"
                ending = f"last fails, {steps - 1} undone" if fails else "all commit"
                yield Figure(
                    f"in memory, {kind}, {steps} steps, {ending}",
                    "us a step over a loop",
                    *spread(over),
                    STEP_TARGET_US,
                    median(ours) / steps * 1e6,
                    median(floor) / steps * 1e6,
                )


def interactive(manager: TransactionManager, steps: int) -> None:
    with manager.transaction() as tx:
        for number in range(steps):
            tx.execute("agent", "act", {"n": number}, "undo")


def in_memory_interactive(pairs: int) -> Iterator[Figure]:
    for steps in (3, 10, 100):
        names = actions(steps, fails=False)
        times = max(1, 300 // steps)

        def ours(steps: int = steps, times: int = times) -> float:
            manager = TransactionManager(HANDLERS)
            return timed(times, lambda: interactive(manager, steps), CPU_SECONDS)

        _, floor = memory_slices(names, is_async=False)
        mine, bare = take_turns(ours, floor, pairs)
        over = [(a - b) / steps * 1e6 for a, b in zip(mine, bare, strict=True)]
        yield Figure(
            f"in memory, interactive, {steps} steps, all commit",
            "us a step over a loop",
            *spread(over),
            None,
            median(mine) / steps * 1e6,
            median(bare) / steps * 1e6,
        )


# ------------------------------------------------------------------------------- on SQLite


def bytes_per_append(path: Path, transaction_id: str, appends: int) -> int:
    """Return how much a transaction has stored with each of its durable writes."""
    with SqliteStore(path, create=False) as store:
        journal = store.read(transaction_id)
    if journal is None:
        raise LookupError(transaction_id)
    return sum(len(entry.body) + len(entry.hash) for entry in journal.entries) // appends


class BareJournal:
    """Commit one row at a time, as fast as SQLite allows."""

    def __init__(self, path: Path, row_bytes: int) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)")
        self._row = (os.urandom(row_bytes),)

    def commit(self) -> None:
        """Make one row durable."""
        self._database.execute("INSERT INTO entry (body) VALUES (?)", self._row)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def on_sqlite(folder: Path, steps: int, pairs: int) -> Figure:
    names = actions(steps, fails=False)
    path = folder / f"ours-{steps}.db"
    commits, times = steps + 1, max(1, 30 // steps)
    with TransactionManager(HANDLERS, store=str(path)) as manager:
        tx = manager.begin()
        for name in names:
            manager.add_step(tx, "agent", name, {"n": 0}, "undo")
        manager.commit(tx)
        row_bytes = bytes_per_append(path, tx.transaction_id, commits)
        bare = BareJournal(folder / f"bare-{steps}.db", row_bytes)
        # Why: a log that still grows is slower to make durable than one that is written over.
        timed(WARM_COMMITS // commits, lambda: transaction(manager, names), SECONDS)
        timed(WARM_COMMITS, bare.commit, SECONDS)
        ours, floor = take_turns(
            lambda: timed(times, lambda: transaction(manager, names), SECONDS),
            lambda: timed(times * commits, bare.commit, SECONDS),
            pairs,
        )
        bare.close()
    return Figure(
        f"SQLite, alone, {steps} steps ({row_bytes} bytes a write)",
        f"x {commits} bare commits",
        *spread([a / (b * commits) for a, b in zip(ours, floor, strict=True)]),
        COMMITS_TARGET,
        median(ours) * 1e6,
        median(floor) * commits * 1e6,
    )


def at_once_threads(manager: TransactionManager, count: int, each: int) -> float:
    """Return seconds for one of `count * each` transactions, carried out by so many threads."""
    names = actions(3, fails=False)
    gate = threading.Barrier(count + 1)

    def work() -> None:
        gate.wait()
        for _ in range(each):
            transaction(manager, names)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / (count * each)


def at_once_tasks(path: Path, count: int, each: int) -> float:
    """Return seconds for one of `count * each` transactions, carried out by so many tasks."""
    names = actions(3, fails=False)

    async def run() -> float:
        async with AsyncTransactionManager(HANDLERS_ASYNC, store=str(path)) as manager:
            await transaction_async(manager, names)

            async def work() -> None:
                for _ in range(each):
                    await transaction_async(manager, names)

            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(count)))
            return (time.perf_counter() - began) / (count * each)

    return asyncio.run(run())


def many_at_once(folder: Path, rounds: int, transactions: int) -> Iterator[Figure]:
    for count in (1, 8, 64):
        each = max(1, transactions // count)
        for kind in ("threads", "tasks"):
            path = folder / f"{kind}-{count}.db"
            seconds = []
            for _ in range(rounds + 1):
                if kind == "tasks":
                    seconds.append(at_once_tasks(path, count, each))
                    continue
                with TransactionManager(HANDLERS, store=str(path)) as manager:
                    transaction(manager, actions(3, fails=False))
                    seconds.append(at_once_threads(manager, count, each))
            rates = [1 / one for one in seconds[1:]]
            yield Figure(
                f"SQLite, {count} at once ({kind}), 3 steps",
                "transactions/s",
                *spread(rates),
                None,
                median(seconds[1:]) * 1e6,
                None,
            )


# ------------------------------------------------------------------------------- reporting


def machine(folder: Path) -> str:
    """Return one line about where this was measured."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"aumai-transactions {aumai_transactions.__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {cpu}, {os.cpu_count()} cores{load}, "
        f"{filesystem(folder)}"
    )


def filesystem(folder: Path) -> str:
    """Return which file system a folder is on, where that can be known."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return "file system unknown"
    place = folder.resolve()
    fitting = [fields for fields in mounts if place.is_relative_to(fields[1])]
    kind = max(fitting, key=lambda fields: len(fields[1]))[2]
    return f"{kind} (keeps nothing: SQLite's ratio says little)" if kind == "tmpfs" else kind


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    digits = 2 if figure.value < 1_000 else 0
    numbers = f"{figure.value:>10,.{digits}f}  {figure.low:,.{digits}f} - {figure.high:,.{digits}f}"
    verdict = ""
    if figure.target is not None:
        verdict = "met" if figure.value <= figure.target else "NOT met"
        verdict = f"target <= {figure.target:g}: {verdict}"
    floor = "" if figure.floor_us is None else f"floor {figure.floor_us:,.2f} us, "
    absolute = f"({floor}ours {figure.ours_us:,.2f} us)"
    return f"{figure.name:<{LABEL_WIDTH}}{numbers:<32}{figure.unit:<22}{verdict:<24}{absolute}"


@contextmanager
def place_for(folder: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aumai-overhead-", dir=folder) as made:
        yield Path(made)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer slices: some seconds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", help="where to make the databases (default: the temporary one)")
    options = parser.parse_args(arguments)
    pairs, rounds, transactions = (5, 1, 64) if options.quick else (101, 5, 640)
    found = []
    with place_for(options.folder) as folder:
        about = machine(folder)
        if not options.json:
            print(about)
            print("median and middle 80 % of alternating slices; lower is better but for rates\n")
        for figures in (
            in_memory(pairs),
            in_memory_interactive(pairs),
            (on_sqlite(folder, steps, pairs) for steps in (3, 10)),
            many_at_once(folder, rounds, transactions),
        ):
            for figure in figures:
                found.append(figure)
                if not options.json:
                    print(shown(figure), flush=True)
    if options.json:
        report = {"machine": about, "figures": [figure._asdict() for figure in found]}
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
