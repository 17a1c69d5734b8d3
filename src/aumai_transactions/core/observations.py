"""What a driver saw: the facts that come back from the outside.

Owns: the inputs of `decide`. Past tense; none of them is in the journal until decided upon.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aumai_transactions.core.definition import Definition, Operation
from aumai_transactions.core.entries import Answer, ErrorRecord
from aumai_transactions.models import RollbackReason


class PlanGiven(NamedTuple):
    """The caller's plan was read, checked and frozen."""

    definition: Definition


class CommitCalled(NamedTuple):
    """Somebody called `commit()`."""

    by: str = ""


class RollbackCalled(NamedTuple):
    """Somebody called `rollback()`; or the caller was cancelled, as the reason says."""

    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"


class RetryAsked(NamedTuple):
    """Somebody asked for one more attempt at a step."""

    step_id: str
    by: str = ""
    note: str = ""


class ResolutionAnswered(NamedTuple):
    """Somebody said what happened to a step."""

    step_id: str
    answer: Answer
    by: str
    note: str


class DriverArrived(NamedTuple):
    """A driver takes the transaction; `takeover` says that another one died with it."""

    driver_id: str
    takeover: bool = False


class HandlerReturned(NamedTuple):
    """A handler returned."""

    step_id: str
    operation: Operation
    output: Any = None
    warning: str | None = None


class HandlerRaised(NamedTuple):
    """A handler raised; `outcome` says what that means."""

    step_id: str
    operation: Operation
    outcome: Literal["not_done", "in_doubt", "cancelled"]
    error: ErrorRecord


class HandlerMissing(NamedTuple):
    """There is no handler of this name here."""

    step_id: str
    operation: Operation


Observation = (
    HandlerReturned
    | HandlerRaised
    | HandlerMissing
    | PlanGiven
    | CommitCalled
    | RollbackCalled
    | RetryAsked
    | ResolutionAnswered
    | DriverArrived
)
