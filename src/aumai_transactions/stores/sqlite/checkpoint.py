"""How the write-ahead log is brought back into the database file.

Owns: the only place that checkpoints.
Rules:
  1. A second connection holds SQLite's write lock while the first one checkpoints: no commit
     can race a checkpoint, which is what the WAL-reset bug of SQLite 3.7.0 to 3.51.2 needs.
  2. PASSIVE only: the other modes wait for readers, and fall back to PASSIVE when they give up.
  3. A checkpoint that fails makes no append fail: what is in the log is durable already.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.connection import WAL_BYTES_MAX, connect


class Checkpoints:
    """Decide when a checkpoint is worth it, and run it.

    Args:
        path: The store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threshold = WAL_BYTES_MAX
        self.problem = ""

    def wanted(self, wal_bytes: int) -> bool:
        """Tell whether the log has grown enough."""
        return wal_bytes > self._threshold

    def run(self, connection: sqlite3.Connection, wal_bytes: int = 0) -> None:
        """Copy what the log holds into the database file.

        The caller holds the writer lock, and has no transaction open on `connection`.

        Raises:
            sqlite3.Error: The connection that was passed in failed.
        """
        # Why more after each try: a reader that keeps the log from starting over would make
        # every commit pay for a try that cannot succeed.
        self._threshold = max(WAL_BYTES_MAX, wal_bytes + WAL_BYTES_MAX // 4)
        try:
            guard = connect(self._path, "mode=rw", 0)
        except sqlite3.Error as error:
            self.problem = str(error)
            return
        try:
            guard.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            guard.execute(statements.BEGIN)
        except sqlite3.Error as error:
            guard.close()
            self.problem = str(error)
            return
        try:
            row = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            guard.rollback()
            guard.close()
        self.problem = ""
        _busy, in_log, copied = row
        if in_log == copied:
            self._threshold = WAL_BYTES_MAX
