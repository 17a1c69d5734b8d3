"""What a check has found, for people and for programs.

Owns: `Report`, and the words in which the invariants are shown.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aumai_transactions.testing.history.records import Problem

INVARIANTS = {
    "I1": "no effect before its durable intent",
    "I2": "committed is done, rolled back is undone",
    "I3": "in order, and back in reverse order",
    "I4": "no effect after going back",
    "I5": "nothing twice",
    "I6": "one driver after the other",
    "I7": "nothing acknowledged is lost",
    "I8": "nothing back over the commit point",
    "I9": "one key for all attempts",
    "I10": "nobody in between, one order explains all",
    "I11": "every journal is whole",
    "I13": "nothing done or undone by guessing",
    "L1": "everything has ended",
}
"""What is checked, by invariant (docs/design.md, section 2)."""

PROBLEMS_SHOWN_MAX = 50


class Report(NamedTuple):
    """Hold what a check has found.

    Args:
        states: How many transactions are in each state.
        entries: How many entries their journals have.
        accesses: How many accesses the participants had recorded.
        problems: What must not be; none where the history is sound.
    """

    states: Mapping[str, int]
    entries: int
    accesses: int
    problems: Sequence[Problem]

    @property
    def transactions(self) -> int:
        """How many transactions there are."""
        return sum(self.states.values())

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can say."""
        count = Counter(problem.invariant for problem in self.problems)
        return {
            "transactions": self.transactions,
            "states": dict(self.states),
            "entries": self.entries,
            "accesses": self.accesses,
            "sound": not self.problems,
            "invariants": {name: count[name] for name in dict.fromkeys([*INVARIANTS, *count])},
            "problems": [problem._asdict() for problem in self.problems],
        }

    def __str__(self) -> str:
        """Tell it as a table."""
        states = ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in self.states.items()
        )
        lines = [
            f"transactions  {self.transactions:,}{f' ({states})' if states else ''}",
            f"entries       {self.entries:,}",
            f"accesses      {self.accesses:,}",
            "",
        ]
        count = Counter(problem.invariant for problem in self.problems)
        for name in dict.fromkeys([*INVARIANTS, *count]):
            meaning = INVARIANTS.get(name, "see docs/semantics.md")
            lines.append(f"{name:<4} {meaning:<42} {count[name] or 'ok':>6}")
        lines.append("")
        lines += [f"{problem.invariant}: {problem.text}" for problem in self._first()]
        left = len(self.problems) - PROBLEMS_SHOWN_MAX
        if left > 0:
            lines.append(f"and {left:,} more; --json has them all")
        lines.append(f"{len(self.problems):,} problems found" if self.problems else "nothing found")
        return "\n".join(lines)

    def _first(self) -> Sequence[Problem]:
        return self.problems[:PROBLEMS_SHOWN_MAX]
