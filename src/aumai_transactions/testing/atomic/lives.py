"""One run of the user's transaction: its processes, one after the other, until it rests.

Owns: how a process is played in this one, how its death is followed by a recovery, and what is
read from the store at the end. `processes.py` does the same with real ones.
Rules:
  1. A run ends when a process has ended by itself and nothing is left to recover.
  2. What is read at the end is read from the store, by nobody who was part of the run.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aumai_transactions.core.journal import load, replay
from aumai_transactions.core.outcome import result_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.desk import event_of
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.models import Event, Recovered, TransactionResult
from aumai_transactions.store import Listed, Query, Store
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.atomic.planted import (
    Crashed,
    PlantedStore,
    Saboteur,
    plant,
)
from aumai_transactions.testing.atomic.record import Happening, Record
from aumai_transactions.testing.clock import ManualClock

if TYPE_CHECKING:
    from aumai_transactions.testing.atomic.faults import Fault

START = datetime(2026, 1, 1, tzinfo=UTC)
RECOVERY_WAIT_SECONDS = 7 * 86_400.0
RECOVERIES_MAX = 50
"""How often it is recovered again at most, before it counts as not finished."""
PAGE = 500

Work = Callable[[Any], Any]
"""What a process does: given its manager; may return an awaitable."""

MakeManager = Callable[..., Any]
"""Called with `store=` and `clock=`, returns a manager that has the handlers."""


class CannotRun(Exception):
    """Say that a run could not be carried out as it should have been; the message says why."""


@dataclass(slots=True)
class Ended:
    """Hold what a run has left.

    Args:
        record: What happened.
        sagas: The transactions, oldest first, as their journals say.
        results: Their outcomes.
        events: Their journals, by id.
        raised: What the program raised itself, where nothing had died.
        left: The faults that did not strike.
    """

    record: Record
    sagas: list[Saga] = field(default_factory=list)
    results: list[TransactionResult] = field(default_factory=list)
    events: dict[str, list[Event]] = field(default_factory=dict)
    raised: Exception | None = None
    left: list[Fault] = field(default_factory=list)


class Stage(Protocol):
    """Carry out runs."""

    def run(self, faults: Sequence[Fault]) -> Ended:
        """Carry out one run, with these faults."""


def read_ended(store: Store, ended: Ended) -> Ended:
    """Read what a store holds of a run's transactions."""
    query = Query(limit=PAGE)
    for listed in store.find(query):
        journal = store.read(listed.summary.transaction_id)
        if journal is None:
            continue
        saga = load(journal)
        ended.sagas.append(saga)
        ended.results.append(result_of(saga, durable=store.is_durable))
        said = Saga(journal.transaction_id)
        ended.events[journal.transaction_id] = [
            event_of(said, said.sequence, entry) for entry in replay(journal, said)
        ]
    return ended


def has_open_ends(store: Store) -> bool:
    """Tell whether a transaction of the store is not final."""
    return any(not listed.summary.state.is_final for listed in store.find(Query(limit=PAGE)))


def recover(manager: Any) -> Any:
    """Do what an application does after a crash: recover, and again whenever something is due."""
    if inspect.iscoroutinefunction(manager.recover):
        return _recover_in_tasks(manager)
    told: list[Recovered] = []
    for _ in range(RECOVERIES_MAX):
        told += manager.recover(wait_max_seconds=RECOVERY_WAIT_SECONDS)
        seconds = _until_due(manager, manager.find(Query(limit=PAGE)))
        if seconds is None:
            break
        manager._clock.sleep(seconds)  # noqa: SLF001 (one package)
    return told


async def _recover_in_tasks(manager: Any) -> list[Recovered]:
    told: list[Recovered] = []
    for _ in range(RECOVERIES_MAX):
        told += await manager.recover(wait_max_seconds=RECOVERY_WAIT_SECONDS)
        seconds = _until_due(manager, await manager.find(Query(limit=PAGE)))
        if seconds is None:
            break
        await manager._clock.sleep_async(seconds)  # noqa: SLF001 (one package)
    return told


def _until_due(manager: Any, listed: list[Listed]) -> float | None:
    """Return how long it is until time alone gives something to do; None where it does not."""
    due = [
        each.summary.due_at
        for each in listed
        if each.summary.due_at is not None and not each.summary.state.is_final
    ]
    if not due:
        return None
    now: int = manager._clock.now()  # noqa: SLF001 (one package)
    return max(0.0, (min(due) - now) / 1_000_000)


class Life:
    """Play one process: a manager, what it does, and its end.

    Args:
        make_manager: The user's.
        store: The store itself.
        saboteur: Who watches.
        record: What happens is written there.
        clock: The time.
    """

    def __init__(
        self,
        make_manager: MakeManager,
        store: Store,
        saboteur: Saboteur,
        record: Record,
        clock: ManualClock,
    ) -> None:
        self._saboteur = saboteur
        self._record = record
        self._manager = self._planted(make_manager, PlantedStore(store, saboteur), clock)
        self.raised: Exception | None = None

    def _planted(self, make_manager: MakeManager, store: PlantedStore, clock: ManualClock) -> Any:
        manager = make_manager(store=store, clock=clock)
        if not isinstance(manager, ManagerBase):
            message = (
                f"manager= must be called with store= and clock= and return a TransactionManager "
                f"or an AsyncTransactionManager; it returned {type(manager).__name__}."
            )
            raise CannotRun(message)
        if manager._given_store is not store:  # noqa: SLF001 (one package)
            message = (
                "manager= has made a manager with another store. Hand store= and clock= on: "
                "lambda **given: TransactionManager(handlers, **given)"
            )
            raise CannotRun(message)
        plant(manager, self._saboteur)
        return manager

    def lead(self, work: Work) -> None:
        """Do what there is to be done, until the end or until it dies."""
        with _quiet_threads():
            try:
                found = contextvars.copy_context().run(self._do, work)
                self._tell(found)
            except BaseException as error:
                if not self._saboteur.is_dead:
                    if not isinstance(error, Exception) or isinstance(error, CannotRun):
                        raise
                    # It is judged by what it has left behind.
                    self.raised = error
                    text = f"{type(error).__name__}: {error}"
                    self._record.add(Happening("raised", text.split("\n", 1)[0]))
            if not self._saboteur.wait_for_calls():
                message = "a handler did not end, long after its process had died."
                raise CannotRun(message)

    def _do(self, work: Work) -> Any:
        is_async = inspect.iscoroutinefunction(self._manager.close)
        try:
            found = work(self._manager)
        except BaseException:
            self._close(is_async=is_async)
            raise
        if inspect.isawaitable(found):
            return _in_a_loop(self._to_the_end(found, is_async=is_async))
        self._close(is_async=is_async)
        if is_async:
            message = "with an AsyncTransactionManager, the saga must be an `async def`."
            raise CannotRun(message)
        return found

    async def _to_the_end(self, found: Awaitable[Any], *, is_async: bool) -> Any:
        try:
            return await found
        finally:
            with _quiet_logs(is_dead=self._saboteur.is_dead):
                if is_async:
                    await self._manager.close()
                else:
                    self._manager.close()

    def _close(self, *, is_async: bool) -> None:
        with _quiet_logs(is_dead=self._saboteur.is_dead):
            if is_async:
                _in_a_loop(self._manager.close())
            else:
                self._manager.close()

    def _tell(self, found: Any) -> None:
        if isinstance(found, list):
            for line in found:
                if isinstance(line, Recovered):
                    self._record.add(Happening("recovered", f"{line.outcome}: {line.detail}"))


@dataclass(slots=True)
class InProcess:
    """Carry out runs in this process, where a crash is played.

    Args:
        saga: The user's transaction.
        make_manager: Makes the user's manager.
        recover: What the user's application does after a crash.
        store: `memory:`, `sqlite:`, or what makes a new and empty store.
        folder: Where files may be put.
    """

    saga: Work
    make_manager: MakeManager
    recover: Work
    store: str | Callable[[], Store]
    folder: Path
    runs: int = 0

    def run(self, faults: Sequence[Fault]) -> Ended:
        """Carry out one run, with these faults."""
        self.runs += 1
        clock, record = ManualClock(START), Record()
        ended = Ended(record, left=list(faults))
        store = self._opened(clock)
        try:
            work = self.saga
            for number in range(len(faults) + 2):
                has_died = self._live(store, ended, work, clock, number)
                if not has_died and (number > 0 or not has_open_ends(store)):
                    break
                work = self.recover
                if self.store == "sqlite:":
                    store.close()
                    store = self._opened(clock, again=True)
            return read_ended(store, ended)
        finally:
            store.close()

    def _live(
        self, store: Store, ended: Ended, work: Work, clock: ManualClock, number: int
    ) -> bool:
        saboteur = Saboteur(ended.left, ended.record)
        ended.record.add(Happening("begins", "" if number == 0 else "recovery"))
        life = Life(self.make_manager, store, saboteur, ended.record, clock)
        life.lead(work)
        ended.left = saboteur.left
        ended.raised = ended.raised or life.raised
        return saboteur.is_dead

    def _opened(self, clock: ManualClock, *, again: bool = False) -> Store:
        if callable(self.store):
            return self.store()
        if self.store == "memory:":
            return MemoryStore()
        path = self.folder / f"run-{self.runs}.db"
        return open_store(path, create=not again, clock=clock)


def _in_a_loop(found: Awaitable[Any]) -> Any:
    """Run an awaitable in a loop of its own, also where one is running in this thread."""
    import asyncio

    async def main() -> Any:
        return await found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    outcome: list[Any] = []
    context = contextvars.copy_context()

    def elsewhere() -> None:
        try:
            outcome.extend((True, context.run(asyncio.run, main())))
        except BaseException as error:  # noqa: BLE001 (raised again by whoever waits)
            outcome.extend((False, error))

    thread = threading.Thread(target=elsewhere, name="aumai-atomic")
    thread.start()
    thread.join()
    if not outcome[0]:
        raise outcome[1]
    return outcome[1]


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Let threads of a dead process end without a word."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if not issubclass(args.exc_type, Crashed):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class _Nothing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 (the form is given)
        return False


@contextlib.contextmanager
def _quiet_logs(*, is_dead: bool) -> Iterator[None]:
    """Let what a dead process would log while it is closed be heard by nobody."""
    if not is_dead:
        yield
        return
    log, nothing = logging.getLogger("aumai_transactions"), _Nothing()
    log.addFilter(nothing)
    try:
        yield
    finally:
        log.removeFilter(nothing)
