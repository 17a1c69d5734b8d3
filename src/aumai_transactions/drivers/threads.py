"""How procedures are carried out by threads.

Owns: how a thread waits for a store, for a handler and for time. The rules are the core's.
"""

from __future__ import annotations

import contextvars
import inspect
import queue
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, assert_never, cast

from aumai_transactions.calls import Answered, call, raised, returned
from aumai_transactions.clock import waited
from aumai_transactions.drivers.ambient import AMBIENT, CALLING, served
from aumai_transactions.drivers.in_place import append_to_the_end, take_in_place
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoCall,
    DoInbox,
    DoNext,
    DoSleep,
    DoStart,
    DoTogether,
    DoTurn,
    Ended,
    Operations,
    Procedure,
)
from aumai_transactions.drivers.timed import GivenUp, LeavableCall, Limit, limited
from aumai_transactions.errors import InvalidTransactionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.clock import Clock
    from aumai_transactions.drivers.background import LoopThread
    from aumai_transactions.drivers.desk import Desk

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""How often a thread that waits for calls looks whether it has been interrupted."""


def _is_loop_running() -> bool:
    """True in the thread of a running event loop, which must not be blocked for what it does."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class ThreadInbox:
    """Take in what a thread waits for."""

    def __init__(self) -> None:
        self._items: deque[Ended | None] = deque()
        self._came: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, item: Ended | None) -> None:
        """Put something in, from any thread."""
        self._items.append(item)
        self._came.put(None)

    def wait(self, seconds: float | None) -> None:
        """Wait until there is something, or the time is over; take nothing yet."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._items:
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                self._came.get(timeout=left)
            except queue.Empty:
                return

    @property
    def is_empty(self) -> bool:
        """True where nothing has come."""
        return not self._items

    def take(self) -> Ended | None:
        """Take what there is; None where there is nothing."""
        return self._items.popleft() if self._items else None


class ThreadRunner:
    """Carry out procedures, each in the thread that asks for it.

    Args:
        clock: The time.
        loop_thread: Where async handlers run.
        desk: Returns the manager's desk.
    """

    def __init__(self, clock: Clock, loop_thread: LoopThread, desk: Callable[[], Desk]) -> None:
        self._clock = clock
        self._loop_thread = loop_thread
        self._desk = desk

    def run(self, procedure: Procedure[T]) -> T:
        """Carry out what a procedure asks for until it returns."""
        try:
            operation = next(procedure)
            while True:
                try:
                    answer = self._perform(operation)
                except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
                    operation = procedure.throw(error)
                else:
                    operation = procedure.send(answer)
        except StopIteration as done:
            return cast("T", done.value)
        finally:
            # Why: an interrupt between two operations holds the stack, and with it the procedure,
            # for as long as somebody holds the exception.
            procedure.close()

    def _perform(self, operation: Operations) -> object:
        match operation:
            case DoCall():
                return self.call(operation)
            case DoAppend():
                return append_to_the_end(self._desk(), operation)
            case DoBlocking():
                return operation.function()
            case DoTurn():
                return take_in_place(operation)
            case DoSleep():
                self._sleep(operation)
                return None
            case DoInbox():
                return ThreadInbox()
            case DoStart():
                self._start(operation)
                return None
            case DoNext():
                return self._next(operation)
            case DoTogether():
                return self._together(operation)
            case _:
                assert_never(operation)

    def _together(self, operation: DoTogether) -> list[object]:
        procedures = operation.procedures
        if operation.concurrency == 1 or len(procedures) < 2:
            # Why in this thread: handlers may hold what belongs to it, such as a connection.
            return [self.run(make()) for make in procedures]
        context = contextvars.copy_context()
        threads = min(operation.concurrency, len(procedures))
        has_failed = threading.Event()

        def begun(make: Callable[[], Procedure[T]]) -> T | None:
            # Why here, and not by whoever waits: on a busy machine that one wakes too late.
            if has_failed.is_set():
                return None
            try:
                return self.run(make())
            except BaseException:
                has_failed.set()
                raise

        with ThreadPoolExecutor(threads, "aumai-together") as pool:
            futures = [pool.submit(context.copy().run, begun, make) for make in procedures]
            return [future.result() for future in futures]

    def _sleep(self, operation: DoSleep) -> None:
        try:
            self._clock.sleep(operation.seconds)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            run = operation.run
            if run is None or run.interrupt is not None:
                raise
            run.interrupt = interrupt

    def _start(self, operation: DoStart) -> None:
        def work() -> None:
            try:
                answer, error = self.call(operation.operation)
            except BaseException as lost:  # noqa: BLE001 (whoever waits must hear of it)
                step, kind = operation.operation.step, operation.operation.operation
                answer = raised(step, kind, operation.operation.callee.action, lost)
                error = lost
            operation.inbox.put(Ended(operation.call, answer, error))

        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(work,), name="aumai-handler", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            # No thread can be started, so nothing was called.
            step, kind = operation.operation.step, operation.operation.operation
            seen = raised(step, kind, operation.operation.callee.action, error)
            operation.inbox.put(Ended(operation.call, seen, error))

    def _next(self, operation: DoNext) -> Ended | None:
        inbox: Any = operation.inbox
        if operation.for_others and _is_loop_running():
            raise InvalidTransactionState(
                operation.run.transaction_id,
                "waiting for other tasks of this event loop",
                "be waited for in the loop's own thread, in",
                "Make the step async, or call it in a thread: await asyncio.to_thread(step, …).",
            )
        try:
            # Order matters: an interrupt that hits while something is taken would lose it.
            inbox.wait(operation.seconds)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # Why not raised: calls are under way, and half a call is what nobody can undo.
            if operation.run.interrupt is None:
                operation.run.interrupt = interrupt
            return None
        if inbox.is_empty and operation.seconds is not None and not operation.for_others:
            waited(self._clock, operation.seconds)
        found: Ended | None = inbox.take()
        return found

    def call(self, operation: DoCall) -> tuple[Answered, BaseException | None]:
        """Call a handler, and return what was seen and what it raised."""
        seconds = operation.timeout_seconds
        if seconds is None:
            return self._call_to_the_end(operation)
        limit = Limit.of(operation, seconds)
        if operation.callee.is_async:
            return self._call_to_the_end(operation, limit)
        return LeavableCall(lambda: self._call_to_the_end(operation), limit.hand_on).outcome(limit)

    def _call_to_the_end(
        self, operation: DoCall, limit: Limit | None = None
    ) -> tuple[Answered, BaseException | None]:
        step, kind, callee = operation.step, operation.operation, operation.callee
        calling = CALLING.set((*CALLING.get(), *served(operation)))
        is_asked_for = kind == "action" and not step.definition.on_commit
        ambient = None if is_asked_for or AMBIENT.get() is None else AMBIENT.set(None)
        try:
            value = call(callee, operation.arguments)
            if value is not None and inspect.isawaitable(value):
                value = self._loop_thread.run(value if limit is None else limited(value, limit))
            return returned(step, kind, value, callee.action.redact), None
        except GivenUp as given_up:
            # Only a limited call is given up.
            return Limit.of(operation, operation.timeout_seconds or 0.0).given_up(given_up)
        except BaseException as error:  # noqa: BLE001 (it becomes an observation, and is raised)
            return raised(step, kind, callee.action, error), error
        finally:
            CALLING.reset(calling)
            if ambient is not None:
                AMBIENT.reset(ambient)
