"""Which drivers are alive.

Owns: the lock files in `<store>-drivers`, one for each driver, and what they prove.
Rules:
  1. A driver holds its lock file before the database knows of it, until it leaves or dies.
  2. Whoever asks takes a shared lock, so that two who ask do not take each other for a driver.
  3. A free lock proves death only where boot id, inode and device are those that were recorded.
     Everything else (another boot, a file that is gone or was replaced, no flock) is decided by
     the lease. A lock that is held proves life, whatever the lease says.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from aumai_transactions.errors import StoreUnavailable

try:
    import fcntl
except ImportError:  # Windows: leases only.
    fcntl = None  # type: ignore[assignment]

# Why a pattern: the name comes out of the database, and becomes a path.
_LOCK_NAME = re.compile(r"[0-9a-f]{32}\.lock")


@dataclass(slots=True)
class OwnDriver:
    """Hold one driver that joined through this handle."""

    driver_id: str
    lock_name: str | None
    inode: str | None
    device: str | None
    descriptor: int | None
    is_recorded: bool = False


@dataclass(slots=True, frozen=True)
class DriverRow:
    """Hold what the database says about a driver."""

    driver_id: str
    boot_id: str | None
    lock_name: str | None
    lock_inode: str | None
    lock_device: str | None
    lease_until: int | None


class DriverLocks:
    """Hold our own drivers' locks, and try those of others.

    Args:
        path: The store.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.with_name(path.name + "-drivers")
        self.own: dict[str, OwnDriver] = {}

    def join(self) -> OwnDriver:
        """Return a new driver, its lock taken.

        Raises:
            StoreUnavailable: The lock file cannot be made.
        """
        try:
            while True:
                driver = self._try_to_join()
                if driver is not None:
                    self.own[driver.driver_id] = driver
                    return driver
        except OSError as error:
            raise StoreUnavailable(
                f"no lock file can be made in {self._folder}: {error.strerror}."
            ) from error

    def _try_to_join(self) -> OwnDriver | None:
        driver_id = uuid4().hex
        if fcntl is None:
            return OwnDriver(driver_id, None, None, None, None)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{driver_id}.lock"
        place = self._folder / name
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(place, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            # Why look again: somebody who tidies up may have removed the file before we had
            # the lock.
            if found.st_nlink:
                inode, device = str(found.st_ino), str(found.st_dev)
                return OwnDriver(driver_id, name, inode, device, descriptor)
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
        except OSError:
            # A file system without flock: the lease decides.
            os.close(descriptor)
            place.unlink(missing_ok=True)
            return OwnDriver(driver_id, None, None, None, None)
        return None

    def release(self, driver_id: str, *, forget: bool) -> None:
        """Let go of one of our own drivers.

        Args:
            driver_id: Which; nothing happens where it is not ours.
            forget: True where nothing in the database refers to its lock file any more.
        """
        driver = self.own.pop(driver_id, None)
        if driver is None or driver.descriptor is None:
            return
        if forget and driver.lock_name is not None:
            self._remove(driver.lock_name)
        os.close(driver.descriptor)

    def abandon(self) -> None:
        """Close every lock file without a word: a child of fork holds none of these drivers."""
        for driver in self.own.values():
            if driver.descriptor is not None:
                os.close(driver.descriptor)
        self.own.clear()

    def is_alive(self, row: DriverRow, now: int) -> bool:
        """Tell whether a driver lives.

        Args:
            row: What the database says about it.
            now: Microseconds since 1970 UTC.
        """
        if row.driver_id in self.own:
            return True
        held = self._is_held(row)
        if held is None:
            # Why the question: a row that is damaged says anything, and proves nothing.
            lease_until: object = row.lease_until
            return isinstance(lease_until, int) and lease_until > now
        return held

    def _is_held(self, row: DriverRow) -> bool | None:
        """Tell whether the lock of a driver is held; None where that proves nothing."""
        if fcntl is None:
            return None
        name: object = row.lock_name
        if not isinstance(name, str) or not _LOCK_NAME.fullmatch(name):
            return None
        if row.boot_id is None or row.boot_id != boot_id():
            return None
        place = self._folder / name
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            if (str(found.st_ino), str(found.st_dev)) != (row.lock_inode, row.lock_device):
                return None
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return False

    def sweep(self, known: set[str]) -> None:
        """Remove the lock files that no driver holds and the database does not know.

        Args:
            known: The lock files that the database knows.
        """
        if fcntl is None:
            return
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 (names are all that is needed)
        except OSError:
            return
        for name in names:
            if _LOCK_NAME.fullmatch(name) and name not in known:
                self._remove_if_free(name)

    def _remove_if_free(self, name: str) -> None:
        place = self._folder / name
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(name)
        except OSError:
            # Somebody holds it.
            return
        finally:
            os.close(descriptor)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()


@lru_cache(maxsize=1)
def boot_id() -> str | None:
    """Return what names this boot of this machine; None where nothing does."""
    if sys.platform == "darwin":
        return _darwin_boot_id()
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return text or None


def _darwin_boot_id() -> str | None:
    import subprocess

    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
