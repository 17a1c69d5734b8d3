"""How a fault gets to where it strikes: on the way between a driver, its store and its handlers.

Owns: `Saboteur`, who knows what is to go wrong and when; the store and the runners through which
the production driver meets it.
Rules:
  1. The driver, the core and the store are the production ones. Only what passes between them is
     watched, and at the chosen moment it goes wrong.
  2. A dead process does nothing more: not a write, not a call. What its calls had begun is let
     end, as a request that is on its way does.
  3. A dead process's claim is dead at once, as that of a killed one is on its machine.
"""

from __future__ import annotations

import inspect
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from aumai_transactions.drivers.tasks import TaskRunner
from aumai_transactions.drivers.threads import ThreadRunner
from aumai_transactions.errors import NotDelivered, StepRejected, StoreError
from aumai_transactions.testing.atomic.faults import WRITE, Fault, FaultKind, Moment
from aumai_transactions.testing.atomic.record import Happening, Record

if TYPE_CHECKING:
    from aumai_transactions.actions import Callee
    from aumai_transactions.calls import Answered
    from aumai_transactions.clock import Clock
    from aumai_transactions.core.definition import Operation, StepDefinition
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.core.locking import LockTable
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.manager import ManagerBase
    from aumai_transactions.drivers.operations import DoCall, DoNext, Ended, Operations
    from aumai_transactions.drivers.timed import Outcome
    from aumai_transactions.store import (
        Append,
        AppendAnswer,
        KnownDriver,
        Page,
        Query,
        Store,
        StoreInfo,
        Tally,
    )

Crash = Literal["in_process", "process"]
CALLS_END_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.02
"""How often whoever waits looks whether its process has died."""
PLANTED = "planted by assert_atomic"


class Crashed(BaseException):
    """End a process that is only played: no handler, block or driver goes on after it."""


class Saboteur:
    """Watch one run, and let go wrong what is to go wrong.

    Args:
        faults: What, in order; each one once.
        record: What happens is written there.
        crash: `process` to die by SIGKILL, `in_process` to raise `Crashed` and be dead.
        dying: Called when a played process dies.
    """

    def __init__(
        self,
        faults: Iterable[Fault],
        record: Record,
        crash: Crash = "in_process",
    ) -> None:
        self._due = list(faults)
        self._record = record
        self._crash = crash
        self._guard = threading.Condition()
        self._calls_under_way = 0
        self._seen: Counter[tuple[str, str]] = Counter()
        for moment in record.moments:
            self._seen[moment.what, moment.operation] += 1
        self.is_dead = False
        self.dying: Callable[[], None] | None = None

    @property
    def left(self) -> list[Fault]:
        """The faults that have not struck."""
        return list(self._due)

    @property
    def is_idle(self) -> bool:
        """True where no handler runs, so that nothing but time is waited for."""
        return not self._calls_under_way

    def reach(
        self, what: str, operation: str = "", name: str = "", *, behind_commit: bool = False
    ) -> tuple[Moment, FaultKind | None]:
        """Take note of a moment, and say what goes wrong at it.

        Raises:
            Crashed: The process is dead.
        """
        with self._guard:
            self.refuse_the_dead()
            self._seen[what, operation] += 1
            number = self._seen[what, operation]
            moment = Moment(what, operation, number, name, behind_commit)
            self._record.add(Happening("moment", moment=moment))
            if not self._due or self._due[0].moment.key != moment.key:
                return moment, None
            kind = self._due.pop(0).kind
            self._record.add(Happening("fault", fault=Fault(moment, kind)))
            return moment, kind

    def refuse_the_dead(self) -> None:
        """Let nothing more be done by a process that has died.

        Raises:
            Crashed: It has.
        """
        if self.is_dead:
            raise Crashed

    def die(self) -> NoReturn:
        """End this process, or play that it has ended.

        Raises:
            Crashed: It is only played.
        """
        self._record.add(Happening("died"))
        if self._crash == "process":
            os.kill(os.getpid(), signal.SIGKILL)
        self.is_dead = True
        if self.dying is not None:
            self.dying()
        raise Crashed

    def acted(self, moment: Moment) -> None:
        """Take note that a handler has done its work."""
        self._record.add(Happening("acted", moment=moment))

    def written(self, append: Append) -> None:
        """Take note that entries are durable."""
        last = append.expected_sequence + len(append.entries)
        told = Happening("written", transaction_id=append.transaction_id, sequence=last)
        self._record.add(told)

    def enter(self) -> None:
        """Say that a handler is being called."""
        with self._guard:
            self.refuse_the_dead()
            self._calls_under_way += 1

    def leave(self) -> None:
        """Say that it has ended."""
        with self._guard:
            self._calls_under_way -= 1
            self._guard.notify_all()

    def wait_for_calls(self) -> bool:
        """Wait until no handler runs any more; tell whether that came to be."""
        with self._guard:
            return self._guard.wait_for(lambda: not self._calls_under_way, CALLS_END_SECONDS_MAX)


class PlantedStore:
    """Be a store to one process of a run, and count its durable writes.

    Args:
        store: The store itself.
        saboteur: Who watches.
    """

    def __init__(self, store: Store, saboteur: Saboteur) -> None:
        self._store = store
        self._saboteur = saboteur
        self._drivers: list[str] = []
        saboteur.dying = self.let_go

    @property
    def is_blocking(self) -> bool:
        """As the store itself."""
        return self._store.is_blocking

    @property
    def is_durable(self) -> bool:
        """As the store itself."""
        return self._store.is_durable

    @property
    def lease_seconds(self) -> float:
        """As the store itself."""
        return self._store.lease_seconds

    def let_go(self) -> None:
        """Let everybody see that this process is dead."""
        for driver_id in self._drivers:
            self._store.leave(driver_id)

    def join(self) -> str:
        """Join, and remember who has to be seen dead."""
        self._saboteur.refuse_the_dead()
        driver_id = self._store.join()
        self._drivers.append(driver_id)
        return driver_id

    def leave(self, driver_id: str) -> None:
        """Leave; the dead have left."""
        if not self._saboteur.is_dead:
            self._store.leave(driver_id)

    def renew(self, driver_id: str) -> None:
        """Renew; the dead do not."""
        if not self._saboteur.is_dead:
            self._store.renew(driver_id)

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Append, unless the process dies before; and then die where it is to die after."""
        _moment, kind = self._saboteur.reach(WRITE)
        if kind is FaultKind.crash_before:
            self._saboteur.die()
        answers = self._store.append(appends)
        for append, answer in zip(appends, answers, strict=True):
            if answer.value in ("appended", "already_ours"):
                self._saboteur.written(append)
        if kind is FaultKind.crash_after:
            self._saboteur.die()
        return answers

    def read(self, transaction_id: str) -> Journal | None:
        """Read."""
        self._saboteur.refuse_the_dead()
        return self._store.read(transaction_id)

    def find(self, query: Query) -> Page:
        """Find."""
        self._saboteur.refuse_the_dead()
        return self._store.find(query)

    def count(self, query: Query) -> int:
        """Count."""
        self._saboteur.refuse_the_dead()
        return self._store.count(query)

    def tally(self) -> Tally:
        """Count all."""
        self._saboteur.refuse_the_dead()
        return self._store.tally()

    def drivers(self) -> list[KnownDriver]:
        """List drivers."""
        self._saboteur.refuse_the_dead()
        return self._store.drivers()

    def changes(self) -> int:
        """Count changes."""
        self._saboteur.refuse_the_dead()
        return self._store.changes()

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,
    ) -> list[str]:
        """Return what is due."""
        self._saboteur.refuse_the_dead()
        more: dict[str, Any] = {"agents": agents, "reserve_seconds": reserve_seconds}
        return self._store.due(driver_id, limit, now, **more)

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return the locks."""
        self._saboteur.refuse_the_dead()
        return self._store.locks(resources)

    def wait_for_news(self, seconds: float) -> bool:
        """Wait for news; a thread that listens for a dead process ends quietly."""
        if self._saboteur.is_dead:
            message = "this process has died."
            raise StoreError(message)
        return self._store.wait_for_news(seconds)

    def purge(self, before: int, limit: int) -> int:
        """Purge."""
        self._saboteur.refuse_the_dead()
        return self._store.purge(before, limit)

    def info(self, *, thorough: bool = False) -> StoreInfo:
        """Say what the store is."""
        self._saboteur.refuse_the_dead()
        return self._store.info(thorough=thorough)

    def close(self) -> None:
        """Do nothing: the store is closed by who has opened it."""


class PlantedThreads(ThreadRunner):
    """Be what carries out a manager's procedures, and let each call pass the saboteur.

    Args:
        runner: What the manager has.
        saboteur: Who watches.
    """

    def __init__(self, runner: ThreadRunner, saboteur: Saboteur) -> None:
        super().__init__(runner._clock, runner._loop_thread, runner._desk)  # noqa: SLF001 (one package)
        self._saboteur = saboteur

    def call(self, operation: DoCall) -> tuple[Answered, BaseException | None]:
        """Call a handler, watched."""
        return super().call(_watched(operation, self._saboteur))

    def _perform(self, operation: Operations) -> object:
        self._saboteur.refuse_the_dead()
        return super()._perform(operation)

    def _next(self, operation: DoNext) -> Ended | None:
        # Why again and again: what a thread of a dead process waits for does not come any more.
        inbox: Any = operation.inbox
        until = None if operation.seconds is None else time.monotonic() + operation.seconds
        while not inbox._items and (until is None or time.monotonic() < until):  # noqa: SLF001
            if operation.seconds is not None and self._saboteur.is_idle:
                self._clock.sleep(operation.seconds)
                break
            left = LOOK_SECONDS if until is None else until - time.monotonic()
            inbox.wait(max(0.0, min(left, LOOK_SECONDS)))
            self._saboteur.refuse_the_dead()
        return super()._next(operation._replace(seconds=0))


class PlantedTasks(TaskRunner):
    """Be what carries out an asynchronous manager's procedures, and let calls pass the saboteur.

    Args:
        clock: The time.
        desk: Returns the manager's desk.
        saboteur: Who watches.
    """

    def __init__(self, clock: Clock, desk: Callable[[], Desk], saboteur: Saboteur) -> None:
        super().__init__(clock, desk)
        self._saboteur = saboteur

    async def _call(self, operation: DoCall, *, is_alone: bool = True) -> Outcome:
        return await super()._call(_watched(operation, self._saboteur), is_alone=is_alone)

    async def _perform(self, operation: Operations) -> object:
        self._saboteur.refuse_the_dead()
        return await super()._perform(operation)

    async def _next(self, operation: DoNext) -> Ended | None:
        inbox: Any = operation.inbox
        until = None if operation.seconds is None else time.monotonic() + operation.seconds
        while not inbox._items and operation.run.interrupt is None:  # noqa: SLF001
            left = LOOK_SECONDS if until is None else until - time.monotonic()
            if left <= 0:
                break
            if operation.seconds is not None and self._saboteur.is_idle:
                await self._clock.sleep_async(operation.seconds)
                break
            found = await super()._next(operation._replace(seconds=min(left, LOOK_SECONDS)))
            self._saboteur.refuse_the_dead()
            if found is not None:
                return found
        return await super()._next(operation._replace(seconds=0))


def plant(manager: ManagerBase, saboteur: Saboteur) -> None:
    """Let every call of a manager's handlers pass the saboteur.

    Why one call after the other: the same moments must come in the same order in each run.
    """
    manager._parallel_max = 1  # noqa: SLF001
    manager._threads = PlantedThreads(manager._threads, saboteur)  # noqa: SLF001
    manager._task_runner = PlantedTasks(manager._clock, manager._desk_now, saboteur)  # noqa: SLF001


def _watched(operation: DoCall, saboteur: Saboteur) -> DoCall:
    callee = operation.callee
    call = _WatchedCall(callee, saboteur, operation.operation, operation.step.definition)
    handler = call.awaited if callee.is_async else call.called
    return operation._replace(callee=callee._replace(handler=handler))


class _WatchedCall:
    """Call a handler, with what goes wrong before and after it."""

    def __init__(
        self, callee: Callee, saboteur: Saboteur, operation: Operation, step: StepDefinition
    ) -> None:
        self._handler = callee.handler
        self._saboteur = saboteur
        self._operation = operation
        self._step = step

    def called(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function."""
        self._saboteur.enter()
        try:
            moment, kind = self._before()
            try:
                value = self._handler(*args, **kwargs)
            except Exception as error:
                self._after(moment, kind, error)
                raise
            if inspect.isawaitable(value):
                return self._finished(value, moment, kind)
            self._after(moment, kind)
            return value
        finally:
            self._saboteur.leave()

    async def awaited(self, *args: Any, **kwargs: Any) -> Any:
        """Call a coroutine function."""
        self._saboteur.enter()
        try:
            moment, kind = self._before()
        except BaseException:
            self._saboteur.leave()
            raise
        self._saboteur.leave()
        return await self._finished(self._handler(*args, **kwargs), moment, kind)

    async def _finished(self, value: Any, moment: Moment, kind: FaultKind | None) -> Any:
        self._saboteur.enter()
        try:
            try:
                found = await value
            except Exception as error:
                self._after(moment, kind, error)
                raise
            self._after(moment, kind)
            return found
        finally:
            self._saboteur.leave()

    def _before(self) -> tuple[Moment, FaultKind | None]:
        step, operation = self._step, self._operation
        behind = operation == "confirmation" or step.on_commit
        name = {
            "compensation": step.compensating_action,
            "confirmation": step.confirming_action,
        }.get(operation, step.action)
        moment, kind = self._saboteur.reach(
            step.step_id, operation, name or "", behind_commit=behind
        )
        if kind is FaultKind.crash_before:
            self._saboteur.die()
        if kind is FaultKind.lost_request:
            message = f"no answer came ({PLANTED})"
            raise TimeoutError(message)
        if kind is FaultKind.refused:
            message = f"refused ({PLANTED})"
            # Why: an undo and what comes behind the commit point cannot be refused for good, for
            # then only a person could go on; they are tried again where that is declared.
            if operation == "action" and not behind:
                raise StepRejected(message)
            raise NotDelivered(message)
        return moment, kind

    def _after(
        self, moment: Moment, kind: FaultKind | None, error: Exception | None = None
    ) -> None:
        """Let go wrong what goes wrong after a handler has returned, or has raised."""
        if error is None:
            self._saboteur.acted(moment)
        if kind is FaultKind.crash_after:
            self._saboteur.die()
        if kind is FaultKind.lost_answer:
            message = f"it was carried out, and the answer was lost ({PLANTED})"
            raise TimeoutError(message) from error
        if self._saboteur.is_dead:
            raise Crashed
