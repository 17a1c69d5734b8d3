"""Transactions that are open in this process under their ids: `OpenTransactions`.

Owns: how a transaction stays open between two requests of whoever is outside, and who may use it.
Rules:
  1. Each is held by a task of its own, which has entered its block and leaves it when it ends: by a
     commit, a rollback, its timeout, or the end of its event loop. Nothing commits that nobody has
     committed.
  2. An id is a name and no secret: who has not begun a transaction is told that there is none.
  3. What a process that died had open is resumed when it is asked for, by whoever begun it; until
     then, and once the time for that is over, it is recovery's. The one outside has not died with
     it: what is asked for after that is asked for once more, and not again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack

from aumai_transactions.core.states import ACTIVE
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.desk import read_saga
from aumai_transactions.drivers.freezing import checked_count
from aumai_transactions.drivers.manager import BLOCK_TIMEOUT_SECONDS
from aumai_transactions.errors import (
    DefinitionError,
    InvalidData,
    StoreError,
    StoreNotFound,
    TransactionError,
    TransactionNotActive,
    TransactionNotFound,
)
from aumai_transactions.integrations.open_transaction import OpenTransaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.async_block import AsyncTransactionBlock
    from aumai_transactions.drivers.options import BlockOptions
    from aumai_transactions.models import TransactionResult

log = logging.getLogger("aumai_transactions.integrations")

OPEN_MAX = 256
OPEN_MAX_EACH = 32
RESUME_WITHIN_SECONDS = 3_600.0
RECOVER_EVERY_SECONDS = 60.0

_OWNER, _SERVICE = "principal", "service"
"""Under which names a transaction's metadata say whose it is, and who holds it open."""


class TooManyTransactions(TransactionError):
    """Say that no more transactions can be open now; none was begun.

    Args:
        open_max: How many may be.
        whose: Whose they are.
    """

    def __init__(self, open_max: int, whose: str) -> None:
        self.open_max = open_max
        told = f"{open_max} transactions{whose} are open already, and no more can be."
        super().__init__(f"{told} Nothing was begun. Commit one of them, or roll it back.")


class _Opened(NamedTuple):
    one: OpenTransaction
    task: asyncio.Task[None]


class OpenTransactions:
    """Hold transactions open under their ids, for a program whose requests name them.

    Args:
        manager: Whose they are. With a store that outlives the process, they do so as well.
        service: Which program it is; what another one of the same store has begun is not found.
        open_max: How many can be open at once.
        open_max_each: How many of one owner.
        timeout_seconds: How long each may take at most.
        resume_within_seconds: How long after a crash it can be gone on with; None to have it undone
            by the next recovery.
        recover_every_seconds: How often it is looked what dead processes have left; the first time
            before anything is begun or resumed. None not to look.

    Raises:
        DefinitionError: One of these cannot be.
    """

    def __init__(
        self,
        manager: AsyncTransactionManager,
        *,
        service: str = "",
        open_max: int = OPEN_MAX,
        open_max_each: int = OPEN_MAX_EACH,
        timeout_seconds: float = BLOCK_TIMEOUT_SECONDS,
        resume_within_seconds: float | None = RESUME_WITHIN_SECONDS,
        recover_every_seconds: float | None = RECOVER_EVERY_SECONDS,
    ) -> None:
        self.manager = manager
        self.timeout_seconds = timeout_seconds
        self._service = service
        self._open_max = checked_count(open_max, "open_max")
        self._open_max_each = checked_count(open_max_each, "open_max_each")
        self._resume_within_seconds = resume_within_seconds
        self._recover_every_seconds = recover_every_seconds
        self._opened: dict[str, _Opened] = {}
        self._opening: dict[asyncio.Task[None], str] = {}
        self._alone = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._first: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    def look(self) -> None:
        """Settle at once what dead processes have left, and not only when somebody begins one."""
        self._first = asyncio.create_task(self._recovered_once(), context=Context())
        self._first.add_done_callback(_say_what_it_raised)

    def of(self, owner: str = "") -> list[OpenTransaction]:
        """Return those that somebody has open here, the oldest first."""
        held = (one for one, _ in self._opened.values() if one.owner == owner)
        return [one for one in held if not one.is_over]

    def here(self, transaction_id: str) -> OpenTransaction | None:
        """Return one that is open here, whoever has begun it; None where it is not."""
        found = self._opened.get(transaction_id)
        return None if found is None or found.one.is_over else found.one

    async def begin(
        self,
        *,
        owner: str = "",
        timeout_seconds: float | None = None,
        transaction_id: str | None = None,
        **options: Unpack[BlockOptions],
    ) -> OpenTransaction:
        """Begin one. It is durable with its first step; before that there is nothing to undo.

        Args:
            owner: Who begins it, and who alone may use it. It stands in the journal.
            timeout_seconds: How long it may take; None for the most that it may.
            transaction_id: Its id, which no other has; None for a new one.
            **options: As for `manager.transaction`.

        Raises:
            TooManyTransactions: Too many are open already.
            DefinitionError: It is to take longer than it may, or an option cannot be.
        """
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        if not seconds <= self.timeout_seconds:
            most = f"{self.timeout_seconds:g} seconds here, at most"
            raise DefinitionError(f"a transaction may take {most}.")
        await self._recovered_once()
        self._refuse_too_many(owner)
        noted = {_OWNER: owner, _SERVICE: self._service}
        options["metadata"] = {**options.get("metadata", {}), **noted}
        if self._resume_within_seconds is not None:
            options.setdefault("on_crash", "wait")
            if options["on_crash"] == "wait":
                options.setdefault("resume_within_seconds", self._resume_within_seconds)

        async def make() -> AsyncTransactionBlock:
            block = self.manager.transaction(seconds, **options)
            if transaction_id is not None:
                block._transaction.transaction_id = transaction_id  # noqa: SLF001 (one package)
            return block

        return await self._open(make, owner, outlives_caller=False)

    async def find(self, transaction_id: str, *, owner: str = "") -> OpenTransaction:
        """Return an open transaction; resume it, where the process that had it open has died.

        Args:
            transaction_id: Its id.
            owner: Who asks.

        Raises:
            TransactionNotFound: There is none; or somebody else has begun it.
            TransactionNotActive: It has ended; nothing can be done in it.
            InvalidTransactionState: Another process that lives has it open.
        """
        if (found := self._held(transaction_id, owner)) is not None:
            return found
        await self._recovered_once()
        async with self._alone:
            if (found := self._held(transaction_id, owner)) is not None:
                return found  # Somebody else has asked for it at the same time.
            saga = await self._stored(transaction_id, owner)
            if saga.state is not ACTIVE or saga.commit_requested or saga.rollback_requested:
                state = "ending" if saga.state is ACTIVE else saga.state.value.replace("_", " ")
                call, hint = "do anything in", "Nothing was done. Begin another one."
                raise TransactionNotActive(transaction_id, state, call, hint)
            self._refuse_too_many(owner)

            async def make() -> AsyncTransactionBlock:
                block = await self.manager.resume(transaction_id)
                # Why: who asks for something now has not died, and has not asked for it before.
                block._shared.forget_recorded()  # noqa: SLF001 (one package)
                return block

            return await self._open(make, owner, outlives_caller=True)

    async def result(self, transaction_id: str, *, owner: str = "") -> TransactionResult:
        """Return the outcome of one, as far as it has one, whether it is open or not.

        Raises:
            TransactionNotFound: There is none; or somebody else has begun it.
        """
        if self._held(transaction_id, owner) is None:
            await self._stored(transaction_id, owner)
        return await self.manager.get_result(transaction_id)

    async def close(self) -> None:
        """Roll back what is open; the manager stays open."""
        looking = [task for task in (self._first, self._keeper) if task is not None]
        self._first = self._keeper = None
        tasks = [*looking, *(task for _, task in self._opened.values()), *self._opening]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        """Return this."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Roll back what is open."""
        await self.close()

    def _held(self, transaction_id: str, owner: str) -> OpenTransaction | None:
        found = self._opened.get(transaction_id)
        if found is None or found.one.is_over:
            return None
        if found.one.owner != owner:
            raise TransactionNotFound(transaction_id, self._place())
        return found.one

    async def _stored(self, transaction_id: str, owner: str) -> Saga:
        """Return one that was begun here, or before a crash.

        Raises:
            TransactionNotFound: There is none, or it is not theirs.
        """
        try:
            desk = await self.manager._desk()  # noqa: SLF001 (one package)
            name = checked_name(transaction_id, "transaction_id")
            saga = await self.manager._run(read_saga(desk, name))  # noqa: SLF001
        except (InvalidData, StoreNotFound, TransactionNotFound):
            raise TransactionNotFound(transaction_id, self._place()) from None
        noted = saga.plan.metadata or {}
        if (noted.get(_OWNER), noted.get(_SERVICE)) != (owner, self._service):
            raise TransactionNotFound(transaction_id, self._place())
        return saga

    def _place(self) -> str:
        return self._service or "this program"

    def _refuse_too_many(self, owner: str) -> None:
        owners = [one.owner for one, _ in self._opened.values() if not one.is_over]
        owners += self._opening.values()
        if len(owners) >= self._open_max:
            raise TooManyTransactions(self._open_max, "")
        if owners.count(owner) >= self._open_max_each:
            raise TooManyTransactions(self._open_max_each, " of yours")

    async def _open(
        self,
        make: Callable[[], Awaitable[AsyncTransactionBlock]],
        owner: str,
        *,
        outlives_caller: bool,
    ) -> OpenTransaction:
        """Let a task hold a transaction, and return it once it is open."""
        opened: asyncio.Future[OpenTransaction] = asyncio.get_running_loop().create_future()
        # Why no context: it is nested in nothing, and nothing of the one who begins it is its own.
        task = asyncio.create_task(self._held_open(make, owner, opened), context=Context())
        self._opening[task] = owner
        try:
            # Why shielded: one that is resumed is there, whoever asks for it.
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            if not outlives_caller:
                task.cancel()  # Nobody knows its id.
            raise

    async def _held_open(
        self,
        make: Callable[[], Awaitable[AsyncTransactionBlock]],
        owner: str,
        opened: asyncio.Future[OpenTransaction],
    ) -> None:
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        name = ""
        try:
            async with await make() as block:
                one, name = OpenTransaction(block, owner), block.transaction_id
                self._opened[name] = _Opened(one, task)
                self._opening.pop(task)
                opened.set_result(one)
                await one._hold()  # noqa: SLF001 (its own)
                if not (block.state.is_final or block._shared.has_let_go):  # noqa: SLF001
                    # Why no commit: nobody has asked for it.
                    await block.rollback("it was not committed in time, or could not go on")
        except TransactionError as error:
            # Why nobody is told of an end: whoever asks is answered from the journal.
            if not opened.done():
                opened.set_exception(error)
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error)
            raise
        finally:
            self._opening.pop(task, None)
            self._opened.pop(name, None)

    async def _recovered_once(self) -> None:
        """Settle what dead processes have left, before anything else; and again, now and then."""
        if self._recover_every_seconds is None or self._keeper is not None:
            return
        async with self._alone:
            if self._keeper is None:
                with contextlib.suppress(StoreNotFound):
                    await self._recover()
                again = self._recover_again(self._recover_every_seconds)
                self._keeper = asyncio.create_task(again, context=Context())

    async def _recover_again(self, seconds: float) -> None:
        while True:
            await self.manager._clock.sleep_async(seconds)  # noqa: SLF001 (one package)
            async with self._alone:
                # What cannot be written now is looked at the next time.
                with contextlib.suppress(StoreError):
                    await self._recover()

    async def _recover(self) -> None:
        """Settle what dead processes have left, and say what cannot be settled by itself."""
        for one in await self.manager.recover(wait_max_seconds=0):
            result, name = one.result, one.transaction_id
            is_left = one.outcome in ("parked", "unreadable") or bool(result and result.outstanding)
            if is_left and name not in self._told:
                self._told.add(name)
                told = {"transaction_id": name}
                log.warning("transaction %s of before: %s", name, one.detail, extra=told)


def _say_what_it_raised(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("what dead processes have left could not be looked at: %s", error)
