"""Count what an entrant uses besides time.

Owns: processor time, durable writes and bytes, counted from outside of the entrant.
Rules:
  1. A counter that this system does not have is not there, and never guessed.
  2. A durable write is a write transaction that was committed. SQLite counts them in its
     write-ahead log's index (`iChange` in the -shm file), and PostgreSQL gives each an id. Neither
     is asked of the entrant, so that peers are counted as we are. A NOTIFY takes an id as well, and
     waits for no disk.
  3. Processor time is that of the entrant's children and of the database server; the entrant tells
     its own. Bytes written are what all of them gave to the kernel for files and pipes, logs and
     checkpoints included.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PROC = Path("/proc")


class Reading(NamedTuple):
    """Hold counters at one moment; None where nobody counts.

    Args:
        cpu_seconds: Of the entrant's children and the server.
        commits: Durable writes.
        written: Bytes that went to files.
        kept: Bytes in the database and its log.
    """

    cpu_seconds: float | None
    commits: int | None
    written: int | None
    kept: int | None


def descendants(root: int) -> list[int]:
    """Return the processes below this one; none where nobody can tell."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            parent = int(entry.read_text("ascii", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found[1:]


def cpu_of(processes: list[int]) -> float:
    """Return processor time in seconds, with that of children that have ended."""
    ticks = 0
    for process in processes:
        with suppress(OSError):
            fields = (PROC / f"{process}/stat").read_text("ascii", "replace").rpartition(")")[2]
            ticks += sum(map(int, fields.split()[11:15]))
    return ticks / TICKS


def written_by(processes: list[int]) -> int | None:
    """Return how many bytes these processes gave to the kernel.

    Why not what went to the disk: the kernel counts a whole folio for each byte of it.
    """
    total, is_known = 0, False
    for process in processes:
        with suppress(OSError, StopIteration):
            lines = (PROC / f"{process}/io").read_text("ascii").splitlines()
            line = next(line for line in lines if line.startswith("wchar"))
            total, is_known = total + int(line.partition(":")[2]), True
    return total if is_known else None


def sqlite_commits(folder: Path) -> int | None:
    """Return how many write transactions the logs below this folder have had."""
    total, is_known = 0, False
    for path in folder.rglob("*-shm"):
        # Why this file may be opened here: this process has no lock on any of them to lose.
        with suppress(OSError, struct.error), path.open("rb") as file:
            total, is_known = total + struct.unpack_from("=I", file.read(12), 8)[0], True
    return total if is_known else None


def size_of(folder: Path) -> int:
    """Return how many bytes the files below this folder have."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


class Server:
    """A PostgreSQL, with a connection that looks at its counters.

    Args:
        url: Of a database in which others can be made.
    """

    def __init__(self, url: str) -> None:
        import psycopg

        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)
        backend = self._one("SELECT pg_backend_pid()")
        self.process: int | None = None
        with suppress(OSError, IndexError):
            fields = (PROC / f"{backend}/stat").read_text("ascii", "replace").rpartition(")")
            if "postgres" in fields[0]:
                self.process = int(fields[2].split()[1])
        self.version = self._one("SHOW server_version").partition(" ")[0]

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def commits(self) -> int:
        """Return how many transactions have had an id; each that writes gets one."""
        return int(self._one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))

    def size(self, database: str) -> int:
        """Return how many bytes a database has."""
        return int(self._one(f"SELECT pg_database_size('{database}')"))

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make a database, and remove it; gives its URL."""
        self._connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))
        finally:
            self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def checkpoint(self) -> None:
        """Let what was written before not be written meanwhile."""
        self._connection.execute(b"CHECKPOINT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def read(entrant: int, folder: Path, server: Server | None, database: str | None) -> Reading:
    """Read the counters.

    Args:
        entrant: The process.
        folder: Where its files are.
        server: Its server; None where it has none.
        database: Its database there.
    """
    if not PROC.is_dir():
        return Reading(None, None, None, None)
    others = descendants(entrant)
    if server is None or database is None:
        commits, kept = sqlite_commits(folder), size_of(folder)
    else:
        commits, kept = server.commits(), server.size(database)
        if server.process is not None:
            others += [server.process, *descendants(server.process)]
    return Reading(cpu_of(others), commits, written_by([entrant, *others]), kept)
