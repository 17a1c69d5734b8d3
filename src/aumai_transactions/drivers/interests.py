"""What those wait for who take part in a transaction.

Owns: which calls are worth making for whom, and when somebody has waited long enough.
"""

from __future__ import annotations

from typing import Protocol

from aumai_transactions.core.doubts import needs_person
from aumai_transactions.core.saga import Saga, SagaStep
from aumai_transactions.core.states import ACTIVE, COMPENSATING, STEP_PENDING


class Interest(Protocol):
    """Say what somebody waits for."""

    def covers(self, saga: Saga, step: SagaStep) -> bool:
        """Tell whether calls of this step are worth making for it."""

    def is_settled(self, saga: Saga) -> bool:
        """Tell whether there is nothing left to wait for."""


class WholeInterest:
    """Wait for all that is to be done."""

    def covers(self, saga: Saga, step: SagaStep) -> bool:  # noqa: ARG002 (all is all)
        """Tell that every call is worth making."""
        return True

    def is_settled(self, saga: Saga) -> bool:
        """Tell whether the transaction has ended."""
        return saga.state.is_final and not saga.undo


class StepInterest:
    """Wait for one step; or for the end, where the transaction goes back."""

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id

    def covers(self, saga: Saga, step: SagaStep) -> bool:
        """Tell that the calls of its step are worth making, and every undo of the whole."""
        return step.step_id == self.step_id or saga.state is COMPENSATING

    def is_settled(self, saga: Saga) -> bool:
        """Tell whether it is known what became of the step."""
        step = saga.by_id[self.step_id]
        if saga.state is COMPENSATING or saga.rollback_requested is not None:
            return False
        if saga.state is not ACTIVE:
            return True
        if step.definition.on_commit:
            return True
        return is_at_rest(saga, step)


class DoubtsInterest:
    """Wait until nothing is in doubt that could be settled without a person."""

    def covers(self, saga: Saga, step: SagaStep) -> bool:  # noqa: ARG002 (all is all)
        """Tell that every call is worth making."""
        return True

    def is_settled(self, saga: Saga) -> bool:
        """Tell whether whatever is still in doubt needs a person."""
        if saga.state is not ACTIVE:
            return saga.state.is_final
        doubts = (saga.steps[index] for index in saga.doubtful)
        return not saga.undo and all(needs_person(step) for step in doubts)


class StepsInterest:
    """Wait until some steps have been undone; or for the end, where that fails."""

    def __init__(self, step_ids: tuple[str, ...]) -> None:
        self.step_ids = frozenset(step_ids)

    def covers(self, saga: Saga, step: SagaStep) -> bool:
        """Tell that the calls of its steps are worth making, and every undo of the whole."""
        return step.step_id in self.step_ids or saga.state is COMPENSATING

    def is_settled(self, saga: Saga) -> bool:
        """Tell whether none of them is being undone any more."""
        if saga.state is not ACTIVE:
            return saga.state.is_final
        steps = (saga.by_id[name] for name in self.step_ids)
        return not any(step.to_undo or step.undo_wanted or step.outstanding for step in steps)


def is_at_rest(saga: Saga, step: SagaStep) -> bool:
    """True where nothing is under way for a step, and nothing will be by itself."""
    if step.to_undo or step.undo_wanted or step.outstanding is not None:
        return False
    if step.state is STEP_PENDING:
        return False
    if step.index in saga.doubtful:
        return needs_person(step)
    return step.state.value not in ("running", "compensating")
