"""How much memory a process has that carries out a million transactions.

Owns: the measurement of one promise: memory is bounded by what is in flight, not by history; it
grows by less than 20 MiB behind the warm-up.
Rules:
  1. Measured is a process of its own, by what the kernel says is in its memory and not in a file
     (RssAnon): the log's index and the database's pages are the system's to take back.
  2. On SQLite and PostgreSQL, where history is on a disk. Not in memory: there a manager keeps
     every transaction by design, for nobody else remembers it, so that a purge of its store does
     not help; a program that lives long has a store that lasts.
  3. 64 tasks of one event loop, three steps each, every fifth of which goes back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import NamedTuple

from race.ours import Plan, async_manager_of

AT_ONCE = 64
GOES_BACK_EVERY = 5
WARM_PART = 20
REPORTS = 10
TARGET_MIB = 20.0
ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")


class Figure(NamedTuple):
    """Hold how much memory a process had.

    Args:
        store: Where.
        transactions: How many it had carried out by then.
        mib: In its memory.
        grown_mib: Since the warm-up.
        per_second: How many it carried out in a second until then.
    """

    store: str
    transactions: int
    mib: float
    grown_mib: float
    per_second: float


def memory_mib() -> float:
    """Return how much of this process is in memory and not in a file."""
    found = ANONYMOUS.search(Path("/proc/self/status").read_text("ascii", "replace"))
    return int(found[1]) / 1024 if found else 0.0


class Life:
    """Count transactions, and say now and then how much memory there is.

    Args:
        total: How many there will be.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._numbers = count(1)
        self._ended = 0
        self._began = time.perf_counter()
        self._warm = 0.0
        self._reports = {total // WARM_PART} | {
            total * part // REPORTS for part in range(1, REPORTS + 1)
        }

    def next(self) -> int:
        """Return the number of the next one; 0 where there is none."""
        number = next(self._numbers)
        return number if number <= self._total else 0

    def done(self) -> None:
        """Take notice that one has ended."""
        self._ended += 1
        if self._ended in self._reports:
            now = memory_mib()
            self._warm = self._warm or now
            rate = self._ended / (time.perf_counter() - self._began)
            print(json.dumps([self._ended, now, now - self._warm, rate]), flush=True)


async def live(url: str, total: int) -> None:
    """Carry out so many."""
    life = Life(total)
    commits = Plan(3, fails=False, locks=False)
    goes_back = Plan(3, fails=True, locks=False)
    async with async_manager_of(url) as manager:

        async def work() -> None:
            while number := life.next():
                plan = goes_back if number % GOES_BACK_EVERY == 0 else commits
                await plan.planned_async(manager)
                life.done()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transactions", type=int, default=1_000_000)


def run(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """Let a process live on each store."""
    from server import running_server, schema_in

    if options.only in {None, "sqlite"}:
        yield from lived("sqlite", f"sqlite:///{folder}/life.db", options.transactions)
    if options.only in {None, "postgresql"}:
        with ExitStack() as stack:
            server = options.store or stack.enter_context(running_server())
            url = stack.enter_context(schema_in(server))
            yield from lived("postgresql", url, options.transactions)


def lived(store: str, url: str, transactions: int) -> Iterator[Figure]:
    """Let a process live, and yield what it says."""
    command = [sys.executable, "-m", "growing.lifetime", url, str(transactions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield Figure(store, *json.loads(line))
    if process.returncode:
        raise SystemExit(f"the process on {store} has ended with {process.returncode}")


HEADER = f"{'store':<12}{'transactions':>14}{'MiB':>10}{'grown':>10}{'per second':>12}"


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    return (
        f"{figure.store:<12}{figure.transactions:>14,}{figure.mib:>10.1f}{figure.grown_mib:>+10.1f}"
        f"{figure.per_second:>12,.0f}"
    )


def concluded(figures: list[Figure]) -> Iterator[str]:
    """Yield whether memory is bounded."""
    for store, last in {one.store: one for one in figures}.items():
        verdict = "met" if last.grown_mib < TARGET_MIB else "NOT met"
        yield f"{store}: grown by {last.grown_mib:.1f} MiB; wanted < {TARGET_MIB:g}: {verdict}"


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], int(sys.argv[2])))
