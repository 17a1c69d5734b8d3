"""Figures of the long tests: how much was tried, and what was found.

Owns: their form, and the file that they are collected in. A test notes its figures through the
fixture `figures`; `page.py` makes the tables of `docs/reliability.md` of them.
Rules:
  1. A figure is counted by the test that notes it, never typed in.
  2. Only a test that has passed is believed: it notes its figures behind its last check.
  3. Where `AUMAI_FIGURES` names no file, nothing is written.
"""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

FILE = "AUMAI_FIGURES"


class Part(NamedTuple):
    """Say what one test shows.

    Args:
        title: For a reader of the page.
        target: Which make target runs it.
    """

    title: str
    target: str


PARTS: dict[str, Part] = {
    "bank": Part(
        "A bank on PostgreSQL: 8 processes, SIGKILL, SIGSTOP, sessions ended, server crashed",
        "make nightly",
    ),
    "crashes": Part(
        "The same with 3 processes, its server crashed every 5 to 40 seconds", "make nightly"
    ),
    "kills": Part("SIGKILL at random and chosen moments, SQLite", "make nightly"),
    "storage kills": Part(
        "SIGKILL at every system call that could change a SQLite store", "make check-deep"
    ),
    "storage EIO": Part("EIO at every system call on a SQLite store's files", "make check-deep"),
    "storage ENOSPC": Part(
        "ENOSPC at every system call that could change a SQLite store", "make check-deep"
    ),
    "crash images": Part(
        "Power loss: recorded calls replayed into the images that a disk may hold",
        "make check-deep",
    ),
    "power cuts": Part(
        "Power loss: an ext4 file system on a loop device, shut down under load", "make check-deep"
    ),
}


class Noted(NamedTuple):
    """Hold the figures of one run of one part.

    Args:
        part: Which, by its name in `PARTS`.
        counts: How many of what, in words.
        seconds: How long it took.
        at: When, as a date.
        machine: Where: processors, Python.
    """

    part: str
    counts: dict[str, int]
    seconds: float
    at: str
    machine: str


def noted(part: str, counts: dict[str, int], seconds: float) -> Noted:
    """Return the figures of a run that ends now.

    Raises:
        KeyError: There is no such part; add it to `PARTS`.
    """
    if part not in PARTS:
        raise KeyError(part)
    return Noted(
        part,
        {name.replace("_", " "): count for name, count in counts.items()},
        round(seconds, 1),
        datetime.now(UTC).date().isoformat(),
        f"{os.cpu_count()} cores, Python {platform.python_version()}",
    )


def write(found: Noted) -> None:
    """Append to the file that the environment names, if it names one."""
    name = os.environ.get(FILE)
    if name:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found._asdict()) + "\n")


def read(path: Path) -> dict[str, Noted]:
    """Return the last figures of each part that the file has."""
    lines = path.read_text("utf-8").splitlines()
    return {found.part: found for found in (Noted(**json.loads(line)) for line in lines)}
