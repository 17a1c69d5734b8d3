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

from typing import Any, Literal, NamedTuple

from aumai_transactions.core.definition import Definition
from aumai_transactions.models import RollbackReason, TransactionState

InDoubtCause = Literal["crash", "unknown", "cancelled"]
OutstandingReason = Literal["failed", "no_handler", "no_compensation"]
Answer = Literal["happened", "did_not_happen", "undone", "left_in_place"]


class ErrorRecord(NamedTuple):
    """Hold an exception as data: its type's name and its text."""

    type: str
    message: str

    def __str__(self) -> str:
        """Return both in one line, the text first where there is one."""
        return f"{self.type}: {self.message}" if self.message else self.type


class PlanRecorded(NamedTuple):
    """The transaction is defined thus; while it is pending a later one replaces an earlier."""

    at: int
    definition: Definition


class TransactionImported(NamedTuple):
    """A finished transaction was taken over from elsewhere; nothing of it will run."""

    at: int
    definition: Definition
    state: TransactionState
    source: str


class CommitRequested(NamedTuple):
    """Somebody wants the transaction carried out."""

    at: int
    by: str = ""


class RollbackRequested(NamedTuple):
    """Somebody wants the transaction undone."""

    at: int
    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"


class RetryRequested(NamedTuple):
    """Somebody wants one more attempt at a step in doubt or at an outstanding compensation."""

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


class Claimed(NamedTuple):
    """A driver took the transaction; drivers with a lower token are fenced off from here on.

    `takeover` is true where another driver had it and died with it.
    """

    at: int
    token: int
    driver_id: str
    takeover: bool = False


class TransactionActivated(NamedTuple):
    """The commit began within the deadline."""

    at: int


class TransactionExpired(NamedTuple):
    """The deadline had passed before anything ran; the transaction has failed."""

    at: int
    error: ErrorRecord


class StepStarted(NamedTuple):
    """The action is about to be called (the intent).

    `data` holds the step's data with its references filled in, where it has any.
    """

    at: int
    step_id: str
    attempt: int
    data: dict[str, Any] | None = None


class StepSucceeded(NamedTuple):
    """The action returned; or there was no handler, and it was simulated."""

    at: int
    step_id: str
    attempt: int
    output: Any = None
    simulated: bool = False
    warning: str | None = None


class StepFailed(NamedTuple):
    """The action is definitely not done; attempt 0 means that it was never called."""

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord


class StepInDoubt(NamedTuple):
    """Nobody knows whether the action happened."""

    at: int
    step_id: str
    attempt: int
    cause: InDoubtCause
    error: ErrorRecord


class RollbackStarted(NamedTuple):
    """The transaction goes back; no action intent follows."""

    at: int
    reason: RollbackReason
    step_id: str | None = None
    error: ErrorRecord | None = None


class CompensationStarted(NamedTuple):
    """The compensating action is about to be called (the intent)."""

    at: int
    step_id: str
    attempt: int
    in_doubt: bool = False


class CompensationSucceeded(NamedTuple):
    """The compensating action returned; or it was simulated like its step."""

    at: int
    step_id: str
    attempt: int
    simulated: bool = False


class CompensationFailed(NamedTuple):
    """The compensating action raised; unless `will_retry`, a person has to look at it."""

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord
    will_retry: bool = False


class StepOutstanding(NamedTuple):
    """An effect may still stand, and nothing here can undo it."""

    at: int
    step_id: str
    reason: OutstandingReason
    error: ErrorRecord | None = None


class TransactionCommitted(NamedTuple):
    """Everything in force succeeded."""

    at: int


class TransactionRolledBack(NamedTuple):
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
