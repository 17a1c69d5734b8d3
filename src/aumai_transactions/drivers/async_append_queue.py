"""How concurrent transactions share one durable write (group commit), with asyncio.

Owns: the queue in front of a store's `append` for tasks; `append_queue.py` is the same for
threads, and says where the idea comes from.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aumai_transactions.drivers.append_queue import BATCH_MAX, own_copy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aumai_transactions.store import Append, AppendAnswer, Store


class AsyncAppendQueue:
    """Let tasks share durable writes.

    Args:
        store: The store.
        in_thread: Carries out a blocking call outside the event loop.
    """

    def __init__(
        self,
        store: Store,
        in_thread: Callable[[Callable[[], list[AppendAnswer]]], Awaitable[list[AppendAnswer]]],
    ) -> None:
        self._store = store
        self._in_thread = in_thread
        self._waiting: list[tuple[Append, asyncio.Future[AppendAnswer]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, append: Append) -> AppendAnswer:
        """Make one append durable, together with those that wait at the same time."""
        future: asyncio.Future[AppendAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, future))
        if self._writer is None:
            # Why a task of its own: a leader must not be cancelled with its own transaction.
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._write_batch(batch)
        finally:
            self._writer = None

    async def _write_batch(
        self, batch: Sequence[tuple[Append, asyncio.Future[AppendAnswer]]]
    ) -> None:
        appends = [append for append, _future in batch]
        try:
            answers = await self._in_thread(lambda: self._store.append(appends))
        except BaseException as error:
            for _append, future in batch:
                if not future.done():
                    future.set_exception(own_copy(error))
            if not isinstance(error, Exception):
                raise
        else:
            for (_append, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
