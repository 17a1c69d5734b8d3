"""How concurrent transactions share one durable write (group commit), with asyncio.

Owns: the queue in front of a store's `append` for tasks; `append_queue.py` is the same for
threads, and says where the idea comes from.
Rules:
  1. There is no task here, only futures: whoever cancels every task of a loop, as a shutdown
     does, cannot make a write that is under way look as if it had not happened.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aumai_transactions.drivers.append_queue import BATCH_MAX, written
from aumai_transactions.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.store import Append, AppendAnswer, Store

Waiting = tuple["Append", "asyncio.Future[AppendAnswer]"]


class AsyncAppendQueue:
    """Let tasks share durable writes.

    Args:
        store: The store; it is called in a thread of the loop's default executor.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Waiting] = []
        self._is_writing = False

    def append(self, append: Append) -> asyncio.Future[AppendAnswer]:
        """Make one append durable, together with those that wait at the same time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AppendAnswer] = loop.create_future()
        self._waiting.append((append, future))
        if not self._is_writing:
            self._is_writing = True
            # Why not at once: what other tasks append in this turn of the loop goes along.
            loop.call_soon(self._write_next)
        return future

    def _write_next(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        if not batch:
            self._is_writing = False
            return
        appends = [append for append, _future in batch]
        loop = asyncio.get_running_loop()
        try:
            writing = loop.run_in_executor(None, written, self._store, appends)
        except RuntimeError as error:
            # No thread can be started, or the loop is shutting down: certainly not written.
            refusal = StoreUnavailable(f"no thread can be started for the write ({error}).")
            self._settle(batch, [refusal] * len(batch))
        else:
            writing.add_done_callback(lambda done: self._settle(batch, done.result()))

    def _settle(self, batch: list[Waiting], outcomes: Sequence[AppendAnswer | Exception]) -> None:
        for (_append, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._write_next()
