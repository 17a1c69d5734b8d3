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


class RunStep(NamedTuple):
    """Call the step's action; `intent` must be durable before."""

    step: SagaStep
    intent: Entry

    @property
    def operation(self) -> Operation:
        """Which of the step's two calls it is."""
        return "action"


class RunCompensation(NamedTuple):
    """Call the step's compensating action; `intent` must be durable before."""

    step: SagaStep
    intent: Entry

    @property
    def operation(self) -> Operation:
        """Which of the step's two calls it is."""
        return "compensation"


Command = Record | RunStep | RunCompensation
