"""Steps that are registered once, and carried out as a transaction as often as wanted.

Owns: `SagaOrchestrator` and `AsyncSagaOrchestrator`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from aumai_transactions.drivers.options import BeginOptions, StepOptions
from aumai_transactions.drivers.templates import Template
from aumai_transactions.models import DEFAULT_TIMEOUT_SECONDS, TransactionResult, TransactionStep

if TYPE_CHECKING:
    from aumai_transactions.actions import Handler
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.sync import TransactionManager


class SagaOrchestrator:
    """Register steps once, and carry them out as a transaction as often as wanted.

    Args:
        manager: What carries them out.
    """

    def __init__(self, manager: TransactionManager) -> None:
        self._manager = manager
        self._template = Template(manager)

    def register(
        self,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None = None,
        **options: Unpack[StepOptions],
    ) -> TransactionStep:
        """Add a step to the saga, and return it; see `TransactionManager.add_step`."""
        return self._template.register(agent_id, action, data, compensating_action, options)

    def execute(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> TransactionResult:
        """Carry out the registered steps as one new transaction, and return the outcome."""
        tx = self._manager.begin(timeout_seconds, **options)
        self._template.fill(tx)
        return self._manager.commit(tx)


class AsyncSagaOrchestrator:
    """Register steps once, and carry them out as a transaction as often as wanted.

    Args:
        manager: What carries them out.
    """

    def __init__(self, manager: AsyncTransactionManager) -> None:
        self._manager = manager
        self._template = Template(manager)

    def register(
        self,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None = None,
        **options: Unpack[StepOptions],
    ) -> TransactionStep:
        """Add a step to the saga, and return it; see `TransactionManager.add_step`."""
        return self._template.register(agent_id, action, data, compensating_action, options)

    async def execute(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> TransactionResult:
        """Carry out the registered steps as one new transaction, and return the outcome."""
        tx = await self._manager.begin(timeout_seconds, **options)
        self._template.fill(tx)
        return await self._manager.commit(tx)
