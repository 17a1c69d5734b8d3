"""What a driver saw: the facts that come back from the outside.

Owns: the inputs of `decide`. Past tense; none of them is in the journal until decided upon.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aumai_transactions.core.definition import (
    Definition,
    Operation,
    ScopeDefinition,
    StepDefinition,
)
from aumai_transactions.core.entries import (
    Answer,
    ErrorRecord,
    LateOutcome,
    ProbeAnswer,
    VerificationAnswer,
)
from aumai_transactions.core.locking import LockTable
from aumai_transactions.models import RollbackReason


class PlanGiven(NamedTuple):
    """The caller's plan was read, checked and frozen."""

    definition: Definition


class CommitCalled(NamedTuple):
    """Somebody called `commit()`."""

    by: str = ""


class RollbackCalled(NamedTuple):
    """Somebody called `rollback()`; or the caller was cancelled, as the reason says.

    `error` is what made a program give up. `scope_id` is the nested transaction that is meant,
    where it is not the whole.
    """

    by: str = ""
    note: str = ""
    reason: RollbackReason = "requested"
    error: ErrorRecord | None = None
    scope_id: str | None = None


class LocksSeen(NamedTuple):
    """The store showed who holds what, and who waits for it."""

    table: LockTable


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


class TrustAnswered(NamedTuple):
    """Somebody has looked, and lets a transaction that came out of a backup go on."""

    by: str
    note: str = ""


class DriverArrived(NamedTuple):
    """A driver takes the transaction.

    `takeover` says that another one died with it, `resumes` that its program goes on with it.
    """

    driver_id: str
    takeover: bool = False
    resumes: bool = False


class StepAsked(NamedTuple):
    """A program asks for a step, and waits for its outcome.

    Args:
        step: The step; without an id it gets the next free one.
        scopes: The groups that it stands in, the outermost first.
        fork: The recorded step in whose place it comes.
    """

    step: StepDefinition
    scopes: tuple[ScopeDefinition, ...] = ()
    fork: str | None = None


class StepWanted(NamedTuple):
    """Somebody who is not its program wants a transaction to go on with a step.

    Args:
        request_id: A name for the wish that is never used for another one.
        step: The step.
        scopes: The groups that it stands in, the outermost first.
        by: Who wants it.
    """

    request_id: str
    step: StepDefinition
    scopes: tuple[ScopeDefinition, ...] = ()
    by: str = ""


class UndoAsked(NamedTuple):
    """A program wants some of what was done undone, and goes on.

    Args:
        scope_id: The group to undo; or None.
        step_id: The step to undo; or None.
        with_dependents: True to undo what depends on the step as well.
        reason: Why.
        note: More about it.
    """

    scope_id: str | None = None
    step_id: str | None = None
    with_dependents: bool = True
    reason: RollbackReason = "requested"
    note: str = ""


class ScopeEnded(NamedTuple):
    """A nested transaction is committed into what it stands in."""

    scopes: tuple[ScopeDefinition, ...]


class ApprovalAnswered(NamedTuple):
    """Somebody allows a step, or does not.

    Args:
        step_id: The step.
        is_given: True where it is allowed.
        by: Who says so.
        note: Why.
        digest: Of what was shown to that person; None for what is asked for now.
    """

    step_id: str
    is_given: bool
    by: str
    note: str = ""
    digest: str | None = None


class RereadReturned(NamedTuple):
    """It was looked whether what a step had read still holds.

    Args:
        step_id: Whose.
        holds: True where it does.
        error: Why not, or why it cannot be told.
    """

    step_id: str
    holds: bool
    error: ErrorRecord | None = None


class HandlerReturned(NamedTuple):
    """A handler returned.

    Args:
        step_id: Whose.
        operation: `action` or `compensation`.
        output: What it returned, checked.
        warning: What is wrong with what it returned.
        note: Why an undo found nothing to undo.
        continues: True where an undo answered `Continue`.
    """

    step_id: str
    operation: Operation
    output: Any = None
    warning: str | None = None
    note: str | None = None
    continues: bool = False


class HandlerRaised(NamedTuple):
    """A handler raised, or did not return in time; `outcome` says what that means.

    Args:
        step_id: Whose.
        operation: `action` or `compensation`.
        outcome: What it means for the world.
        error: The exception.
        may_retry: False where the handler or its declaration says that trying again is pointless.
        after_seconds: How long to wait at least, where it said so (`RetryLater`).
        is_answer: False where it says nothing about an earlier attempt under the same key.
        left_behind: True where the call goes on in its thread.
        draw: From 0 to 1, for the jitter.
    """

    step_id: str
    operation: Operation
    outcome: Literal["not_done", "in_doubt", "cancelled", "timeout"]
    error: ErrorRecord
    may_retry: bool = True
    after_seconds: float | None = None
    is_answer: bool = True
    left_behind: bool = False
    draw: float = 1.0


class ProbeReturned(NamedTuple):
    """A participant was asked what became of an action, and answered; or could not be asked.

    Args:
        step_id: Whose.
        answer: What it said.
        output: The action's output, where it is done.
        error: Why it is not done or not known.
        warning: What is wrong with the output.
        after_seconds: How long to wait at least before asking again.
        draw: From 0 to 1, for the jitter.
    """

    step_id: str
    answer: ProbeAnswer
    output: Any = None
    error: ErrorRecord | None = None
    warning: str | None = None
    after_seconds: float | None = None
    draw: float = 1.0


class VerificationReturned(NamedTuple):
    """It was looked whether an undo left nothing.

    Args:
        step_id: Whose.
        answer: What was found.
        left: What is left.
        error: Why it cannot be told, or what is left, in words.
        after_seconds: How long to wait at least before looking again.
        draw: From 0 to 1, for the jitter.
    """

    step_id: str
    answer: VerificationAnswer
    left: Any = None
    error: ErrorRecord | None = None
    after_seconds: float | None = None
    draw: float = 1.0


class LateReturn(NamedTuple):
    """A call that had been left behind after its timeout returned or raised.

    Args:
        step_id: Whose.
        operation: Which call.
        attempt: Which attempt.
        outcome: What it means.
        output: What it returned.
        error: What it raised.
    """

    step_id: str
    operation: Operation
    attempt: int
    outcome: LateOutcome
    output: Any = None
    error: ErrorRecord | None = None


class HandlerMissing(NamedTuple):
    """There is no handler of this name here."""

    step_id: str
    operation: Operation


Observation = (
    HandlerReturned
    | HandlerRaised
    | HandlerMissing
    | ProbeReturned
    | VerificationReturned
    | RereadReturned
    | LateReturn
    | StepAsked
    | StepWanted
    | UndoAsked
    | ScopeEnded
    | ApprovalAnswered
    | LocksSeen
    | PlanGiven
    | CommitCalled
    | RollbackCalled
    | RetryAsked
    | ResolutionAnswered
    | TrustAnswered
    | DriverArrived
)
