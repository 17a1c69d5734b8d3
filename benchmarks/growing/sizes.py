"""What a step costs, as transactions get more steps and steps get more data.

Owns: the measurement of one shape: a line that is flat means that nothing grows with the square.
Rules:
  1. Every transaction has so many steps, one after the other, and each step this much data; they
     commit. Planned ones are planned and committed, interactive ones executed step by step.
  2. A figure is for one step: time, processor time, bytes that it leaves in the store, and the time
     to read the whole journal again and check it, as recovery and `show` do.
  3. The shortest and the longest take turns with all others, in as many rounds as the time allows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from aumai_transactions import TransactionManager, TransactionState
from aumai_transactions.core.journal import load

DAY_SECONDS = 86_400
ROUNDS_MIN = 3


class Figure(NamedTuple):
    """Hold what a step of one size costs: medians over the rounds, in microseconds.

    Args:
        store: Where.
        shape: Planned or interactive.
        steps: How many a transaction has.
        kib: How much data each has.
        step_us: Time.
        step_low_us: The lowest.
        step_high_us: The highest.
        cpu_us: Processor time.
        replay_us: To read the journal again.
        kept_bytes: In the journal.
        times: To the first figure of the same store and shape.
    """

    store: str
    shape: str
    steps: int
    kib: int
    step_us: float
    step_low_us: float
    step_high_us: float
    cpu_us: float
    replay_us: float
    kept_bytes: float
    times: float


class Sample(NamedTuple):
    """Hold one transaction: for one step of it."""

    step: float
    cpu: float
    replay: float
    kept: float


def act(action: str, data: dict[str, Any]) -> None:
    return None


def manager_of(store: str) -> TransactionManager:
    """Return a manager with the actions."""
    manager = TransactionManager(store=store)
    for name in ("act", "undo"):
        manager.action(name, compensating_action="undo", idempotent=True)(act)
    return manager


def planned(manager: TransactionManager, steps: int, data: dict[str, Any]) -> str:
    """Carry out a plan; return its id."""
    tx = manager.begin(timeout_seconds=DAY_SECONDS)
    for _ in range(steps):
        manager.add_step(tx, "agent", "act", data)
    if manager.commit(tx).state is not TransactionState.committed:
        raise LookupError(tx.transaction_id)
    return tx.transaction_id


def interactive(manager: TransactionManager, steps: int, data: dict[str, Any]) -> str:
    """Carry out step by step; return its id."""
    with manager.transaction(DAY_SECONDS) as tx:
        for _ in range(steps):
            tx.execute("agent", "act", data)
        return tx.transaction_id


SHAPES = {"planned": planned, "interactive": interactive}


def sample(manager: TransactionManager, shape: str, steps: int, kib: int) -> Sample:
    """Carry out one transaction, and read it again."""
    data = {"text": "x" * kib * 1024}
    began, cpu = time.perf_counter(), time.process_time()
    name = SHAPES[shape](manager, steps, data)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    journal = manager._desk().store.read(name)
    if journal is None:
        raise LookupError(name)
    load(journal)
    replay = time.perf_counter() - began
    kept = sum(len(entry.body) + len(entry.hash) for entry in journal.entries)
    return Sample(took / steps, used / steps, replay / steps, kept / steps)


def cases_of(options: argparse.Namespace) -> list[tuple[int, int]]:
    """Return steps and KiB of each case: one grows at a time."""
    cases = [(steps, 0) for steps in options.steps]
    return cases + [(options.steps[0], kib) for kib in options.kib if kib]


def measured(store: str, url: str, options: argparse.Namespace) -> Iterator[Figure]:
    """Measure one store."""
    cases = cases_of(options)
    for shape in options.shapes:
        found: dict[tuple[int, int], list[Sample]] = {case: [] for case in cases}
        with manager_of(url) as manager:
            sample(manager, shape, *cases[0])
            until = time.perf_counter() + options.seconds * len(cases)
            rounds = 0
            while rounds < ROUNDS_MIN or time.perf_counter() < until:
                rounds += 1
                for case in cases:
                    found[case].append(sample(manager, shape, *case))
        first = median(one.step for one in found[cases[0]])
        for (steps, kib), samples in found.items():
            times = [one.step * 1e6 for one in samples]
            middles = [median(values) for values in zip(*samples, strict=True)]
            yield Figure(
                *(store, shape, steps, kib),
                *(middles[0] * 1e6, min(times), max(times)),
                *(middles[1] * 1e6, middles[2] * 1e6, middles[3]),
                middles[0] / first,
            )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--kib", type=int, nargs="+", default=[0, 1, 10, 100])
    parser.add_argument("--shapes", nargs="+", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=5.0, help="for each size and shape (5)")


def run(options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """Measure in memory and on SQLite."""
    if options.only != "sqlite":
        yield from measured("memory", "memory:", options)
    if options.only != "memory":
        yield from measured("sqlite", f"sqlite:///{folder}/sizes.db", options)


HEADER = (
    f"{'store':<8}{'shape':<13}{'steps':>6}{'KiB':>5}{'us a step':>34}{'CPU us':>10}"
    f"{'replay us':>11}{'bytes':>10}{'':>10}"
)


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    spread = f"{figure.step_us:,.0f} ({figure.step_low_us:,.0f}–{figure.step_high_us:,.0f})"
    return (
        f"{figure.store:<8}{figure.shape:<13}{figure.steps:>6,}{figure.kib:>5}{spread:>34}"
        f"{figure.cpu_us:>10,.0f}{figure.replay_us:>11,.1f}{figure.kept_bytes:>10,.0f}"
        f"{'× ' + format(figure.times, '.2f'):>10}"
    )
