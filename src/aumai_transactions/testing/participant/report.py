"""What became of each promise of a participant.

Owns: the verdicts, and how they are shown as a table and as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Verdict = Literal["kept", "broken", "weak", "unchecked"]
"""`weak`: nothing is lost by it in a transaction, but it is not as it should be."""


class Line(NamedTuple):
    """Hold the verdict on one promise.

    Args:
        promise: Its number in the contract, P1 to P6; F4 for fencing.
        what: What was tried.
        verdict: What came of it.
        detail: What was seen, or why it could not be checked.
    """

    promise: str
    what: str
    verdict: Verdict
    detail: str = ""


@dataclass(slots=True)
class ParticipantReport:
    """Hold the verdicts on a participant.

    Attributes:
        url: Which one.
        lines: A line for each thing that was tried.
    """

    url: str
    lines: list[Line] = field(default_factory=list)

    @property
    def broken(self) -> list[Line]:
        """The promises that are not kept."""
        return [line for line in self.lines if line.verdict == "broken"]

    @property
    def is_sound(self) -> bool:
        """True where nothing that could be checked is broken."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "url": self.url,
            "is_sound": self.is_sound,
            "checks": [line._asdict() for line in self.lines],
        }

    def __str__(self) -> str:
        """Return a table, and what it comes to."""
        rows = [("PROMISE", "WHAT", "RESULT", "DETAIL"), *self.lines]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]
            ).rstrip()
            for row in rows
        ]
        counted = {
            kind: sum(1 for line in self.lines if line.verdict == kind)
            for kind in ("kept", "broken", "weak", "unchecked")
        }
        told = ", ".join(f"{count} {kind}" for kind, count in counted.items() if count)
        return "\n".join([f"participant {self.url}", "", *lines, "", told])
