"""The store in one SQLite file.

Owns: `SqliteStore`, which is the `Store` contract over one connection, one thread lock, one
writer lock and our drivers' lock files.
Rules:
  1. One thread at a time is inside of a handle; one writer of all processes inside of a store.
  2. No code of the user's, and no wait without a bound, happens inside of a transaction.
  3. A handle belongs to the process that opened it; a child of fork opens its own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Self, TypeVar

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core.fairness import in_turns
from aumai_transactions.core.journal import Journal
from aumai_transactions.core.locking import LockTable
from aumai_transactions.errors import StoreError, StoreNotFound, StoreUnavailable
from aumai_transactions.store import (
    LEASE_SECONDS,
    Append,
    AppendAnswer,
    KnownDriver,
    Page,
    Query,
    StoreInfo,
    Tally,
)
from aumai_transactions.stores.sqlite import (
    creation,
    drivers,
    forking,
    health,
    labelling,
    listing,
    names,
    purging,
    statements,
)
from aumai_transactions.stores.sqlite.appending import BatchAppending, KnownHeads, Prepared, prepare
from aumai_transactions.stores.sqlite.damage import problems_of
from aumai_transactions.stores.sqlite.database import Database
from aumai_transactions.stores.sqlite.due import candidates
from aumai_transactions.stores.sqlite.journals import journal_of
from aumai_transactions.stores.sqlite.liveness import DriverLocks, DriverRow, boot_id
from aumai_transactions.stores.sqlite.locks import table_of
from aumai_transactions.stores.sqlite.outbox import SqliteOutbox
from aumai_transactions.stores.sqlite.schema import SCHEMA_VERSION
from aumai_transactions.stores.sqlite.snapshots import SqliteSnapshot, snapshot
from aumai_transactions.stores.sqlite.writer import WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

Result = TypeVar("Result")
WRITER_WAIT_SECONDS = 5.0
NEWS_PAUSE_SECONDS_MIN = 0.005
NEWS_PAUSE_SECONDS_MAX = 0.25


class SqliteStore(SqliteOutbox):
    """Keep journals in one SQLite file, for every process of this machine.

    Args:
        path: The file; resolved at once, so that a later change of directory does not matter.
        create: True where a store that does not exist is to be made.
        make_parent: True where its folder is to be made too, for this user only.
        clock: What tells the time for leases.
        lease_seconds: How long a driver lives after its last sign, where only that can tell.
        writer_wait_seconds: How long a write waits for other writers, roughly.

    Raises:
        StoreNotFound: There is no such store, or its folder does not exist.
        StoreFormatError: What stands there is not a store of ours, or is damaged.
        SchemaVersionError: A newer release wrote it.
        StoreUnavailable: It cannot be read or written for now.
    """

    is_blocking = True
    is_durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        make_parent: bool = False,
        clock: Clock | None = None,
        lease_seconds: float = LEASE_SECONDS,
        writer_wait_seconds: float = WRITER_WAIT_SECONDS,
    ) -> None:
        self._clock = clock or SystemClock()
        self._lease = int(lease_seconds * 1_000_000)
        self._lock = Lock()
        self._pid = os.getpid()
        self._host = os.uname().nodename if os.name == "posix" else ""
        self._is_closed = False
        self._is_tidy = False
        self._last_tenant = ""
        self._heads = KnownHeads()
        # Why realpath: two names of one file must have one -wal and one set of lock files.
        self._path = names.real_path(path)
        self._locks = DriverLocks(self._path)
        try:
            self._database = Database(self._path, writer_wait_seconds)
        except StoreNotFound:
            if not create:
                raise
            creation.create(self._path, make_parent=make_parent)
            self._database = Database(self._path, writer_wait_seconds)
        else:
            creation.sweep_links(self._path)
        with suppress(StoreError):
            # Why it may fail: a search does it as well, and says so.
            self._tell()
        forking.watch(self)
        # Why: a handle that was dropped without close() would otherwise keep its drivers alive,
        # and what they left half-way could not be recovered before this process ends.
        weakref.finalize(self, _let_go, self._locks, self._database, self._pid)

    @property
    def path(self) -> Path:
        """The file, absolute and without symbolic links."""
        return self._path

    def join(self) -> str:
        """Return a new driver id, alive from now until `leave`, `close` or the process ends."""
        with self._lock:
            self._check_usable()
            return self._locks.join().driver_id

    def leave(self, driver_id: str) -> None:
        """Say that this driver drives nothing any more; what it held can be claimed at once."""
        with self._lock:
            self._check_usable()
            driver = self._locks.own.get(driver_id)
            if driver is None:
                return
            try:
                if driver.is_recorded:
                    self._forget([driver_id])
                    driver.is_recorded = False
            finally:
                # Order matters: the file may go only after the row; a free lock proves death to
                # whoever reads the row, a missing file proves nothing.
                self._locks.release(driver_id, forget=not driver.is_recorded)
            self._tidy()

    def renew(self, driver_id: str) -> None:
        """Extend the driver's lease to `lease_seconds` from now.

        Raises:
            StoreError: The driver has not joined through this handle, or has left.
        """
        with self._lock:
            self._check_usable()
            self._check_joined(driver_id)
            if self._locks.own[driver_id].is_recorded:
                self._write(lambda connection: self._record(connection, driver_id))

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Make each append durable, or say why not; see `Store.append`."""
        if not appends:
            return []
        batch = [prepare(append) for append in appends]
        with self._lock:
            return self._append(batch, self._database.write)

    def append_at_once(self, appends: Sequence[Append]) -> list[AppendAnswer] | None:
        """Do the same while waiting for nobody but the disk; see `Prompt.append_at_once`."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            batch = [prepare(append) for append in appends]
            return self._append(batch, self._database.write_at_once)
        finally:
            self._lock.release()

    def _append(self, batch: Sequence[Prepared], write: Callable[..., Result]) -> Result:
        self._check_usable()
        claiming = {id_ for one in batch if (id_ := one.append.driver_id) is not None}
        now = self._clock.now() if claiming else 0
        for driver_id in claiming:
            self._check_joined(driver_id)
            # Why before it is: a COMMIT that raised may have recorded the driver too.
            self._locks.own[driver_id].is_recorded = True
        appending = BatchAppending(batch, self._heads, self._is_alive, partial(self._claims, now))
        answers = write(appending.work)
        appending.keep_heads()
        return answers

    def _claims(
        self, now: int, connection: sqlite3.Connection, leases: dict[str, int], driver_id: str
    ) -> None:
        """Record a driver that claims, unless its lease lasts long enough as it is."""
        if leases.get(driver_id, 0) < now + self._lease // 2:
            self._record(connection, driver_id)
            leases[driver_id] = now + self._lease

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal; None where the store does not hold the transaction."""
        return self._read(lambda connection: journal_of(connection, transaction_id))

    def find(self, query: Query) -> Page:
        """Return one page of transactions in order of arrival."""
        if query.is_search:
            self._tell()
        return listing.find(self._read, query)

    def count(self, query: Query) -> int:
        """Return how many transactions the query fits; its limit and offset do not matter."""
        if query.is_search:
            self._tell()
        return listing.count(self._read, query)

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        return self._read(listing.tally)

    def _tell(self) -> None:
        """Fill in by what those are searched that an older release has begun."""
        while self._read(labelling.is_untold):
            self._write_alone(labelling.tell)

    @property
    def lease_seconds(self) -> float:
        """How long a driver lives after its last sign, where only that can tell."""
        return self._lease / 1_000_000

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,  # noqa: ARG002 (who asks on one machine is told of all)
    ) -> list[str]:
        """Return ids of runnable transactions whose driver is dead, is nobody, or is this one."""
        values = {
            "driver_id": driver_id,
            "limit": max(limit, 0),
            "now": now,
            "agents": None if agents is None else json.dumps(sorted(agents)),
        }
        with self._lock:
            self._check_usable()
            if not self._is_tidy:
                self._tidy()
            values["tenant"] = self._last_tenant
            found = self._database.read(partial(candidates, values=values, is_alive=self._is_alive))
            chosen = in_turns(found, limit, self._last_tenant)
            if chosen:
                # Why the first one's: who asks may have room for no more than that.
                self._last_tenant = chosen[0].tenant
        return [candidate.transaction_id for candidate in chosen]

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources; see `Store.locks`."""
        return self._read(lambda connection: table_of(connection, resources))

    def wait_for_news(self, seconds: float) -> bool:
        """Block until something was appended, or the time is over; tell which it was.

        Why by looking again and again: SQLite tells nobody of a commit by another process.
        """
        until = monotonic() + seconds
        pause = NEWS_PAUSE_SECONDS_MIN
        seen = self.changes()
        while (left := until - monotonic()) > 0:
            Event().wait(min(pause, left))
            if self.changes() != seen:
                return True
            pause = min(pause * 1.5, NEWS_PAUSE_SECONDS_MAX)
        return False

    def drivers(self) -> list[KnownDriver]:
        """Return the drivers that live or hold something, as far as the store knows them."""
        now, lease = self._clock.now(), self._lease
        return self._read(lambda connection: drivers.known(connection, self._locks, now, lease))

    def changes(self) -> int:
        """Return the change counter."""
        row = self._read(lambda connection: connection.execute(statements.STORE_ROW).fetchone())
        return int(row[1])

    def purge(self, before: int, limit: int) -> int:
        """Delete finished transactions that need nobody and changed last before a time."""
        found = self._read(lambda connection: purging.find_old(connection, before, limit))
        if not found:
            return 0

        def work(connection: sqlite3.Connection) -> tuple[int, bool]:
            deleted = purging.delete_old(connection, found, before)
            return deleted, bool(deleted)

        return self._write_alone(work)

    def info(self, *, thorough: bool = False) -> StoreInfo:
        """Return what this store is, and facts for `doctor`.

        Args:
            thorough: True where SQLite is to check the whole file too.
        """
        with self._lock:
            self._check_usable()
            now = self._clock.now()
            rows = self._database.read(drivers.rows_of)
            alive = sum(self._locks.is_alive(row, now) for row in rows)
            store_id, changes = self._database.read(
                lambda connection: connection.execute(statements.STORE_ROW).fetchone()
            )
            checks = self._database.read(lambda _: health.checks(self._database))
        checks["drivers"] = f"{alive} alive, {len(rows) - alive} dead"
        if thorough:
            checks["integrity"] = health.integrity(self._database)
        text = str(self._path)
        # Why not always a URL: there, ? and # would begin something else.
        url = text if {"?", "#"} & set(text) else f"sqlite:///{self._path.as_posix()}"
        return StoreInfo(
            url,
            store_id,
            durable=True,
            schema_version=SCHEMA_VERSION,
            changes=changes,
            checks=checks,
        )

    @contextmanager
    def writers_paused(self) -> Iterator[tuple[str, int]]:
        """Hold back every writer while the block reads; give the store's id and change counter.

        For a copy that must not be older than one that another process makes. Writing through
        this handle inside of the block would wait for itself.
        """
        lock = WriterLock(self._path, WRITER_WAIT_SECONDS)
        lock.acquire()
        try:
            yield self._read(lambda connection: connection.execute(statements.STORE_ROW).fetchone())
        finally:
            lock.release()
            lock.close()

    def problems(self) -> list[str]:
        """Return what is damaged about the store itself, one sentence each."""
        with self._lock:
            self._check_usable()
            database = self._database
        return problems_of(database)

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """Show the store in the block as it is now, whatever is written meanwhile."""
        with self._lock:
            self._check_usable()
            database = self._database
        with snapshot(database) as found:
            yield found

    def close(self) -> None:
        """Let go of everything; every driver that joined through this handle is dead then."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            recorded = [d.driver_id for d in self._locks.own.values() if d.is_recorded]
            is_forgotten = True
            try:
                if recorded:
                    self._forget(recorded)
            except StoreError:
                # Why no error: the free locks say it too, and whoever closes has no use for it.
                is_forgotten = False
            for driver_id in list(self._locks.own):
                self._locks.release(driver_id, forget=is_forgotten or driver_id not in recorded)
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            self._check_usable()
            return self._database.read(work)

    def _write_alone(self, work: Callable[[sqlite3.Connection], tuple[Result, bool]]) -> Result:
        with self._lock:
            self._check_usable()
            return self._write(work)

    def _write(self, work: Callable[[sqlite3.Connection], tuple[Result, bool]]) -> Result:
        self._heads.forget()
        return self._database.write(work)

    def _record(self, connection: sqlite3.Connection, driver_id: str) -> tuple[None, bool]:
        """Write a driver's row."""
        driver = self._locks.own[driver_id]
        lease_until = self._clock.now() + self._lease
        values = (
            driver_id,
            boot_id(),
            driver.lock_name,
            driver.inode,
            driver.device,
            self._pid,
            self._host,
            lease_until,
        )
        connection.execute(statements.RECORD_DRIVER, values)
        return None, True

    def _forget(self, driver_ids: Sequence[str]) -> None:
        def work(connection: sqlite3.Connection) -> tuple[None, bool]:
            for driver_id in driver_ids:
                connection.execute(statements.FORGET_DRIVER, (driver_id,))
            return None, True

        self._write(work)

    def _is_alive(self, connection: sqlite3.Connection, driver_id: str) -> bool:
        if driver_id in self._locks.own:
            return True
        row = connection.execute(statements.DRIVER, (driver_id,)).fetchone()
        return row is not None and self._locks.is_alive(DriverRow(*row), self._clock.now())

    def _tidy(self) -> None:
        """Forget dead drivers that hold nothing, and remove their lock files."""
        try:
            self._forget_dead_drivers()
            self._is_tidy = True
        except StoreUnavailable:
            # Why no error: whoever came here wanted something else, and it can wait.
            self._is_tidy = False

    def _forget_dead_drivers(self) -> None:
        now = self._clock.now()
        own = self._locks.own
        idle = self._database.read(
            lambda connection: connection.execute(statements.IDLE_DRIVERS).fetchall()
        )
        rows = [DriverRow(*row) for row in idle]
        dead = [row.driver_id for row in rows if not self._locks.is_alive(row, now)]
        if dead:
            self._forget(dead)
        kept = {row.lock_name for row in self._database.read(drivers.rows_of) if row.lock_name}
        self._locks.sweep(kept | {d.lock_name for d in own.values() if d.lock_name})

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the store {self._path} was opened by process {self._pid}, of which this one is "
                "a child. Open a new store in the child."
            )
        if self._is_closed:
            raise StoreError(f"the store {self._path} is closed. Open it again.")

    def _check_joined(self, driver_id: str) -> None:
        if driver_id not in self._locks.own:
            raise StoreError(
                f"driver {driver_id!r} has not joined the store {self._path} through this handle, "
                "or has left it. Call join()."
            )

    def before_fork(self) -> None:
        """Wait until no call is inside."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let calls in again."""
        self._lock.release()

    def after_fork_in_child(self) -> object:
        """Close lock files; return the connection, which must never be closed here."""
        connection = None
        if not self._is_closed:
            self._locks.abandon()
            connection = self._database.abandon()
        self._lock.release()
        return connection


def _let_go(locks: DriverLocks, database: Database, pid: int) -> None:
    if os.getpid() == pid:
        locks.abandon()
        database.drop()
