"""How a program hears that what its transaction has read was changed, while it still goes on.

Owns: the one thread of a manager that looks, and the threads and tasks in which programs are told.
Rules:
  1. Who looks changes nothing, and whatever goes wrong here changes no outcome: what may be
     committed is decided in the append that commits.
  2. Nobody is told under the lock of a transaction, nor in the thread that looks: a program that
     takes its time holds up nobody.
  3. Where nobody wants to be told, there is no thread, and nothing is looked at.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from aumai_transactions.calls import error_record
from aumai_transactions.core.conflicts import Lookout, may_be_told, notice_of
from aumai_transactions.core.isolation import reads_in_force
from aumai_transactions.core.states import COMMITTED
from aumai_transactions.drivers.ambient import CALLING, NOTICING, OnItsOwn, noticing
from aumai_transactions.errors import InvalidTransactionState, TransactionError
from aumai_transactions.models import ConflictNotice
from aumai_transactions.store import Query

if TYPE_CHECKING:
    import asyncio

    from aumai_transactions.core.conflicts import Changed
    from aumai_transactions.core.locking import LockTable
    from aumai_transactions.drivers.background import LoopThread
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.drivers.shared import Shared
    from aumai_transactions.store import Store

log = logging.getLogger("aumai_transactions")

OnConflict = Callable[[ConflictNotice], object]
"""Given each notice once; what it raises becomes a warning."""

LOOK_SECONDS_MIN = 0.1
"""How long nobody looks again after a look, whatever news there are."""

LOOK_SECONDS_MAX = 0.5
"""How long nobody looks again where there are no news: they are a hint only."""

END_SECONDS_MAX = 1.0
"""How long a callback that runs while its block is left is waited for."""


class Teller(Protocol):
    """Tell one block's program."""

    def tell(self, notice: ConflictNotice) -> None:
        """Let it be told, later, and return at once."""


class Noticed:
    """Hold what one transaction was found to have read that others have changed since.

    Args:
        shared: The transaction.
    """

    def __init__(self, shared: Shared) -> None:
        self.guard = threading.Lock()
        self.notices: list[ConflictNotice] = []
        self.tellers: list[Teller] = []
        self._shared = shared
        self._lookout = Lookout()

    @property
    def is_over(self) -> bool:
        """True where nobody is to be told any more, or nothing can ever be done about it again.

        Why not where nothing can be done just now: a pivot that may have decided may have failed.
        """
        shared = self._shared
        if not self.tellers or shared.broken is not None:
            return True
        return shared.saga.state.is_final or shared.saga.decided_at is not None

    def names(self) -> list[str]:
        """Return the resources that have to be looked at."""
        with self._shared.lock:
            saga = self._shared.saga
            return list(reads_in_force(saga)) if may_be_told(saga) else []

    def compare(self, store: Store, table: LockTable, now: int) -> None:
        """Tell whoever wants to be told what has changed.

        Args:
            store: Where it is looked up what became of whoever has changed it.
            table: What was shown of the resources.
            now: Microseconds since 1970 UTC.
        """
        with self._shared.lock:
            found = self._lookout.compare(self._shared.saga, table)
        for changed in found:
            is_certain = _has_committed(store, changed)
            with self._shared.lock:
                notice = notice_of(self._shared.saga, changed, now, is_certain=is_certain)
            if notice is None:
                continue
            self.notices.append(notice)
            for teller in tuple(self.tellers):
                teller.tell(notice)


def _has_committed(store: Store, changed: Changed) -> bool:
    """Tell whether it is known that who held something has committed."""
    if changed.holder is None:
        return False
    for listed in store.find(Query(prefix=changed.holder, limit=10)):
        if listed.summary.transaction_id == changed.holder:
            return listed.summary.state is COMMITTED
    return False


class ConflictWatch:
    """Look, for all transactions of a manager whose programs want to be told, what has changed.

    Args:
        store: Where to look.
        now: Tells the time, microseconds since 1970 UTC.
    """

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._watched: list[Noticed] = []
        self._thread: threading.Thread | None = None
        self._is_in_trouble = False

    def add(self, noticed: Noticed) -> None:
        """Look for one more; the thread ends once nobody is left to look for."""
        with self._guard:
            if noticed not in self._watched:
                self._watched.append(noticed)
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(
                    target=self._keep, name="aumai-conflicts", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Look no more; wait a moment until nobody does."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            # Why not for ever: a signal handler that closes the manager may have hit a turn, whose
            # lock the thread may wait for.
            thread.join(LOOK_SECONDS_MAX + END_SECONDS_MAX)

    def _keep(self) -> None:
        while watched := self._those_left():
            try:
                self._look(watched)
                self._store.wait_for_news(LOOK_SECONDS_MAX)
                self._is_in_trouble = False
            except TransactionError as error:
                if not self._stopped.is_set() and not self._is_in_trouble:
                    # Why no error: who commits meets the store by itself, and is told.
                    log.warning("nobody can look now for what has changed: %s", error)
                self._is_in_trouble = True
                self._stopped.wait(LOOK_SECONDS_MAX)
            self._stopped.wait(LOOK_SECONDS_MIN)

    def _those_left(self) -> list[Noticed]:
        with self._guard:
            self._watched = [one for one in self._watched if not one.is_over]
            if self._stopped.is_set():
                self._watched = []
            if not self._watched:
                # Order matters: whoever comes from here on starts another thread.
                self._thread = None
            return list(self._watched)

    def _look(self, watched: list[Noticed]) -> None:
        names = {name for noticed in watched for name in noticed.names()}
        if names:
            table = self._store.locks(sorted(names))
            for noticed in watched:
                noticed.compare(self._store, table, self._now())


class _Telling:
    """Be a call of a program's callback: it stands in no transaction, and may change none of its.

    Args:
        run: Whose transaction it is about, and where a warning goes.
        notice: What is told.
    """

    def __init__(self, run: Run, notice: ConflictNotice) -> None:
        self._run = run
        self._notice = notice

    def __enter__(self) -> None:
        """Begin."""
        self._alone = OnItsOwn()
        self._alone.__enter__()
        self._calling = CALLING.set((*CALLING.get(), *noticing(self._run.transaction_id)))

    def __exit__(self, kind: type[BaseException] | None, error: object, _traceback: object) -> bool:
        """End; what was raised becomes a warning."""
        CALLING.reset(self._calling)
        self._alone.__exit__()
        if not isinstance(error, Exception):
            return False
        about = {"transaction_id": self._run.transaction_id, "resource": self._notice.resource}
        log.error("on_conflict raised for %s", self._notice.resource, exc_info=error, extra=about)
        said = error_record(error)
        text = f"the callback of on_conflict raised {said} (about {self._notice.resource})"
        self._run.hook_warnings.append(text)
        return True


def _still_runs(run: Run) -> str:
    text = "a callback of on_conflict still ran when its block had been left"
    about = {"transaction_id": run.transaction_id}
    log.warning("transaction %s: %s", run.transaction_id, text, extra=about)
    return text


class ThreadTeller:
    """Tell a program of threads, in a thread of its own, one notice after the other.

    Args:
        run: The transaction.
        loop_thread: Where what is to be awaited runs.
    """

    def __init__(self, run: Run, loop_thread: LoopThread) -> None:
        self.callbacks: list[OnConflict] = []
        self._run = run
        self._loop_thread = loop_thread
        self._guard = threading.Lock()
        self._waiting: deque[tuple[OnConflict, ConflictNotice]] = deque()
        self._thread: threading.Thread | None = None
        self._is_over = False

    def tell(self, notice: ConflictNotice) -> None:
        """Let each callback be called; return at once."""
        with self._guard:
            if self._is_over:
                return
            self._waiting.extend((callback, notice) for callback in self.callbacks)
            if self._thread is None and self._waiting:
                self._thread = threading.Thread(
                    target=self._tell, name="aumai-on-conflict", daemon=True
                )
                self._thread.start()

    def _tell(self) -> None:
        import inspect

        while True:
            with self._guard:
                if not self._waiting:
                    self._thread = None
                    return
                callback, notice = self._waiting.popleft()
            try:
                with _Telling(self._run, notice):
                    answer = callback(notice)
                    if inspect.isawaitable(answer):
                        self._loop_thread.run(answer)
            except BaseException:
                # Why not further: it would end the thread, and with it what is still to be told.
                log.warning("a callback of on_conflict was broken off", exc_info=True)

    def close(self) -> None:
        """Begin no call any more; wait a moment for one that runs."""
        with self._guard:
            self._is_over = True
            self._waiting.clear()
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(END_SECONDS_MAX)
        if thread.is_alive():
            self._run.hook_warnings.append(_still_runs(self._run))


class TaskTeller:
    """Tell a program of tasks, in a task of its loop, one notice after the other.

    Args:
        run: The transaction.
        loop: The loop.
    """

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        self.callbacks: list[OnConflict] = []
        self._run = run
        self._loop = loop
        self._waiting: deque[tuple[OnConflict, ConflictNotice]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def tell(self, notice: ConflictNotice) -> None:
        """Let each callback be called; return at once."""
        try:
            self._loop.call_soon_threadsafe(partial(self._begin, notice))
        except RuntimeError:
            self._is_over = True  # The loop is closed, and nobody listens any more.

    def _begin(self, notice: ConflictNotice) -> None:
        if self._is_over:
            return
        self._waiting.extend((callback, notice) for callback in self.callbacks)
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._tell())

    async def _tell(self) -> None:
        import inspect

        while self._waiting:
            callback, notice = self._waiting.popleft()
            with _Telling(self._run, notice):
                answer = callback(notice)
                if inspect.isawaitable(answer):
                    await answer

    async def close(self) -> None:
        """Begin no call any more; cancel one that runs, and wait a moment for it."""
        import asyncio

        self._is_over = True
        self._waiting.clear()
        task = self._task
        if task is None or task.done() or task is asyncio.current_task():
            return
        task.cancel()
        _, left = await asyncio.wait([task], timeout=END_SECONDS_MAX)
        if left:
            self._run.hook_warnings.append(_still_runs(self._run))


def refuse_in_notice(transaction_id: str) -> None:
    """Refuse what a callback of `on_conflict` must leave to the program that it tells.

    Raises:
        InvalidTransactionState: Such a callback of this transaction asks.
    """
    if NOTICING + transaction_id in CALLING.get():
        raise InvalidTransactionState(
            transaction_id,
            "telling of a conflict",
            "be acted on by a callback of on_conflict of",
            "Let the callback wake the program, which undoes the step and reads again.",
        )
