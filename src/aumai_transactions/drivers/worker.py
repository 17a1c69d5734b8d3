"""A worker: it finishes what others have submitted, parked or left behind.

Owns: which transactions are taken when, by how many threads, and how a worker comes to an end.
It acts through the same claimed path as recovery (invariant I14).
Rules:
  1. It takes no more than it has threads for, so what waits stays free for other workers.
  2. Asked to stop, it takes nothing new; each of its transactions is handed back as soon as the
     call that runs has ended and is recorded.
  3. Nothing depends on its timing. Who was taken for dead and is not is fenced by the store, and
     what its calls answer then is journaled as late.
  4. What it takes next is chosen in `choosing.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Self

from aumai_transactions.actions import checked_seconds
from aumai_transactions.core.values import checked_name, shown
from aumai_transactions.drivers.choosing import Choice
from aumai_transactions.drivers.freezing import checked_count
from aumai_transactions.drivers.recovery import FAR, lacking, recovered
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import (
    DefinitionError,
    StoreError,
    StoreUnavailable,
    TransactionError,
)
from aumai_transactions.models import Recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container
    from types import TracebackType

    from aumai_transactions.drivers.desk import Desk

log = logging.getLogger("aumai_transactions")

CONCURRENCY = 8
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0

_NUDGE_SECONDS = 0.05

RESERVE_SECONDS = 0.5
"""How long other workers are not told of what this one was told of, where the store can do that."""

LOOK_SECONDS_MIN = 0.02
"""How long apart two looks for work are at least, however much happens in the store."""


class HandedBack(Exception):
    """Say that a worker has let go of a transaction between two calls, because it stops."""


class _Served:
    """Hold the agents that one worker serves; it tells this worker's runs from all others too."""

    def __init__(self, agents: Collection[str] | None) -> None:
        self._agents = agents

    def __contains__(self, agent_id: object) -> bool:
        return self._agents is None or agent_id in self._agents


class Worker:
    """Finish the transactions of a store, as many at once as it has threads.

    Use it as `worker.run()`, which ends when `stop()` is called, or as a context manager, which
    works in a thread of its own until the block ends. Several workers, in this process or in
    others, share the work of one store.

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
        if not isinstance(manager, TransactionManager):
            message = f"a worker needs a TransactionManager, not {type(manager).__name__}."
            raise DefinitionError(message)
        self._manager = manager
        self._concurrency = checked_count(concurrency, "concurrency")
        self._agents = checked_agents(agents)
        if self._agents is not None and manager.engine is not None:
            message = "agents cannot be chosen beside an engine: any process of it may get a call."
            raise DefinitionError(message)
        self._serves: Container[str] = _Served(self._agents)
        self._poll = checked_seconds(poll_seconds, "poll_seconds") or POLL_SECONDS
        self._drain = checked_seconds(drain_seconds, "drain_seconds") or DRAIN_SECONDS
        self._on_report = on_report
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._busy: set[str] = set()
        self._is_blind = False
        self._is_working = False
        self._is_stopping = False
        self._background: threading.Thread | None = None
        # Why not an event: a signal handler may put something into this queue whenever it comes.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._dice = random.Random()  # noqa: S311 (so that workers do not poll in step)
        self._choice = Choice(self._dice)

    def run(self, *, until_idle: bool = False) -> list[str]:
        """Work until `stop` is called, and return what could not be handed back in time.

        An interrupt of the thread that runs it, such as Ctrl-C, hands back as well, and is raised
        then.

        Args:
            until_idle: True to end as well once nothing is left that this worker can do, now or
                at a time that is known.

        Returns:
            Ids of transactions of which a call still runs; another worker takes them over once
            this process has ended.

        Raises:
            TransactionError: It runs already, or it was made before this process was forked.
            StoreError: The store cannot be opened. One that goes away later is waited for.
        """
        self._begin()
        crew = _Crew(self._work)
        ended = threading.Event()
        listens = threading.Thread(
            target=self._listen, args=(ended,), name="aumai-worker-news", daemon=True
        )
        try:
            listens.start()
        except RuntimeError as error:
            log.warning("news are not listened for, and work is looked for now and then: %s", error)
        try:
            while not self._is_stopping:
                taken = self._take_what_is_due(crew)
                if until_idle and not taken and not self._busy and self._is_idle():
                    break
                self._wait(0.0 if taken else self._poll * (0.5 + self._dice.random()))
            return self._drained(crew)
        except (KeyboardInterrupt, SystemExit):
            self._is_stopping = True
            self._drained(crew)
            raise
        finally:
            ended.set()
            crew.dismiss()
            self._is_stopping = self._is_working = False

    def stop(self) -> None:
        """Take nothing new, and hand back what is in hand; from any thread or signal handler.

        Where it does not run, its next `run` ends at once.
        """
        self._is_stopping = True
        self._hand_back()
        self._news.put(None)

    def lacks(self) -> dict[str, int]:
        """Return which actions have no handler here, and how many transactions may need them.

        Looked at are those that nobody has and this worker would take, at most 1,000.
        """
        return self._manager._run(lacking(self._desk(), self._agents))  # noqa: SLF001 (one package)

    def __enter__(self) -> Self:
        """Work in a thread of its own until the block ends."""
        self._desk()  # What is wrong with the store is told here, and not in that thread.
        self._background = threading.Thread(target=self.run, name="aumai-worker", daemon=True)
        self._background.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and wait until everything is handed back, at most `drain_seconds`."""
        self.stop()
        if self._background is not None:
            self._background.join()

    def _begin(self) -> None:
        if os.getpid() != self._pid or self._desk().is_inherited:
            message = "this worker, or its manager, was made before a fork. Make both in the child."
            raise TransactionError(message)
        with self._guard:
            if self._is_working:
                message = "this worker is at work already. Make another one."
                raise TransactionError(message)
            self._is_working = True

    def _take_what_is_due(self, crew: _Crew) -> int:
        """Hand out as many transactions as there are free threads; return how many."""
        free = self._concurrency - len(self._busy)
        if free <= 0:
            return 0
        try:
            desk = self._desk()
            due = desk.store.due(
                desk.driver_id,
                self._choice.limit(free, len(desk.book.driven()) + len(self._busy)),
                desk.clock.now(),
                agents=self._agents,
                reserve_seconds=RESERVE_SECONDS,
            )
        except StoreError as error:
            self._cannot_look(error)
            return 0
        self._is_blind = False
        taken = 0
        in_hand = self._busy.union(desk.book.driven())
        for name in self._choice.chosen(due, in_hand, free, time.monotonic()):
            self._busy.add(name)
            if not crew.take(name, len(self._busy), self._concurrency):
                self._busy.discard(name)
                break
            taken += 1
        return taken

    def _cannot_look(self, error: StoreError) -> None:
        """Say that no work can be looked for, once for each time that it begins.

        Raises:
            StoreError: The manager is closed, so that this is for good.
        """
        if self._manager._is_closed:  # noqa: SLF001 (one package)
            raise error
        if not self._is_blind:
            log.warning("no work can be looked for; it is tried again and again: %s", error)
            self._is_blind = True

    def _is_idle(self) -> bool:
        """True where nothing is left that this worker can do, now or at a time to come."""
        known = self._choice.left_alone()
        try:
            desk = self._desk()
            if desk.host is not None and desk.host.is_busy:
                return False
            driven = desk.book.driven()
            limit = 1 + len(known) + len(driven)
            later = desk.store.due(desk.driver_id, limit, FAR, agents=self._agents)
        except StoreError:
            return False
        others = {name for name, comes_back in known.items() if not comes_back}
        return others.union(driven).issuperset(later)

    def _listen(self, ended: threading.Event) -> None:
        """Look for work as soon as the store has news; a hint, beside which it looks anyhow."""
        while not ended.is_set():
            try:
                if self._desk().store.wait_for_news(self._poll):
                    self._news.put(None)
                    ended.wait(LOOK_SECONDS_MIN)
            except StoreError:
                ended.wait(self._poll)

    def _wait(self, seconds: float) -> None:
        """Wait until something has happened, or the time is over."""
        with contextlib.suppress(queue.Empty):
            if seconds > 0 or len(self._busy) >= self._concurrency:
                self._news.get(timeout=seconds or self._poll)
        with contextlib.suppress(queue.Empty):
            while True:
                self._news.get_nowait()

    def _work(self, todo: queue.SimpleQueue[str | None]) -> None:
        while (name := todo.get()) is not None:
            opened = self._manager._opened  # noqa: SLF001 (one package)
            about = {"transaction_id": name, "driver_id": opened and opened.driver_id}
            try:
                self._carry_on(name)
            except HandedBack:
                pass
            except StoreUnavailable as error:
                log.warning("transaction %s is left as it stands: %s", name, error, extra=about)
                self._choice.heard(name, "unavailable", time.monotonic())
            except Exception as error:  # noqa: BLE001 (one transaction is not to end a thread)
                log.warning("transaction %s could not be carried on: %r", name, error, extra=about)
                self._choice.heard(name, "failed", time.monotonic())
            except BaseException as error:  # noqa: BLE001 (a handler that exits ends no thread)
                log.warning("transaction %s: a handler has raised %r", name, error, extra=about)
                self._choice.heard(name, "interrupted", time.monotonic())
            finally:
                self._busy.discard(name)
                self._news.put(None)

    def _carry_on(self, name: str) -> None:
        if self._is_stopping:
            return
        procedure = recovered(self._desk(), name, self._serves)
        report = self._manager._run(procedure)  # noqa: SLF001 (one package)
        is_news = self._choice.heard(name, report.outcome, time.monotonic())
        if is_news and self._on_report is not None:
            try:
                self._on_report(report)
            except Exception:
                log.exception("what a worker was to report to has raised")

    def _drained(self, crew: _Crew) -> list[str]:
        """Wait until what is in hand has been handed back; return what was not, in time."""
        until = time.monotonic() + self._drain
        crew.dismiss()
        # Why not until nothing is busy: an interrupt may have come before a thread was given what
        # was marked as that.
        while is_at_work := crew.is_at_work():
            if time.monotonic() >= until:
                break
            self._hand_back()  # Also what had not begun when `stop` was called.
            crew.wait(_NUDGE_SECONDS)
        if not is_at_work:
            self._busy.clear()
        left = sorted(self._busy)
        if left:
            log.warning("not handed back within %g s: %s", self._drain, ", ".join(left))
        return left

    def _hand_back(self) -> None:
        """Let everything in hand be let go of once its call has ended; it takes no lock."""
        desk = self._manager._opened  # noqa: SLF001 (one package)
        if desk is None:
            return
        for name in tuple(self._busy):
            run = desk.book.run_of(name)
            # Why a look whose it is: the program may have taken it before this worker could.
            if run is not None and run.serves is self._serves and run.interrupt is None:
                run.interrupt = HandedBack("the worker stops")

    def _desk(self) -> Desk:
        return self._manager._desk()  # noqa: SLF001 (one package)


class _Crew:
    """Hold the threads of one `run`, and what they are to do.

    Args:
        work: What each of them does: it takes from a queue until that says None.
    """

    def __init__(self, work: Callable[[queue.SimpleQueue[str | None]], None]) -> None:
        self._work = work
        self._todo: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_dismissed = False

    def take(self, name: str, busy: int, threads_max: int) -> bool:
        """Let a thread do something; return False where there is none, and none can be started."""
        if len(self._threads) < min(busy, threads_max):
            thread = threading.Thread(
                target=self._work,
                args=(self._todo,),
                name=f"aumai-worker-{len(self._threads) + 1}",
                daemon=True,
            )
            # Order matters: an interrupt may come between the two.
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError as error:
                self._threads.pop()
                log.warning("no thread can be started: %s", error)
                if not self._threads:
                    return False
        self._todo.put(name)
        return True

    def dismiss(self) -> None:
        """Let every thread end once it has done what it does."""
        if not self._is_dismissed:
            self._is_dismissed = True
            for _ in self._threads:
                self._todo.put(None)

    def is_at_work(self) -> bool:
        """Tell whether a thread has not ended yet."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> None:
        """Wait until one more thread has ended, or the time is over."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(seconds)
                return


def checked_agents(agents: object) -> frozenset[str] | None:
    """Return the names of agents; None for all.

    Raises:
        DefinitionError: It is something else, or nobody.
    """
    if agents is None:
        return None
    if isinstance(agents, str) or not isinstance(agents, (list, tuple, set, frozenset)):
        message = f"agents must be a list of names, such as ['flight_agent'], not {shown(agents)}."
        raise DefinitionError(message)
    if not agents:
        message = "agents is empty: such a worker would do nothing. Leave it out to serve all."
        raise DefinitionError(message)
    return frozenset(checked_name(agent, "agents") for agent in agents)
