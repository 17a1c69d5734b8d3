"""How long it takes until what a dead process had in flight is finished.

Owns: the making of such a store, and the measurement: 100,000 in flight are finished in less than a
minute.
Rules:
  1. What was in flight is recorded by a real transaction of three steps, whose process would have
     died inside of the call of the second one. Every journal is written through the store's own
     `append`, so that its chain fits, by a driver that is dead.
  2. A process of its own finishes them: it imports, opens, and calls each second step again, which
     is idempotent. Its clock begins when it is started.
  3. Ways: `recover()` of a manager with threads, one after the other and 8 at a time, and of one of
     asyncio, 64 at a time; and workers, with as many threads as one has by itself, and with 64.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from aumai_transactions import (
    AsyncTransactionManager,
    StepContext,
    TransactionManager,
    Worker,
    open_store,
)
from aumai_transactions.core.codec import decode
from aumai_transactions.core.entries import Entry
from aumai_transactions.core.journal import load
from aumai_transactions.core.outcome import Summary, summary_of
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, Query, Store
from aumai_transactions.stores.memory import MemoryStore

WAYS = {
    "recover()": ("recover", 1),
    "recover(), 8 threads": ("recover", 8),
    "recover(), 64 tasks": ("recover_async", 64),
    "a worker": ("work", 8),
    "a worker, 64 threads": ("work", 64),
}
BATCH = 500
DAY_SECONDS = 86_400
TARGET_SECONDS, TARGET_IN_FLIGHT = 60.0, 100_000


class Figure(NamedTuple):
    """Hold how long it took.

    Args:
        store: Where.
        way: What finished them.
        in_flight: How many there were.
        opened: Seconds until the store was open.
        first: Seconds until the first one was finished; None where that is not told.
        all: Seconds until all were.
        mib: What the process had in memory at most.
    """

    store: str
    way: str
    in_flight: int
    opened: float
    first: float | None
    all: float
    mib: float


def with_actions(manager: Any, act: Any) -> Any:
    """Return a manager that has the actions now."""
    for name in ("act", "undo"):
        manager.action(name, compensating_action="undo", idempotent=True)(act)
    return manager


def template() -> tuple[list[Entry], Summary]:
    """Return what stands in a journal while the second step is being called."""
    store, found = MemoryStore(), []

    def act(action: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
        found.append(store.read(context.transaction_id))
        return data

    with with_actions(TransactionManager(store=store), act) as manager:
        tx = manager.begin(timeout_seconds=DAY_SECONDS)
        for _ in range(3):
            manager.add_step(tx, "agent", "act", {"n": 1})
        manager.commit(tx)
    journal = found[1]
    if journal is None:
        raise LookupError(tx.transaction_id)
    bodies = [stored.body for stored in journal.entries]
    entries = [decode(body, "template", n)[1] for n, body in enumerate(bodies, 1)]
    return entries, summary_of(load(journal))


def fill(store: Store, in_flight: int) -> None:
    """Let so many be in flight, of a driver that is dead when the store is closed."""
    entries, summary = template()
    driver_id = store.join()

    def one(number: int) -> Append:
        name = f"t{number:07}"
        mine = summary._replace(transaction_id=name)
        return Append(name, 0, f"a{number}", entries, mine, token=1, driver_id=driver_id)

    made = map(one, range(in_flight))
    while batch := list(islice(made, BATCH)):
        store.append(batch)


def finish(url: str, how: str, concurrency: int, began: float) -> None:
    """Finish everything, and print when that was."""
    opened, first = globals()[how](url, concurrency)
    took = time.time() - began
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([opened - began, None if first is None else first - began, took, mib]))


def recover(url: str, concurrency: int) -> tuple[float, float | None]:
    """Finish everything by threads; return when it was open."""
    with with_actions(TransactionManager(store=url), lambda action, data: data) as manager:
        manager.get_store_info()
        opened = time.time()
        manager.recover(concurrency=concurrency)
    return opened, None


def recover_async(url: str, concurrency: int) -> tuple[float, float | None]:
    """Finish everything by tasks; return when it was open."""

    async def act(action: str, data: dict[str, Any]) -> dict[str, Any]:
        return data

    async def main() -> float:
        async with with_actions(AsyncTransactionManager(store=url), act) as manager:
            await manager.get_store_info()
            opened = time.time()
            await manager.recover(concurrency=concurrency)
        return opened

    return asyncio.run(main()), None


def work(url: str, concurrency: int) -> tuple[float, float | None]:
    """Finish everything as a worker; return when it was open, and when the first was finished."""
    first: list[float] = []

    def finished(report: object) -> None:
        if not first:
            first.append(time.time())

    with with_actions(TransactionManager(store=url), lambda action, data: data) as manager:
        manager.get_store_info()
        opened = time.time()
        Worker(manager, concurrency=concurrency, on_report=finished).run(until_idle=True)
    return opened, first[0] if first else None


def measured(kind: str, url: str, way: str, in_flight: int) -> Figure:
    """Fill a store, and let a process finish what is there."""
    with closing(open_store(url, create=True)) as store:
        fill(store, in_flight)
    how, concurrency = WAYS[way]
    command = [sys.executable, "-m", "growing.recovery", url, how, str(concurrency)]
    command.append(str(time.time()))
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    with closing(open_store(url, create=False)) as store:
        done = store.count(Query(states=(TransactionState.committed,)))
    if done != in_flight:
        raise LookupError(f"{way} has finished {done} of {in_flight}")
    return Figure(kind, way, in_flight, *json.loads(ran.stdout))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in-flight", type=int, nargs="+", default=[100_000])
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))


def run(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """Measure each way on each store."""
    from server import running_server, schema_in

    for in_flight in options.in_flight:
        for number, way in enumerate(options.ways):
            if options.only in {None, "sqlite"}:
                url = f"sqlite:///{folder}/recovery-{in_flight}-{number}.db"
                yield measured("sqlite", url, way, in_flight)
            if options.only in {None, "postgresql"}:
                with ExitStack() as stack:
                    server = options.store or stack.enter_context(running_server())
                    url = stack.enter_context(schema_in(server))
                    yield measured("postgresql", url, way, in_flight)


HEADER = (
    f"{'store':<12}{'way':<24}{'in flight':>10}{'open, s':>10}{'first, s':>10}{'all, s':>10}"
    f"{'per second':>12}{'MiB':>8}"
)


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    first = "–" if figure.first is None else f"{figure.first:.2f}"
    return (
        f"{figure.store:<12}{figure.way:<24}{figure.in_flight:>10,}{figure.opened:>10.2f}"
        f"{first:>10}{figure.all:>10.1f}{figure.in_flight / figure.all:>12,.0f}{figure.mib:>8.0f}"
    )


def concluded(figures: list[Figure]) -> Iterator[str]:
    """Yield whether so many are finished in time; scaled where there were fewer."""
    for one in figures:
        expected = one.all * TARGET_IN_FLIGHT / one.in_flight
        verdict = "met" if expected < TARGET_SECONDS else "NOT met"
        yield (
            f"{one.store}, {one.way}: {TARGET_IN_FLIGHT:,} in {expected:.0f} s at this rate; "
            f"wanted < {TARGET_SECONDS:g}: {verdict}"
        )


if __name__ == "__main__":
    finish(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
