"""A transaction and its steps, as users hold them.

Owns: `Transaction` and `TransactionStep`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import AwareDatetime, Field

from aumai_transactions.models.states import StepState, TransactionState
from aumai_transactions.models.values import (
    CRASHES_MAX,
    DEFAULT_TIMEOUT_SECONDS,
    LOCK_TIMEOUT_SECONDS,
    JsonType,
    Model,
    Output,
    OutputReference,
    Resource,
    RetryPolicy,
)


def _new_step_id() -> str:
    return f"s-{uuid4().hex[:12]}"


class TransactionStep(Model):
    """Hold one step: what an agent does, and what undoes it.

    Args:
        step_id: Its name within its transaction.
        agent_id: The agent on whose behalf it acts.
        action: The name of the action to carry out.
        data: JSON object given to the action and to its compensating action.
        compensating_action: The name of the action that undoes it, if there is one.
        state: Where it stands, kept current while the transaction runs.
        after: Ids of the steps that must have succeeded before; None means all added before.
        references: Where its data is filled in from earlier outputs when it starts.
        secrets: JSON pointers to the places of its data that name a secret.
        retry: How often it is tried again; None means what its action says.
        timeout_seconds: How long a call of it may take; None means what its action says.
        pivot: True where its success is the commit point.
        on_commit: True where it is held until everything else has succeeded.
        confirming_action: What makes it final after the commit point, if it was only a try.
        requires_approval: True where a person must allow it; None means what its action says.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
        resources: What it uses that other transactions may use as well; None means what its action
            says.
        scope_id: The savepoint or nested transaction that it belongs to.
    """

    step_id: str = Field(default_factory=_new_step_id)
    agent_id: str
    action: str
    data: dict[str, Any] = Field(default_factory=dict)
    compensating_action: str | None = None
    state: StepState = StepState.pending
    after: list[str] | None = None
    references: list[OutputReference] = Field(default_factory=list)
    secrets: list[str] = Field(default_factory=list)
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    pivot: bool = False
    on_commit: bool = False
    confirming_action: str | None = None
    requires_approval: bool | None = None
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
    resources: list[Resource] | None = None
    scope_id: str | None = None

    def output(self, at: str = "", type: JsonType | None = None) -> Output:  # noqa: A002 (its word)
        """Return what stands in a later step's data for this step's output.

        Args:
            at: JSON pointer (RFC 6901) into the output; empty for the whole of it.
            type: Which JSON type must stand there; another one fails the later step before it
                is called.
        """
        return Output(self.step_id, at, type)


class Transaction(Model):
    """Hold one transaction: its steps in order, its deadline and its current state.

    Until `commit()` this object is the plan and may be edited; `commit()` validates it and
    freezes it into the journal. From then on it shows what the journal says.

    Args:
        transaction_id: A UUID.
        state: Where it stands, always current.
        steps: The steps in the order in which they were added.
        created_at: When it was begun, aware UTC; the deadline counts from here.
        timeout_seconds: How long after `created_at` a `commit()` may still begin.
        timeout_scope: `start` checks the deadline once, when the commit begins; `transaction`
            before every step as well.
        on_crash: `resume` or `roll_back` after the process died; None means forward, unless the
            deadline has passed by then.
        on_compensation_failure: `continue` undoes the rest; `halt` stops what depends on it.
        name: What people call it.
        idempotency_key: The key that it was begun with, if there was one.
        actions: Definitions of actions that need no Python, by name; a plan file's.
        shape: `planned`, or `interactive` where a program chooses its steps as it goes.
        parallel_compensation: True to undo independent steps at the same time.
        allow_irreversible_first: True to insist on the order of a step that nothing undoes before
            one that can be undone.
        resume_within_seconds: With `on_crash="wait"`: how long a program may take to resume it.
        on_undo_window: `warn`, or `roll_back` before a step can no longer be undone.
        isolation: `exclusive` locks the resources that its steps use, until its end; `validated`
            locks those used exclusively, and looks before the commit whether the shared ones have
            changed; `none` takes no notice of them.
        lock_timeout_seconds: How long it waits for a resource.
        release_outstanding_locks: True to let go, at the end, of the resources of steps that could
            not be undone as well.
        metadata: What its author notes about it, text by name; workers take turns between those
            whose `tenant` differs.
        crashes_max: How many processes in a row may die in the midst of a call of it; then it is
            left to a person.
    """

    transaction_id: str = Field(default_factory=lambda: str(uuid4()))
    state: TransactionState = TransactionState.pending
    steps: list[TransactionStep] = Field(default_factory=list)
    created_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    timeout_seconds: int | float = DEFAULT_TIMEOUT_SECONDS
    timeout_scope: Literal["start", "transaction"] = "start"
    on_crash: Literal["resume", "roll_back", "wait"] | None = None
    on_compensation_failure: Literal["continue", "halt"] = "continue"
    name: str | None = None
    idempotency_key: str | None = None
    actions: dict[str, Any] = Field(default_factory=dict)
    shape: Literal["planned", "interactive"] = "planned"
    parallel_compensation: bool = False
    allow_irreversible_first: bool = False
    resume_within_seconds: float | None = None
    on_undo_window: Literal["warn", "roll_back"] = "warn"
    isolation: Literal["none", "exclusive", "validated"] = "exclusive"
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    release_outstanding_locks: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)
    crashes_max: int = CRASHES_MAX
