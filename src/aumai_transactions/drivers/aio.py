"""The driver with asyncio: `AsyncTransactionManager` and `AsyncSagaOrchestrator`.

Owns: how a task waits for a store, for a handler and for time. The rules are the core's; the
methods have the names and the order of `sync.py`.
Rules:
  1. The event loop is never blocked: a blocking store and sync handlers run in threads.
  2. A cancellation never stops a durable write or an undo. It is noted, the transaction goes
     back, and then it is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, assert_never

from aumai_transactions.calls import call, raised, returned
from aumai_transactions.core.observations import ResolutionAnswered, RetryAsked
from aumai_transactions.drivers import asking, procedures, recovery
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.async_append_queue import AsyncAppendQueue
from aumai_transactions.drivers.desk import Desk, read_events, read_result, read_transaction
from aumai_transactions.drivers.manager import ManagerBase, Template
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoCall,
    DoSleep,
    Operations,
    Procedure,
)
from aumai_transactions.drivers.options import BeginOptions, checked_options, checked_wait
from aumai_transactions.drivers.run import CALLING, Run
from aumai_transactions.drivers.stored import AsyncStoredTransactions
from aumai_transactions.drivers.timed import GivenUp, LeavableCall, Limit, Outcome, limited
from aumai_transactions.errors import InvalidTransactionState
from aumai_transactions.models import (
    DEFAULT_TIMEOUT_SECONDS,
    Event,
    Recovered,
    RetryPolicy,
    Risk,
    Transaction,
    TransactionResult,
    TransactionStep,
    Verification,
)
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.actions import Handler
    from aumai_transactions.core.entries import Answer
    from aumai_transactions.store import AppendAnswer, Listed, StoreInfo

T = TypeVar("T")

HANDLER_THREADS_MAX = 64


class AsyncTransactionManager(ManagerBase):
    """Begin, carry out, undo and look up transactions from asyncio tasks.

    Like `TransactionManager`, method by method; each one that may touch the store is awaited.
    Sync handlers run in threads, async ones in the caller's loop. One manager serves one event
    loop. `add_step` and `action` touch nothing but memory and are not awaited.

    Args:
        action_handlers: What carries out which action: `(action, data)`, or
            `(action, data, context)`, sync or async. An action without a handler is simulated.
        store: Where journals are kept: a URL such as `sqlite:///trips.db`, a path, or a store.
        actions: Actions with options; `@manager.action` is the usual way.
        strict: True to refuse an action without a handler before anything runs.
        before_record: Called with each step before it is journaled; returns the data to record
            and to act on.
        on_event: Called with each journal entry, right after it became durable.
        action_source: Called with the action definitions of a journal; returns the actions.
        clock: What time it is; for tests.
    """

    _append_queue: AsyncAppendQueue | None = None
    _handler_threads: ThreadPoolExecutor | None = None

    async def begin(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> Transaction:
        """Begin a transaction; see `TransactionManager.begin`."""
        checked = checked_options(options)
        desk = await self._desk(create=True)
        tx = self._begun(desk, timeout_seconds, checked)
        if tx.idempotency_key is None:
            return tx
        return await self._run(procedures.begin_keyed(desk, tx))

    async def commit(
        self, tx: Transaction, *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Carry out the steps in order; see `TransactionManager.commit`."""
        seconds = checked_wait(wait_max_seconds)
        procedure = procedures.commit(await self._desk(), tx, wait_max_seconds=seconds)
        return await self._run_or_go_back(procedure, tx)

    async def rollback(
        self, tx: Transaction, *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Undo a pending or active transaction; see `TransactionManager.rollback`."""
        seconds = checked_wait(wait_max_seconds)
        procedure = procedures.rollback(await self._desk(), tx, wait_max_seconds=seconds)
        return await self._run_or_go_back(procedure, tx)

    async def wait(
        self, tx: Transaction | str, *, timeout_seconds: float | None = None
    ) -> TransactionResult:
        """Wait until it is finished or needs a person; see `TransactionManager.wait`."""
        desk = await self._desk()
        until = None
        if timeout_seconds is not None:
            until = asking.waiting_until(desk, checked_wait(timeout_seconds))
        return await self._run(asking.see_through(desk, _id(tx), until, others=True))

    async def check(self, tx: Transaction | str) -> list[Risk]:
        """Name the risks of a transaction before it runs; see `TransactionManager.check`."""
        return await self._run(procedures.check(await self._desk(), tx))

    async def save(self, tx: Transaction) -> None:
        """Make a pending transaction durable as it stands, without starting it."""
        await self._run(procedures.save(await self._desk(), tx))

    async def recover(self, *, wait_max_seconds: float = WAIT_SECONDS_MAX) -> list[Recovered]:
        """Finish what dead processes left behind; see `TransactionManager.recover`."""
        seconds = checked_wait(wait_max_seconds)
        return await self._run(recovery.recover(await self._desk(), seconds))

    async def retry(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        note: str = "",
        by: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Try what is in doubt, waits, or is outstanding, now; see `TransactionManager.retry`."""
        return await self._ask(tx, RetryAsked(step_id, by, note), wait_max_seconds)

    async def resolve(
        self,
        tx: Transaction | str,
        step_id: str,
        answer: Answer,
        *,
        note: str,
        by: str = "somebody",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Record what a person knows or did; see `TransactionManager.resolve`."""
        return await self._ask(tx, ResolutionAnswered(step_id, answer, by, note), wait_max_seconds)

    async def _ask(
        self, tx: Transaction | str, wish: RetryAsked | ResolutionAnswered, wait_max_seconds: float
    ) -> TransactionResult:
        seconds = checked_wait(wait_max_seconds)
        asked = asking.ask(await self._desk(), _id(tx), wish, wait_max_seconds=seconds)
        return await self._run(asked)

    async def get_transaction(self, transaction_id: str) -> Transaction:
        """Return a transaction as it stands; the caller's own object while somebody holds it."""
        return await self._run(read_transaction(await self._desk(), transaction_id))

    def get_all_transactions(self) -> AsyncStoredTransactions:
        """Return all transactions, oldest first, for `async for`; read as they are asked for."""
        return AsyncStoredTransactions(self)

    async def get_result(self, tx: Transaction | str) -> TransactionResult:
        """Return the outcome of a transaction as far as the journal knows it now."""
        return await self._run(read_result(await self._desk(), _id(tx)))

    async def get_events(self, tx: Transaction | str) -> list[Event]:
        """Return the journal of a transaction, entry by entry."""
        return await self._run(read_events(await self._desk(), _id(tx)))

    async def find(self, query: Query | None = None) -> list[Listed]:
        """Return one page of summaries, without reading journals."""
        desk = await self._desk()
        return await self._blocking(lambda: desk.store.find(query or Query()))

    async def verify(self, tx: Transaction | str | None = None) -> Verification:
        """Check the hash chain and every entry of one journal, or of all."""
        name = None if tx is None else _id(tx)
        return await self._run(recovery.verify(await self._desk(), name))

    async def get_store_info(self) -> StoreInfo:
        """Return what the store is."""
        desk = await self._desk()
        return await self._blocking(desk.store.info)

    async def close(self) -> None:
        """Let go of the store; what this manager was driving can be recovered at once."""
        try:
            await asyncio.to_thread(self._close_store)
        finally:
            if self._handler_threads is not None:
                self._handler_threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        """Return this manager; leaving the block closes it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close this manager."""
        await self.close()

    async def _desk(self, *, create: bool = False) -> Desk:
        if self._opened is not None:
            return self._opened
        wanted = create or self._given_store is None
        return await asyncio.to_thread(self._open, create=wanted)

    async def _blocking(self, function: Callable[[], T]) -> T:
        if self._opened is not None and not self._opened.store.is_blocking:
            return function()
        return await asyncio.to_thread(function)

    async def _run_or_go_back(self, procedure: Procedure[T], tx: Transaction) -> T:
        """Carry out a procedure; undo what it began where a cancellation hit between two calls."""
        try:
            return await self._run(procedure)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            desk = self._opened
            if desk is not None and procedures.is_left_behind(desk, tx):
                undoing = asyncio.create_task(self._run(procedures.cancel(desk, tx)))
                while not undoing.done():
                    with contextlib.suppress(asyncio.CancelledError, InvalidTransactionState):
                        await asyncio.shield(undoing)
            raise

    async def _run(self, procedure: Procedure[T]) -> T:
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
                return await self._blocking(operation.function)
            case DoSleep():
                await self._sleep(operation)
                return None
            case _:
                assert_never(operation)

    async def _append(self, operation: DoAppend) -> AppendAnswer:
        desk = await self._desk()
        if not desk.store.is_blocking:
            return desk.store.append((operation.append,))[0]
        if self._append_queue is None:
            self._append_queue = AsyncAppendQueue(desk.store)
        return await _to_the_end(self._append_queue.append(operation.append), operation.run)

    async def _sleep(self, operation: DoSleep) -> None:
        try:
            await self._clock.sleep_async(operation.seconds)
        except asyncio.CancelledError as cancelled:
            if operation.run is None:
                raise
            operation.run.interrupt = operation.run.interrupt or cancelled

    async def _call(self, operation: DoCall) -> Outcome:
        step, kind, callee = operation.step, operation.operation, operation.callee
        run = operation.run
        seconds = operation.timeout_seconds
        limit = None if seconds is None else Limit.of(operation, seconds)
        # Why an undo is not cancelled: half an undo is what nobody can repair.
        cancellable = kind != "compensation" and run.is_callers
        try:
            if callee.is_async:
                called: Coroutine[Any, Any, object] = self._called(operation)
                if limit is not None:
                    called = limited(called, limit)
                value = await _to_the_end(called, run, cancellable=cancellable)
            elif limit is not None:
                return await self._called_in_time(operation, limit)
            else:
                value = await self._called_in_thread(operation)
                if value is not None and inspect.isawaitable(value):
                    value = await _to_the_end(_awaited(value), run, cancellable=cancellable)
            return returned(step, kind, value), None
        except GivenUp as given_up:
            return Limit.of(operation, seconds or 0.0).given_up(given_up)
        except BaseException as error:  # noqa: BLE001 (it becomes an observation, and is raised)
            return raised(step, kind, callee.action, error), error

    async def _called_in_time(self, operation: DoCall, limit: Limit) -> Outcome:
        loop = asyncio.get_running_loop()

        def work() -> Outcome:
            step, kind, callee = operation.step, operation.operation, operation.callee
            CALLING.set((*CALLING.get(), operation.run.transaction_id))
            try:
                value = call(callee, operation.run.saga, step, kind)
                if value is not None and inspect.isawaitable(value):
                    value = asyncio.run_coroutine_threadsafe(_awaited(value), loop).result()
                return returned(step, kind, value), None
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
        run = operation.run
        CALLING.set((*CALLING.get(), run.transaction_id))
        return await call(operation.callee, run.saga, operation.step, operation.operation)

    async def _called_in_thread(self, operation: DoCall) -> object:
        run = operation.run
        if self._handler_threads is None:
            self._handler_threads = ThreadPoolExecutor(HANDLER_THREADS_MAX, "aumai-handler")
        context = contextvars.copy_context()
        context.run(CALLING.set, (*CALLING.get(), run.transaction_id))
        running = asyncio.get_running_loop().run_in_executor(
            self._handler_threads,
            lambda: context.run(
                _settled, call, operation.callee, run.saga, operation.step, operation.operation
            ),
        )
        value, error = await _to_the_end(running, run)
        if error is not None:
            raise error
        return value


class AsyncSagaOrchestrator:
    """Register steps once, and carry them out as a transaction as often as wanted.

    Args:
        manager: What carries them out.
    """

    def __init__(self, manager: AsyncTransactionManager) -> None:
        self._manager = manager
        self._template = Template(manager)

    def register(
        self,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout_seconds: float | None = None,
    ) -> TransactionStep:
        """Add a step to the saga, and return it; see `TransactionManager.add_step`."""
        return self._template.register(
            agent_id,
            action,
            data,
            compensating_action,
            retry=retry,
            timeout_seconds=timeout_seconds,
        )

    async def execute(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> TransactionResult:
        """Carry out the registered steps as one new transaction, and return the outcome."""
        tx = await self._manager.begin(timeout_seconds, **options)
        self._template.fill(tx)
        return await self._manager.commit(tx)


def _settled(function: Callable[..., object], *arguments: Any) -> tuple[object, Exception | None]:
    try:
        return function(*arguments), None
    except StopIteration as error:
        # Why: no future takes a StopIteration (before Python 3.12 it never ends then), and no
        # coroutine may raise one.
        wrapped = RuntimeError(f"the handler raised StopIteration: {error}")
        wrapped.__cause__ = error
        return None, wrapped


async def _awaited(awaitable: Any) -> object:
    return await awaitable


async def _to_the_end(
    work: Coroutine[Any, Any, T] | asyncio.Future[T], run: Run, *, cancellable: bool = False
) -> T:
    """Wait for some work even while this task is being cancelled; note the cancellation.

    Args:
        work: What to wait for. A future, where the work goes on in a thread: a task of its own
            could be cancelled by whoever cancels all tasks, and would then look ended.
        run: Where the cancellation is noted.
        cancellable: True to cancel the work as well, and still wait until it has ended.
    """
    future = work if asyncio.isfuture(work) else asyncio.ensure_future(work)
    while True:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as cancelled:
            if future.cancelled():
                raise
            run.interrupt = run.interrupt or cancelled
            if future.done():
                return future.result()
            if cancellable:
                future.cancel()


def _id(tx: Transaction | str) -> str:
    return tx if isinstance(tx, str) else tx.transaction_id
