"""What should be done next: the outputs of `plan`.

Owns: the imperative words. A command that acts is carried out only after its intent has
been recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import SagaStep


class Record(NamedTuple):
    """Record a decision that the journal so far calls for, then plan again."""

    entry: Entry


class Call(NamedTuple):
    """Make one of a step's calls; `intent` must be durable before.

    Args:
        operation: Which of them.
        step: Whose.
        intent: The entry that announces it; None for a reread, which changes nothing anywhere.
    """

    operation: Operation
    step: SagaStep
    intent: Entry | None


class Look(NamedTuple):
    """Have the store show who holds these resources, and who waits for them."""

    names: tuple[str, ...]


Command = Record | Call | Look
