"""What was asked for: a transaction's definition, as it is frozen into the journal.

Owns: the plan of one transaction, complete: recovery needs nothing but this and handlers.
Rules:
  1. A definition never changes once its transaction is active.
  2. What has its default value is not written, so that later releases may add fields.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aumai_transactions.models import CRASHES_MAX, LOCK_TIMEOUT_SECONDS, JsonType

CrashPolicy = Literal["resume", "roll_back", "wait"]
CompensationFailurePolicy = Literal["continue", "halt"]
TimeoutScope = Literal["start", "transaction"]
UnknownPolicy = Literal["compensate", "ask"]
Shape = Literal["planned", "interactive"]
Operation = Literal["action", "compensation", "probe", "verification", "confirmation", "reread"]
Effect = Literal["none", "irreversible"]
UndoWindowPolicy = Literal["warn", "roll_back"]
ScopeKind = Literal["savepoint", "child"]
LockMode = Literal["exclusive", "shared"]
Isolation = Literal["none", "exclusive", "validated"]


class Reference(NamedTuple):
    """Point from a place in a step's data to a place in an earlier step's output.

    Args:
        into: Keys and indexes that lead to the place in the step's data.
        step_id: The step whose output is taken.
        at: JSON pointer (RFC 6901) into that output; empty for the whole of it.
        type: Which JSON type must stand there; None for any.
    """

    into: tuple[str | int, ...]
    step_id: str
    at: str = ""
    type: JsonType | None = None


class ResourceUse(NamedTuple):
    """Name something that a step must not share with other transactions, or only for reading.

    Args:
        name: Its canonical name, such as `account:42`.
        mode: `exclusive`, or `shared` with others that only read it as well.
    """

    name: str
    mode: LockMode = "exclusive"


class Retry(NamedTuple):
    """Hold a retry policy; the fields are those of `aumai_transactions.models.RetryPolicy`."""

    attempts_max: int = 5
    first_delay_seconds: float = 0.5
    delay_factor: float = 2.0
    delay_seconds_max: float = 60.0
    jitter: float = 1.0
    budget_seconds: float | None = None


class Policy(NamedTuple):
    """Hold what is declared about a step's calls: how long, how often, and who can be asked.

    It is frozen with the plan, so that whoever finishes the transaction goes by the same rules.

    Args:
        retry: How often the action is tried again when it was not done; None for not at all.
        timeout_seconds: How long a call of the action may take.
        abandon_after_seconds: How long the undo waits for a call that was left behind.
        has_probe: True where the action can be asked what became of it.
        probe_retry: How often it is asked while it does not know.
        has_verify: True where it can be looked whether the undo left nothing.
        verify_retry: How often that is asked while it cannot be told.
        undo_idempotent: True where the compensating action is declared idempotent.
        undo_retry: How often the compensating action is tried again.
        undo_timeout_seconds: How long a call of the compensating action may take.
        has_reread: True where what the step read is checked again before the commit point.
        confirm_retry: How often the confirming action is tried again.
        confirm_timeout_seconds: How long a call of the confirming action may take.
    """

    retry: Retry | None = None
    timeout_seconds: float | None = None
    abandon_after_seconds: float | None = None
    has_probe: bool = False
    probe_retry: Retry | None = None
    has_verify: bool = False
    verify_retry: Retry | None = None
    undo_idempotent: bool = False
    undo_retry: Retry | None = None
    undo_timeout_seconds: float | None = None
    has_reread: bool = False
    confirm_retry: Retry | None = None
    confirm_timeout_seconds: float | None = None

    def timeout_of(self, operation: Operation) -> float | None:
        """Return how long one of the calls may take; None for as long as it likes."""
        if operation == "compensation":
            return self.undo_timeout_seconds
        return self.confirm_timeout_seconds if operation == "confirmation" else self.timeout_seconds


NO_POLICY = Policy()


class StepDefinition(NamedTuple):
    """Hold one step as it was declared.

    Args:
        step_id: Its name within the transaction.
        agent_id: On whose behalf it acts.
        action: What it does.
        data: What it is given; a checked copy.
        compensating_action: What undoes it.
        after: Ids of the steps that must have succeeded before; None means all declared before.
        references: Where its data is filled in from earlier outputs.
        idempotent: True where the action may run again under the same key.
        on_unknown: What to do while nobody knows whether it happened; None means compensate
            where there is a compensating action, else ask a person.
        effect: `none` where the action changes nothing outside, so that nothing is to undo;
            `irreversible` where what it does cannot be undone by anything.
        policy: How long, how often, and who can be asked.
        scope_id: The savepoint or nested transaction that it belongs to; None for none.
        pivot: True where its success is the commit point.
        on_commit: True where it is held until everything else has succeeded.
        confirming_action: What makes it final after the commit point (try, confirm, cancel).
        requires_approval: True where a person must allow it before it is called.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
        intent: What was asked for, as a digest by which a restarted program finds it again.
        resources: What it uses that other transactions may use as well.
        secrets: JSON pointers to the places of its data that hold a secret's name, and are given
            the secret itself when a call is made.
    """

    step_id: str
    agent_id: str
    action: str
    data: dict[str, Any]
    compensating_action: str | None = None
    after: tuple[str, ...] | None = None
    references: tuple[Reference, ...] = ()
    idempotent: bool = False
    on_unknown: UnknownPolicy | None = None
    effect: Effect | None = None
    policy: Policy = NO_POLICY
    scope_id: str | None = None
    pivot: bool = False
    on_commit: bool = False
    confirming_action: str | None = None
    requires_approval: bool = False
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
    intent: str | None = None
    resources: tuple[ResourceUse, ...] = ()
    secrets: tuple[str, ...] = ()


class ScopeDefinition(NamedTuple):
    """Hold a group of steps that can be undone without the rest.

    Args:
        scope_id: Its name within the transaction.
        kind: `savepoint`, or `child` for a nested transaction.
        parent: The group that it stands in; None for the transaction itself.
        name: What people and intents call it.
        expires_at: When its timeout is over, microseconds since 1970 UTC; None for no own one.
    """

    scope_id: str
    kind: ScopeKind = "savepoint"
    parent: str | None = None
    name: str = ""
    expires_at: int | None = None


class Definition(NamedTuple):
    """Hold a whole transaction as it was declared.

    Args:
        created_at: When it was begun, microseconds since 1970 UTC.
        timeout_seconds: How long after that a commit may still begin.
        steps: Its steps in the order of declaration.
        timeout_scope: `start` checks the deadline once, when the commit begins; `transaction`
            before every step as well.
        on_crash: Which way recovery goes; None means forward, unless the deadline has passed,
            for a planned transaction, and back for an interactive one. `wait` waits for a
            program that resumes it.
        on_compensation_failure: `continue` undoes the rest; `halt` stops what depends on it.
        shape: How the steps come to be known.
        actions: Definitions of actions that need no Python, by name; a plan file's.
        name: What people call it.
        key: The idempotency key that it was begun with, if there was one.
        parallel_compensation: True to undo independent steps at the same time.
        allow_irreversible_first: True where the author insists on the order of an irreversible
            step before one that can be undone.
        resume_within_seconds: How long recovery waits for a program that resumes it.
        on_undo_window: `warn`, or `roll_back` before a step can no longer be undone.
        isolation: `none` takes no notice of resources; `exclusive` locks them; `validated` locks
            those used exclusively, and checks before the commit whether the shared ones changed.
        lock_timeout_seconds: How long it waits for a resource.
        release_outstanding_locks: True to let go of the resources of outstanding steps as well.
        metadata: What its author has noted about it, text by name; `tenant` is one who is to have
            their turn like all others.
        crashes_max: How many processes in a row may die in the midst of a call of it; then a person
            has to look.
    """

    created_at: int
    timeout_seconds: int | float
    steps: tuple[StepDefinition, ...] = ()
    timeout_scope: TimeoutScope = "start"
    on_crash: CrashPolicy | None = None
    on_compensation_failure: CompensationFailurePolicy = "continue"
    shape: Shape = "planned"
    actions: dict[str, Any] | None = None
    name: str | None = None
    key: str | None = None
    parallel_compensation: bool = False
    allow_irreversible_first: bool = False
    resume_within_seconds: float | None = None
    on_undo_window: UndoWindowPolicy = "warn"
    isolation: Isolation = "exclusive"
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    release_outstanding_locks: bool = False
    metadata: dict[str, str] | None = None
    crashes_max: int = CRASHES_MAX

    @property
    def deadline(self) -> float:
        """When the timeout is over, microseconds since 1970 UTC."""
        return self.created_at + self.timeout_seconds * 1_000_000


def idempotency_key(transaction_id: str, step_id: str, operation: Operation) -> str:
    """Return the key of one operation of a step.

    It depends on nothing but the three arguments, so that every attempt from any process
    carries the same key (invariant I9).
    """
    return f"{transaction_id}/{step_id}/{operation}"
