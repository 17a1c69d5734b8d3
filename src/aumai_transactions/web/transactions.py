"""What the page and the API do with a store: look, and ask.

Owns: the one way from a request to the store, whoever asks. Pages and API are two faces of it.
Rules:
  1. Who may see one tenant's transactions only is told of others that there are none.
  2. A wish is journaled before anybody is told that it was heard; what then has to be called is
     called by whoever has the transaction, by a worker, or here, in the background.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.observations import ApprovalAnswered, CommitCalled, RollbackCalled
from aumai_transactions.core.outcome import is_runnable
from aumai_transactions.core.planning import wake_at
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers import asking
from aumai_transactions.drivers.desk import read_saga
from aumai_transactions.drivers.locks import read_locks
from aumai_transactions.drivers.overview import Look, look_at, look_at_new, unattended
from aumai_transactions.drivers.taking_part import see_to, settle
from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import InvalidData, TransactionError, TransactionNotFound
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aumai_transactions.actions import Action
    from aumai_transactions.core.observations import Observation
    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.asking import WishesOf
    from aumai_transactions.integrations.open_transaction import OpenTransaction
    from aumai_transactions.integrations.open_transactions import OpenTransactions
    from aumai_transactions.models import ResourceLock
    from aumai_transactions.store import KnownDriver, Listed, Page, StoreInfo, Tally
    from aumai_transactions.web.principals import Principal

log = logging.getLogger("aumai_transactions.web")

PREFIXED_MAX = 20
DRIVEN_MAX = 16
"""How many transactions are gone on with here at once, because somebody has asked for something."""

PLACE = "this server"

PAUSE_SECONDS_MIN = 0.01
PAUSE_SECONDS_MAX = 0.25


class Answered(NamedTuple):
    """Tell what became of a wish.

    Args:
        look: How the transaction stands.
        is_replayed: True where the same request had been heard before.
    """

    look: Look
    is_replayed: bool


class _Work(NamedTuple):
    function: Callable[..., Coroutine[Any, Any, None]]
    arguments: tuple[Any, ...]


class Transactions:
    """Look at the transactions of a store, and ask for things.

    Args:
        reader: A manager without actions: what is asked through it is journaled and carried out
            by others.
        acting: A manager with the actions that can be called here; None where nothing is.
        opened: The transactions that its callers have open here; None where none can be.
    """

    def __init__(
        self,
        reader: AsyncTransactionManager,
        acting: AsyncTransactionManager | None,
        opened: OpenTransactions | None = None,
    ) -> None:
        self._reader = reader
        self._acting = acting
        self._opened = opened
        self._driven: dict[str, asyncio.Task[None]] = {}
        self._later: dict[str, list[_Work]] = {}
        self._turns = asyncio.Semaphore(DRIVEN_MAX)
        self._is_ending = asyncio.Event()

    async def find(self, who: Principal, query: Query) -> Page:
        """Return one page of those that somebody may see."""
        if who.tenant is not None:
            query = query._replace(tenant=who.tenant)
        return await self._reader.find(query)

    async def tally(self, who: Principal) -> Tally | None:
        """Return how many there are; None where somebody may not see all of them."""
        return None if who.tenant is not None else await self._reader.tally()

    async def summary_of(self, who: Principal, transaction_id: str) -> Summary | None:
        """Return what lists tell of one transaction; None where this principal may see none."""
        found = await self.find(who, Query(prefix=transaction_id, limit=PREFIXED_MAX))
        named = (one.summary for one in found)
        return next((one for one in named if one.transaction_id == transaction_id), None)

    async def parked(self, who: Principal, limit: int) -> list[Listed]:
        """Return some of what nobody has, and what goes on at a time to come, oldest first."""
        found: list[Listed] = []
        query = Query(states=(TransactionState.active, TransactionState.compensating), limit=500)
        for one in await self.find(who, query):
            summary = one.summary
            if summary.due_at is not None and summary.attention is None and len(found) < limit:
                found.append(one)
        return found

    async def drivers(self) -> list[KnownDriver]:
        """Return the processes that carry transactions out, as far as the store knows them."""
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        return await self._reader._blocking(desk.store.drivers)  # noqa: SLF001

    async def info(self) -> StoreInfo:
        """Return what the store tells of itself."""
        return await self._reader.get_store_info()

    async def unattended(self) -> set[str]:
        """Return what has something to be done, and what no living process has."""
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        return await self._reader._blocking(lambda: unattended(desk.store))  # noqa: SLF001

    async def page(self, query: Query) -> tuple[list[Listed], int | None]:
        """Return one page, and behind which place the next one begins."""
        found = await self._reader.find(query)
        return list(found), found.goes_on_after

    def manager(self) -> AsyncTransactionManager:
        """Return what plans transactions here."""
        return self._acting or self._reader

    def actions(self) -> list[Action]:
        """Return the actions that can be called here."""
        return [] if self._acting is None else list(self._acting.actions.everything())

    async def look(self, who: Principal, transaction_id: str) -> Look:
        """Return all about one transaction.

        Raises:
            TransactionNotFound: There is none that this principal may see.
            JournalCorrupt: Its journal is damaged.
        """
        name = self._name(transaction_id)
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        new = self._new(name)
        if new is not None:
            definition = new.block._empty().plan  # noqa: SLF001 (one package)
            look = look_at_new(desk, name, definition)
        else:
            try:
                look = await self._reader._run(look_at(desk, name))  # noqa: SLF001
            except TransactionNotFound:
                # Why anew: in the same words as of one that is another's, and without the store.
                raise TransactionNotFound(name, PLACE) from None
        if who.tenant is not None and look.summary.tenant != who.tenant:
            raise TransactionNotFound(name, PLACE)
        return look

    async def request(
        self,
        who: Principal,
        transaction_id: str,
        wish: Observation | WishesOf,
        terms: Terms = ANY,
        *,
        wait_max_seconds: float = 0,
        drives: bool = True,
    ) -> Answered:
        """Journal what somebody asks for, see to it that it is done, and return how it stands.

        Args:
            who: Who asks.
            transaction_id: Of which transaction.
            wish: What they ask for; or what says so, given how it stands.
            terms: Which request it is, and on which sequence alone it counts.
            wait_max_seconds: How long to wait until it has come to rest.
            drives: False to leave what has to be called to others.

        Raises:
            TransactionNotFound: There is none that this principal may see.
            InvalidTransactionState: It cannot be asked for that now.
            IdempotencyKeyReused: Something else was asked for under the same key.
            SequenceMoved: The journal has gone on; nothing was changed.
        """
        await self.look(who, transaction_id)
        new = self._new(transaction_id)
        is_replayed = False
        if new is None:
            manager = self._acting or self._reader
            desk = await manager._desk()  # noqa: SLF001 (one package)
            wishes_of = wish if callable(wish) else lambda _: [wish]
            noting = asking.note(desk, transaction_id, wishes_of, terms)
            is_replayed = (await manager._run(noting)).is_replayed  # noqa: SLF001
        if drives:
            await self._go_on(transaction_id, None if callable(wish) else wish)
        if wait_max_seconds > 0:
            await self.wait(transaction_id, wait_max_seconds)
        return Answered(await self.look(who, transaction_id), is_replayed)

    async def wait(self, transaction_id: str, seconds: float) -> None:
        """Wait until a transaction has come to rest, for so long at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        task = self._driven.get(transaction_id)
        if task is not None:
            await self.wait_for(task, seconds)
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        pause = PAUSE_SECONDS_MIN
        while self._new(transaction_id) is None:
            saga = await self._reader._run(read_saga(desk, transaction_id))  # noqa: SLF001
            left = until - loop.time()
            if is_at_rest(saga) or left <= 0 or self._is_ending.is_set():
                return
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    async def wait_for(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Wait until a task is done, or the time is over, or this server ends."""
        ending = asyncio.create_task(self._is_ending.wait())
        try:
            ways = [task, ending]
            await asyncio.wait(ways, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._is_ending.set()

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """What is done in the background now."""
        return list(self._driven.values())

    async def locks(self, resource: str | None = None) -> list[ResourceLock]:
        """Return who holds what, and who waits for it."""
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        return await self._reader._run(read_locks(desk, resource))  # noqa: SLF001

    def drive(self, transaction_id: str) -> None:
        """Go on with a transaction in the background, if that can be done here."""
        if self._acting is not None:
            self._start(transaction_id, _Work(self._drive, (self._acting, transaction_id)))

    def _start(self, transaction_id: str, work: _Work) -> None:
        """Do something for a transaction in the background, behind what is done for it already."""
        if transaction_id not in self._driven:
            task = asyncio.create_task(self._do(transaction_id, work))
            self._driven[transaction_id] = task
        elif work not in (later := self._later.setdefault(transaction_id, [])):
            # Why: what is being done may have looked at the journal for the last time already.
            later.append(work)

    async def close(self) -> None:
        """Let what is called end, and begin nothing more."""
        self._acting = None
        for task in list(self._driven.values()):
            task.cancel()
        await asyncio.gather(*self._driven.values(), return_exceptions=True)

    def _new(self, transaction_id: str) -> OpenTransaction | None:
        """Return one that is open here, and of which nothing is durable yet."""
        here = None if self._opened is None else self._opened.here(transaction_id)
        return here if here is not None and not here.is_begun else None

    async def _go_on(self, transaction_id: str, wish: Observation | None) -> None:
        here = None if self._opened is None else self._opened.here(transaction_id)
        if here is not None:
            self._start(transaction_id, _Work(_see_through, (here, wish)))
        elif self._acting is not None:
            self.drive(transaction_id)
        else:
            desk = await self._reader._desk()  # noqa: SLF001 (one package)
            # Why: what needs no call at all can be decided here.
            deciding = asking.see_through(desk, transaction_id, asking.waiting_until(desk, 0))
            await self._reader._run(deciding)  # noqa: SLF001

    async def _drive(self, manager: AsyncTransactionManager, transaction_id: str) -> None:
        async with self._turns:
            result = await manager.wait(transaction_id, timeout_seconds=0)
            log.debug("transaction %s: %s", transaction_id, result.state.value)

    async def _do(self, transaction_id: str, first: _Work) -> None:
        work: _Work | None = first
        try:
            while work is not None:
                try:
                    await work.function(*work.arguments)
                except TransactionError as error:
                    log.warning("transaction %s was not gone on with: %s", transaction_id, error)
                later = self._later.get(transaction_id)
                work = later.pop(0) if later else None
        finally:
            self._later.pop(transaction_id, None)
            self._driven.pop(transaction_id, None)

    @staticmethod
    def _name(transaction_id: str) -> str:
        try:
            return checked_name(transaction_id, "transaction_id")
        except InvalidData:
            raise TransactionNotFound(ascii(transaction_id)[:80], PLACE) from None


def is_at_rest(saga: Saga) -> bool:
    """Tell whether nothing is done for a transaction now: a program, or a person, is waited for."""
    if not is_runnable(saga):
        return True
    if wake_at(saga) is not None and not saga.running:
        return True
    asked = saga.commit_requested or saga.rollback_requested or saga.denied
    is_idle = not (asked or saga.running or saga.ready or saga.undo)
    return asking.has_program(saga) and is_idle


async def _see_through(here: OpenTransaction, wish: Observation | None) -> None:
    """Let one that is open here do what was asked for."""
    block = here.block
    if isinstance(wish, CommitCalled):
        await here.commit()
    elif isinstance(wish, RollbackCalled):
        await here.rollback(wish.note)
    elif isinstance(wish, ApprovalAnswered) and not wish.is_given:
        with here.inside():
            await block._finish(None)  # noqa: SLF001 (one package)
    else:
        desk, shared, part = block._desk, block._shared, block._part()  # noqa: SLF001
        if isinstance(wish, ApprovalAnswered):
            working = see_to(desk, shared, part, wish.step_id)
        else:
            working = settle(desk, shared, part)
        await block._run(working)  # noqa: SLF001
    _ = here.is_over
