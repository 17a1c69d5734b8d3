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
from typing import TYPE_CHECKING

from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers import asking
from aumai_transactions.drivers.locks import read_locks
from aumai_transactions.drivers.overview import Look, look_at
from aumai_transactions.errors import InvalidData, TransactionError, TransactionNotFound

if TYPE_CHECKING:
    from aumai_transactions.core.observations import Observation
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.models import ResourceLock, TransactionResult
    from aumai_transactions.store import Listed, Query
    from aumai_transactions.web.principals import Principal

log = logging.getLogger("aumai_transactions.web")

DRIVEN_MAX = 16
"""How many transactions are gone on with here at once, because somebody has asked for something."""


class Transactions:
    """Look at the transactions of a store, and ask for things.

    Args:
        reader: A manager without actions: what is asked through it is journaled and carried out
            by others.
        acting: A manager with the actions that can be called here; None where nothing is.
    """

    def __init__(
        self, reader: AsyncTransactionManager, acting: AsyncTransactionManager | None
    ) -> None:
        self._reader = reader
        self._acting = acting
        self._driven: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(DRIVEN_MAX)

    async def find(self, who: Principal, query: Query) -> list[Listed]:
        """Return one page of those that somebody may see."""
        found = await self._reader.find(query)
        return [one for one in found if who.tenant in (None, one.summary.tenant)]

    async def look(self, who: Principal, transaction_id: str) -> Look:
        """Return all about one transaction.

        Raises:
            TransactionNotFound: There is none that this principal may see.
            JournalCorrupt: Its journal is damaged.
        """
        name = self._name(transaction_id)
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        look = await self._reader._run(look_at(desk, name))  # noqa: SLF001
        if who.tenant is not None and look.summary.tenant != who.tenant:
            raise TransactionNotFound(name, "this server")
        return look

    async def ask(self, who: Principal, transaction_id: str, wish: Observation) -> Look:
        """Journal what somebody asks for, see to it that it is done, and return how it stands.

        Raises:
            TransactionNotFound: There is none that this principal may see.
            InvalidTransactionState: It cannot be asked for that now.
        """
        await self.look(who, transaction_id)
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        asked = asking.ask(desk, transaction_id, wish, wait_max_seconds=0)
        await self._reader._run(asked)  # noqa: SLF001
        self.drive(transaction_id)
        return await self.look(who, transaction_id)

    async def locks(self, resource: str | None = None) -> list[ResourceLock]:
        """Return who holds what, and who waits for it."""
        desk = await self._reader._desk()  # noqa: SLF001 (one package)
        return await self._reader._run(read_locks(desk, resource))  # noqa: SLF001

    def drive(self, transaction_id: str) -> None:
        """Go on with a transaction in the background, if that can be done here."""
        if self._acting is None or transaction_id in self._driven:
            return
        task = asyncio.create_task(self._drive(self._acting, transaction_id))
        self._driven[transaction_id] = task

    async def close(self) -> None:
        """Let what is called end, and begin nothing more."""
        for task in self._driven.values():
            task.cancel()
        await asyncio.gather(*self._driven.values(), return_exceptions=True)

    async def _drive(self, manager: AsyncTransactionManager, transaction_id: str) -> None:
        try:
            async with self._turns:
                result: TransactionResult = await manager.wait(transaction_id, timeout_seconds=0)
                log.debug("transaction %s: %s", transaction_id, result.state.value)
        except TransactionError as error:
            log.warning("transaction %s was not gone on with: %s", transaction_id, error)
        finally:
            self._driven.pop(transaction_id, None)

    @staticmethod
    def _name(transaction_id: str) -> str:
        try:
            return checked_name(transaction_id, "transaction_id")
        except InvalidData:
            raise TransactionNotFound(ascii(transaction_id)[:80], "this server") from None
