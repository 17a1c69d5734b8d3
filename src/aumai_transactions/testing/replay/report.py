"""What differs between what was recorded and today's code.

Owns: differences, and how they are told by transaction and step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Weight = Literal["stops", "differs"]
"""`stops`: today's code could not carry the transaction on. `differs`: it could, and what was
recorded and what is declared now are not the same."""


class Difference(NamedTuple):
    """Hold one difference.

    Args:
        step_id: At which step; empty for the whole.
        weight: What it means.
        text: What it is, and what to do.
    """

    step_id: str
    weight: Weight
    text: str


@dataclass(slots=True)
class Replayed:
    """Hold what became of one recorded transaction.

    Attributes:
        transaction_id: Which one.
        name: What it was called.
        state: Where it stood when it was recorded; empty where it cannot be read.
        steps: How many steps it has.
        differences: What differs; none means that today's code would carry it on.
        is_program_checked: True where a program was run against it.
    """

    transaction_id: str
    name: str = ""
    state: str = ""
    steps: int = 0
    differences: list[Difference] = field(default_factory=list)
    is_program_checked: bool = False

    @property
    def fits(self) -> bool:
        """True where nothing would stop it."""
        return all(difference.weight != "stops" for difference in self.differences)


@dataclass(slots=True)
class ReplayReport:
    """Hold what became of recorded journals.

    Attributes:
        transactions: One for each journal.
    """

    transactions: list[Replayed] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """True where today's code would carry on every one of them."""
        return all(transaction.fits for transaction in self.transactions)

    @property
    def differences(self) -> list[Difference]:
        """All that differs."""
        return [each for transaction in self.transactions for each in transaction.differences]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "fits": self.fits,
            "transactions": [
                {
                    "transaction_id": one.transaction_id,
                    "name": one.name,
                    "state": one.state,
                    "steps": one.steps,
                    "fits": one.fits,
                    "is_program_checked": one.is_program_checked,
                    "differences": [difference._asdict() for difference in one.differences],
                }
                for one in self.transactions
            ],
        }

    def __str__(self) -> str:
        """Return it by transaction and step."""
        stopped = sum(not one.fits for one in self.transactions)
        steps = sum(one.steps for one in self.transactions)
        programs = sum(one.is_program_checked for one in self.transactions)
        lines = [
            f"{len(self.transactions)} recorded transactions with {steps} steps, "
            f"{programs} of them run through a program: "
            + (
                f"today's code would stop at {stopped}"
                if stopped
                else "today's code carries on all"
            )
        ]
        for one in self.transactions:
            if not one.differences:
                continue
            told = " ".join(part for part in (one.transaction_id, one.name, one.state) if part)
            lines.append(f"  {told}")
            lines += [
                f"    {difference.step_id + ': ' if difference.step_id else ''}{difference.text}"
                for difference in one.differences
            ]
        return "\n".join(lines)
