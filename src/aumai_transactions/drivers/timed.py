"""Calls that may take only so long.

Owns: giving a call up. A coroutine is cancelled; a function cannot be, so it runs in a thread of
its own, which is left behind.
Rules:
  1. What was given up and returns later is handed on as a late answer, never dropped in silence.
  2. The thread is a daemon: a process can end although a call in it never does.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.calls import Answered, late, raised, returned, timed_out

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from aumai_transactions.drivers.operations import DoCall

CANCEL_SECONDS_MAX = 1.0
"""How long a cancelled coroutine may take to end before it is left behind as well."""

Outcome = tuple[Answered, BaseException | None]


class GivenUp(Exception):
    """Say that a call did not return in time.

    Args:
        left_behind: True where it goes on.
    """

    def __init__(self, *, left_behind: bool) -> None:
        self.left_behind = left_behind
        super().__init__()


class Limit(NamedTuple):
    """Hold how long one call may take, and what becomes of it afterwards.

    Args:
        operation: The call.
        seconds: How long it may take.
        attempt: Which attempt it is.
    """

    operation: DoCall
    seconds: float
    attempt: int

    @classmethod
    def of(cls, operation: DoCall, seconds: float) -> Limit:
        """Return the limit of a call that is about to be made."""
        return cls(operation, seconds, operation.attempt)

    def given_up(self, error: GivenUp) -> Outcome:
        """Return what was seen: nothing, in time."""
        step, kind = self.operation.step, self.operation.operation
        return timed_out(step, kind, self.seconds, left_behind=error.left_behind)

    def hand_on(self, outcome: Outcome) -> None:
        """Hand a late answer on; it may wait for a disk."""
        answer = late(outcome[0], self.attempt)
        if answer is not None and self.operation.on_late is not None:
            self.operation.on_late(answer)

    def hand_on_result(self, task: asyncio.Task[Any]) -> None:
        """Hand on what a coroutine returned or raised late, from a thread of its own."""
        step, kind = self.operation.step, self.operation.operation
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            seen = returned(step, kind, task.result(), self.operation.callee.action.redact)
        else:
            seen = raised(step, kind, self.operation.callee.action, error)
        threading.Thread(target=self.hand_on, args=((seen, None),), daemon=True).start()


class LeavableCall:
    """Run a call in a thread of its own, which can be left behind.

    Args:
        work: The call; it returns what was seen and never raises.
        on_late: Takes what was seen where nobody waits for it any more.
    """

    def __init__(self, work: Callable[[], Outcome], on_late: Callable[[Outcome], None]) -> None:
        self._work = work
        self._on_late = on_late
        self._guard = threading.Lock()
        self._is_left = False
        self.ended: Future[Outcome] = Future()
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="aumai-timed-handler", daemon=True
        )
        self._is_started = False

    def start(self) -> None:
        """Start it, unless it has been started."""
        if not self._is_started:
            # Order matters: an interrupt may come while the thread starts; it starts once only.
            self._is_started = True
            self._thread.start()

    def outcome(self, limit: Limit) -> Outcome:
        """Start it, and block this thread until it has ended, but only so long; then leave it.

        An interrupt that arrives meanwhile is noted in the run, and the call is waited for: half a
        call is what nobody can undo. A second one leaves it.
        """
        try:
            return self._in_time(limit)
        except BaseException:
            # An interrupt has hit between two waits: what the call answers is heard of late.
            self.leave()
            raise

    def _in_time(self, limit: Limit) -> Outcome:
        step, kind, run = limit.operation.step, limit.operation.operation, limit.operation.run
        while True:
            try:
                self.start()
                return self.ended.result(limit.seconds)
            except RuntimeError as error:
                # No thread can be started, so nothing was called.
                return raised(step, kind, limit.operation.callee.action, error), error
            except TimeoutError:
                if self.leave():
                    return limit.given_up(GivenUp(left_behind=True))
            except (KeyboardInterrupt, SystemExit) as interrupt:
                if run.interrupt is None:
                    run.interrupt = interrupt
                elif self.leave():
                    return limit.given_up(GivenUp(left_behind=True))

    def leave(self) -> bool:
        """Stop waiting for it; return False where it has ended, so that there is an answer."""
        with self._guard:
            if self.ended.done():
                return False
            self._is_left = True
            return True

    def _run(self) -> None:
        outcome = self._work()
        with self._guard:
            if not self._is_left:
                self.ended.set_result(outcome)
                return
        self._on_late(outcome)


async def limited(awaitable: Awaitable[Any], limit: Limit) -> Any:
    """Wait for an awaitable, but only so long; then cancel it.

    Raises:
        GivenUp: It did not end in time.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_awaited(awaitable))
    until = loop.time() + limit.seconds
    is_over = False
    while not task.done():
        try:
            await asyncio.wait({task}, timeout=max(until - loop.time(), 0.0))
        except asyncio.CancelledError:
            # Why it is still waited for: half a call is what nobody can undo.
            task.cancel()
            continue
        if task.done() or loop.time() < until:
            continue
        if is_over:
            # It swallowed the cancellation, and goes on.
            break
        is_over = True
        until = loop.time() + CANCEL_SECONDS_MAX
        task.cancel()
    if not is_over:
        return task.result()
    if task.done() and (task.cancelled() or task.exception() is not None):
        raise GivenUp(left_behind=False)
    # It goes on, or it has an answer after all.
    task.add_done_callback(limit.hand_on_result)
    raise GivenUp(left_behind=True)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
