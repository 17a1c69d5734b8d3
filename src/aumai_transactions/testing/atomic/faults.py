"""What can go wrong at one moment of a transaction.

Owns: the moments at which a fault can be planted, the kinds of faults, and which ones are tried
where. A moment is a durable write, or a call of one of the user's handlers.
Rules:
  1. A moment is known by what it is and by how often it has come: the second call of the undo of
     `s1`, the fourth durable write. So the same moment is found again in the next run.
  2. Each kind is something that happens to real callers: a no, a lost request, a lost answer, a
     process that dies. Nothing is planted that a handler could not be met with.
  3. What is planted second stands behind the first: in what the first one has led to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from aumai_transactions.core.definition import Operation

WRITE = "write"
"""What stands in the place of a step's id where the moment is a durable write."""

_WORDS: dict[str, str] = {
    "action": "the action",
    "compensation": "the undo",
    "confirmation": "the confirmation",
    "probe": "the probe",
    "verification": "the verification",
    "reread": "the second look",
}


class FaultKind(StrEnum):
    """Name what goes wrong."""

    refused = "refused"
    """The call is refused: it does nothing, and says so."""
    lost_request = "lost_request"
    """The call does nothing, and no answer comes: a `TimeoutError`."""
    lost_answer = "lost_answer"
    """The call does what it does, and no answer comes: a `TimeoutError`."""
    crash_before = "crash_before"
    """The process dies right before it."""
    crash_after = "crash_after"
    """The process dies right after it."""

    @property
    def is_crash(self) -> bool:
        """True where the process dies."""
        return self in (FaultKind.crash_before, FaultKind.crash_after)


class Moment(NamedTuple):
    """Name one moment of a run.

    Args:
        what: The step's id, or `WRITE`.
        operation: Which of the step's handlers; empty for a write.
        number: Which time it comes, from 1.
        name: The name of the action that is called, for people.
        behind_commit: True for a call that comes after the commit decision.
    """

    what: str
    operation: Operation | str
    number: int
    name: str = ""
    behind_commit: bool = False

    @property
    def key(self) -> str:
        """Its name, the same in each run."""
        return f"{self.what}{'.' if self.operation else ''}{self.operation}#{self.number}"

    def __str__(self) -> str:
        """Return how people call it."""
        if self.what == WRITE:
            return f"durable write {self.number}"
        again = f", call {self.number}" if self.number > 1 else ""
        called = f" ({self.name})" if self.name else ""
        return f"{_WORDS.get(self.operation, self.operation)} of {self.what}{called}{again}"


class Fault(NamedTuple):
    """Hold one thing that goes wrong.

    Args:
        moment: When.
        kind: What.
    """

    moment: Moment
    kind: FaultKind

    @property
    def key(self) -> str:
        """Its name, the same in each run; what `only=` takes."""
        return f"{self.moment.key}:{self.kind}"

    def __str__(self) -> str:
        """Return a sentence about it."""
        match self.kind:
            case FaultKind.refused:
                return f"{self.moment} is refused: it does nothing, and says so"
            case FaultKind.lost_request:
                return f"{self.moment} never arrives: it does nothing, and no answer comes"
            case FaultKind.lost_answer:
                return f"{self.moment} is carried out, and its answer is lost"
            case FaultKind.crash_before:
                return f"the process dies right before {self.moment}"
            case FaultKind.crash_after:
                return f"the process dies right after {self.moment}"


def faults_at(moment: Moment) -> Iterator[Fault]:
    """Yield what can go wrong at a moment."""
    if moment.what != WRITE:
        yield Fault(moment, FaultKind.refused)
        yield Fault(moment, FaultKind.lost_request)
        yield Fault(moment, FaultKind.lost_answer)
    yield Fault(moment, FaultKind.crash_before)
    yield Fault(moment, FaultKind.crash_after)


def faults_behind(first: Fault, moments: Sequence[Moment]) -> Iterator[Fault]:
    """Yield what is tried in what a first fault has led to.

    A refused action sends the transaction back, so everything is tried on that way. After a crash
    in a call it is another crash, inside of the recovery; a crash at a durable write leads to
    the same recoveries.

    Args:
        first: The first fault.
        moments: The moments that came after it.
    """
    is_call = first.moment.what != WRITE
    if first.kind is FaultKind.refused and first.moment.operation == "action":
        for moment in moments:
            yield from faults_at(moment)
    elif first.kind.is_crash and is_call:
        for moment in moments:
            yield from (fault for fault in faults_at(moment) if fault.kind.is_crash)
