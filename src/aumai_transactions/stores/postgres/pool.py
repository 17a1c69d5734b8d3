"""The connections of one handle, lent to one thread at a time.

Owns: how many there are, which of them can still be used, and what becomes of them in a child of
fork.
Rules:
  1. A connection is made when nobody can be lent one that is there, up to the pool's size; then
     threads wait for their turn, and not for ever.
  2. What failed in a way that leaves nobody sure of the connection is closed, never lent again.
  3. An interrupt may come at any moment, and must leave nothing taken that nobody has: what is
     taken is written down under a lock that Python takes in one go, with whose it is.
  4. There is no thread here. A child of fork closes its copies of the sockets and says nothing on
     them: the sessions are its parent's.
"""

from __future__ import annotations

import os
import select
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg

from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.stores.postgres.connections import Connection, Doubts, Promises, connect
from aumai_transactions.stores.postgres.failures import (
    PASSING,
    READ_ONLY,
    CommitInDoubt,
    as_lost,
    is_lost,
    store_error,
)
from aumai_transactions.stores.postgres.pausing import FIRST_PAUSE_SECONDS, pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from psycopg import Cursor

    from aumai_transactions.stores.postgres.address import Address

    Result = TypeVar("Result")
    Values = Mapping[str, Any]

WAIT_SECONDS_MAX: Final = 30.0
# How long a server that was there before may be away: a restart, or a failover.
AWAY_SECONDS_MAX: Final = 15.0
_LOOK_SECONDS_MAX: Final = 1.0
_FREED_SECONDS_MAX: Final = 0.05
TRIES_MAX: Final = 4


@dataclass(slots=True, eq=False)
class Lent:
    """Hold a connection that one thread may use now.

    Args:
        connection: In autocommit mode, in no transaction.
        doubts: What the server warned of.
        is_writing: True once something was sent that may be committed.
    """

    connection: Connection
    doubts: Doubts
    is_writing: bool = False
    is_broken: bool = field(default=False)

    def read(self, query: bytes, values: Values | None = None) -> Cursor[tuple[Any, ...]]:
        """Run a statement that changes nothing that anybody relies on."""
        return self.connection.execute(query, values)

    def write(self, query: bytes, values: Values | None = None) -> Cursor[tuple[Any, ...]]:
        """Run a statement that commits; return when what it wrote is durable.

        Raises:
            CommitInDoubt: The server gave up waiting for a standby.
        """
        self.doubts.warned = ""
        self.is_writing = True
        cursor = self.connection.execute(query, values)
        if self.doubts.warned:
            raise CommitInDoubt(self.doubts.warned)
        self.is_writing = False
        return cursor


class _Seats:
    """Let so many threads in at a time.

    Why no semaphore: Python's takes a lock of its own in more than one go, and an interrupt in
    between leaves that taken for ever.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._guard = Lock()
        self._taken: set[int] = set()
        self._freed: SimpleQueue[None] = SimpleQueue()

    def take(self, seconds: float) -> bool:
        """Take a seat, which is this thread's until it leaves; False where none became free."""
        mine, until = get_ident(), monotonic() + seconds
        while True:
            with self._guard:
                # Why mine as well: an interrupt may have kept this thread from leaving.
                if mine in self._taken or len(self._taken) < self._count:
                    self._taken.add(mine)
                    return True
            left = until - monotonic()
            if left <= 0:
                return False
            try:
                self._freed.get(timeout=min(left, _FREED_SECONDS_MAX))
            except Empty:
                continue  # Who left may have told somebody else, or have been interrupted.

    def leave(self) -> None:
        """Free this thread's seat, where it has one."""
        with self._guard:
            self._taken.discard(get_ident())
        if self._freed.empty():
            self._freed.put(None)


class Pool:
    """Lend connections.

    Args:
        address: Where to.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pid = os.getpid()
        self._guard = Lock()
        self._seats = _Seats(address.pool_size)
        self._idle: list[Lent] = []
        self._all: set[Lent] = set()
        self._is_closed = False
        self.promises = Promises("", "", "")

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._all)

    def run(self, work: Callable[[Lent], Result], *, is_patient: bool = True) -> Result:
        """Use a connection, and again where nothing was written for a passing cause.

        Args:
            work: What to do with it; must not rely on what it did in a try that failed.
            is_patient: True where a server that is away is waited for.

        Raises:
            StoreError: It could not be done, or nobody knows.
        """
        for pause in pauses(TRIES_MAX):
            try:
                with self._lent(is_patient=is_patient) as lent:
                    return work(lent)
            except psycopg.Error as error:
                is_writing = getattr(error, "is_writing", False)
                is_gone = is_patient and is_lost(error) and not is_writing
                if pause is not None and (error.sqlstate in PASSING or is_gone):
                    pause()
                    continue
                raise store_error(error, self._address, is_writing=is_writing) from error
            except (UnicodeError, OverflowError) as error:
                place = self._address.place
                raise StoreError(f"{place} cannot hold this: {error}.") from error
        raise StoreUnavailable(f"{self._address.place}: no try was left.")

    @contextmanager
    def _lent(self, *, is_patient: bool) -> Iterator[Lent]:
        try:
            if not self._seats.take(WAIT_SECONDS_MAX):
                raise StoreUnavailable(
                    f"{self._address.place}: all {self._address.pool_size} connections of this "
                    f"handle have been in use for {WAIT_SECONDS_MAX:g} s. Nothing was written; try "
                    "again, or raise pool_size in the store's URL."
                )
            lent = self._taken() or self._made(is_patient=is_patient)
            try:
                yield lent
            except OSError as error:
                lost = as_lost(error)
                self._judge(lent, lost)
                raise lost from error
            except BaseException as error:
                self._judge(lent, error)
                raise
            finally:
                self._give_back(lent)
        finally:
            self._seats.leave()

    def _judge(self, lent: Lent, error: BaseException) -> None:
        """Decide whether the connection can be lent again."""
        if isinstance(error, psycopg.Error):
            # Why on the error: whoever translates it no longer has the connection.
            error.is_writing = lent.is_writing  # type: ignore[attr-defined]
            lent.is_broken = is_lost(error) or error.sqlstate == READ_ONLY
        elif not isinstance(error, Exception):
            # An interrupt may have come between a statement and its answer.
            lent.is_broken = True
        lent.is_writing = False

    def _taken(self) -> Lent | None:
        """Return one that is there and alive; close those that are not."""
        while True:
            with self._guard:
                if self._is_closed:
                    raise StoreError(f"{self._address.place} is closed. Open it again.")
                if not self._idle:
                    return None
                lent = self._idle.pop()
            if is_quiet(lent.connection):
                return lent
            self._drop(lent)

    def _made(self, *, is_patient: bool) -> Lent:
        # Why only one that was there before: who names a wrong host is to be told at once.
        away = AWAY_SECONDS_MAX if is_patient and self.promises.fsync else 0.0
        until, pause = monotonic() + away, FIRST_PAUSE_SECONDS
        lent = None
        while lent is None:
            try:
                connection, doubts, self.promises = connect(self._address)
                lent = Lent(connection, doubts)
            except StoreUnavailable:
                if self._is_closed or monotonic() + pause > until:
                    raise
                Event().wait(pause)
                pause = min(pause * 2, _LOOK_SECONDS_MAX)
        with self._guard:
            self._all.add(lent)
        return lent

    def _give_back(self, lent: Lent) -> None:
        status = lent.connection.info.transaction_status
        if not lent.is_broken and status == psycopg.pq.TransactionStatus.INERROR:
            status = _rolled_back(lent.connection)
        if lent.is_broken or status != psycopg.pq.TransactionStatus.IDLE:
            self._drop(lent)
            return
        with self._guard:
            if not self._is_closed:
                self._idle.append(lent)
                return
        self._drop(lent)

    def _drop(self, lent: Lent) -> None:
        with self._guard:
            self._all.discard(lent)
        lent.connection.close()

    def close(self) -> None:
        """Close every connection; those that are lent, when they come back."""
        with self._guard:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for lent in idle:
            self._drop(lent)

    def forget(self) -> None:
        """Close the sockets of a child of fork, without a word on them."""
        for lent in self._all:
            forget_socket(lent.connection)


def is_quiet(connection: Connection) -> bool:
    """Tell whether an idle connection is as it was left: a server that ends it says so first."""
    if connection.closed:
        return False
    watch = select.poll() if hasattr(select, "poll") else None
    if watch is None:
        return True
    watch.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not watch.poll(0)


def forget_socket(connection: Connection) -> None:
    """Close a child's copy of a socket."""
    # Why: psycopg warns of a connection that nobody closed, unless it belongs to a pool.
    connection._pool = None  # noqa: SLF001
    try:
        os.close(connection.fileno())
    except (OSError, psycopg.Error):
        # It was closed already.
        return


def _rolled_back(connection: Connection) -> psycopg.pq.TransactionStatus:
    try:
        connection.execute(b"ROLLBACK")
    except psycopg.Error:
        return psycopg.pq.TransactionStatus.UNKNOWN
    return psycopg.pq.TransactionStatus.IDLE
