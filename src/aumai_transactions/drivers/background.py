"""The threads that a manager keeps.

Owns: the event loop thread on which a sync driver runs async handlers, and the thread that
renews a driver's lease. Both are daemons and start only when they are needed.
"""

from __future__ import annotations

import inspect
import logging
import threading
from typing import TYPE_CHECKING, Any

from aumai_transactions.clock import Since
from aumai_transactions.errors import StepRejected, StoreError
from aumai_transactions.store import LEASE_SECONDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from aumai_transactions.drivers.desk import Desk

CLOSE_SECONDS_MAX = 10

log = logging.getLogger("aumai_transactions")


class LoopThread:
    """Run coroutines for threads, all on one event loop in one thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for an awaitable in the loop thread, and return or raise what it does.

        If this thread is interrupted meanwhile, the awaitable is cancelled and waited for, so
        that nothing of it runs on unseen.
        """
        if threading.current_thread() is self._thread:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            message = (
                "an async handler of a TransactionManager carries out another transaction of the "
                "same manager, whose async handlers would have to wait for this one. Use an "
                "AsyncTransactionManager, or a manager of its own for the inner transaction."
            )
            raise StepRejected(message)
        from concurrent.futures import Future

        loop = self._started()
        ended: Future[asyncio.Task[Any]] = Future()
        tasks = []

        def start() -> None:
            tasks.append(loop.create_task(_settled(awaitable)))
            tasks[0].add_done_callback(ended.set_result)

        loop.call_soon_threadsafe(start)
        try:
            task = ended.result()
        except BaseException:
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 (not made yet, maybe)
            _ = ended.result()
            raise
        # Why the task's own result: it raises a cancellation as what it is, a BaseException, which
        # says that nobody knows; a future between threads would make an ordinary error of it.
        value, error = task.result()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Stop the thread, if it was ever started."""
        with self._guard:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        # Why alive: a child of fork has inherited no thread, and would wait for it for ever.
        if loop is not None and thread is not None and thread.is_alive():
            import asyncio

            # Order matters: a handler that still runs is cancelled before its loop is stopped;
            # else whoever waits for it would wait for ever.
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="aumai-async-handlers", daemon=True
                )
                self._thread.start()
            return self._loop


async def _cancel_all() -> None:
    import asyncio

    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=CLOSE_SECONDS_MAX)


async def _settled(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    try:
        return await awaitable, None
    except (KeyboardInterrupt, SystemExit) as error:
        # Why not raised here: these two would end the loop, and whoever waits would wait for ever.
        return None, error


class LeaseKeeper:
    """Renew a driver's lease for as long as it drives something.

    Args:
        renew: Extends the lease.
        is_driving: Tells whether anything is driven.
        lease_seconds: How long a lease lasts.
    """

    def __init__(
        self,
        renew: Callable[[], None],
        is_driving: Callable[[], bool],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.pause_seconds = lease_seconds / 3
        self._renew = renew
        self._is_driving = is_driving
        self._renewed = Since.now()
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start renewing, unless it has been started.

        Raises:
            StoreError: This process may start no thread.
        """
        with self._guard:
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._keep, name="aumai-lease", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise StoreError(
                        f"the thread that renews a lease cannot be started ({error}), so that "
                        "others would take this process for dead. Nothing was begun; raise the "
                        "limit of threads, or of memory, and try again."
                    ) from error
                self._thread = thread

    def stop(self) -> None:
        """Stop renewing."""
        self._stopped.set()

    @property
    def is_late(self) -> bool:
        """True where the lease should have been renewed, and was not."""
        return self._renewed.seconds_max > 2 * self.pause_seconds

    def renew(self) -> None:
        """Renew now.

        Raises:
            StoreError: It could not be done.
        """
        asked = Since.now()
        self._renew()
        self._renewed = asked

    def _keep(self) -> None:
        while not self._stopped.wait(self.pause_seconds):
            if not self._is_driving():
                # Why: a claim sees to the lease itself, if it has to.
                self._renewed = Since.now()
                continue
            try:
                self.renew()
            except StoreError as error:
                # Why only a log line: a lease is for liveness. Should it run out, somebody else
                # takes over, and this driver is fenced (invariants I6, I15).
                log.warning("the lease could not be renewed: %s", error)


def keeper_of(desk: Desk) -> LeaseKeeper:
    """Return what renews the leases of a manager, and of its engine's executions here."""
    store, book, hosted = desk.store, desk.book, desk.hosted

    def renew() -> None:
        for name in (desk.driver_id, *tuple(hosted)):
            store.renew(name)

    return LeaseKeeper(renew, lambda: bool(hosted) or book.is_driving(), store.lease_seconds)
