"""What it means that a person is asked to allow a step, and answers.

Owns: the part of `evolve` that is about approvals, and what an approval is bound to.
Rules:
  1. An approval is bound to the digest of exactly what was shown; no other step may use it.
  2. A step that waits for one holds nothing and blocks nothing that does not depend on it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.states import ACTIVE, STEP_PENDING
from aumai_transactions.core.transitions import require
from aumai_transactions.core.values import canonical_json

if TYPE_CHECKING:
    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.core.entries import ApprovalDenied, ApprovalGiven, ApprovalRequested
    from aumai_transactions.core.saga import Saga

DIGEST_CHARACTERS = 32


def digest_of(step: StepDefinition, data: dict[str, Any]) -> str:
    """Return the digest of what a person is asked to allow.

    Args:
        step: The step.
        data: Its data, with all references filled in.
    """
    shown = [step.step_id, step.agent_id, step.action, step.compensating_action, data]
    return hashlib.sha256(canonical_json(shown)).hexdigest()[:DIGEST_CHARACTERS]


def approval_requested(saga: Saga, entry: ApprovalRequested) -> None:
    """Let a step wait for a person."""
    step = saga.step(entry.step_id)
    turn = saga.state is ACTIVE and step.state is STEP_PENDING and step.index in saga.ready
    require(turn, "an approval is asked for out of turn")
    require(step.definition.requires_approval and step.approval is None, "no approval is needed")
    saga.ready.remove(step.index)
    saga.approvals[step.index] = entry.until
    step.approval = entry
    saga.touched.append(step.index)


def approval_given(saga: Saga, entry: ApprovalGiven) -> None:
    """Let a step have its turn."""
    step = saga.step(entry.step_id)
    require(step.index in saga.approvals, "nobody was asked to allow this step")
    asked = step.approval
    require(asked is not None and asked.digest == entry.digest, "it allows something else")
    del saga.approvals[step.index]
    step.approved = True
    saga.ready.append(step.index)
    saga.warnings.append(_said(entry.by, "allowed", entry.step_id, entry.note))


def approval_denied(saga: Saga, entry: ApprovalDenied) -> None:
    """Let the transaction go back."""
    step = saga.step(entry.step_id)
    require(step.index in saga.approvals, "nobody was asked to allow this step")
    said = _said(entry.by or "nobody answered in time, so it", "denied", entry.step_id, entry.note)
    saga.denied = (entry.step_id, said)


def _said(by: str, what: str, step_id: str, note: str) -> str:
    return f"{by} {what} step {step_id}" + (f" ({note})" if note else "")
