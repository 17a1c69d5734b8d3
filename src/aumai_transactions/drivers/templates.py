"""The steps of a saga that is carried out more than once.

Owns: how they are registered, and how each execution gets its own copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.values import checked_object
from aumai_transactions.models import Transaction, TransactionStep

if TYPE_CHECKING:
    from aumai_transactions.actions import Handler
    from aumai_transactions.drivers.manager import ManagerBase
    from aumai_transactions.drivers.options import StepOptions


class Template:
    """Hold the registered steps of a saga, from which each execution makes a transaction.

    Args:
        manager: Whose actions it uses.
    """

    def __init__(self, manager: ManagerBase) -> None:
        self._manager = manager
        self._steps = Transaction()

    def register(
        self,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None,
        options: StepOptions,
    ) -> TransactionStep:
        """Check a step, remember it, and return it."""
        step = self._manager._new_step(  # noqa: SLF001 (one module)
            self._steps, agent_id, action, data, compensating_action, options
        )
        self._steps.steps.append(step)
        return step

    def fill(self, tx: Transaction) -> None:
        """Give a new transaction a copy of each step."""
        for step in self._steps.steps:
            copy = step.model_copy(update={"data": checked_object(step.data, "data")})
            self._manager._added(tx, copy)  # noqa: SLF001 (one module)
