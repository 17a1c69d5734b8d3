"""What those wait for who take part in a transaction.

Owns: which calls are worth making for whom, and when somebody has waited long enough.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from aumai_transactions.core.commands import Call
from aumai_transactions.core.doubts import needs_person
from aumai_transactions.core.planning import reason_to_go_back
from aumai_transactions.core.saga import Saga, SagaStep
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import ACTIVE, COMPENSATING, PENDING, STEP_PENDING
from aumai_transactions.core.values import clone
from aumai_transactions.models import StepState, TransactionState


class Interest(Protocol):
    """Say what somebody waits for."""

    def covers(self, saga: Saga, call: Call) -> bool:
        """Tell whether a call is worth making for it."""

    def is_settled(self, saga: Saga, now: int) -> bool:
        """Tell whether there is nothing left to wait for."""


class NoInterest:
    """Wait for nothing: what was seen is recorded, and that is all."""

    def covers(self, saga: Saga, call: Call) -> bool:  # noqa: ARG002 (as the protocol has it)
        """Tell that no call is worth making."""
        return False

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell that there is nothing to wait for."""
        return True


class WholeInterest:
    """Wait for all that is to be done."""

    def covers(self, saga: Saga, call: Call) -> bool:  # noqa: ARG002 (all is all)
        """Tell that every call is worth making."""
        return True

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell whether the transaction has ended."""
        return saga.state.is_final and not saga.undo


class StepOutcome(NamedTuple):
    """Hold what is known about a step when nobody waits for it any more.

    Args:
        state: Where it stands.
        is_in_force: True where nobody undoes it.
        output: What it returned; a copy.
        error: What it raised, as text; None where it did not.
        error_type: What kind of error that was.
        attempt: How often its action was called.
        is_held: True where it waits for the commit.
        digest: Of what a person is to allow, where it waits for that.
        transaction: Where the transaction stands.
        is_decided: True behind the commit point.
    """

    state: StepState
    is_in_force: bool
    output: Any
    error: str | None
    error_type: str | None
    attempt: int
    is_held: bool
    digest: str | None
    transaction: TransactionState
    is_decided: bool


class StepInterest:
    """Wait for one step; or for the end, where the transaction goes back meanwhile."""

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id

    def covers(self, saga: Saga, call: Call) -> bool:
        """Tell that the calls of its step are worth making, and every undo of the whole."""
        if call.step.step_id == self.step_id or saga.state is COMPENSATING:
            return True
        step = saga.by_id[self.step_id]
        if step.to_undo and is_of_an_undo(call):
            return True
        # Why: it waits until everything else has ended, whoever asked for that.
        return step.definition.pivot and step.state is STEP_PENDING

    def is_settled(self, saga: Saga, now: int) -> bool:
        """Tell whether it is known what became of the step."""
        if saga.state is not ACTIVE:
            return saga.state is not COMPENSATING
        step = saga.by_id[self.step_id]
        if step.definition.on_commit:
            return True
        if step.state is STEP_PENDING:
            # Why then: it never begins, and what it would wait for may wait for its caller.
            return reason_to_go_back(saga, now) is not None
        return is_at_rest(saga, step)

    def outcome(self, saga: Saga) -> StepOutcome:
        """Return what is known about the step."""
        step = saga.by_id[self.step_id]
        asked = step.approval if step.index in saga.approvals else None
        return StepOutcome(
            step.state,
            is_in_force(step),
            clone(step.output),
            None if step.error is None else str(step.error),
            None if step.error is None else step.error.type,
            step.attempt,
            step.definition.on_commit,
            None if asked is None else asked.digest,
            saga.state,
            saga.decided_at is not None,
        )


class DoubtsInterest:
    """Wait until nothing is under way, nor in doubt that could be settled without a person."""

    def covers(self, saga: Saga, call: Call) -> bool:  # noqa: ARG002 (all is all)
        """Tell that every call is worth making."""
        return True

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell whether whatever is still in doubt needs a person."""
        if saga.state is not ACTIVE:
            return saga.state.is_final
        doubts = (saga.steps[index] for index in saga.doubtful)
        is_still = not saga.undo and not saga.running
        return is_still and all(needs_person(step) for step in doubts)


class GroupInterest:
    """Wait until nothing is under way in a group; or for the end, where the whole goes back."""

    def __init__(self, scope_id: str) -> None:
        self.scope_id = scope_id

    def covers(self, saga: Saga, call: Call) -> bool:
        """Tell that the calls of its steps are worth making, and every undo of the whole."""
        groups = [] if call.step.scope is None else call.step.scope.chain()
        inside = self.scope_id in [one.definition.scope_id for one in groups]
        return inside or saga.state is COMPENSATING or is_of_an_undo(call)

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell whether all of its steps are at rest, or wait for a person."""
        if saga.state is not ACTIVE:
            return saga.state is PENDING or saga.state.is_final
        scope = saga.scopes.get(self.scope_id)
        steps = [] if scope is None else [saga.steps[index] for index in scope.all_steps()]
        return all(
            is_at_rest(saga, step) or step.index in saga.approvals or step.definition.on_commit
            for step in steps
        )


class StepsInterest:
    """Wait until some steps have been undone; or for the end, where that fails."""

    def __init__(self, step_ids: tuple[str, ...]) -> None:
        self.step_ids = frozenset(step_ids)

    def covers(self, saga: Saga, call: Call) -> bool:
        """Tell that the calls of its steps are worth making, and every undo of the whole."""
        mine = call.step.step_id in self.step_ids or saga.state is COMPENSATING
        return mine or is_of_an_undo(call)

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell whether none of them is being undone any more."""
        if saga.state is not ACTIVE:
            return saga.state.is_final
        steps = (saga.by_id[name] for name in self.step_ids)
        return not any(step.to_undo or step.undo_wanted or step.outstanding for step in steps)


def worth_making(saga: Saga, todo: list[Call], interest: Interest, now: int) -> list[Call]:
    """Return the calls that somebody makes who waits for something.

    Why all of them where nothing new begins any more: who asked for a call may be gone, and
    whoever waits for the whole to go back, or for what must not begin beside it, would wait for it
    for ever.
    """
    is_late = saga.state is ACTIVE and now > saga.plan.deadline
    everything = (is_late or goes_back(saga, now)) and not isinstance(interest, NoInterest)
    return [call for call in todo if everything or interest.covers(saga, call)]


def goes_back(saga: Saga, now: int) -> bool:
    """True where the whole goes back, or will as soon as what was announced has ended."""
    wishes = saga.rollback_requested is not None or saga.denied is not None
    if saga.state is ACTIVE:
        return wishes or reason_to_go_back(saga, now) is not None
    return wishes or saga.state is COMPENSATING


def is_of_an_undo(call: Call) -> bool:
    """True where a call is part of an undo, whoever asked for that.

    Why whoever waits for an undo makes those of others too: undos go one at a time, and who asked
    for the one in front may be gone.
    """
    return call.step.to_undo or call.operation in ("compensation", "verification")


def is_at_rest(saga: Saga, step: SagaStep) -> bool:
    """True where nothing is under way for a step, and nothing will be by itself."""
    if step.to_undo or step.undo_wanted or step.outstanding is not None:
        return False
    if step.state is STEP_PENDING:
        return False
    if step.index in saga.doubtful:
        return needs_person(step)
    return step.state.value not in ("running", "compensating")
