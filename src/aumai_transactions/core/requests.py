"""What anybody may ask for in a journal: the entries that need no token.

Owns: their vocabulary. A request causes no call by itself; whoever drives the transaction hears it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from aumai_transactions.core.definition import ScopeDefinition, StepDefinition
from aumai_transactions.core.values import ErrorRecord
from aumai_transactions.models import RollbackReason

Answer = Literal["happened", "did_not_happen", "undone", "left_in_place"]


class CommitRequested(NamedTuple):
    """Somebody wants the transaction carried out."""

    at: int
    by: str = ""


class RollbackRequested(NamedTuple):
    """Somebody wants the transaction undone; with `scope_id`, a nested one of it."""

    at: int
    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"
    error: ErrorRecord | None = None
    scope_id: str | None = None


class RetryRequested(NamedTuple):
    """Somebody wants one more attempt, now: of a step in doubt, an undo, or what is waited for."""

    at: int
    step_id: str
    by: str = ""
    note: str = ""


class ResolutionGiven(NamedTuple):
    """A person says what happened, or what was done about it."""

    at: int
    step_id: str
    answer: Answer
    by: str
    note: str


class ApprovalGiven(NamedTuple):
    """A person allows a step, with exactly this digest."""

    at: int
    step_id: str
    digest: str
    by: str
    note: str = ""


class ApprovalDenied(NamedTuple):
    """A person does not allow a step; or the time for it was over."""

    at: int
    step_id: str
    by: str
    note: str = ""


class TrustGiven(NamedTuple):
    """A person has looked: a transaction that came out of a backup may be acted upon."""

    at: int
    by: str
    note: str = ""


class StepRequested(NamedTuple):
    """Somebody else wants an interactive transaction to go on with this step."""

    at: int
    request_id: str
    step: StepDefinition
    scopes: tuple[ScopeDefinition, ...] = ()
    by: str = ""


Request = (
    CommitRequested
    | RollbackRequested
    | RetryRequested
    | ResolutionGiven
    | ApprovalGiven
    | ApprovalDenied
    | TrustGiven
    | StepRequested
)

REQUESTS = (
    CommitRequested,
    RollbackRequested,
    RetryRequested,
    ResolutionGiven,
    ApprovalGiven,
    ApprovalDenied,
    TrustGiven,
    StepRequested,
)
