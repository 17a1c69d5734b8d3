"""What the journal can say: one class per kind of entry.

Owns: the vocabulary of the journal. Past tense throughout: an entry is a fact.
Rules:
  1. A kind is never removed and its meaning never changes; new fields have defaults.
  2. `at` is when it was decided, microseconds since 1970 UTC, by the writer's clock. Nothing
     that must be safe depends on it.
  3. Only the token's holder writes acts. Anybody may write requests (`REQUESTS`); a request
     causes no call by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aumai_transactions.core.definition import Definition
from aumai_transactions.models import RollbackReason, TransactionState

InDoubtCause = Literal["crash", "unknown", "cancelled"]
OutstandingReason = Literal["failed", "no_handler", "no_compensation"]
Answer = Literal["happened", "did_not_happen", "undone", "left_in_place"]


@dataclass(slots=True, frozen=True)
class ErrorRecord:
    """Hold an exception as data: its type's name and its text."""

    type: str
    message: str

    def __str__(self) -> str:
        """Return both in one line, the text first where there is one."""
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(slots=True, frozen=True)
class PlanRecorded:
    """The transaction is defined thus; while it is pending a later one replaces an earlier."""

    at: int
    definition: Definition


@dataclass(slots=True, frozen=True)
class TransactionImported:
    """A finished transaction was taken over from elsewhere; nothing of it will run."""

    at: int
    definition: Definition
    state: TransactionState
    source: str


@dataclass(slots=True, frozen=True)
class CommitRequested:
    """Somebody wants the transaction carried out."""

    at: int
    by: str = ""


@dataclass(slots=True, frozen=True)
class RollbackRequested:
    """Somebody wants the transaction undone."""

    at: int
    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"


@dataclass(slots=True, frozen=True)
class RetryRequested:
    """Somebody wants one more attempt at a step in doubt or at an outstanding compensation."""

    at: int
    step_id: str
    by: str = ""
    note: str = ""


@dataclass(slots=True, frozen=True)
class ResolutionGiven:
    """A person says what happened, or what was done about it."""

    at: int
    step_id: str
    answer: Answer
    by: str
    note: str


@dataclass(slots=True, frozen=True)
class Claimed:
    """A driver took the transaction; drivers with a lower token are fenced off from here on.

    `takeover` is true where another driver had it and died with it.
    """

    at: int
    token: int
    driver_id: str
    takeover: bool = False


@dataclass(slots=True, frozen=True)
class TransactionActivated:
    """The commit began within the deadline."""

    at: int


@dataclass(slots=True, frozen=True)
class TransactionExpired:
    """The deadline had passed before anything ran; the transaction has failed."""

    at: int
    error: ErrorRecord


@dataclass(slots=True, frozen=True)
class StepStarted:
    """The action is about to be called (the intent).

    `data` holds the step's data with its references filled in, where it has any.
    """

    at: int
    step_id: str
    attempt: int
    data: dict[str, Any] | None = None


@dataclass(slots=True, frozen=True)
class StepSucceeded:
    """The action returned; or there was no handler, and it was simulated."""

    at: int
    step_id: str
    attempt: int
    output: Any = None
    simulated: bool = False
    warning: str | None = None


@dataclass(slots=True, frozen=True)
class StepFailed:
    """The action is definitely not done; attempt 0 means that it was never called."""

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord


@dataclass(slots=True, frozen=True)
class StepInDoubt:
    """Nobody knows whether the action happened."""

    at: int
    step_id: str
    attempt: int
    cause: InDoubtCause
    error: ErrorRecord


@dataclass(slots=True, frozen=True)
class RollbackStarted:
    """The transaction goes back; no action intent follows."""

    at: int
    reason: RollbackReason
    step_id: str | None = None
    error: ErrorRecord | None = None


@dataclass(slots=True, frozen=True)
class CompensationStarted:
    """The compensating action is about to be called (the intent)."""

    at: int
    step_id: str
    attempt: int
    in_doubt: bool = False


@dataclass(slots=True, frozen=True)
class CompensationSucceeded:
    """The compensating action returned; or it was simulated like its step."""

    at: int
    step_id: str
    attempt: int
    simulated: bool = False


@dataclass(slots=True, frozen=True)
class CompensationFailed:
    """The compensating action raised; unless `will_retry`, a person has to look at it."""

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord
    will_retry: bool = False


@dataclass(slots=True, frozen=True)
class StepOutstanding:
    """An effect may still stand, and nothing here can undo it."""

    at: int
    step_id: str
    reason: OutstandingReason
    error: ErrorRecord | None = None


@dataclass(slots=True, frozen=True)
class TransactionCommitted:
    """Everything in force succeeded."""

    at: int


@dataclass(slots=True, frozen=True)
class TransactionRolledBack:
    """Everything that may have had an effect was undone, or is outstanding."""

    at: int


Request = CommitRequested | RollbackRequested | RetryRequested | ResolutionGiven
Entry = (
    StepStarted
    | StepSucceeded
    | StepFailed
    | StepInDoubt
    | CompensationStarted
    | CompensationSucceeded
    | CompensationFailed
    | StepOutstanding
    | RollbackStarted
    | TransactionActivated
    | TransactionCommitted
    | TransactionRolledBack
    | TransactionExpired
    | TransactionImported
    | PlanRecorded
    | Claimed
    | Request
)

REQUESTS = (CommitRequested, RollbackRequested, RetryRequested, ResolutionGiven)
# Why these two as well: they define what nobody drives yet, so there is no token to hold.
WITHOUT_TOKEN = (*REQUESTS, PlanRecorded, TransactionImported)

KINDS: dict[str, type[Entry]] = {
    "plan_recorded": PlanRecorded,
    "transaction_imported": TransactionImported,
    "commit_requested": CommitRequested,
    "rollback_requested": RollbackRequested,
    "retry_requested": RetryRequested,
    "resolution_given": ResolutionGiven,
    "claimed": Claimed,
    "transaction_activated": TransactionActivated,
    "transaction_expired": TransactionExpired,
    "step_started": StepStarted,
    "step_succeeded": StepSucceeded,
    "step_failed": StepFailed,
    "step_in_doubt": StepInDoubt,
    "rollback_started": RollbackStarted,
    "compensation_started": CompensationStarted,
    "compensation_succeeded": CompensationSucceeded,
    "compensation_failed": CompensationFailed,
    "step_outstanding": StepOutstanding,
    "transaction_committed": TransactionCommitted,
    "transaction_rolled_back": TransactionRolledBack,
}
