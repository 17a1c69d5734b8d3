"""How concurrent transactions share one durable write (group commit), with asyncio.

Owns: the queue in front of a store's `append` for tasks; `append_queue.py` is the same for
threads, and says where the idea comes from. What is promised of turns is in `operations.py`.
Rules:
  1. There is no task here, only futures: whoever cancels every task of a loop, as a shutdown
     does, cannot make a write that is under way look as if it had not happened.
  2. The loop itself writes only where that keeps it waiting for less than handing the write to a
     thread and back would: see `promptness.py`. Any other write is a thread's.
  3. A lock is held over no wait of the loop's, for whoever else wants it may be in the loop too: a
     turn is taken in one go, or in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from aumai_transactions.drivers.append_queue import BATCH_MAX, written
from aumai_transactions.drivers.in_place import carry_on, take_in_place
from aumai_transactions.drivers.operations import DoAppend, DoBlocking
from aumai_transactions.drivers.promptness import Promptness
from aumai_transactions.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aumai_transactions.drivers.operations import Attendant, DoTurn, Operations, Procedure
    from aumai_transactions.store import Append, AppendAnswer, Store

_Item: TypeAlias = "_Appending | _Turning"
JOURNAL_THREADS_MAX = 32
ROUND_MAX = 128
"""How many the loop itself writes in one go; what else runs in it has its turn in between."""
_NOT_YET = object()


class _Awaited:
    """Hold what a task waits for, and what has become of it; that is found out in any thread."""

    __slots__ = ("came", "loop", "outcome")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.came = self.loop.create_future()
        self.outcome: object = _NOT_YET

    def tell(self) -> None:
        """Wake the task, in its loop, where there is an outcome."""
        if self.outcome is not _NOT_YET and not self.came.done():
            self.came.set_result(None)

    async def wait(self, run: Attendant) -> Any:
        """Wait for it, whoever cancels meanwhile: that is noted."""
        while self.outcome is _NOT_YET:
            try:
                await self.came
            except asyncio.CancelledError as cancelled:
                run.interrupt = run.interrupt or cancelled
                if self.came.cancelled():
                    self.came = self.loop.create_future()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class _Appending(_Awaited):
    """Hold an append that a task waits for."""

    __slots__ = ("append",)

    def __init__(self, append: Append) -> None:
        super().__init__()
        self.append = append

    def take(self, outcome: AppendAnswer | Exception) -> None:
        """Take what became of it."""
        self.outcome = outcome

    def give_up(self, error: Exception) -> None:
        """Take it that nothing more becomes of it."""
        self.outcome = error


class _Turning(_Awaited):
    """Hold a turn that a task waits for; once begun, it holds its lock until it has an outcome."""

    __slots__ = ("context", "operation", "procedure", "wants")

    def __init__(self, operation: DoTurn) -> None:
        super().__init__()
        self.operation = operation
        self.context = contextvars.copy_context()
        self.procedure: Procedure[Any] | None = None
        self.wants: Operations | None = None

    @property
    def append(self) -> Append:
        """What it wants to append, where that is what it wants."""
        wants: Any = self.wants
        appended: Append = wants.append
        return appended

    def begin(self) -> bool:
        """Begin, up to where it wants something; False where somebody else has the lock."""
        if not self.operation.lock.acquire(blocking=False):
            return False
        self.procedure = procedure = self.operation.steps()
        self._go_on(procedure.send, None)
        return True

    def take(self, outcome: AppendAnswer | Exception) -> None:
        """Go on with what became of its append."""
        procedure: Any = self.procedure
        is_error = isinstance(outcome, Exception)
        self._go_on(procedure.throw if is_error else procedure.send, outcome)

    def look_up(self) -> None:
        """Look up what it wants to know, as long as that is what it wants."""
        procedure: Any = self.procedure
        while isinstance(self.wants, DoBlocking):
            try:
                value = self.wants.function()
            except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
                self._go_on(procedure.throw, error)
            else:
                self._go_on(procedure.send, value)

    def _go_on(self, step: Callable[..., Operations], given: object) -> None:
        try:
            self.wants = self.context.run(step, given)
        except StopIteration as done:
            self._end(done.value)
        except BaseException as error:  # noqa: BLE001 (raised by whose turn it is)
            self._end(error)

    def _end(self, outcome: object) -> None:
        self.wants = None
        self.outcome = outcome
        self.operation.lock.release()

    def finish(self) -> None:
        """Take all of it, or the rest, in this thread, which may wait; then wake the task."""
        try:
            if self.procedure is None:
                self.outcome = self.context.run(take_in_place, self.operation)
            else:
                rest = partial(carry_on, self.operation.desk, self.procedure, self.wants)
                self._end(self.context.run(rest))
        except BaseException as error:  # noqa: BLE001 (raised by whose turn it is)
            if self.procedure is None:
                self.outcome = error
            else:
                self._end(error)
        with contextlib.suppress(RuntimeError):  # The loop is closed, and nobody waits any more.
            self.loop.call_soon_threadsafe(self.tell)

    def give_up(self, error: Exception) -> None:
        """Take nothing of it, or nothing more."""
        if self.procedure is None:
            self.outcome = error
        else:
            self.procedure.close()
            self._end(error)


class AsyncAppendQueue:
    """Let tasks share durable writes.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._promptness = Promptness(store)
        self._waiting: list[_Appending] = []
        self._turns: list[_Turning] = []
        self._is_writing = False
        self._threads: ThreadPoolExecutor | None = None
        self._writer: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let go of the threads; what runs in them goes on."""
        for threads in (self._threads, self._writer):
            if threads is not None:
                threads.shutdown(wait=False)

    async def append(self, append: Append, run: Attendant) -> AppendAnswer:
        """Make one append durable, together with those that wait at the same time.

        Args:
            append: It.
            run: Where a cancellation is noted; it does not end the wait.
        """
        mine = _Appending(append)
        self._waiting.append(mine)
        self._write_soon()
        answer: AppendAnswer = await mine.wait(run)
        return answer

    async def turn(self, operation: DoTurn) -> object:
        """Take a turn; what it appends is made durable together with what others append."""
        mine = _Turning(operation)
        self._turns.append(mine)
        self._write_soon()
        return await mine.wait(operation.run)

    def _write_soon(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            # Why not at once: what other tasks append in this turn of the loop goes along.
            asyncio.get_running_loop().call_soon(self._write_next)

    def _write_next(self) -> None:
        size = ROUND_MAX if self._promptness.is_given() else BATCH_MAX
        turns, self._turns = self._turns[:size], self._turns[size:]
        room = max(size - len(turns), 1)
        batch, self._waiting = self._waiting[:room], self._waiting[room:]
        try:
            self._write(batch, turns)
        finally:
            # Why also behind an interrupt: a turn may have ended that had nothing to write.
            for turn in turns:
                turn.tell()

    def _write(self, batch: Sequence[_Appending], turns: Sequence[_Turning]) -> None:
        begun = [turn for turn in turns if self._begin(turn)]
        while True:
            begun = self._wanting_to_append(begun)
            writing: list[_Item] = [*batch, *begun]
            if not writing:
                self._end_write(())
                return
            outcomes = self._written_here(writing)
            if outcomes is None:
                self._write_in_thread(writing)
                return
            _take(writing, outcomes)
            for item in writing:
                item.tell()
            batch = ()

    def _begin(self, turn: _Turning) -> bool:
        if turn.begin():
            return True
        # Why not tried again: whoever has the lock may be a thread that waits for long.
        self._hand_over(turn)
        return False

    def _wanting_to_append(self, begun: Sequence[_Turning]) -> list[_Turning]:
        """Return those that want to append now; those that have to wait are handed over."""
        found = []
        for turn in begun:
            turn.look_up()
            if isinstance(turn.wants, DoAppend):
                found.append(turn)
            elif turn.wants is not None:
                self._hand_over(turn)
        return found

    def _written_here(self, writing: Sequence[_Item]) -> list[AppendAnswer | Exception] | None:
        try:
            return self._promptness.written([item.append for item in writing])
        except BaseException:
            # An interrupt: nobody is left without an outcome, and the very same appends tell.
            unknown = StoreUnavailable("the write was interrupted.", outcome_unknown=True)
            self._fail(writing, unknown)
            raise

    def _write_in_thread(self, writing: Sequence[_Item]) -> None:
        try:
            if self._writer is None:
                # Why its own: all others may be busy, waiting for locks of turns that are in here.
                self._writer = ThreadPoolExecutor(1, "aumai-journal-writer")
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._writer, self._write_all, writing)
        except RuntimeError as error:
            # No thread can be started, or the loop is shutting down: certainly not written.
            refusal = StoreUnavailable(f"no thread can be started for the write ({error}).")
            self._fail(writing, refusal)
        else:
            work.add_done_callback(lambda done: self._written_in_thread(writing, done.exception()))

    def _written_in_thread(self, writing: Sequence[_Item], error: BaseException | None) -> None:
        for item in writing if error is not None else ():
            if item.outcome is _NOT_YET:
                # A bug, ours or the store's: nobody waits for ever, and the very same appends tell.
                unknown = StoreUnavailable(
                    f"the write was broken off ({error!r}).", outcome_unknown=True
                )
                item.give_up(unknown)
        self._end_write(writing)

    def _write_all(self, writing: Sequence[_Item]) -> None:
        """Write in this thread, and take the turns to their ends, so that their locks are free.

        Why here: the loop may wait for one of these locks.
        """
        while writing:
            _take(writing, written(self._store, [item.append for item in writing]))
            writing = self._wanting_to_append([i for i in writing if isinstance(i, _Turning)])

    def _fail(self, writing: Sequence[_Item], error: StoreUnavailable) -> None:
        for item in writing:
            item.take(error)
        for turn in writing:
            if isinstance(turn, _Turning) and turn.wants is not None:
                self._hand_over(turn)
        self._end_write(writing)

    def _end_write(self, written: Sequence[_Item]) -> None:
        for item in written:
            item.tell()
        self._is_writing = False
        if self._waiting or self._turns:
            self._write_soon()

    def _hand_over(self, turn: _Turning) -> None:
        """Let a thread take a turn, or the rest of it; from any thread."""
        try:
            if turn.procedure is not None:
                # Why its own: it has its lock, and all others may be waiting for that.
                threading.Thread(target=turn.finish, name="aumai-journal", daemon=True).start()
                return
            if self._threads is None:
                self._threads = ThreadPoolExecutor(JOURNAL_THREADS_MAX, "aumai-journal")
            self._threads.submit(turn.finish)
        except RuntimeError as error:
            turn.give_up(StoreUnavailable(f"no thread can be started for a write ({error})."))


def _take(writing: Sequence[_Item], outcomes: Sequence[AppendAnswer | Exception]) -> None:
    for item, outcome in zip(writing, outcomes, strict=True):
        item.take(outcome)
