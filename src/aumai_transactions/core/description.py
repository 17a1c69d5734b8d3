"""A transaction as it is told to a model: short, stable, and all of what matters.

Owns: `describe`. A description shows; it decides nothing.
Rules:
  1. The same journal, and the same notices, give the same text: the order is that of the journal,
     times are absolute.
  2. Nothing that is held, in doubt or cannot be undone is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.approvals import digest_of
from aumai_transactions.core.conflicts import in_force
from aumai_transactions.core.planning import may_have_decided
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import (
    ACTIVE,
    PENDING,
    STEP_COMPENSATED,
    STEP_COMPENSATING,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_OUTSTANDING,
    STEP_PENDING,
    STEP_RESOLVED,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import canonical_json
from aumai_transactions.models import ConflictNotice, DescribedStep, Description

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.saga import Saga, SagaStep

DATA_CHARACTERS_MAX = 200


def describe(saga: Saga, now: int, notices: Sequence[ConflictNotice] = ()) -> Description:
    """Return what is done, what is held, and what can still be undone and until when.

    Args:
        saga: The transaction.
        now: Microseconds since 1970 UTC.
        notices: What this process has heard of changes by others.
    """
    lists: dict[str, list[DescribedStep]] = {
        "done": [],
        "running": [],
        "held": [],
        "waiting_for_approval": [],
        "in_doubt": [],
        "failed": [],
        "undone": [],
        "needs_a_person": [],
    }
    for step in saga.steps:
        place = _place(saga, step)
        if place is not None:
            lists[place].append(_described(saga, step, now))
    goes_on = saga.state in (PENDING, ACTIVE) and saga.rollback_requested is None
    goes_on = goes_on and not may_have_decided(saga)
    return Description(
        transaction_id=saga.transaction_id,
        name=saga.plan.name,
        state=saga.state,
        can_be_rolled_back=goes_on,
        deadline=instant(round(saga.plan.deadline)),
        changed_since_read=in_force(saga, notices),
        **lists,
    )


def _place(saga: Saga, step: SagaStep) -> str | None:
    state = step.state
    if step.index in saga.approvals:
        return "waiting_for_approval"
    if state is STEP_OUTSTANDING:
        return "needs_a_person"
    if state is STEP_SUCCEEDED:
        return "done" if is_in_force(step) or step.left_in_place or step.to_undo else "undone"
    if state is STEP_COMPENSATING:
        return "running"
    if state is STEP_RESOLVED:
        return "done" if step.left_in_place else "undone"
    if state is STEP_PENDING:
        return "held" if step.definition.on_commit else "running"
    if state is STEP_RUNNING:
        return "running"
    if state is STEP_IN_DOUBT:
        return "in_doubt"
    if state is STEP_FAILED:
        return "failed"
    return "undone" if state is STEP_COMPENSATED else None


def _described(saga: Saga, step: SagaStep, now: int) -> DescribedStep:
    definition = step.definition
    until = step.undo_until
    error = step.error if step.outstanding is None else step.undo_error or step.error
    open_ = saga.state in (PENDING, ACTIVE) and saga.decided_at is None
    undo = definition.compensating_action
    done = step.state is STEP_SUCCEEDED and is_in_force(step)
    can = open_ and done and undo is not None and (until is None or now <= until)
    data = canonical_json(step.resolved_data).decode()
    if len(data) > DATA_CHARACTERS_MAX:
        data = data[:DATA_CHARACTERS_MAX] + "…"
    return DescribedStep(
        step_id=step.step_id,
        agent_id=definition.agent_id,
        action=definition.action,
        data=data,
        undo=undo,
        can_be_undone=can,
        undo_before=None if until is None else instant(until),
        error=None if error is None else str(error),
        digest=digest_of(definition, step.resolved_data) if step.index in saga.approvals else None,
    )
