"""What happened in one run, in order.

Owns: the record of a run: every moment, every fault, every process that began or died. It is
written line by line, so that it outlives a process that is killed.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from aumai_transactions.testing.atomic.faults import Fault, FaultKind, Moment

What = Literal["begins", "moment", "acted", "written", "fault", "died", "raised", "recovered"]
"""`begins`: a process. `moment`: one was reached. `acted`: a handler returned. `written`: entries
became durable. `fault`: it struck. `died`: the process. `raised`: the program did. `recovered`:
what `recover()` said."""


class Happening(NamedTuple):
    """Hold one line of a record.

    Args:
        what: Its kind.
        text: What people are told.
        moment: The moment that it is about.
        fault: The fault that it is about.
        transaction_id: The transaction whose journal was written to.
        sequence: The last entry that became durable.
    """

    what: What
    text: str = ""
    moment: Moment | None = None
    fault: Fault | None = None
    transaction_id: str = ""
    sequence: int = 0


class Record:
    """Take in what happens, from any thread, and from one process after the other.

    Args:
        path: The file that keeps it where processes are killed; None for in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._guard = threading.Lock()
        self.happenings: list[Happening] = [] if path is None else read_record(path)

    def add(self, happening: Happening) -> None:
        """Take in the next line; with a file, it is there when this returns."""
        with self._guard:
            self.happenings.append(happening)
            if self._path is not None:
                # Why one write to a file that appends: a process may be killed right after it.
                line = json.dumps(happening).encode() + b"\n"
                file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    os.write(file, line)
                finally:
                    os.close(file)

    @property
    def moments(self) -> list[Moment]:
        """The moments, in the order in which they came."""
        return [line.moment for line in self.happenings if line.what == "moment" and line.moment]

    @property
    def struck(self) -> list[Fault]:
        """The faults that struck."""
        return [line.fault for line in self.happenings if line.what == "fault" and line.fault]

    def moments_behind(self, fault: Fault) -> list[Moment]:
        """Return the moments that came after a fault had struck."""
        for place, line in enumerate(self.happenings):
            if line.what == "fault" and line.fault == fault:
                rest = self.happenings[place + 1 :]
                return [each.moment for each in rest if each.what == "moment" and each.moment]
        return []

    def times(self, what: str, operation: str) -> int:
        """Return how often a handler of a step has acted."""
        return sum(
            1
            for line in self.happenings
            if line.what == "acted"
            and line.moment is not None
            and (line.moment.what, line.moment.operation) == (what, operation)
        )


def read_record(path: Path) -> list[Happening]:
    """Return what a file holds; nothing where there is none."""
    if not path.is_file():
        return []
    return [_happening(json.loads(line)) for line in path.read_bytes().splitlines()]


def _happening(fields: list[Any]) -> Happening:
    what, text, moment, fault, transaction_id, sequence = fields
    return Happening(
        cast("What", what),
        text,
        None if moment is None else Moment(*moment),
        None if fault is None else fault_of(fault),
        transaction_id,
        sequence,
    )


def fault_of(fields: list[Any]) -> Fault:
    """Return a fault that was written as JSON."""
    return Fault(Moment(*fields[0]), FaultKind(fields[1]))
