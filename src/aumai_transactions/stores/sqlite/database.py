"""The one connection of a store handle, and the way through it.

Owns: opening, poisoning and reopening the connection, the shape of a write transaction, and
the watch over the files beside it.
Rules:
  1. Whoever calls holds the handle's thread lock.
  2. After an I/O error, or a COMMIT that raised, the connection is closed and never used again:
     nobody knows what it would say. The next use opens a new one and reads again.
  3. Nothing is acknowledged that went into a file which no longer has its name.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from aumai_transactions.errors import StoreError, StoreFormatError, StoreUnavailable
from aumai_transactions.stores.sqlite import connection as connections
from aumai_transactions.stores.sqlite import damage, names, schema, statements
from aumai_transactions.stores.sqlite.checkpoint import Checkpoints
from aumai_transactions.stores.sqlite.writer import WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
Work: TypeAlias = "Callable[[sqlite3.Connection], tuple[Result, bool]]"
_Identity = tuple[int, int]
_GONE = (
    "was moved, removed or replaced while it was in use. Nothing was written. Put it back, with "
    "its -wal file, and try again"
)


class _Occupied(Exception):
    """Say that another program holds SQLite's lock, and nobody waits for it."""


class Database:
    """Hold a connection to an existing store.

    Args:
        path: The store; absolute, without symbolic links.
        wait_seconds: How long to wait for other writers.

    Raises:
        StoreError: See `connection.look`, and `schema.migrate`.
    """

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self.path = path
        self.store_id = ""
        self.writer = WriterLock(path, wait_seconds)
        self.checkpoints = Checkpoints(path)
        self._wait_seconds = wait_seconds
        self.log = path.with_name(path.name + "-wal")
        # Why as text, too: it is on the way of every commit.
        self._name, self._log_name = str(path), str(self.log)
        self._connection: sqlite3.Connection | None = None
        self._file: _Identity | None = None
        self._wal_file: _Identity | None = None
        self._is_named = False
        self._waits = True
        self._wal_bytes = 0
        self.has_written = False
        try:
            self.connection()
        except BaseException:
            self.writer.close()
            raise

    def connection(self) -> sqlite3.Connection:
        """Return the connection, opened again where it was poisoned."""
        if self._connection is None:
            try:
                self._connection = self._open()
            except MemoryError as error:
                raise connections.out_of_memory(self.path) from error
        return self._connection

    def _open(self) -> sqlite3.Connection:
        path = self.path
        connections.look(path, schema.SCHEMA_VERSION)
        self._look_at_log()
        identity = _identity(path)
        try:
            connection = connections.connect(path, "mode=rw", self._wait_seconds)
        except connections.ERRORS as error:
            raise connections.store_error(error, path) from error
        try:
            self._prepare(connection)
            self._recognise(connection, identity)
        except connections.ERRORS as error:
            connection.close()
            raise connections.store_error(error, path) from error
        except BaseException:
            connection.close()
            raise
        self._file, self._wal_file = identity, _identity(self.log)
        self._is_named = False
        self._waits = True
        return connection

    def _look_at_log(self) -> None:
        """Refuse a damaged log, before SQLite recovers what it can of it and drops the rest."""
        try:
            damage.refuse_damaged_log(self)
        except (OSError, StoreUnavailable) as error:
            # Somebody else is at work on it, so that there is nothing to recover.
            self.checkpoints.problem = str(error)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connections.apply_settings(connection, self.path)
        if schema.version_of(connection) != schema.SCHEMA_VERSION:
            self.writer.acquire()
            try:
                schema.migrate(connection, self.path, schema.migrations())
            finally:
                self.writer.release()

    def _recognise(self, connection: sqlite3.Connection, identity: _Identity | None) -> None:
        row = connection.execute(statements.STORE_ROW_WHOLE).fetchone()
        if row is None:
            raise StoreFormatError(f"{self.path} has lost its identity. Restore it from a backup.")
        if row[0] != row[2]:
            problem = damage.identity_problem(*row)
            raise StoreFormatError(f"{self.path} is damaged: {problem}. Restore it from a backup.")
        if self.store_id not in ("", row[0]):
            raise StoreFormatError(
                f"{self.path} has become another store (it was {self.store_id}, it is {row[0]}). "
                "Close this one and open it anew."
            )
        if _identity(self.path) != identity:
            raise StoreUnavailable(f"{self.path} was replaced while it was opened. Try again.")
        self.store_id = row[0]

    def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a query; it must fetch all of its rows, for an open one holds back checkpoints."""
        connection = self.connection()
        # Why here too: who only looks would else look at a file for ever that nobody writes any
        # more.
        self._check_in_place()
        try:
            try:
                return work(connection)
            except sqlite3.OperationalError as error:
                if not connections.is_undecodable(error):
                    raise
                return connections.leniently(connection, work)
        except connections.ERRORS as error:
            raise self._failed(error, is_writing=False) from error
        except MemoryError as error:
            self._poison()
            raise connections.out_of_memory(self.path) from error
        except UnicodeError as error:
            raise StoreError(f"{self.path}: {error}.") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.path} {_GONE} ({error.strerror}).") from error

    def write(self, work: Work[Result]) -> Result:
        """Run one write transaction, and return when it is durable.

        Args:
            work: Returns what to return, and whether anything is to be committed.
        """
        connection = self.connection()
        self._check_in_place()
        self._make_names_durable()
        try:
            self.writer.acquire()
            return self._written(connection, work, waits=True)
        finally:
            self.writer.release()

    def write_at_once(self, work: Work[Result]) -> Result | None:
        """Do the same where nobody need be waited for but the disk, for one short write.

        Returns:
            None where it was not done: another process writes, or there is more to be done than
            that write.
        """
        connection = self._connection
        if connection is None or not self._is_named or self.checkpoints.wanted(self._wal_bytes):
            return None
        self._check_in_place()
        try:
            if not self.writer.acquire(waits=False):
                return None
            return self._written(connection, work, waits=False)
        except _Occupied:
            return None
        finally:
            self.writer.release()

    def _written(
        self, connection: sqlite3.Connection, work: Work[Result], *, waits: bool
    ) -> Result:
        result, is_changed = self._transact(connection, work, waits=waits)
        if is_changed:
            self._after_commit(connection, waits=waits)
        return result

    def _begin(self, connection: sqlite3.Connection, *, waits: bool) -> None:
        """Begin a write transaction; wait for a program that does not know our lock, or do not."""
        if waits != self._waits:
            milliseconds = int(self._wait_seconds * 1000) if waits else 0
            connection.execute(statements.busy_timeout(milliseconds)).fetchall()
            self._waits = waits
        try:
            connection.execute(statements.BEGIN)
        except sqlite3.OperationalError as error:
            if waits or not connections.is_busy(error):
                raise
            raise _Occupied from error

    def _transact(
        self, connection: sqlite3.Connection, work: Work[Result], *, waits: bool
    ) -> tuple[Result, bool]:
        execute = connection.execute
        is_committing = False
        try:
            self._begin(connection, waits=waits)
            result, is_changed = work(connection)
            if is_changed:
                execute(statements.COUNT_CHANGE)
                is_committing = True
                execute(statements.COMMIT)
            else:
                execute(statements.ROLLBACK)
            return result, is_changed
        except connections.ERRORS as error:
            raise self._failed(error, is_committing=is_committing) from error
        except MemoryError as error:
            # Why unknown at COMMIT: SQLite may run out of memory behind the last write of it.
            self._poison()
            raise connections.out_of_memory(self.path, outcome_unknown=is_committing) from error
        except (OverflowError, UnicodeError) as error:
            self._roll_back()
            raise StoreError(f"{self.path} cannot hold this: {error}.") from error
        except BaseException:
            self._roll_back()
            raise

    def _failed(
        self, error: connections.Failure, *, is_writing: bool = True, is_committing: bool = False
    ) -> StoreError:
        """Roll back or poison, and return what to raise."""
        holder, outcome_unknown = "", False
        if connections.spares_connection(error):
            holder = self._sqlite_holder()
            # A refusal by SQLite itself leaves nothing in the log, not even at COMMIT.
            self._roll_back()
        else:
            # Why every I/O error: which of the transaction's pages reached the disk is unknown.
            is_io_error = connections.primary_code(error) == sqlite3.SQLITE_IOERR
            outcome_unknown = is_committing or (is_writing and is_io_error)
            self._poison()
        return connections.store_error(
            error, self.path, outcome_unknown=outcome_unknown, holder=holder
        )

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute(statements.ROLLBACK)
        except sqlite3.Error:
            self._poison()

    def _poison(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                # It is dropped in any case; `doctor` shows the reason.
                self.checkpoints.problem = str(error)

    def _check_in_place(self) -> None:
        """Refuse to use a file that has lost its name."""
        if _identity(self._name) != self._file:
            self._poison()
            raise StoreUnavailable(f"{self.path} {_GONE}.")

    def _make_names_durable(self) -> None:
        """See to it that a commit is found after a power loss: the log must have its name.

        Why ourselves: SQLite syncs the folder too, and takes no notice where that fails.
        """
        if not self._is_named:
            names.sync_names(self.path.parent)
            self._is_named = True

    def _after_commit(self, connection: sqlite3.Connection, *, waits: bool) -> None:
        self.has_written = True
        if _identity(self._name) != self._file:
            self._poison()
            raise StoreUnavailable(
                f"{self.path} was moved, removed or replaced while it was written; the last "
                "entries went where it is now. Put it back, with its -wal file, and append the "
                "very same entries again: that tells.",
                outcome_unknown=True,
            )
        try:
            found = os.stat(self._log_name)  # noqa: PTH116 (as in `_identity`)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._wal_file:
            self._poison()
            raise StoreUnavailable(
                f"{self.log} was removed or replaced while the store was in use; entries that "
                "were in it are lost unless it comes back. Stop every process that uses the "
                "store, put the file back or restore a backup.",
                outcome_unknown=True,
            )
        self._wal_bytes = found.st_size
        # Why not where nobody waits: it takes long. The next write does it, and is told to wait.
        if waits and self.checkpoints.wanted(found.st_size):
            self._checkpoint(connection, found.st_size)
            self._wal_bytes = self.wal_bytes()

    def _checkpoint(self, connection: sqlite3.Connection, wal_bytes: int = 0) -> None:
        try:
            self.checkpoints.run(connection, wal_bytes)
        except sqlite3.Error as error:
            # Why no error for the caller: what it wrote is durable in the log.
            self.checkpoints.problem = str(error)
            self._poison()

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log's file."""
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def extra_connection(self) -> sqlite3.Connection:
        """Return a second connection, for a look that takes long; the caller closes it."""
        connection = connections.connect(self.path, "mode=rw", self._wait_seconds)
        connections.apply_settings(connection, self.path)
        return connection

    def _sqlite_holder(self) -> str:
        """Return which process has SQLite's write lock, where the system tells."""
        try:
            found = self.path.with_name(self.path.name + "-shm").stat()
            locks = Path("/proc/locks").read_text("ascii").splitlines()
        except (OSError, ValueError):
            return ""
        major, minor = os.major(found.st_dev), os.minor(found.st_dev)
        file = f"{major:02x}:{minor:02x}:{found.st_ino}"
        for line in locks:
            # 12: POSIX  ADVISORY  WRITE 4711 fe:00:1234 120 120; byte 120 is the write lock.
            parts = line.split()
            if len(parts) == 8 and parts[3] == "WRITE" and parts[5:7] == [file, "120"]:
                return f"process {parts[4]}"
        return ""

    def close(self) -> None:
        """Checkpoint where this handle has written, and close everything."""
        if self._connection is not None and self.has_written:
            try:
                self.writer.acquire()
            except StoreUnavailable as error:
                self.checkpoints.problem = str(error)
            else:
                self._checkpoint(self._connection)
                self.writer.release()
        self._poison()
        self.writer.close()

    def drop(self) -> None:
        """Close everything without writing anything; nothing happens where it is closed."""
        self._poison()
        self.writer.close()

    def abandon(self) -> sqlite3.Connection | None:
        """Return the connection without touching it, for a child of fork; close our lock file."""
        connection, self._connection = self._connection, None
        self.writer.close()
        return connection


def _identity(path: Path | str) -> _Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (on the way of every commit; Path.stat is slower)
    except OSError:
        return None
    return found.st_dev, found.st_ino
