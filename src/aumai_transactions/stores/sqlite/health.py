"""What `doctor` wants to know about a SQLite store.

Owns: facts, as text. Nothing here changes anything.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from aumai_transactions.stores.sqlite import schema

if TYPE_CHECKING:
    from aumai_transactions.stores.sqlite.database import Database

QUICK_CHECK_BYTES_MAX = 256 * 1024 * 1024
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_NETWORK = {
    *("9p", "afs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    *("glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"),
}


def checks(database: Database) -> dict[str, str]:
    """Return name and value of each fact."""
    connection = database.connection()
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    found = os.stat(database.path)  # noqa: PTH116
    mode = found.st_mode & 0o777
    return {
        "sqlite_version": sqlite3.sqlite_version,
        "wal_reset_bug": wal_reset_bug(sqlite3.sqlite_version_info),
        "journal_mode": connection.execute("PRAGMA journal_mode").fetchone()[0],
        "synchronous": _SYNCHRONOUS.get(synchronous, str(synchronous)),
        "schema_version": f"{schema.version_of(connection)} of {schema.SCHEMA_VERSION}",
        "database_bytes": f"{found.st_size:,}",
        "wal_bytes": f"{database.wal_bytes():,}",
        "last_checkpoint": database.checkpoints.problem or "ok",
        "file_mode": f"{mode:04o}" + (" (others can read it)" if mode & 0o077 else ""),
        "file_system": file_system(database.path),
    }


def wal_reset_bug(version: tuple[int, ...]) -> str:
    """Say whether this SQLite can lose committed pages when a checkpoint races a commit."""
    is_fixed = version < (3, 7, 0) or version >= (3, 51, 3)
    is_fixed = is_fixed or (3, 50, 7) <= version < (3, 51, 0)
    is_fixed = is_fixed or (3, 44, 6) <= version < (3, 45, 0)
    if is_fixed:
        return "not in this SQLite"
    return "in this SQLite; worked round: every checkpoint runs under the write lock"


def file_system(path: Path) -> str:
    """Return the kind of file system, with a warning where locks may not work on it."""
    kind = _mounted(path)
    if kind is None:
        return "unknown"
    if kind in _NETWORK:
        return f"{kind} (a network file system: locks may not hold; use a local disk)"
    return kind


def _mounted(path: Path) -> str | None:
    try:
        lines = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = Path(parts[1].encode("latin-1", "replace").decode("unicode_escape"))
        # Why >=: of two mounts at one place the later one is seen.
        if (point == path or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), parts[2]
    return kind


def integrity(database: Database) -> str:
    """Let SQLite check the file, unless that would take too long; on a connection of its own."""
    try:
        size = os.stat(database.path).st_size  # noqa: PTH116
        if size > QUICK_CHECK_BYTES_MAX:
            return f"not checked: larger than {QUICK_CHECK_BYTES_MAX:,} bytes"
        with closing(database.extra_connection()) as connection:
            rows = connection.execute("PRAGMA quick_check(3)").fetchall()
    except (sqlite3.Error, OSError) as error:
        return str(error)
    return "; ".join(str(row[0]) for row in rows)
