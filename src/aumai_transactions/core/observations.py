"""What a driver saw: the facts that come back from the outside.

Owns: the inputs of `decide`. Past tense; none of them is in the journal until decided upon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aumai_transactions.core.definition import Definition, Operation
from aumai_transactions.core.entries import Answer, ErrorRecord
from aumai_transactions.models import RollbackReason


@dataclass(slots=True, frozen=True)
class PlanGiven:
    """The caller's plan was read, checked and frozen."""

    definition: Definition


@dataclass(slots=True, frozen=True)
class CommitCalled:
    """Somebody called `commit()`."""

    by: str = ""


@dataclass(slots=True, frozen=True)
class RollbackCalled:
    """Somebody called `rollback()`; or the caller was cancelled, as the reason says."""

    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"


@dataclass(slots=True, frozen=True)
class RetryAsked:
    """Somebody asked for one more attempt at a step."""

    step_id: str
    by: str = ""
    note: str = ""


@dataclass(slots=True, frozen=True)
class ResolutionAnswered:
    """Somebody said what happened to a step."""

    step_id: str
    answer: Answer
    by: str
    note: str


@dataclass(slots=True, frozen=True)
class DriverArrived:
    """A driver takes the transaction; `takeover` says that another one died with it."""

    driver_id: str
    takeover: bool = False


@dataclass(slots=True, frozen=True)
class HandlerReturned:
    """A handler returned."""

    step_id: str
    operation: Operation
    output: Any = None
    warning: str | None = None


@dataclass(slots=True, frozen=True)
class HandlerRaised:
    """A handler raised; `outcome` says what that means."""

    step_id: str
    operation: Operation
    outcome: Literal["not_done", "in_doubt", "cancelled"]
    error: ErrorRecord


@dataclass(slots=True, frozen=True)
class HandlerMissing:
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
