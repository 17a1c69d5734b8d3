"""How a SQLite file is opened, and what its errors mean.

Owns: the settings of every connection, the look at a file before SQLite may touch it, and the
translation of SQLite's errors.
Rules:
  1. Every setting is read back; a weaker one than asked for is refused by name.
  2. No connection checkpoints by itself: SQLite 3.7.0 to 3.51.2 can lose committed pages that
     way (the WAL-reset bug). See `checkpoint.py`.
  3. Nothing here opens the database, its -wal or its -shm but through SQLite: closing a second
     descriptor would drop the locks that SQLite holds on the file.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.errors import (
    SchemaVersionError,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
)
from aumai_transactions.stores.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
Failure = sqlite3.Error | UnicodeDecodeError
# Why the second: where SQLite's message quotes a damaged schema, it cannot be made a message.
ERRORS = (sqlite3.Error, UnicodeDecodeError)

APPLICATION_ID = 0x41756D54  # "AumT"
WAL_BYTES_MAX = 4 * 1024 * 1024

# What `creation` gives a store.
_STORE_ID = re.compile(r"[0-9a-f]{32}")
_BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# Nobody could look, which says nothing about the file: no descriptor left, no memory, no right.
_UNREADABLE_CODES = {
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM),
    *_BUSY_CODES,
}
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# Pragma, statement that sets it, what must be read back.
_SETTINGS: list[tuple[str, str, str, object]] = [
    ("journal_mode", "PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal"),
    ("synchronous", "PRAGMA synchronous = FULL", "PRAGMA synchronous", 2),
    ("wal_autocheckpoint", "PRAGMA wal_autocheckpoint = 0", "PRAGMA wal_autocheckpoint", 0),
    # Why a limit: without it the -wal file keeps the size of its worst day for ever.
    (
        "journal_size_limit",
        "PRAGMA journal_size_limit = 4194304",
        "PRAGMA journal_size_limit",
        WAL_BYTES_MAX,
    ),
    ("foreign_keys", "PRAGMA foreign_keys = ON", "PRAGMA foreign_keys", 1),
    ("trusted_schema", "PRAGMA trusted_schema = OFF", "PRAGMA trusted_schema", 0),
    ("cell_size_check", "PRAGMA cell_size_check = ON", "PRAGMA cell_size_check", 1),
    ("mmap_size", "PRAGMA mmap_size = 0", "PRAGMA mmap_size", 0),
]
if sys.platform == "darwin":  # Why: there, fsync alone does not reach the disk.
    _SETTINGS += [
        ("fullfsync", "PRAGMA fullfsync = ON", "PRAGMA fullfsync", 1),
        (
            "checkpoint_fullfsync",
            "PRAGMA checkpoint_fullfsync = ON",
            "PRAGMA checkpoint_fullfsync",
            1,
        ),
    ]


def connect(path: Path, options: str, busy_seconds: float) -> sqlite3.Connection:
    """Return a connection to an existing file; SQLite never makes one here.

    Args:
        path: Absolute, without symbolic links.
        options: SQLite's URI options, such as `mode=rw`.
        busy_seconds: How long SQLite waits for a lock.
    """
    return sqlite3.connect(
        f"{path.as_uri()}?{options}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def apply_settings(connection: sqlite3.Connection, place: object) -> None:
    """Set what durability needs, and read it back.

    Raises:
        StoreUnavailable: A setting did not take; names it.
    """
    for name, change, question, wanted in _SETTINGS:
        connection.execute(change).fetchall()
        row = connection.execute(question).fetchone()
        # Why a missing row is fine for this one: SQLite was built without memory mapping.
        found = wanted if row is None and name == "mmap_size" else row and row[0]
        if found != wanted:
            raise StoreUnavailable(
                f"{place}: SQLite's setting {name} is {found!r} where {wanted!r} was asked for; "
                "entries would not be safe. Keep the store on a local disk that SQLite supports."
            )


def look(path: Path, known_version: int) -> None:
    """Refuse what is not a store of ours, without changing a byte of it.

    Raises:
        StoreNotFound: There is no such file, or no such folder.
        StoreFormatError: It is something else.
        SchemaVersionError: A newer release wrote it.
        StoreUnavailable: It cannot be read or written.
    """
    found = _status(path)
    if stat.S_ISDIR(found.st_mode):
        raise StoreFormatError(f"{path} is a directory, not a store. Name a file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise StoreFormatError(f"{path} is not a regular file, so it is not a store.")
    if found.st_size == 0:
        raise StoreFormatError(
            f"{path} is empty, which a store never is. Restore it from a backup, or remove it "
            "and create a new store. Nothing was changed."
        )
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK):
        raise StoreUnavailable(
            f"{path} or its folder cannot be written by this user. Grant that, or name another "
            "store."
        )
    _look_inside(path, known_version)
    _look_at_log(path)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "store" if path.parent.is_dir() else f"folder {path.parent} for the store"
        raise StoreNotFound(
            f"there is no {what} {path}. Check the name; a store is made by the first begin() of "
            "a manager, or by: aumai-transactions create"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error.strerror}.") from error


def _look_inside(path: Path, known_version: int) -> None:
    try:
        # Why immutable: it neither locks nor recovers anything, so a foreign file and what
        # stands beside it stay as they are.
        connection = connect(path, "mode=ro&immutable=1", 0)
        try:
            # Why: during a checkpoint, or after a kill in one, the header counts pages that are
            # in the log only; SQLite calls that malformed, unless the schema may be repaired.
            connection.execute("PRAGMA writable_schema = ON")
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        finally:
            connection.close()
    except ERRORS as error:
        if primary_code(error) in _UNREADABLE_CODES:
            raise store_error(error, path) from error
        raise StoreFormatError(
            f"{path} is not a store of aumai-transactions, or is damaged ({error}). Nothing was "
            "changed."
        ) from error
    if application_id != APPLICATION_ID:
        raise StoreFormatError(
            f"{path} is a SQLite database of another program (application id {application_id}), "
            "not a store of aumai-transactions. Nothing was changed."
        )
    if version > known_version:
        raise SchemaVersionError(str(path), version, known_version)


def _look_at_log(path: Path) -> None:
    """Refuse a log of another store, which SQLite would copy into this one.

    That is what stands there when a file was put in the place of a store that was in use.
    """
    log = path.with_name(path.name + "-wal")
    # Why twice: while another process checkpoints, one look may see half of a page.
    for _ in range(2):
        try:
            if not log.exists() or log.stat().st_size == 0:
                return
            in_file = _store_id(path, "mode=ro&immutable=1")
            # Why read-only: the last writable connection to close would copy the log.
            in_log = _store_id(path, "mode=ro")
        except (OSError, *ERRORS):
            # Whatever it is, opening the store for good meets it too.
            return
        # Why two ids: where the power was lost during a checkpoint, the page that holds the id may
        # be torn in the file, and says something that is none. The log holds it whole.
        if not _is_store_id(in_file) or not _is_store_id(in_log) or in_file == in_log:
            return
    raise StoreFormatError(
        f"{log} belongs to another store than {path}: a file was replaced while a store was in "
        "use. Put both files back, or move the -wal and -shm files away. Nothing was changed."
    )


def _store_id(path: Path, options: str) -> object:
    connection = connect(path, options, 0)
    try:
        row = connection.execute(statements.STORE_ROW).fetchone()
        return row and row[0]
    finally:
        connection.close()


def _is_store_id(found: object) -> bool:
    return isinstance(found, str) and _STORE_ID.fullmatch(found) is not None


def is_damage(error: Failure) -> bool:
    """Tell whether what stands in the file cannot be read, and trying again will not help."""
    return primary_code(error) in _DAMAGE_CODES or is_undecodable(error)


def is_undecodable(error: Failure) -> bool:
    """Tell whether a text in the file is none."""
    # Why the message: the sqlite3 module itself says it, without a code.
    is_text = isinstance(error, UnicodeDecodeError)
    return is_text or str(error).startswith("Could not decode")


def leniently(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Result]
) -> Result:
    """Read once more, with what is no text as lone surrogates, which no name that is sound holds.

    Why: one text that is damaged must not keep everybody from all the others.
    """
    connection.text_factory = _decoded
    try:
        return work(connection)
    finally:
        connection.text_factory = str


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def primary_code(error: Failure) -> int | None:
    """Return SQLite's primary result code; None where the sqlite3 module itself complains."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: Failure) -> bool:
    """Tell whether somebody else holds one of SQLite's locks."""
    return primary_code(error) in _BUSY_CODES


def spares_connection(error: Failure) -> bool:
    """Tell whether the connection can be trusted after this error: SQLite itself refused."""
    return primary_code(error) in {
        *_BUSY_CODES,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
    }


def store_error(
    error: Failure, path: Path, *, outcome_unknown: bool = False, holder: str = ""
) -> StoreError:
    """Return what one of SQLite's errors means to whoever called the store.

    Args:
        error: What SQLite said.
        path: The store.
        outcome_unknown: True where a write may or may not have become durable.
        holder: Who has SQLite's write lock, as far as it is known.
    """
    code = primary_code(error)
    if code == sqlite3.SQLITE_ERROR:
        return StoreFormatError(
            f"{path} does not have the tables that its version promises ({error}). Restore a "
            "backup."
        )
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreFormatError(
            f"{path} holds rows that contradict each other ({error}). Nothing was written. Stop "
            "all processes that use it and restore a backup."
        )
    if is_busy(error):
        who = holder or "another program (a sqlite3 shell, a backup?)"
        return StoreUnavailable(
            f"{path} is locked by {who}. Nothing was written; try again when it has let go."
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(
            f"{path} cannot grow: the disk or the quota is full. Nothing was written, everything "
            "acknowledged is still there. Free some space and try again."
        )
    if is_damage(error) and not outcome_unknown:
        # Why the disk as well: SQLite calls malformed what the disk could not read.
        return StoreFormatError(
            f"{path} is damaged, or its disk cannot be read ({error}). Stop all processes that use "
            "it, check the disk, and restore a backup."
        )
    if outcome_unknown:
        return StoreUnavailable(
            f"writing to {path} failed ({error}); nobody knows yet whether the last entries are "
            "durable. Append the very same entries again: that tells. If it keeps failing, check "
            "the disk.",
            outcome_unknown=True,
        )
    return StoreUnavailable(
        f"{path} cannot be used for now ({error}). Check the disk and the permissions, then try "
        "again."
    )


def out_of_memory(path: Path, *, outcome_unknown: bool = False) -> StoreUnavailable:
    """Return what it means where SQLite, or what asked it, was given no memory."""
    if outcome_unknown:
        known = "Nobody knows whether the last entries are durable; append the very same again."
    else:
        known = "Nothing was written; try again."
    return StoreUnavailable(
        f"{path}: this process was given no more memory. {known}", outcome_unknown=outcome_unknown
    )
