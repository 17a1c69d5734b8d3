"""How a store comes into being.

Owns: the way from nothing to a complete store at its place, or still nothing.
Rules:
  1. A store is complete before it has its name: it is built under a temporary name beside its
     place, closed and synced, and then linked. kill -9 leaves a store or none.
  2. Of several creators one wins, and all use its store.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from aumai_transactions.errors import StoreError, StoreNotFound, StoreUnavailable
from aumai_transactions.stores.sqlite import connection as connections
from aumai_transactions.stores.sqlite import filling, names, schema, statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.store import Contents

_SUFFIX = ".new"


def create(path: Path, *, make_parent: bool, contents: Contents | None = None) -> None:
    """Make a store at this place, unless somebody else has made one meanwhile.

    Args:
        path: The place.
        make_parent: True where its folder is to be made too.
        contents: What it begins with; then nobody else may have made one.

    Raises:
        StoreNotFound: The folder does not exist.
        StoreUnavailable: The file cannot be made.
        StoreError: There is one, or something of one, and it is not to be empty.
    """
    if contents is not None:
        _refuse_what_is_there(path)
    if make_parent:
        _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{_SUFFIX}")
    try:
        _build(temporary, contents)
        if not _publish(temporary, path) and contents is not None:
            _refuse_what_is_there(path)
    except (MemoryError, OSError, sqlite3.Error) as error:
        # Why no error where it exists: another creator was faster, and has removed our file.
        if contents is not None or not path.exists():
            raise _creation_error(error, path) from error
    finally:
        _remove(temporary)
    names.sync_names(path.parent)
    sweep(path)


def _refuse_what_is_there(path: Path) -> None:
    """Refuse a place where a store is, or its log: SQLite would copy that into a new one."""
    for name in (path.name, *(path.name + suffix for suffix in ("-wal", "-shm", "-journal"))):
        place = path.with_name(name)
        if os.path.lexists(place):
            raise StoreError(
                f"{place} is there, and a restored store goes to a new place only. Name another "
                "one, or stop every process that uses it and move it away. Nothing was changed."
            )


def _creation_error(error: MemoryError | OSError | sqlite3.Error, path: Path) -> StoreError:
    if isinstance(error, MemoryError):
        return connections.out_of_memory(path)
    if isinstance(error, sqlite3.Error):
        return connections.store_error(error, path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return StoreNotFound(
            f"the folder {path.parent} for the store {path} does not exist. Create it first."
        )
    return StoreUnavailable(f"the store {path} cannot be made: {error.strerror}.")


def sweep_links(path: Path) -> None:
    """Remove the second name of a store whose creator was killed before it could."""
    with contextlib.suppress(OSError):
        if path.stat().st_nlink > 1:
            sweep(path)


def sweep(path: Path) -> None:
    """Remove what killed creators of this store have left beside it; its place is taken."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208 (names are all that is needed)
            if name.startswith(f".{path.name}.") and name.endswith(_SUFFIX):
                _remove(path.with_name(name))


def _make_folder(folder: Path) -> None:
    try:
        # Why not for parents: mkdir(mode=…, parents=True) gives the mode to the last one only.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {folder} cannot be made: {error.strerror}.") from error


def _build(temporary: Path, contents: Contents | None = None) -> None:
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = connections.connect(temporary, "mode=rw", 0)
    try:
        connection.execute(_APPLICATION_ID)
        schema.migrate(connection, temporary, schema.migrations())
        connection.execute(statements.BEGIN)
        store_id = uuid4().hex if contents is None else contents.store_id
        connection.execute(statements.NEW_STORE, {"store_id": store_id})
        connection.execute(statements.COMMIT)
        if contents is not None:
            filling.fill(connection, contents)
        # Why last: so that everything is in the one file, and the file says WAL from the start.
        connections.apply_settings(connection, temporary)
    finally:
        connection.close()


_APPLICATION_ID = "PRAGMA application_id = 1098214740"


def _publish(temporary: Path, path: Path) -> bool:
    """Give the store its name; tell whether it has got it."""
    # Order matters: the content is durable before the name is.
    names.sync(temporary, os.O_RDWR)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except (NotImplementedError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        return _rename(temporary, path)
    return True


def _rename(temporary: Path, path: Path) -> bool:
    """Give the store its name where the file system knows no links."""
    with _only_creator(path):
        # Why the question: rename replaces what is there, except on Windows.
        if path.exists():
            return False
        os.rename(temporary, path)  # noqa: PTH104 (on Windows it must not replace)
    return True


@contextlib.contextmanager
def _only_creator(path: Path) -> Iterator[None]:
    from aumai_transactions.stores.sqlite.writer import WriterLock

    lock = WriterLock(path, wait_seconds=5)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
        lock.close()


def _remove(temporary: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            temporary.with_name(temporary.name + suffix).unlink()
