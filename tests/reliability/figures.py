"""Figures of the long tests: how much was tried, and what was found.

Owns: their form, and the file that they are collected in. A test notes its figures through the
fixture `figures`; `page.py` makes the tables of `docs/reliability.md` of them.
Rules:
  1. A figure is counted by the test that notes it, never typed in.
  2. Only a test that has passed is believed: it notes its figures behind its last check.
  3. Where `AUMAI_FIGURES` names no file, nothing is written.
  4. What several tests of one run note for one part is added up.
"""

import json
import os
import platform
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tests.reliability.share import SHARE

FILE = "AUMAI_FIGURES"


# All processes of one run of pytest have one name for it.
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex

PARTS: dict[str, str] = {
    "simulation": "Simulated transactions, under faults of every class",
    "mutants": "Bugs planted in the product, looked for among seeds that nobody has chosen",
    "model": "The protocol as a model, searched to its last state",
    "bank": "A bank on PostgreSQL: 8 processes, SIGKILL, SIGSTOP, sessions ended, server crashed",
    "crashes": "The same with 3 processes, its server crashed every 5 to 40 seconds",
    "http kills": "SIGKILL and SIGSTOP of workers that call a service over HTTP",
    "kills": "SIGKILL at random and chosen moments, SQLite",
    "recovery kills": "SIGKILL of whoever recovers, again and again",
    "told to go": "SIGTERM and SIGINT at random moments of workers and drivers",
    "herd": "Transactions whose processes were killed all at once, taken over by workers",
    "one resource": "Transactions that all want one resource at once",
    "cuts": "Connections to PostgreSQL, cut at random bytes around an append",
    "migrations": "SIGKILL of the session at each statement of a PostgreSQL schema migration",
    "storage kills": "SIGKILL at every system call that could change a SQLite store",
    "storage EIO": "EIO at every system call on a SQLite store's files",
    "storage ENOSPC": "ENOSPC at every system call that could change a SQLite store",
    "crash images": "Power loss: recorded calls replayed into the images that a disk may hold",
    "power cuts": "Power loss: an ext4 file system on a loop device, shut down under load",
    "flipped bits": "One flipped bit in each byte of a small SQLite store, file and log",
}
"""What each part shows, for a reader of the page."""


class Noted(NamedTuple):
    """Hold the figures of one run of one part.

    Args:
        part: Which, by its name in `PARTS`.
        counts: How many of what, in words.
        seconds: How long it took.
        at: When, as a date.
        machine: Where: processors, Python.
        share: How much of all there is was tried; see `share.py`.
        run: The run of pytest that it belongs to; empty where that no longer matters.
    """

    part: str
    counts: dict[str, int]
    seconds: float
    at: str
    machine: str
    share: str = "1"
    run: str = ""


def noted(
    part: str, counts: dict[str, int], seconds: float, share: Fraction | None = None
) -> Noted:
    """Return the figures of a run that ends now.

    Args:
        part: Which, by its name in `PARTS`.
        counts: How many of what.
        seconds: How long it took.
        share: Of what there is; None for the share that is asked for.

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
        str(SHARE if share is None else share),
        RUN,
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
    """Return the figures of each part that the file has, of the last run that noted any."""
    found: dict[str, Noted] = {}
    for line in path.read_text("utf-8").splitlines():
        new = Noted(**json.loads(line))
        old = found.get(new.part)
        found[new.part] = new if old is None or old.run != new.run else added(old, new)
    return {part: one._replace(run="") for part, one in found.items()}


def added(old: Noted, new: Noted) -> Noted:
    """Return the figures of two tests of one part, of one run, as one."""
    names = [*old.counts, *(name for name in new.counts if name not in old.counts)]
    counts = {name: old.counts.get(name, 0) + new.counts.get(name, 0) for name in names}
    return new._replace(counts=counts, seconds=round(old.seconds + new.seconds, 1))
