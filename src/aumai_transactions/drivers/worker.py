"""A worker: it finishes what others have submitted, parked or left behind.

Owns: which transactions are taken when, by how many threads, and how a worker comes to an end.
It acts through the same claimed path as recovery (invariant I14).
Rules:
  1. It takes no more than it has threads for, so what waits stays free for other workers.
  2. Asked to stop, it takes nothing new; each of its transactions is handed back as soon as the
     call that runs has ended and is recorded.
  3. Nothing depends on its timing. Who was taken for dead and is not is fenced by the store, and
     what its calls answer then is journaled as late.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Self

from aumai_transactions.actions import checked_seconds
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.freezing import checked_count
from aumai_transactions.drivers.recovery import recovered
from aumai_transactions.errors import DefinitionError, StoreError, TransactionError
from aumai_transactions.models import Recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.sync import TransactionManager

log = logging.getLogger("aumai_transactions")

CONCURRENCY = 8
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0

AGAIN_SECONDS = {"busy": 1.0, "parked": 30.0, "unreadable": 300.0}
"""How long a transaction is left alone that this worker could do nothing for."""

_FAR = 2**62
_NUDGE_SECONDS = 0.05


class HandedBack(Exception):
    """Say that a worker has let go of a transaction between two calls, because it stops."""


class Worker:
    """Finish the transactions of a store, as many at once as it has threads.

    Args:
        manager: Whose store and handlers it uses.
        concurrency: How many transactions it carries out at the same time.
        agents: Only calls on behalf of these are made; None for all. A transaction whose next call
            is somebody else's is handed back.
        poll_seconds: How often it looks for work while there is none.
        drain_seconds: How long `run` waits, once it is to stop, for the calls that still run.
        on_report: Told what became of each transaction, from the worker's threads.

    Raises:
        DefinitionError: An argument cannot be.
    """

    def __init__(
        self,
        manager: TransactionManager,
        *,
        concurrency: int = CONCURRENCY,
        agents: Collection[str] | None = None,
        poll_seconds: float = POLL_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
        on_report: Callable[[Recovered], object] | None = None,
    ) -> None:
        self._manager = manager
        self._concurrency = checked_count(concurrency, "concurrency")
        self._agents = _checked_agents(agents)
        self._poll = checked_seconds(poll_seconds, "poll_seconds") or POLL_SECONDS
        self._drain = checked_seconds(drain_seconds, "drain_seconds") or DRAIN_SECONDS
        self._on_report = on_report
        self._busy: set[str] = set()
        self._left_alone: dict[str, float] = {}
        self._is_crowded = False
        self._is_stopping = False
        self._todo: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # Why not an event: a signal handler may put something into this queue whenever it comes.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._dice = random.Random()  # noqa: S311 (so that workers do not poll in step)

    def run(self, *, until_idle: bool = False) -> list[str]:
        """Work until `stop` is called, and return what could not be handed back in time.

        Args:
            until_idle: True to end as well once nothing is left that this worker can do, now or
                at a time that is known.

        Returns:
            Ids of transactions of which a call still runs; another worker takes them over once
            this process has ended.
        """
        self._is_stopping = False
        try:
            while not self._is_stopping:
                taken = self._take_what_is_due()
                if until_idle and not taken and not self._busy and self._is_idle():
                    break
                self._wait(0.0 if taken else self._poll * (0.5 + self._dice.random()))
            return self._drained()
        finally:
            for _thread in self._threads:
                self._todo.put(None)
            self._threads = []

    def stop(self) -> None:
        """Take nothing new, and hand back what is in hand; from any thread or signal handler."""
        self._is_stopping = True
        self._news.put(None)

    def __enter__(self) -> Self:
        """Work in a thread of its own until the block ends."""
        self._background = threading.Thread(target=self.run, name="aumai-worker", daemon=True)
        self._background.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until everything is handed back."""
        self.stop()
        self._background.join()

    def _take_what_is_due(self) -> int:
        """Hand out as many transactions as there are free threads; return how many."""
        free = self._concurrency - len(self._busy)
        if free <= 0:
            return 0
        now = time.monotonic()
        self._left_alone = {name: at for name, at in self._left_alone.items() if at > now}
        # Why more than needed: those in hand here, and those left alone, are told of as well.
        limit = 2 * free + len(self._busy) + len(self._left_alone)
        try:
            desk = self._desk()
            due = desk.store.due(desk.driver_id, limit, desk.clock.now(), agents=self._agents)
        except StoreError as error:
            log.warning("no work could be looked for: %s", error)
            return 0
        new = [name for name in due if name not in self._busy and name not in self._left_alone]
        if self._is_crowded:
            # Others have taken what was first in line, and look at the same line.
            self._dice.shuffle(new)
            self._is_crowded = False
        for name in new[:free]:
            self._busy.add(name)
            self._start_threads()
            self._todo.put(name)
        return len(new[:free])

    def _is_idle(self) -> bool:
        try:
            desk = self._desk()
            limit = 1 + len(self._left_alone)
            later = desk.store.due(desk.driver_id, limit, _FAR, agents=self._agents)
        except StoreError:
            return False
        return all(self._left_alone.get(name) for name in later)

    def _start_threads(self) -> None:
        if len(self._threads) < min(len(self._busy), self._concurrency):
            name = f"aumai-worker-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _wait(self, seconds: float) -> None:
        """Wait until something has happened, or the time is over."""
        with contextlib.suppress(queue.Empty):
            if seconds > 0 or len(self._busy) >= self._concurrency:
                self._news.get(timeout=seconds or self._poll)
        with contextlib.suppress(queue.Empty):
            while True:
                self._news.get_nowait()

    def _work(self) -> None:
        while (name := self._todo.get()) is not None:
            try:
                self._carry_on(name)
            finally:
                self._busy.discard(name)
                self._news.put(None)

    def _carry_on(self, name: str) -> None:
        if self._is_stopping:
            return
        try:
            procedure = recovered(self._desk(), name, self._agents)
            report = self._manager._run(procedure)  # noqa: SLF001 (one package)
        except HandedBack:
            return
        except TransactionError as error:
            log.warning("transaction %s could not be carried on: %s", name, error)
            self._left_alone[name] = time.monotonic() + AGAIN_SECONDS["busy"]
            return
        if report.outcome in AGAIN_SECONDS:
            self._left_alone[name] = time.monotonic() + AGAIN_SECONDS[report.outcome]
            self._is_crowded = self._is_crowded or report.outcome == "busy"
        if self._on_report is not None:
            try:
                self._on_report(report)
            except Exception:
                log.exception("what a worker was to report to has raised")

    def _drained(self) -> list[str]:
        """Wait until what is in hand has been handed back; return what was not, in time."""
        until = time.monotonic() + self._drain
        while self._busy and time.monotonic() < until:
            desk = self._desk()
            for name in tuple(self._busy):
                run = desk.book.run_of(name)
                if run is not None and run.interrupt is None:
                    run.interrupt = HandedBack("the worker stops")
            with contextlib.suppress(queue.Empty):
                self._news.get(timeout=_NUDGE_SECONDS)
        return sorted(self._busy)

    def _desk(self) -> Desk:
        return self._manager._desk()  # noqa: SLF001 (one package)


def _checked_agents(agents: object) -> frozenset[str] | None:
    if agents is None:
        return None
    if isinstance(agents, str) or not isinstance(agents, (list, tuple, set, frozenset)):
        message = f"agents must be a list of names, such as ['flight_agent'], not {agents!r:.80}."
        raise DefinitionError(message)
    if not agents:
        message = "agents is empty: such a worker would do nothing. Leave it out to serve all."
        raise DefinitionError(message)
    return frozenset(checked_name(agent, "agents") for agent in agents)
