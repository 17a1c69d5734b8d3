"""Say where something was measured.

Owns: the line about the machine above every table.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path

import aumai_transactions


def machine(folder: Path) -> str:
    """Return one line about where this was measured."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"aumai-transactions {aumai_transactions.__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {cpu}, {os.cpu_count()} cores{load}, "
        f"{filesystem(folder)}"
    )


def filesystem(folder: Path) -> str:
    """Return which file system a folder is on, where that can be known."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return "file system unknown"
    place = folder.resolve()
    fitting = [fields for fields in mounts if place.is_relative_to(fields[1])]
    kind = max(fitting, key=lambda fields: len(fields[1]))[2]
    return f"{kind} (keeps nothing: SQLite's ratio says little)" if kind == "tmpfs" else kind
