"""Which drivers are alive.

Owns: what a driver's row says about its process, and what that proves.
Rules:
  1. The lease decides, by the server's clock, unless something is proved.
  2. Death is proved on one machine only: the same boot, the same namespace of process ids, and no
     process of this id, or one that was started at another time.
  3. Nothing proves life but the lease. A process may be there and its driver not.
  4. A session of the server that has ended proves nothing: the network may have cut it.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Process(NamedTuple):
    """Hold what names a process among all of all machines.

    Args:
        host: Its machine, for people.
        pid: Its id.
        boot_id: What names the machine's boot; None where nothing does.
        pid_namespace: In which ids and times are told; None where nothing names it.
        started: When it was started, in the kernel's ticks; None where nothing tells.
    """

    host: str
    pid: int
    boot_id: str | None
    pid_namespace: str | None
    started: str | None


class DriverRow(NamedTuple):
    """Hold what the database says about a driver; without a row, None and no lease."""

    driver_id: str
    is_leased: bool
    boot_id: str | None = None
    pid_namespace: str | None = None
    pid: int | None = None
    started: str | None = None


def this_process() -> Process:
    """Return what names this process."""
    pid = os.getpid()
    started = _started(pid) if _proc_is_ours(pid) else None
    is_told = started is not None
    return Process(
        socket.gethostname(),
        pid,
        boot_id() if is_told else None,
        _namespace() if is_told else None,
        started,
    )


def is_alive(row: DriverRow, here: Process) -> bool:
    """Tell whether a driver lives.

    Args:
        row: What the database says about it.
        here: This process.
    """
    return row.is_leased and not is_proved_dead(row, here)


def is_proved_dead(row: DriverRow, here: Process) -> bool:
    """Tell whether a driver's process is certainly gone."""
    names = (row.boot_id, row.pid_namespace, row.started, row.pid)
    if None in names or (row.boot_id, row.pid_namespace) != (here.boot_id, here.pid_namespace):
        return False
    pid = row.pid or 0
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        # Somebody else's process: it is there.
        pass
    found = _stat(pid)
    if found is None:
        return False
    state, threads, started = found
    # Why the threads: a process whose first thread has ended looks dead while others run.
    return started != row.started or (state in "ZX" and threads <= 1)


@cache
def boot_id() -> str | None:
    """Return what names this boot of this machine; None where nothing does."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


def _proc_is_ours(pid: int) -> bool:
    """Tell whether /proc shows the ids that this process knows."""
    try:
        return os.readlink(_PROC / "self") == str(pid)  # noqa: PTH115 (a text is wanted)
    except OSError:
        return False


def _namespace() -> str | None:
    try:
        found = os.stat(_PROC / "self/ns/pid")  # noqa: PTH116
    except OSError:
        return None
    name = f"{found.st_dev}:{found.st_ino}"
    try:
        # Why: when a process was started is told by the clock of whoever looks.
        return f"{name}:{os.stat(_PROC / 'self/ns/time').st_ino}"  # noqa: PTH116
    except OSError:
        return name  # A kernel without such namespaces.


def _started(pid: int) -> str | None:
    found = _stat(pid)
    return found[2] if found else None


def _stat(pid: int) -> tuple[str, int, str] | None:
    """Return state, number of threads and start time of a process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
        # Why behind the last bracket: a program's name may hold one.
        parts = text.rpartition(")")[2].split()
        return parts[0], int(parts[17]), parts[19]
    except (OSError, ValueError, IndexError):
        return None
