"""Where a transaction and a step can stand.

Owns: the names of those states.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

RollbackReason = Literal[
    "requested",
    "step_failed",
    "in_doubt",
    "deadline",
    "denied",
    "conflict",
    "deadlock",
    "cancelled",
    "crash",
]


class TransactionState(StrEnum):
    """Name where a transaction stands; the seed's five and two that last only a while."""

    pending = "pending"
    active = "active"
    committing = "committing"
    compensating = "compensating"
    committed = "committed"
    rolled_back = "rolled_back"
    failed = "failed"

    @property
    def is_final(self) -> bool:
        """True where no step of the transaction will run any more."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset(
    {TransactionState.committed, TransactionState.rolled_back, TransactionState.failed}
)


class StepState(StrEnum):
    """Name where one step stands."""

    pending = "pending"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    in_doubt = "in_doubt"
    compensating = "compensating"
    compensated = "compensated"
    outstanding = "outstanding"
    resolved = "resolved"
    skipped = "skipped"
