"""What a step needs to have its turn.

Owns: how its data is filled in, and what a person is shown who has to allow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.approvals import digest_of
from aumai_transactions.core.commands import Record
from aumai_transactions.core.entries import ApprovalRequested, ErrorRecord, StepFailed
from aumai_transactions.core.references import UnresolvedReference, resolved
from aumai_transactions.core.states import STEP_RESOLVED

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga, SagaStep


def fill_in(saga: Saga, step: SagaStep, now: int) -> tuple[dict[str, Any] | None, Record | None]:
    """Return a step's data with its references filled in; or that it fails, for they cannot be."""
    definition = step.definition
    for reference in definition.references:
        other = saga.step(reference.step_id)
        # Why not null: it would be called as if the other one had returned nothing.
        why = None
        if other.state is STEP_RESOLVED:
            why = f"step {reference.step_id!r} was not carried out, and has no output"
        elif other.unrecorded:
            why = f"what step {reference.step_id!r} returned could not be recorded"
        if why is not None:
            problem = ErrorRecord("UnresolvedReference", why)
            return None, Record(StepFailed(now, step.step_id, 0, problem))
    outputs = {r.step_id: saga.step(r.step_id).output for r in definition.references}
    try:
        return resolved(definition, outputs), None
    except UnresolvedReference as error:
        problem = ErrorRecord("UnresolvedReference", str(error))
        return None, Record(StepFailed(now, step.step_id, 0, problem))


def approval_of(step: SagaStep, data: dict[str, Any] | None, now: int) -> ApprovalRequested:
    """Return what a person is asked to allow."""
    definition = step.definition
    seconds = definition.approval_timeout_seconds
    until = None if seconds is None else now + round(seconds * 1_000_000)
    digest = digest_of(definition, definition.data if data is None else data)
    return ApprovalRequested(now, step.step_id, digest, data, until)
