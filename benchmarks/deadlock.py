"""How long a deadlock lasts: circles of two, three and five interactive transactions.

    python benchmarks/deadlock.py                        PostgreSQL from the wheel, and SQLite
    python benchmarks/deadlock.py --store postgresql://… a PostgreSQL that runs

Owns: the measurement, and nothing asserts here. The clock begins when each holds one resource and
all ask for the next one's, and ends when one of them is told that it was the victim; a second time
tells when the last of the others has committed.
Rules:
  1. Each transaction has a manager, a store handle and a thread of its own, as processes have.
  2. Everything is durable (fsync on, synchronous=FULL).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fleet import middle, stores
from race.machine import machine

from aumai_transactions import Deadlock, TransactionManager

SIZES = (2, 3, 5)
SECONDS_MAX = 60.0


class Figure(NamedTuple):
    """Hold one line of the table: medians over the rounds, lowest and highest, in milliseconds."""

    store: str
    transactions: int
    told: float
    told_low: float
    told_high: float
    over: float
    over_low: float
    over_high: float
    victims: int


def manager_of(url: str) -> TransactionManager:
    """Return a manager whose action uses the resource that its data names."""
    manager = TransactionManager(store=url)

    @manager.action("use", compensating_action="undo", resources=["thing:{thing}"])
    def use(action: str, data: dict[str, Any]) -> None:
        return None

    @manager.action("undo")
    def undo(action: str, data: dict[str, Any]) -> None:
        return None

    return manager


def one_of(
    managers: Sequence[TransactionManager], ready: threading.Barrier, name: str, number: int
) -> tuple[bool, float, float]:
    """Hold one resource and ask for the next one's; return whether it gave way, and when."""
    following = (number + 1) % len(managers)
    asked = time.perf_counter()
    try:
        with managers[number].transaction(SECONDS_MAX * 2, lock_timeout_seconds=SECONDS_MAX) as tx:
            tx.execute("agent", "use", {"thing": f"{name}-{number}"})
            ready.wait()
            asked = time.perf_counter()
            tx.execute("agent", "use", {"thing": f"{name}-{following}"})
    except Deadlock:
        return True, asked, time.perf_counter()
    return False, asked, time.perf_counter()


def circle(managers: Sequence[TransactionManager], name: str) -> tuple[float, float, int]:
    """Return after how many ms one was told, after how many all was over, and how many gave way."""
    ready = threading.Barrier(len(managers), timeout=SECONDS_MAX)
    run = partial(one_of, managers, ready, name)
    with ThreadPoolExecutor(len(managers)) as threads:
        ended = list(threads.map(run, range(len(managers))))
    began = max(asked for _, asked, _ in ended)
    told = min((at for gave_way, _, at in ended if gave_way), default=float("nan"))
    over = max(at for _, _, at in ended)
    victims = sum(gave_way for gave_way, _, _ in ended)
    return (told - began) * 1e3, (over - began) * 1e3, victims


def measured(kind: str, url: str, rounds: int) -> Iterator[Figure]:
    """Measure one store; a first circle of each size only warms it up."""
    with ExitStack() as stack:
        managers = [stack.enter_context(manager_of(url)) for _ in range(max(SIZES))]
        for size in SIZES:
            circle(managers[:size], f"{size}-first")
            found = [circle(managers[:size], f"{size}-{n}") for n in range(rounds)]
            told, over, victims = zip(*found, strict=True)
            yield Figure(kind, size, *middle(told), *middle(over), victims=max(victims))


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    told = f"{figure.told:.0f} ({figure.told_low:.0f} - {figure.told_high:.0f})"
    over = f"{figure.over:.0f} ({figure.over_low:.0f} - {figure.over_high:.0f})"
    return f"{figure.store:<12}{figure.transactions:<14}{told:<20}{over:<20}{figure.victims}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="how many circles of a size (10)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one of the two stores")
    parser.add_argument("--store", help="the URL of a PostgreSQL that runs")
    parser.add_argument("--folder", help="where to make the SQLite file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="aumai-deadlock-", dir=options.folder) as folder:
        about = machine(Path(folder))
        if not options.json:
            print(f"{about}\nms, median of {options.rounds} circles (lowest - highest)\n")
            print(f"{'store':<12}{'transactions':<14}{'one was told':<20}{'all over':<20}victims")
        for kind, url in stores(options, Path(folder)):
            for figure in measured(kind, url, options.rounds):
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
