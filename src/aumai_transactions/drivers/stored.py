"""All transactions of a store, read as they are asked for.

Owns: how a list that may be longer than memory is walked, for threads and for tasks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.models import Transaction
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.sync import TransactionManager

PAGE = 200


class StoredTransactions(Sequence[Transaction]):
    """Read the transactions of a store as they are asked for, oldest first.

    What has been begun and not saved stands at the end.
    """

    def __init__(self, manager: TransactionManager, desk: Desk) -> None:
        self._manager = manager
        self._desk = desk

    def __len__(self) -> int:
        """Return how many there are now."""
        return self._desk.store.count(Query()) + len(self._desk.book.unsaved())

    @overload
    def __getitem__(self, index: int) -> Transaction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Transaction]: ...
    def __getitem__(self, index: int | slice) -> Transaction | list[Transaction]:
        """Read one, or some."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        length = len(self)
        position = index + length if index < 0 else index
        if not 0 <= position < length:
            message = f"there are {length} transactions, none at {index}"
            raise IndexError(message)
        listed = self._desk.store.find(Query(offset=position, limit=1))
        if listed:
            return self._manager.get_transaction(listed[0].summary.transaction_id)
        unsaved = self._desk.book.unsaved()
        return unsaved[position - (length - len(unsaved))]

    def __iter__(self) -> Iterator[Transaction]:
        """Read one after the other, a page of summaries at a time.

        Raises:
            JournalCorrupt: A journal is damaged; raised behind all the others, which can be read.
            JournalTooNew: Likewise, for one that a newer release wrote.
        """
        after: int | None = None
        unreadable: Exception | None = None
        while listed := self._desk.store.find(Query(after=after, limit=PAGE)):
            for item in listed:
                try:
                    yield self._manager.get_transaction(item.summary.transaction_id)
                except (JournalCorrupt, JournalTooNew) as error:
                    unreadable = unreadable or error
            after = listed[-1].position
        yield from self._desk.book.unsaved()
        if unreadable is not None:
            raise unreadable


class AsyncStoredTransactions:
    """Read the transactions of a store as they are asked for, oldest first.

    What has been begun and not saved stands at the end.
    """

    def __init__(self, manager: AsyncTransactionManager) -> None:
        self._manager = manager

    async def count(self) -> int:
        """Return how many there are now."""
        desk = await self._manager._desk()  # noqa: SLF001 (its own list)
        stored = await self._manager._blocking(lambda: desk.store.count(Query()))  # noqa: SLF001
        return stored + len(desk.book.unsaved())

    async def __aiter__(self) -> AsyncIterator[Transaction]:
        """Read one after the other, a page of summaries at a time."""
        desk = await self._manager._desk()  # noqa: SLF001 (its own list)
        after: int | None = None
        unreadable: Exception | None = None
        while listed := await self._manager.find(Query(after=after, limit=PAGE)):
            for item in listed:
                try:
                    yield await self._manager.get_transaction(item.summary.transaction_id)
                except (JournalCorrupt, JournalTooNew) as error:
                    unreadable = unreadable or error
            after = listed[-1].position
        for transaction in desk.book.unsaved():
            yield transaction
        if unreadable is not None:
            raise unreadable
