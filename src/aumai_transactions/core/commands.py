"""What should be done next: the outputs of `plan`.

Owns: the imperative words. A command that acts is carried out only after its intent has
been recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import SagaStep


@dataclass(slots=True, frozen=True)
class Record:
    """Record a decision that the journal so far calls for, then plan again."""

    entry: Entry


@dataclass(slots=True, frozen=True)
class RunStep:
    """Call the step's action; `intent` must be durable before."""

    operation: ClassVar[Operation] = "action"
    step: SagaStep
    intent: Entry


@dataclass(slots=True, frozen=True)
class RunCompensation:
    """Call the step's compensating action; `intent` must be durable before."""

    operation: ClassVar[Operation] = "compensation"
    step: SagaStep
    intent: Entry


Command = Record | RunStep | RunCompensation
