"""How procedures are carried out by tasks of asyncio.

Owns: how a task waits for a store, for a handler and for time. The rules are the core's.
Rules:
  1. The event loop waits for nothing but a quick disk (`promptness.py`): whatever else may wait,
     and sync handlers, run in threads.
  2. A cancellation never stops a durable write or an undo. It is noted, the transaction goes
     back, and then it is raised.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

from aumai_transactions.calls import call, raised, returned
from aumai_transactions.clock import waited
from aumai_transactions.drivers.ambient import Serving
from aumai_transactions.drivers.async_append_queue import AsyncAppendQueue
from aumai_transactions.drivers.in_place import take_in_place
from aumai_transactions.drivers.operations import (
    Attendant,
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
from aumai_transactions.drivers.timed import GivenUp, LeavableCall, Limit, Outcome, limited

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.store import AppendAnswer, Store

T = TypeVar("T")

HANDLER_THREADS_MAX = 64


class TaskInbox:
    """Take in what a task waits for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: list[Ended | None] = []
        self._came = asyncio.Event()

    def put(self, item: Ended | None) -> None:
        """Put something in, from any thread."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._put(item)
            return
        try:
            self._loop.call_soon_threadsafe(self._put, item)
        except RuntimeError:
            return  # The loop is closed, and nobody waits any more.

    def _put(self, item: Ended | None) -> None:
        self._items.append(item)
        self._came.set()

    async def get(self, seconds: float | None) -> Ended | None:
        """Wait for something; None where the time is over."""
        if not self._items:
            # Why not wait_for: before Python 3.12 it loses a cancellation that comes together with
            # what is waited for.
            try:
                async with asyncio.timeout(seconds):
                    await self._came.wait()
            except TimeoutError:
                return None
        found = self._items.pop(0)
        if not self._items:
            self._came.clear()
        return found


class TaskRunner:
    """Carry out procedures, each in the task that asks for it.

    Args:
        clock: The time.
        desk: Returns the manager's desk.
    """

    _append_queue: AsyncAppendQueue | None = None
    _handler_threads: ThreadPoolExecutor | None = None

    def __init__(self, clock: Clock, desk: Callable[[], Desk]) -> None:
        self._clock = clock
        self._desk = desk
        self._started: set[asyncio.Task[Outcome]] = set()
        self._cancellable: dict[int, set[asyncio.Future[object]]] = {}

    def close(self) -> None:
        """Let go of the threads; what runs in them goes on."""
        if self._handler_threads is not None:
            self._handler_threads.shutdown(wait=False)
        if self._append_queue is not None:
            self._append_queue.close()

    async def blocking(self, function: Callable[[], T]) -> T:
        """Call a function that may wait for a disk."""
        if not self._desk().store.is_blocking:
            return function()
        return await asyncio.to_thread(function)

    async def run(self, procedure: Procedure[T]) -> T:
        """Carry out what a procedure asks for until it returns."""
        try:
            operation = next(procedure)
            while True:
                try:
                    answer = await self._perform(operation)
                except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
                    operation = procedure.throw(error)
                else:
                    operation = procedure.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            procedure.close()

    async def _perform(self, operation: Operations) -> object:
        match operation:
            case DoCall():
                return await self._call(operation)
            case DoAppend():
                return await self._append(operation)
            case DoBlocking():
                return await self.blocking(operation.function)
            case DoTurn():
                return await self._turn(operation)
            case DoSleep():
                await self._sleep(operation)
                return None
            case DoInbox():
                return TaskInbox()
            case DoStart():
                self._start(operation)
                return None
            case DoNext():
                return await self._next(operation)
            case DoTogether():
                return await self._together(operation)
            case _:
                assert_never(operation)

    async def _turn(self, operation: DoTurn) -> object:
        if not operation.desk.store.is_blocking:
            return take_in_place(operation)
        return await self._queue(operation.desk.store).turn(operation)

    def _queue(self, store: Store) -> AsyncAppendQueue:
        if self._append_queue is None:
            self._append_queue = AsyncAppendQueue(store)
        return self._append_queue

    async def _together(self, operation: DoTogether) -> list[object]:
        answers: dict[int, object] = {}
        left = deque(enumerate(operation.procedures))

        async def work() -> None:
            while left:
                number, make = left.popleft()
                answers[number] = await self.run(make())

        count = min(operation.concurrency, len(left))
        tasks = [asyncio.ensure_future(work()) for _ in range(count)]
        interrupt: asyncio.CancelledError | None = None
        going = set(tasks)
        while going:
            try:
                ended, going = await asyncio.wait(going, return_when=asyncio.FIRST_EXCEPTION)
            except asyncio.CancelledError as cancelled:
                # Why waited for: each finishes what it has begun, and then says so.
                interrupt = interrupt or cancelled
                left.clear()
                for task in going:
                    task.cancel()
            else:
                if any(task.cancelled() or task.exception() is not None for task in ended):
                    left.clear()
        errors = [task.exception() for task in tasks if not task.cancelled()]
        if interrupt is not None:
            raise interrupt
        for error in errors:
            if error is not None:
                raise error
        for task in tasks:
            task.result()  # Raises where somebody else has cancelled it.
        return [answers[number] for number in range(len(operation.procedures))]

    def _start(self, operation: DoStart) -> None:
        def ended(task: asyncio.Task[Outcome]) -> None:
            self._started.discard(task)
            if task.cancelled() or task.exception() is not None:
                # Whoever cancels every task of a loop may cancel this one before it has begun.
                lost = asyncio.CancelledError() if task.cancelled() else task.exception()
                error: BaseException = lost or asyncio.CancelledError()
                step, kind = operation.operation.step, operation.operation.operation
                answer = raised(step, kind, operation.operation.callee.action, error)
                operation.inbox.put(Ended(operation.call, answer, error))
                return
            operation.inbox.put(Ended(operation.call, *task.result()))

        task = asyncio.ensure_future(self._call(operation.operation, is_alone=False))
        # Why: a loop holds its tasks only weakly.
        self._started.add(task)
        task.add_done_callback(ended)

    async def _next(self, operation: DoNext) -> Ended | None:
        inbox: Any = operation.inbox
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            found: Ended | None = await inbox.get(operation.seconds)
        except asyncio.CancelledError as cancelled:
            # Why not raised: calls are under way, and half a call is what nobody can undo.
            operation.run.interrupt = operation.run.interrupt or cancelled
            for future in list(self._cancellable.get(id(operation.run), ())):
                future.cancel()
            return None
        seconds = operation.seconds
        if seconds is not None and not operation.for_others and loop.time() - begun >= seconds:
            waited(self._clock, seconds)
        return found

    async def _append(self, operation: DoAppend) -> AppendAnswer:
        desk = self._desk()
        if not desk.store.is_blocking:
            return desk.store.append((operation.append,))[0]
        return await self._queue(desk.store).append(operation.append, operation.run)

    async def _sleep(self, operation: DoSleep) -> None:
        try:
            await self._clock.sleep_async(operation.seconds)
        except asyncio.CancelledError as cancelled:
            if operation.run is None:
                raise
            operation.run.interrupt = operation.run.interrupt or cancelled

    async def _call(self, operation: DoCall, *, is_alone: bool = True) -> Outcome:
        """Call a handler, and return what was seen and what it raised.

        Args:
            operation: The call.
            is_alone: True where this task is the caller's, and has nothing else to do.
        """
        step, kind, callee = operation.step, operation.operation, operation.callee
        run = operation.run
        seconds = operation.timeout_seconds
        limit = None if seconds is None else Limit.of(operation, seconds)
        # Why an undo is not cancelled: half an undo is what nobody can repair.
        cancellable = kind != "compensation" and run.is_callers
        try:
            if callee.is_async and is_alone and cancellable and limit is None:
                value = await self._called_here(operation)
            elif callee.is_async:
                called: Coroutine[Any, Any, object] = self._called(operation)
                if limit is not None:
                    called = limited(called, limit)
                if not cancellable:
                    value = await _to_the_end(called, run)
                else:
                    value = await self._cancellably(called, run)
            elif limit is not None:
                return await self._called_in_time(operation, limit)
            else:
                value = await self._called_in_thread(operation)
                if value is not None and inspect.isawaitable(value):
                    value = await _to_the_end(_awaited(value), run, cancellable=cancellable)
            return returned(step, kind, value, callee.action.redact), None
        except GivenUp as given_up:
            return Limit.of(operation, seconds or 0.0).given_up(given_up)
        except BaseException as error:  # noqa: BLE001 (it becomes an observation, and is raised)
            return raised(step, kind, callee.action, error), error

    async def _cancellably(self, called: Coroutine[Any, Any, object], run: Attendant) -> object:
        """Wait for a call that whoever waits for others of the same transaction may cancel."""
        future = asyncio.ensure_future(called)
        self._cancellable.setdefault(id(run), set()).add(future)
        try:
            return await _to_the_end(future, run, cancellable=True)
        finally:
            self._forget(run, future)

    def _forget(self, run: Attendant, future: asyncio.Future[object]) -> None:
        mine = self._cancellable.get(id(run), set())
        mine.discard(future)
        if not mine:
            self._cancellable.pop(id(run), None)

    async def _called_in_time(self, operation: DoCall, limit: Limit) -> Outcome:
        loop = asyncio.get_running_loop()

        def work() -> Outcome:
            step, kind, callee = operation.step, operation.operation, operation.callee
            Serving(operation)
            try:
                value = call(callee, operation.arguments)
                if value is not None and inspect.isawaitable(value):
                    value = asyncio.run_coroutine_threadsafe(_awaited(value), loop).result()
                return returned(step, kind, value, callee.action.redact), None
            except BaseException as error:  # noqa: BLE001 (it becomes an observation)
                return raised(step, kind, callee.action, error), error

        leavable = LeavableCall(work, limit.hand_on)
        leavable.start()
        ended = asyncio.wrap_future(leavable.ended)

        async def in_time() -> Outcome:
            until = loop.time() + limit.seconds
            # Why again and again: whoever cancels every task of a loop, as a shutdown does, cancels
            # this one as well, and must not make a call that goes on look as if it had ended.
            while not ended.done() and (left := until - loop.time()) > 0:
                try:
                    await asyncio.wait({ended}, timeout=left)
                except asyncio.CancelledError as cancelled:
                    operation.run.interrupt = operation.run.interrupt or cancelled
            if leavable.leave():
                raise GivenUp(left_behind=True)
            return leavable.ended.result()

        return await _to_the_end(in_time(), operation.run)

    async def _called(self, operation: DoCall) -> object:
        serving = Serving(operation)
        try:
            return await call(operation.callee, operation.arguments)
        finally:
            serving.over()

    async def _called_here(self, operation: DoCall) -> object:
        """Call an async handler in the caller's own task, whose cancellation reaches it so.

        Why not in a task of its own, as an undo: that takes longer than all the rest of a step.
        """
        task = asyncio.current_task()
        cancellations = 0 if task is None else task.cancelling()
        serving = Serving(operation)
        arrived: asyncio.CancelledError | None = None
        try:
            return await call(operation.callee, operation.arguments)
        except asyncio.CancelledError as cancelled:
            arrived = cancelled
            raise
        finally:
            serving.over()
            if task is not None and task.cancelling() > cancellations:
                # Why here: a handler may have caught it, and answered all the same. Why itself:
                # by its message anyio knows whether a cancellation is one of its own.
                run = operation.run
                run.interrupt = run.interrupt or arrived or asyncio.CancelledError()

    async def _called_in_thread(self, operation: DoCall) -> object:
        run = operation.run
        if self._handler_threads is None:
            self._handler_threads = ThreadPoolExecutor(HANDLER_THREADS_MAX, "aumai-handler")
        context = contextvars.copy_context()
        context.run(Serving, operation)
        running = asyncio.get_running_loop().run_in_executor(
            self._handler_threads,
            lambda: context.run(_settled, call, operation.callee, operation.arguments),
        )
        value, error = await _to_the_end(running, run)
        if error is not None:
            raise error
        return value


def _settled(function: Callable[..., object], *arguments: Any) -> tuple[object, Exception | None]:
    try:
        return function(*arguments), None
    except StopIteration as error:
        # Why: no future takes a StopIteration (before Python 3.12 it never ends then), and no
        # coroutine may raise one.
        wrapped = RuntimeError(f"the handler raised StopIteration: {error}")
        wrapped.__cause__ = error
        return None, wrapped


async def _telling(work: Coroutine[Any, Any, T], waiter: asyncio.Future[None]) -> T:
    """Do some work, and tell who waits for it right at its end."""
    try:
        return await work
    finally:
        _tell(waiter)


def _tell(waiter: asyncio.Future[None], _ended: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _awaited(awaitable: Any) -> object:
    return await awaitable


async def _to_the_end(
    work: Coroutine[Any, Any, T] | asyncio.Future[T], run: Attendant, *, cancellable: bool = False
) -> T:
    """Wait for some work even while this task is being cancelled; note the cancellation.

    Args:
        work: What to wait for. A future, where the work goes on in a thread: a task of its own
            could be cancelled by whoever cancels all tasks, and would then look ended.
        run: Where the cancellation is noted.
        cancellable: True to cancel the work as well, and still wait until it has ended.
    """
    future: asyncio.Future[T]
    waiter: asyncio.Future[Any]
    if asyncio.isfuture(work):
        future, waiter = work, asyncio.shield(work)
    else:
        # Why: a shield wakes this task two rounds of the loop after the end, and this one round.
        waiter = asyncio.get_running_loop().create_future()
        future = asyncio.ensure_future(_telling(work, waiter))
        future.add_done_callback(partial(_tell, waiter))
    while True:
        try:
            await waiter
            return future.result()
        except asyncio.CancelledError as cancelled:
            if future.cancelled():
                raise
            run.interrupt = run.interrupt or cancelled
            if future.done():
                return future.result()
            if cancellable:
                future.cancel()
            waiter = asyncio.shield(future)
