"""A disk whose power can be cut: a file system of its own that is shut down in the midst of work.

Owns: `CuttableDisk`. Needs root, a loop device and the file system's tools; `why_not` says what is
missing.
Rules:
  1. Whoever writes is stopped first, and the cut waits until the kernel says so: else a sync in
     flight would return as if it had worked, and its caller would tell somebody.
  2. The cut drops everything that was not written by then, the file system's own log included.

Source of the idea: the shutdown ioctl that xfstests uses for ext4, XFS and others
(`src/godown.c` there).
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

SECONDS_MAX = 60.0
_PAUSE_SECONDS = 0.001
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_WITHOUT_LOG_FLUSH = 2


class CannotCut(Exception):
    """Say why no file system can be made, mounted or shut down here."""


class CuttableDisk:
    """Hold a mounted file system; `cut` takes its power away and brings it back.

    Args:
        folder: Where its image and its mount point are made.
        kind: `ext4` or `xfs`.
        megabytes: Its size.

    Raises:
        CannotCut: It cannot be made here.
    """

    def __init__(self, folder: Path, kind: str = "ext4", megabytes: int = 512) -> None:
        reason = why_not(kind)
        if reason is not None:
            raise CannotCut(reason)
        self.mount_point = folder / "disk"
        self._image = folder / "disk.image"
        self.mount_point.mkdir()
        with self._image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run(f"mkfs.{kind}", "-q", str(self._image))
        self._mount()

    def cut(self, pid: int) -> None:
        """Stop a process, take the power away, kill the process; `bring_back` when it is reaped."""
        import fcntl

        os.kill(pid, signal.SIGSTOP)
        _wait_until_stopped(pid)
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG_FLUSH))
        except OSError as error:
            raise CannotCut(f"the file system cannot be shut down: {error.strerror}") from error
        finally:
            os.close(descriptor)
            os.kill(pid, signal.SIGKILL)

    def bring_back(self) -> None:
        """Mount it again, as after a power loss."""
        _run("umount", str(self.mount_point))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount_point))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _run("umount", str(self.mount_point))
        self._image.unlink()


def why_not(kind: str = "ext4") -> str | None:
    """Return why no such file system can be made here; None where it may be possible."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root may mount a file system"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    missing = [name for name in (f"mkfs.{kind}", "mount", "umount") if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed" if missing else None


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    if done.returncode != 0:
        raise CannotCut(f"{' '.join(argv)}: {done.stderr.strip()}")


def _wait_until_stopped(pid: int) -> None:
    """Wait until each thread of a process stands still."""
    waited = 0.0
    while waited < SECONDS_MAX:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
        if set(states) == {"T"}:
            return
        Event().wait(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS
    raise CannotCut(f"process {pid} does not stop")
