"""The three kinds of connection, behind one face.

Owns: how a database transaction is opened, joined, ended and marked on a connection of sqlite3, of
psycopg and of SQLAlchemy, and what a database's error means for a call.
Rules:
  1. No driver is imported before a connection of it is given; sqlite3 never is.
  2. Where the caller is in a transaction it is joined by a savepoint, and the commit is the
     caller's. Where it is not, the transaction is ours, from the first statement to the COMMIT.
  3. Our statements return plain tuples, whatever rows the connection makes for its owner.
  4. A COMMIT that raised is unknown, unless the error itself says that nothing was committed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from aumai_transactions.errors import (
    DefinitionError,
    NotDelivered,
    OutcomeUnknown,
    RetryLater,
)

if TYPE_CHECKING:
    from aumai_transactions.participants.barrier.sqlalchemy_database import SqlalchemyDatabase

Kind = Literal["sqlite", "postgresql"]
Rows = list[tuple[Any, ...]]
Values = Mapping[str, object]

RETRY_AFTER_SECONDS: Final = 0.5

# A serialization failure, a deadlock, a lock that was not free in time: all rolled back.
_PASSING_STATES: Final = {"40001", "40P01", "55P03"}
_PASSING_CODES: Final = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED
_SQLITE_CONSTRAINT: Final = 19
_TABLES: Final = ("aumai_barrier", "aumai_fences")
_BLOCK_ENDED: Final = (
    "the block ended the barrier's transaction itself, so nobody knows what of it was committed. "
    "Remove its commit() or rollback(); `with connection:` commits too"
)


class Database(Protocol):
    """Carry out what the barrier asks of one connection; a transaction at a time."""

    kind: Kind
    is_joined: bool

    def begin(self) -> None:
        """Open a transaction, or join the caller's."""

    def commit(self) -> None:
        """Commit; in a joined transaction, leave that to the caller."""

    def roll_back(self) -> None:
        """Undo everything since `begin`."""

    def begin_effect(self) -> None:
        """Mark the place before the effect."""

    def keep_effect(self) -> None:
        """Forget the mark; raise `OutcomeUnknown` where the block has ended the transaction."""

    def drop_effect(self) -> None:
        """Undo everything since the mark, and forget it."""

    def execute(self, statement: str, values: Values | None = None) -> Rows:
        """Run one statement of ours and return its rows."""

    def change(self, statement: str, values: Values | None = None) -> int:
        """Run one statement of ours and return how many rows it changed."""


def database_of(connection: Any) -> Database:
    """Return the face of a connection.

    Raises:
        DefinitionError: It is not a connection of sqlite3, psycopg or SQLAlchemy.
    """
    for kind in type(connection).__mro__:
        package = kind.__module__.partition(".")[0]
        if package not in ("sqlite3", "psycopg", "sqlalchemy"):
            continue
        if kind.__name__.startswith(("Async", "async_")):
            message = (
                f"{package}'s {kind.__name__} is asynchronous, and the barrier is not. Use a sync "
                "connection in a thread, or what run_sync() of SQLAlchemy hands over."
            )
            raise DefinitionError(message)
        if package == "sqlite3" and kind.__name__ == "Connection":
            return SqliteDatabase(connection)
        if package == "psycopg" and kind.__name__ == "Connection":
            return PsycopgDatabase(connection)
        if package == "sqlalchemy" and kind.__name__ in ("Connection", "Session"):
            return _sqlalchemy_database(connection)
        if package == "sqlalchemy" and kind.__name__ == "scoped_session":
            return _sqlalchemy_database(connection())
    message = (
        f"the barrier needs a connection of sqlite3 or psycopg, or a Connection or Session of "
        f"SQLAlchemy, not {type(connection).__module__}.{type(connection).__qualname__}."
    )
    raise DefinitionError(message)


def _sqlalchemy_database(connection: Any) -> SqlalchemyDatabase:
    # Why here: that module imports SQLAlchemy.
    from aumai_transactions.participants.barrier.sqlalchemy_database import SqlalchemyDatabase

    return SqlalchemyDatabase(connection)


class SqliteDatabase:
    """A connection of sqlite3, whatever its isolation_level, row_factory and text_factory are."""

    kind: Kind = "sqlite"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.is_joined = False

    def begin(self) -> None:
        """Begin immediately, so that nobody reads what another call is about to change."""
        self.is_joined = self._connection.in_transaction
        if self.is_joined and getattr(self._connection, "autocommit", None) is False:
            message = (
                "a sqlite3 connection with autocommit=False is always in a transaction, so the "
                "barrier cannot tell whether you began it. Connect with autocommit=True."
            )
            raise DefinitionError(message)
        self._connection.execute("SAVEPOINT aumai_barrier" if self.is_joined else "BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit, or release our savepoint."""
        self._connection.execute("RELEASE aumai_barrier" if self.is_joined else "COMMIT")

    def roll_back(self) -> None:
        """Roll back, if SQLite has not done so by itself."""
        if not self._connection.in_transaction:
            return
        if self.is_joined:
            self._connection.execute("ROLLBACK TO aumai_barrier")
            self._connection.execute("RELEASE aumai_barrier")
        else:
            self._connection.execute("ROLLBACK")

    def begin_effect(self) -> None:
        """Set a savepoint."""
        self._connection.execute("SAVEPOINT aumai_effect")

    def keep_effect(self) -> None:
        """Release it; it is gone where the block has ended the transaction."""
        try:
            self._connection.execute("RELEASE aumai_effect")
        except Exception as error:
            if "no such savepoint" not in str(error):
                raise
            raise OutcomeUnknown(_BLOCK_ENDED) from error

    def drop_effect(self) -> None:
        """Roll back to it, and release it."""
        try:
            self._connection.execute("ROLLBACK TO aumai_effect")
        except Exception as error:
            if "no such savepoint" not in str(error):
                raise
            raise OutcomeUnknown(_BLOCK_ENDED) from error
        self._connection.execute("RELEASE aumai_effect")

    def execute(self, statement: str, values: Values | None = None) -> Rows:
        """Run one statement on a cursor of our own."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        cursor.execute(statement, values or {})
        return [tuple(map(_text, row)) for row in cursor.fetchall()]

    def change(self, statement: str, values: Values | None = None) -> int:
        """Run one statement and count."""
        return int(self._connection.execute(statement, values or {}).rowcount)


class PsycopgDatabase:
    """A connection of psycopg 3, whatever its autocommit and its factories are."""

    kind: Kind = "postgresql"

    def __init__(self, connection: Any) -> None:
        import psycopg
        from psycopg.rows import tuple_row

        self._connection = connection
        self._cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        self._outer: Any = None
        self._effect: Any = None
        self.is_joined = False

    def begin(self) -> None:
        """Enter a transaction block, which is a savepoint where the caller has one."""
        self.is_joined = self._connection.info.transaction_status.name != "IDLE"
        self._outer = self._connection.transaction()
        self._outer.__enter__()

    def commit(self) -> None:
        """Leave the block."""
        # Order matters: a block whose COMMIT raised has ended too, and is not left again.
        outer, self._outer = self._outer, None
        outer.__exit__(None, None, None)

    def roll_back(self) -> None:
        """Leave both blocks, undone."""
        effect, self._effect = self._effect, None
        self._leave_undone(effect)
        outer, self._outer = self._outer, None
        self._leave_undone(outer)

    def begin_effect(self) -> None:
        """Enter an inner block."""
        self._effect = self._connection.transaction()
        self._effect.__enter__()

    def keep_effect(self) -> None:
        """Leave the inner block."""
        if self._connection.info.transaction_status.name == "IDLE":
            raise OutcomeUnknown(_BLOCK_ENDED)
        effect, self._effect = self._effect, None
        effect.__exit__(None, None, None)

    def drop_effect(self) -> None:
        """Leave the inner block, undone."""
        if self._connection.info.transaction_status.name == "IDLE":
            raise OutcomeUnknown(_BLOCK_ENDED)
        effect, self._effect = self._effect, None
        self._leave_undone(effect)

    def execute(self, statement: str, values: Values | None = None) -> Rows:
        """Run one statement on a cursor of our own."""
        self._cursor.execute(_for_psycopg(statement), dict(values or {}))
        return self._cursor.fetchall() if self._cursor.description else []

    def change(self, statement: str, values: Values | None = None) -> int:
        """Run one statement and count."""
        self._cursor.execute(_for_psycopg(statement), dict(values or {}))
        return self._cursor.rowcount

    def _leave_undone(self, block: Any) -> None:
        if block is not None:
            undone = _Undone()
            block.__exit__(_Undone, undone, None)


class _Undone(Exception):
    """Make a block of psycopg roll back."""


@cache
def _for_psycopg(statement: str) -> bytes:
    # Why bytes: psycopg takes text for a query only where the type checker can see it.
    return re.sub(r":(\w+)", r"%(\1)s", statement).encode()


def _text(value: Any) -> Any:
    # Why: a text_factory of the owner's may make anything of a text; bytes is the usual one.
    return value.decode() if isinstance(value, bytes) else value


# ------------------------------------------------------------------------- what an error means


def is_passing(error: BaseException) -> bool:
    """Return whether a database's error says: rolled back, and worth another try."""
    return _state_of(error) in _PASSING_STATES or _code_of(error) in _PASSING_CODES


@contextmanager
def asking() -> Iterator[None]:
    """Say for our own statements what a database's error means: this attempt did nothing.

    Why it is never the driver's own error: the saga would take that for the participant's answer,
    and so for "not done" about earlier attempts too.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_a_database(error):
            raise
        raise _undone(error) from error


@contextmanager
def committing() -> Iterator[None]:
    """Say what a COMMIT that raised means."""
    try:
        yield
    except Exception as error:
        if not _is_of_a_database(error):
            raise
        state = _state_of(error) or ""
        if is_passing(error):
            raise _undone(error) from error
        if state.startswith("23") or _code_of(error) == _SQLITE_CONSTRAINT:
            raise
        message = f"the COMMIT of the participant's database raised: {_told(error)}"
        raise OutcomeUnknown(message) from error


def _undone(error: Exception) -> Exception:
    missing = next((name for name in _TABLES if name in str(error)), None)
    if missing and (_state_of(error) == "42P01" or "no such table" in str(error)):
        return NotDelivered(
            f"the table {missing} is missing in the participant's database. Call "
            "create_barrier_table(connection) once; nothing was done"
        )
    if _state_of(error) == "25P01":
        return NotDelivered(
            "the connection commits every statement by itself (AUTOCOMMIT), so the barrier cannot "
            "keep its row and the effect together. Give it another; nothing was done"
        )
    message = f"the participant's database did not go along, and nothing was done: {_told(error)}"
    return RetryLater(RETRY_AFTER_SECONDS, message) if is_passing(error) else NotDelivered(message)


def passing(error: Exception) -> RetryLater:
    """Return what an error of the block means that `is_passing`, once it was rolled back."""
    message = f"rolled back by the participant's database, worth another try: {_told(error)}"
    return RetryLater(RETRY_AFTER_SECONDS, message)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.300}"


def _is_of_a_database(error: Exception) -> bool:
    # PEP 249: every driver's errors descend from its own class named Error; SQLAlchemy's differ.
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"DatabaseError", "InterfaceError", "SQLAlchemyError"})


def _inner(error: BaseException) -> Any:
    return getattr(error, "orig", None) or error


def _state_of(error: BaseException) -> str | None:
    inner = _inner(error)
    return getattr(inner, "sqlstate", None) or getattr(inner, "pgcode", None)


def _code_of(error: BaseException) -> int | None:
    code = getattr(_inner(error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextmanager
def transaction_on(connection: Any) -> Iterator[Database]:
    """Run a few statements of ours in one transaction; joined where there is one."""
    database = database_of(connection)
    database.begin()
    try:
        yield database
    except BaseException:
        database.roll_back()
        raise
    database.commit()
