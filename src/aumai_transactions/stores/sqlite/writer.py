"""Who writes next.

Owns: the lock file `<store>-writer`, held around every write transaction.
Rules:
  1. It is for fairness and for a name to show: SQLite's own busy handler let one of eight
     writers commit once in 2.5 s. That writers exclude each other is SQLite's work.
  2. A wait is bounded. A stopped holder makes writers fail, and tells its process id.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Event

from aumai_transactions.errors import StoreUnavailable

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock has to do.
    fcntl = None  # type: ignore[assignment]

_FIRST_PAUSE_SECONDS = 0.0002
_PAUSE_SECONDS_MAX = 0.005


class WriterLock:
    """Let one writer of all processes at a time into a store.

    Args:
        path: The store.
        wait_seconds: How long to wait for another writer, roughly.
    """

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self._store = path
        self._path = path.with_name(path.name + "-writer")
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None
        self._mark = b""
        self._is_held = False

    def acquire(self, *, waits: bool = True) -> bool:
        """Wait for our turn; tell whether it has come.

        Args:
            waits: False to look only whether it is our turn now.

        Raises:
            StoreUnavailable: Somebody else has held it for too long; names the process.
        """
        if fcntl is None:
            return True
        if self._descriptor is None:
            self._open()
        descriptor = self._descriptor
        if descriptor is None:
            return True
        pause, waited = _FIRST_PAUSE_SECONDS, 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    return False
                if waited >= self._wait_seconds:
                    raise StoreUnavailable(self._busy()) from None
            except OSError:
                # Why nothing more: a file system without flock still has SQLite's own lock.
                return True
            Event().wait(pause)
            waited += pause
            pause = min(pause * 1.5, _PAUSE_SECONDS_MAX)
        self._is_held = True
        self._sign(descriptor)
        return True

    def release(self) -> None:
        """Let the next one in."""
        if self._is_held and self._descriptor is not None:
            self._is_held = False
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError:
                # Why no error: what was written is committed, and closing the file releases it too.
                self.close()

    def close(self) -> None:
        """Close the lock file, which also releases it; a child of fork does this."""
        self._is_held = False
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Why no error: the descriptor is gone whatever the system says, and the lock with it.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def holder(self) -> str:
        """Return who wrote last, as the lock file says; empty where it does not."""
        try:
            content = self._path.read_bytes()[:32].strip()
        except OSError:
            return ""
        return f"process {int(content)}" if content.isdigit() else ""

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be opened: {error.strerror}.") from error
        self._mark = b"%-10d\n" % os.getpid()

    def _sign(self, descriptor: int) -> None:
        try:
            if os.pread(descriptor, len(self._mark), 0) != self._mark:
                os.pwrite(descriptor, self._mark, 0)
        except OSError:
            # Why nothing more: it is only a name to show, and a full disk must not stop a write
            # that may need no space.
            return

    def _busy(self) -> str:
        who = self.holder() or "another process"
        return (
            f"{self._store} is being written by {who}, which has not let go for "
            f"{self._wait_seconds:g} s. Nothing was written; if that process is stopped or hangs, "
            "continue or kill it, then try again."
        )
