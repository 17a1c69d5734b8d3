"""The driver with asyncio: `AsyncTransactionManager` and `AsyncSagaOrchestrator`.

Owns: how a task waits for a store, for a handler and for time. The rules are the core's; the
methods have the names and the order of `sync.py`.
Rules:
  1. The event loop waits for nothing but a quick disk (`promptness.py`): whatever else may wait,
     and sync handlers, run in threads.
  2. A cancellation never stops a durable write or an undo. It is noted, the transaction goes
     back, and then it is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from aumai_transactions.core.observations import (
    ApprovalAnswered,
    ResolutionAnswered,
    RetryAsked,
    TrustAnswered,
)
from aumai_transactions.drivers import (
    asking,
    procedures,
    recovery,
    requesting,
    resuming,
    submitting,
)
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.async_block import AsyncTransactionBlock
from aumai_transactions.drivers.desk import Desk, id_of, read_events, read_result, read_transaction
from aumai_transactions.drivers.freezing import checked_count, frozen_step
from aumai_transactions.drivers.hooks import HookTasks, Settled
from aumai_transactions.drivers.locks import checked_retries, read_locks, runs_left
from aumai_transactions.drivers.manager import BLOCK_TIMEOUT_SECONDS, ManagerBase
from aumai_transactions.drivers.operations import (
    Procedure,
)
from aumai_transactions.drivers.options import (
    BeginOptions,
    BlockOptions,
    StepOptions,
    checked_before,
    checked_options,
    checked_query,
    checked_wait,
)
from aumai_transactions.drivers.resuming import nested_in
from aumai_transactions.drivers.stored import AsyncStoredTransactions
from aumai_transactions.drivers.sync_keeping import Wish
from aumai_transactions.errors import InvalidTransactionState
from aumai_transactions.models import (
    DEFAULT_TIMEOUT_SECONDS,
    BackupReport,
    Event,
    Recovered,
    ResourceLock,
    Risk,
    Transaction,
    TransactionResult,
    Verification,
    WitnessReport,
)
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.core.entries import Answer
    from aumai_transactions.store import Page, StoreInfo, Tally

T = TypeVar("T")

HANDLER_THREADS_MAX = 64
RECOVERED_AT_ONCE = 16


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
        on_event: Called with each journal entry, right after it became durable: a function, sync
            or async, or a list of them. What one raises becomes a warning.
        action_source: Called with the action definitions of a journal; returns the actions.
        parallel_max: How many steps of one transaction run at once.
        clock: What time it is; for tests.
        engine: See `TransactionManager`.
        telemetry: Who watches: `OpenTelemetry()` of `aumai_transactions.telemetry`.
    """

    @functools.cached_property
    def _hook_tasks(self) -> HookTasks:
        """What awaits async hooks; made when there is one."""
        return HookTasks()

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
        self, tx: Transaction | str, *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Undo a pending or active transaction; see `TransactionManager.rollback`."""
        seconds = checked_wait(wait_max_seconds)
        if isinstance(tx, str):
            desk = await self._desk()
            return await self._run(procedures.rollback_by_id(desk, tx, wait_max_seconds=seconds))
        procedure = procedures.rollback(await self._desk(), tx, wait_max_seconds=seconds)
        return await self._run_or_go_back(procedure, tx)

    async def submit(self, tx: Transaction) -> TransactionResult:
        """Leave a pending transaction to workers; see `TransactionManager.submit`."""
        return await self._run(submitting.submit(await self._desk(), tx))

    async def wait(
        self, tx: Transaction | str, *, timeout_seconds: float | None = None
    ) -> TransactionResult:
        """Wait until it is finished or needs a person; see `TransactionManager.wait`."""
        desk = await self._desk()
        until = None
        if timeout_seconds is not None:
            until = asking.waiting_until(desk, checked_wait(timeout_seconds))
        return await self._run(asking.see_through(desk, id_of(tx), until, others=True))

    async def check(self, tx: Transaction | str) -> list[Risk]:
        """Name the risks of a transaction before it runs; see `TransactionManager.check`."""
        return await self._run(procedures.check(await self._desk(), tx))

    def transaction(
        self, timeout_seconds: float = BLOCK_TIMEOUT_SECONDS, **options: Unpack[BlockOptions]
    ) -> AsyncTransactionBlock:
        """Return a transaction for `async with`; see `TransactionManager.transaction`."""
        around = self._block_around()
        if around is not None:
            return nested_in(around, AsyncTransactionBlock, timeout_seconds, options)
        made = self._interactive(timeout_seconds, options)
        accepts = options.get("accepts_requests", False)
        return AsyncTransactionBlock(self, made, accepts_requests=accepts)

    async def run(
        self,
        function: Callable[[AsyncTransactionBlock], Awaitable[T]],
        *,
        retries: int = 3,
        timeout_seconds: float = BLOCK_TIMEOUT_SECONDS,
        **options: Unpack[BlockOptions],
    ) -> T:
        """Run a coroutine function in a transaction; see `TransactionManager.run`."""
        left = checked_retries(retries)
        while True:
            block = self.transaction(timeout_seconds, **options)
            try:
                async with block as tx:
                    return await function(tx)
            except Exception as error:  # noqa: BLE001 (raised again where it is no such thing)
                around = self._block_around()
                left = runs_left(left, error, block.result, is_nested=around is not None)

    async def resume(self, tx: Transaction | str) -> AsyncTransactionBlock:
        """Go on with one whose process died; see `TransactionManager.resume`."""
        desk = await self._desk()
        shared, transaction = await self._run(resuming.resume(desk, id_of(tx)))
        return resuming.block_of(AsyncTransactionBlock, self, shared, transaction, desk)

    async def join(self, transaction_id: str) -> AsyncTransactionBlock:
        """Take part in one that is open in this process; see `TransactionManager.join`."""
        return resuming.join(AsyncTransactionBlock, self, await self._desk(), transaction_id)

    async def request_step(
        self,
        transaction_id: str,
        agent_id: str,
        action: str,
        data: dict[str, Any] | None = None,
        compensating_action: str | None = None,
        *,
        by: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
        **options: Unpack[StepOptions],
    ) -> Any:
        """Ask for a step in one of another process; see `TransactionManager.request_step`."""
        step = self._step("step", agent_id, action, data or {}, compensating_action, options)
        wanted = frozen_step(step, "the step", self._registry, self._before_record)
        seconds = checked_wait(wait_max_seconds)
        procedure = requesting.request(
            await self._desk(), transaction_id, wanted, by=by, wait_max_seconds=seconds
        )
        return await self._run(procedure)

    async def approve(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        by: str,
        note: str = "",
        digest: str | None = None,
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Allow a step that waits for a person; see `TransactionManager.approve`."""
        answer = ApprovalAnswered(step_id, True, by, note, digest)  # noqa: FBT003
        return await self._ask(tx, answer, wait_max_seconds)

    async def deny(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        by: str,
        note: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Refuse a step that waits for a person; see `TransactionManager.deny`."""
        answer = ApprovalAnswered(step_id, False, by, note)  # noqa: FBT003
        return await self._ask(tx, answer, wait_max_seconds)

    async def save(self, tx: Transaction) -> None:
        """Make a pending transaction durable as it stands, without starting it."""
        await self._run(procedures.save(await self._desk(), tx))

    async def recover(
        self, *, wait_max_seconds: float = WAIT_SECONDS_MAX, concurrency: int | None = None
    ) -> list[Recovered]:
        """Finish what dead processes left; see `TransactionManager.recover`; 16 at a time."""
        seconds = checked_wait(wait_max_seconds)
        count = RECOVERED_AT_ONCE
        if concurrency is not None:
            count = checked_count(concurrency, "concurrency")
        return await self._run(recovery.recover(await self._desk(), seconds, count))

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

    async def trust(
        self,
        tx: Transaction | str,
        *,
        by: str,
        note: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Let a transaction go on that came out of a backup; see `TransactionManager.trust`."""
        return await self._ask(tx, TrustAnswered(by, note), wait_max_seconds)

    async def _ask(
        self, tx: Transaction | str, wish: Wish, wait_max_seconds: float
    ) -> TransactionResult:
        seconds = checked_wait(wait_max_seconds)
        asked = asking.ask(await self._desk(), id_of(tx), wish, wait_max_seconds=seconds)
        return await self._run(asked)

    async def get_transaction(self, transaction_id: str) -> Transaction:
        """Return a transaction as it stands; the caller's own object while somebody holds it."""
        return await self._run(read_transaction(await self._desk(), id_of(transaction_id)))

    def get_all_transactions(self) -> AsyncStoredTransactions:
        """Return all transactions, oldest first, for `async for`; read as they are asked for."""
        return AsyncStoredTransactions(self)

    async def get_result(self, tx: Transaction | str) -> TransactionResult:
        """Return the outcome of a transaction as far as the journal knows it now."""
        return await self._run(read_result(await self._desk(), id_of(tx)))

    async def get_events(self, tx: Transaction | str) -> list[Event]:
        """Return the journal of a transaction, entry by entry."""
        return await self._run(read_events(await self._desk(), id_of(tx)))

    async def find(self, query: Query | None = None) -> Page:
        """Return one page of summaries; see `TransactionManager.find`."""
        desk = await self._desk()
        checked = checked_query(query)
        return await self._blocking(lambda: desk.store.find(checked))

    async def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        return await self._blocking((await self._desk()).store.tally)

    async def locks(self, resource: str | None = None) -> list[ResourceLock]:
        """Return who holds which resource and who waits; see `TransactionManager.locks`."""
        return await self._run(read_locks(await self._desk(), resource))

    async def verify(
        self,
        tx: Transaction | str | None = None,
        *,
        witness: str | os.PathLike[str] | None = None,
        purged_before: datetime | None = None,
    ) -> Verification:
        """Check the hash chain and every entry; see `TransactionManager.verify`."""
        from aumai_transactions.drivers.verifying import verify
        from aumai_transactions.drivers.witnesses import read_witness

        seen = None
        if witness is not None:
            seen = await self._blocking(lambda: read_witness(witness))
        name, before = None if tx is None else id_of(tx), checked_before(purged_before)
        desk = await self._desk()
        return await self._run(verify(desk, name, witness=seen, purged_before=before))

    async def write_witness(self, path: str | os.PathLike[str]) -> WitnessReport:
        """Append to a head witness; see `TransactionManager.write_witness`."""
        from aumai_transactions.drivers.witnesses import write_witness

        store = (await self._desk()).store
        return await self._blocking(lambda: write_witness(store, path, clock=self._clock))

    async def back_up(self, path: str | os.PathLike[str]) -> BackupReport:
        """Write the whole store into a new file; see `TransactionManager.back_up`."""
        from aumai_transactions.drivers.backups import back_up

        store = (await self._desk()).store
        return await self._blocking(lambda: back_up(store, path, clock=self._clock))

    async def get_store_info(self) -> StoreInfo:
        """Return what the store is."""
        desk = await self._desk()
        return await self._blocking(desk.store.info)

    async def close(self) -> None:
        """Let go of the store; what this manager was driving can be recovered at once."""
        try:
            await self._hook_tasks.close()
            await asyncio.to_thread(self._close_store)
        finally:
            self._tasks.close()
            self._loop_thread.close()

    def _awaited(self, awaitable: Awaitable[object], settled: Settled) -> None:
        """Await what a hook has returned, in a task of this loop, and go on meanwhile."""
        self._hook_tasks.put(awaitable, settled)

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
        return await self._tasks.blocking(function)

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
        return await self._tasks.run(procedure)
