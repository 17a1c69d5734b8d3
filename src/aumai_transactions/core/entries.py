"""What the journal can say: one class per kind of entry.

Owns: the vocabulary of the journal. Past tense throughout: an entry is a fact.
Rules:
  1. A kind is never removed and its meaning never changes; new fields have defaults.
  2. `at` is when it was decided, microseconds since 1970 UTC, by the writer's clock. Nothing
     that must be safe depends on it.
  3. Only the token's holder writes acts. Anybody may write requests (`REQUESTS`); a request
     causes no call by itself. `WITHOUT_TOKEN` is all that needs no token.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aumai_transactions.core.definition import (
    Definition,
    Operation,
    ScopeDefinition,
    StepDefinition,
)
from aumai_transactions.core.lock_entries import (
    Grant,
    LocksAwaited,
    LocksGranted,
    ReadVersion,
    VersionsRead,
)
from aumai_transactions.core.requests import (
    REQUESTS,
    Answer,
    ApprovalDenied,
    ApprovalGiven,
    CommitRequested,
    Request,
    ResolutionGiven,
    RetryRequested,
    RollbackRequested,
    StepRequested,
    TrustGiven,
)
from aumai_transactions.core.values import ErrorRecord
from aumai_transactions.models import RollbackReason, TransactionState

# Why these: whoever reads entries need not know which of them stand in another file.
__all__ = [
    "REQUESTS",
    "Answer",
    "ApprovalDenied",
    "ApprovalGiven",
    "CommitRequested",
    "ErrorRecord",
    "Grant",
    "LocksAwaited",
    "LocksGranted",
    "ReadVersion",
    "ResolutionGiven",
    "RetryRequested",
    "RollbackRequested",
    "StepRequested",
    "TrustGiven",
    "VersionsRead",
]

InDoubtCause = Literal["crash", "unknown", "cancelled", "timeout"]
OutstandingReason = Literal[
    "failed", "no_handler", "no_compensation", "residue", "may_still_act", "acted_late"
]
ProbeAnswer = Literal["done", "not_done", "unknown"]
VerificationAnswer = Literal["clean", "residue", "unknown"]
LateOutcome = Literal["succeeded", "not_done", "in_doubt"]


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


class RestoredFromBackup(NamedTuple):
    """The journal came out of a backup of `made_at`; the world may be ahead of it.

    Nobody acts on the transaction until a person says so.
    """

    at: int
    made_at: int
    by: str = ""
    note: str = ""


class Claimed(NamedTuple):
    """A driver took the transaction; drivers with a lower token are fenced off from here on.

    `takeover` is true where another driver had it and died with it; `resumes` where a program goes
    on with it that was asked to.
    """

    at: int
    token: int
    driver_id: str
    takeover: bool = False
    resumes: bool = False


class TransactionActivated(NamedTuple):
    """The commit began within the deadline."""

    at: int


class TransactionExpired(NamedTuple):
    """The deadline had passed before anything ran; the transaction has failed."""

    at: int
    error: ErrorRecord


class ScopeOpened(NamedTuple):
    """A group of steps begins that can be undone without the rest."""

    at: int
    scope: ScopeDefinition


class ScopeReleased(NamedTuple):
    """A nested transaction has committed into what it stands in."""

    at: int
    scope_id: str


class StepAdded(NamedTuple):
    """An interactive transaction goes on with this step.

    `fork` names the recorded step in whose place it came, after the program was resumed;
    `request_id` who asked for it, where that was not the program itself; `name` what it was to be
    called, where an earlier step that is over has that id.
    """

    at: int
    step: StepDefinition
    fork: str | None = None
    request_id: str | None = None
    name: str | None = None


class StepRefused(NamedTuple):
    """A step that somebody else wanted cannot be; nothing of it was done."""

    at: int
    request_id: str
    error: ErrorRecord


class ApprovalRequested(NamedTuple):
    """A person must allow a step; `digest` is of exactly what is to be allowed.

    `data` holds the step's data with its references filled in, where it has any.
    """

    at: int
    step_id: str
    digest: str
    data: dict[str, Any] | None = None
    until: int | None = None


class StepStarted(NamedTuple):
    """The action is about to be called (the intent).

    `data` holds the step's data with its references filled in, where it has any; `traceparent` in
    which span it is called, where somebody watches (W3C Trace Context).
    """

    at: int
    step_id: str
    attempt: int
    data: dict[str, Any] | None = None
    traceparent: str | None = None


class StepSucceeded(NamedTuple):
    """The action returned; or there was no handler, and it was simulated."""

    at: int
    step_id: str
    attempt: int
    output: Any = None
    simulated: bool = False
    warning: str | None = None


class StepFailed(NamedTuple):
    """The action is definitely not done; attempt 0 means that it was never called.

    With `will_retry` another attempt follows, at the time that the next entry says.
    """

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord
    will_retry: bool = False


class StepInDoubt(NamedTuple):
    """Nobody knows whether the action happened.

    `left_behind` is true where the call goes on in its thread, and may act or answer yet.
    """

    at: int
    step_id: str
    attempt: int
    cause: InDoubtCause
    error: ErrorRecord
    left_behind: bool = False


class RetryScheduled(NamedTuple):
    """The next attempt of a step's operation begins no earlier than `due_at`.

    `draw` is what the driver drew for the jitter, from 0 to 1.
    """

    at: int
    step_id: str
    operation: Operation
    attempt: int
    due_at: int
    draw: float | None = None


class ProbeStarted(NamedTuple):
    """The participant is about to be asked what became of an action in doubt."""

    at: int
    step_id: str
    attempt: int


class ProbeAnswered(NamedTuple):
    """The participant answered; with `will_retry` something is tried again, as the next says."""

    at: int
    step_id: str
    attempt: int
    answer: ProbeAnswer
    output: Any = None
    error: ErrorRecord | None = None
    warning: str | None = None
    will_retry: bool = False


class CallReturnedLate(NamedTuple):
    """A call that had been given up after its timeout returned; it is never counted."""

    at: int
    step_id: str
    operation: Operation
    attempt: int
    outcome: LateOutcome
    output: Any = None
    error: ErrorRecord | None = None


class PartialRollbackStarted(NamedTuple):
    """These steps are undone, and the transaction goes on.

    `scope_id` names the group that they are all of, where it is one.
    """

    at: int
    step_ids: tuple[str, ...]
    reason: RollbackReason
    scope_id: str | None = None
    step_id: str | None = None
    error: ErrorRecord | None = None


class UndoRequestRefused(NamedTuple):
    """A nested transaction is not undone alone, as was asked; something depends on it."""

    at: int
    scope_id: str
    step_ids: tuple[str, ...]


class UndoWindowClosing(NamedTuple):
    """A step can be undone only until then, and that is soon."""

    at: int
    step_id: str
    until: int


class RereadAnswered(NamedTuple):
    """What a step had read was looked at again before the commit point."""

    at: int
    step_id: str
    holds: bool
    error: ErrorRecord | None = None


class CommitDecided(NamedTuple):
    """The commit point is passed; from here on it only goes forward."""

    at: int


class ConfirmationStarted(NamedTuple):
    """The confirming action is about to be called (the intent)."""

    at: int
    step_id: str
    attempt: int


class ConfirmationSucceeded(NamedTuple):
    """The confirming action returned; or it was simulated like its step."""

    at: int
    step_id: str
    attempt: int
    simulated: bool = False


class ConfirmationFailed(NamedTuple):
    """The confirming action raised; unless `will_retry`, a person has to look at it."""

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord
    will_retry: bool = False


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


class RollbackRevoked(NamedTuple):
    """An undo answered `Continue`: its step is taken to have returned `output`, and it goes on."""

    at: int
    step_id: str
    attempt: int
    output: Any = None
    warning: str | None = None


class CompensationSucceeded(NamedTuple):
    """The compensating action returned; or it was simulated like its step.

    `note` says why there was nothing to undo, where it answered that.
    """

    at: int
    step_id: str
    attempt: int
    simulated: bool = False
    note: str | None = None


class CompensationFailed(NamedTuple):
    """The compensating action raised; unless `will_retry`, a person has to look at it.

    `left_behind` is true where the call goes on in its thread, and may act or answer yet.
    """

    at: int
    step_id: str
    attempt: int
    error: ErrorRecord
    will_retry: bool = False
    left_behind: bool = False


class VerificationStarted(NamedTuple):
    """It is about to be looked whether the undo left nothing."""

    at: int
    step_id: str
    attempt: int


class VerificationAnswered(NamedTuple):
    """What was found after the undo; `left` is what is still there."""

    at: int
    step_id: str
    attempt: int
    answer: VerificationAnswer
    left: Any = None
    error: ErrorRecord | None = None
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


Entry = (
    StepStarted
    | StepSucceeded
    | StepFailed
    | StepInDoubt
    | CompensationStarted
    | CompensationSucceeded
    | CompensationFailed
    | StepOutstanding
    | RetryScheduled
    | ProbeStarted
    | ProbeAnswered
    | VerificationStarted
    | VerificationAnswered
    | CallReturnedLate
    | RollbackRevoked
    | RollbackStarted
    | ScopeOpened
    | ScopeReleased
    | StepAdded
    | StepRefused
    | ApprovalRequested
    | PartialRollbackStarted
    | UndoRequestRefused
    | UndoWindowClosing
    | RereadAnswered
    | CommitDecided
    | ConfirmationStarted
    | ConfirmationSucceeded
    | ConfirmationFailed
    | LocksAwaited
    | LocksGranted
    | VersionsRead
    | TransactionActivated
    | TransactionCommitted
    | TransactionRolledBack
    | TransactionExpired
    | TransactionImported
    | RestoredFromBackup
    | PlanRecorded
    | Claimed
    | Request
)

# Why these as well: the first two define what nobody drives yet, so there is no token to hold;
# what was restored is held back from whoever had it; and a late answer is a fact that must be
# recorded whoever drives by now. None of them causes a call.
WITHOUT_TOKEN = (
    *REQUESTS,
    PlanRecorded,
    TransactionImported,
    RestoredFromBackup,
    CallReturnedLate,
)
