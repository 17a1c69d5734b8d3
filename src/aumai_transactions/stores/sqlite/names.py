"""How files and their names become durable.

Owns: the only syncs that SQLite does not do, or does without a look at what came of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from aumai_transactions.errors import StoreUnavailable


def sync(path: Path, flags: int) -> None:
    """Make a file durable that no connection knows, or with `O_RDONLY` the names in a folder."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_names(folder: Path) -> None:
    """Make durable which files a folder has, where the system knows how to do that.

    Raises:
        StoreUnavailable: It cannot be synced.
    """
    if os.name != "posix":
        return
    try:
        sync(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreUnavailable(
            f"{folder} cannot be synced: {error.strerror}. Nothing was written; check the disk."
        ) from error


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return a store's place, absolute and without symbolic links.

    Raises:
        StoreUnavailable: It cannot be told from here.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError as error:
        raise StoreUnavailable(
            f"the store {path} cannot be found from here ({error.strerror}): is the current folder "
            "still there? Change to one that is, or name the store by its whole path."
        ) from error
