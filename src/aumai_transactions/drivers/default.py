"""The transaction that needs no manager.

Owns: the manager of this process on the command line's default store, and `transaction()`.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Unpack

from aumai_transactions.drivers.manager import BLOCK_TIMEOUT_SECONDS
from aumai_transactions.drivers.options import BlockOptions
from aumai_transactions.drivers.resuming import nested_in
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.drivers.sync_block import TransactionBlock
from aumai_transactions.stores import default_store, open_store

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.drivers.async_block import AsyncTransactionBlock

_guard = threading.Lock()
_managers: dict[tuple[int, str], TransactionManager] = {}
"""By process and store: what a process has opened is of no use to its children."""


def default_manager() -> TransactionManager:
    """Return this process's manager on the command line's default store.

    That is `$AUMAI_TRANSACTIONS_STORE`, else `~/.aumai/transactions/transactions.db`.
    """
    name = default_store()
    key = os.getpid(), name
    with _guard:
        if key not in _managers:
            store = open_store(name, create=True, make_parent=True)
            _managers[key] = TransactionManager(store=store)
        return _managers[key]


class DefaultBlock:
    """Be a transaction on the default store, for `with` and for `async with`."""

    def __init__(self, timeout_seconds: float, options: BlockOptions) -> None:
        self._timeout_seconds = timeout_seconds
        self._options = options
        self._sync: TransactionBlock | None = None
        self._async: AsyncTransactionBlock | None = None

    def __enter__(self) -> TransactionBlock:
        """Begin; see `TransactionBlock`."""
        manager = default_manager()
        self._sync = manager.transaction(self._timeout_seconds, **self._options)
        return self._sync.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, or roll back; see `TransactionBlock`."""
        if self._sync is not None:
            self._sync.__exit__(kind, error, traceback)

    async def __aenter__(self) -> AsyncTransactionBlock:
        """Begin; see `AsyncTransactionBlock`."""
        import asyncio

        from aumai_transactions.drivers.async_block import AsyncTransactionBlock

        manager = await asyncio.to_thread(default_manager)
        around = manager._block_around()  # noqa: SLF001 (one package)
        if around is not None:
            seconds, options = self._timeout_seconds, self._options
            self._async = nested_in(around, AsyncTransactionBlock, seconds, options)
        else:
            made = manager._interactive(self._timeout_seconds, self._options)  # noqa: SLF001
            self._async = AsyncTransactionBlock(manager, made)
        return await self._async.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, or roll back; see `AsyncTransactionBlock`."""
        if self._async is not None:
            await self._async.__aexit__(kind, error, traceback)


def transaction(
    timeout_seconds: float = BLOCK_TIMEOUT_SECONDS, **options: Unpack[BlockOptions]
) -> DefaultBlock:
    """Return a transaction on the command line's default store, for `with` or `async with`.

    Args:
        timeout_seconds: How long from now it may take; past that it is rolled back.
        **options: See `TransactionManager.transaction`.
    """
    return DefaultBlock(timeout_seconds, options)
