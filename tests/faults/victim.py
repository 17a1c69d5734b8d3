"""What is killed: a process that carries out one cell; and the one that recovers what is left.

A victim passes its points in order: before and after each append, and before and after its call
has reached the participant. At the one that it was told it kills itself with SIGKILL.
"""

import asyncio
import gc
import inspect
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.cells import Cell
from tests.faults.network import Agent, Network
from tests.faults.participant import Hotel
from tests.faults.scene import DAY_SECONDS, NOON, begun, carried_out

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.core.kinds import KINDS as ENTRY_KINDS
from aumai_transactions.models import (
    OutstandingCompensation,
    Recovered,
    TransactionResult,
    Waiting,
)
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.kill_nursery import Reporter, serve

NAMES = {kind: name for name, kind in ENTRY_KINDS.items()}
RECOVERING_AT_ONCE = 8
WITH_STEP = ("step_started", "compensation_started", "probe_started", "retry_scheduled")


class Awaited:
    """A manager whose methods return what an awaited one would.

    It is smaller than the one in `tests/conftest.py`, and imports nothing: victims are forks, and
    each page of their parent costs.
    """

    def __init__(self, manager: Any, runner: asyncio.Runner):
        self._manager = manager
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._manager, name)
        return (
            (lambda *args, **more: self._settled(found(*args, **more)))
            if callable(found)
            else found
        )

    def _settled(self, value: Any) -> Any:
        async def awaited() -> Any:
            return await value

        return self._runner.run(awaited()) if inspect.isawaitable(value) else value


class Points:
    """Count the points that are passed, and die at one of them."""

    def __init__(self, reporter: Reporter, kill_at: int | None):
        self.reporter = reporter
        self.kill_at = kill_at
        self.passed: list[str] = []

    def passing(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.kill_at:
            self.reporter.say(f"at {name}")
            os.kill(os.getpid(), signal.SIGKILL)


class Boundaries:
    """A store with a point before and after each append."""

    def __init__(self, store: SqliteStore, points: Points):
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, appends: Any) -> Any:
        (append,) = appends
        last = append.entries[-1]
        name = NAMES[type(last)]
        name = f"{name} {last.step_id}" if name in WITH_STEP else name
        self._points.passing(f"before {name}")
        answers = self._store.append(appends)
        self._points.passing(f"after {name}")
        return answers


def drive(reporter: Reporter, orders: Any, cell: Cell, runner: asyncio.Runner) -> None:
    folder = Path(orders["folder"])
    points = Points(reporter, orders["kill_at"])
    network = Network(cell, Hotel(Path(orders["hotel"]), cell.kind), points.passing)
    store = Boundaries(SqliteStore(folder / "store.db"), points)
    manager = made(orders, runner, store, lambda _: network)
    tx = begun(manager, cell)
    reporter.say(f"tx {tx.transaction_id}")
    carried_out(manager, tx)
    for name in points.passed:
        reporter.say(f"passed {name}")


def recover(reporter: Reporter, orders: Any, cell: Cell, runner: asyncio.Runner) -> None:
    networks = {
        name: Network(cell, Hotel(Path(path), cell.kind)) for name, path in orders["hotels"].items()
    }
    manager = made(orders, runner, f"{orders['folder']}/store.db", networks.__getitem__)
    # Why at once: where calls time out, they do so together. A coroutine's timeout is short.
    together = cell.fault.times_out and not orders["is_async"]
    at_once = RECOVERING_AT_ONCE if together else 1
    with ThreadPoolExecutor(at_once) as threads:
        for ended in [threads.submit(manager.recover) for _ in range(at_once)]:
            assert {item.outcome for item in ended.result()} <= {"finished", "waiting", "busy"}
    for name in orders["begun"]:
        result = manager.wait(name, timeout_seconds=DAY_SECONDS)
        assert result.is_final, result
        reporter.say(f"recovered {name}")
    manager.close()


def made(orders: Any, runner: asyncio.Runner, store: Any, network_of: Any) -> Any:
    kind = AsyncTransactionManager if orders["is_async"] else TransactionManager
    manager = Awaited(kind(store=store, clock=ManualClock(NOON)), runner)
    cell = Cell.named(orders["cell"])
    Agent(cell, network_of, is_async=orders["is_async"]).register(manager)
    return manager


def run(reporter: Reporter, orders: Any) -> None:
    with asyncio.Runner() as runner:
        role = {"drive": drive, "recover": recover}[orders["role"]]
        role(reporter, orders, Cell.named(orders["cell"]), runner)


def main(descriptor: str) -> None:
    # Why here: pydantic makes a model ready when it is first used, which takes longer than all that
    # a victim does.
    for model in (OutstandingCompensation, Recovered, TransactionResult, Waiting):
        model.model_rebuild(force=True)
    gc.collect()
    gc.freeze()
    serve(int(descriptor), run)
