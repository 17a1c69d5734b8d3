"""What the API tells, as models.

Owns: every field that an answer may have. What is not named here is told to nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aumai_transactions.core.outcome import Attention
from aumai_transactions.core.requests import Answer
from aumai_transactions.models import (
    OutstandingCompensation,
    ResourceLock,
    RollbackReason,
    StepState,
    TransactionState,
    Waiting,
)


class Told(BaseModel):
    """Be what an answer tells."""

    model_config = ConfigDict(extra="forbid")


class Line(Told):
    """One transaction in a list."""

    transaction_id: str
    state: TransactionState
    name: str | None
    created_at: datetime
    updated_at: datetime
    steps: int
    completed: int
    agents: list[str]
    attention: Attention | None = Field(description="Why a person has to look at it.")
    is_going_on: bool = Field(description="True where a driver has something to do.")
    due_at: datetime | None = Field(description="When it goes on, where that is later.")
    tenant: str | None
    driver_id: str | None = Field(description="Who drives it.")


class Lines(Told):
    """A page of transactions."""

    items: list[Line]
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.")


class Reference(Told):
    """Where data is filled in with an earlier step's output."""

    into: list[str | int]
    step_id: str
    at: str
    type: str | None


class Step(Told):
    """One step."""

    step_id: str
    agent_id: str
    action: str
    data: dict[str, Any]
    compensating_action: str | None
    confirming_action: str | None
    state: StepState
    after: list[str] | None
    references: list[Reference]
    pivot: bool
    on_commit: bool
    requires_approval: bool | None
    scope_id: str | None
    attempt: int = Field(description="How often it has been called.")
    output: Any = Field(description="What it returned, as the journal has it.")
    error: str | None = Field(description="Why it, or its undo, did not work.")
    undo_before: datetime | None = Field(description="Until when it can be undone.")


class Approval(Told):
    """A step that waits for a person."""

    step_id: str
    agent_id: str
    action: str
    compensating_action: str | None
    data: dict[str, Any] = Field(description="Exactly what is to be allowed.")
    digest: str = Field(description="Of exactly that; send it back with `approve`.")
    until: datetime | None


class Group(Told):
    """A savepoint or a nested transaction."""

    scope_id: str
    kind: Literal["savepoint", "child"]
    name: str
    parent: str | None
    state: Literal["open", "released", "rolled_back"]
    steps: list[str]


class PossibleAction(Told):
    """Something that can be asked for now; by whom, the token's scope decides."""

    name: Literal["commit", "submit", "rollback", "trust", "approve", "deny", "retry", "resolve"]
    step_id: str | None
    answers: list[Answer] = Field(description="What `resolve` can answer.")
    needs_note: bool


class Result(Told):
    """What has become of a transaction so far."""

    completed_steps: list[str]
    failed_step: str | None
    error: str | None
    reason: RollbackReason | None
    outputs: dict[str, Any]
    compensated_steps: list[str]
    uncompensated: list[str]
    outstanding: list[OutstandingCompensation]
    unverified: list[str]
    simulated_steps: list[str]
    warnings: list[str]
    durable: bool
    is_final: bool
    clean: bool
    started_at: datetime | None
    finished_at: datetime | None


class Transaction(Told):
    """All about one transaction."""

    transaction_id: str
    mode: Literal["planned", "interactive"]
    state: TransactionState
    sequence: int = Field(description="The place of its last entry; its ETag.")
    name: str | None
    created_at: datetime
    deadline: datetime | None
    timeout_seconds: float
    timeout_scope: Literal["start", "transaction"]
    on_crash: Literal["resume", "roll_back", "wait"] | None
    on_compensation_failure: Literal["continue", "halt"]
    isolation: Literal["none", "exclusive", "validated"]
    metadata: dict[str, str]
    begun_by: str | None = Field(description="The token that began it here.")
    driver_id: str | None
    is_going_on: bool
    attention: Attention | None
    steps: list[Step]
    groups: list[Group]
    result: Result
    waiting: Waiting | None
    approvals: list[Approval]
    actions: list[PossibleAction] = Field(description="What can be asked for now.")


class Executed(Told):
    """What became of a step that was posted to an interactive transaction."""

    step: Step
    transaction_id: str
    state: TransactionState
    sequence: int
    waiting: Waiting | None


class Added(Told):
    """A step that was added to a planned transaction."""

    steps: list[str] = Field(description="The ids of the new steps.")
    transaction: Transaction


class Entry(Told):
    """One entry of a journal."""

    sequence: int
    kind: str
    at: datetime
    state: TransactionState
    step_id: str | None
    fields: dict[str, Any]
    hash: str = Field(description="SHA-256 as hex, checked against the chain.")


class Entries(Told):
    """A part of a journal."""

    items: list[Entry]
    next: int | None = Field(description="The `after` of the next part; null at the end.")


class UndoCall(Told):
    """One undo that a rollback would call."""

    step_id: str
    agent_id: str
    action: str
    compensating_action: str
    in_doubt: bool = Field(description="True where nobody knows whether it was done.")
    is_running: bool = Field(description="True where it runs yet, and is undone if it succeeds.")


class Preview(Told):
    """What a rollback would do, if every undo worked."""

    is_possible: bool
    why_not: str | None
    undos: list[UndoCall] = Field(description="In the order in which they would be called.")
    left: list[str] = Field(description="Steps that took effect, and that nothing undoes.")


class Need(Told):
    """One transaction that needs a person."""

    transaction: Line
    age_seconds: float = Field(description="Since it has last changed.")
    waiting: Waiting | None
    outstanding: list[OutstandingCompensation]
    approvals: list[Approval]
    actions: list[PossibleAction]
    problem: str | None = Field(description="Why its journal cannot be read, where it cannot.")


class Needs(Told):
    """A page of those that need a person."""

    items: list[Need]
    next: str | None


class Callable(Told):
    """An action that can be called by this server."""

    name: str
    compensating_action: str | None
    confirming_action: str | None
    idempotent: bool
    effect: Literal["none", "irreversible"] | None
    requires_approval: bool | None = Field(description="null where its data decides.")
    timeout_seconds: float | None
    undo_within_seconds: float | None
    has_probe: bool
    has_verify: bool
    is_once: bool


class Callables(Told):
    """The actions that can be called by this server."""

    items: list[Callable]


class Locks(Told):
    """Who holds what, and who waits for it."""

    items: list[ResourceLock]


class Worker(Told):
    """One driver of transactions: a worker, a program, or this server."""

    driver_id: str
    is_alive: bool
    last_sign_at: datetime | None
    host: str | None
    pid: int | None
    holds: list[str] = Field(description="Transactions that it has; the oldest 100.")


class Workers(Told):
    """Every driver that the store knows."""

    items: list[Worker]


class Health(Told):
    """How the server and its store are."""

    status: Literal["ok"]
    version: str
    allows_actions: bool
    store: str
    durable: bool
    schema_version: int
    changes: int
    checks: dict[str, str]
    states: dict[str, int]
    needing_a_person: int
    streams: int


class BulkOutcome(Told):
    """What became of one of many."""

    transaction_id: str
    outcome: Literal["accepted", "refused"]
    steps: list[str] = Field(description="The steps that are tried again.")
    is_replayed: bool
    state: TransactionState | None
    problem: dict[str, Any] | None


class Bulk(Told):
    """What became of each, in the order in which they were named."""

    items: list[BulkOutcome]


class Change(Told):
    """One change of a transaction, as the stream tells it."""

    transaction_id: str
    state: TransactionState
    sequence: int | None
    attention: Attention | None


class Place(Told):
    """What is wrong in one place of a request."""

    pointer: str = Field(description="JSON pointer, or a slash and the name of a parameter.")
    detail: str


class ProblemDocument(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(description="`urn:aumai-transactions:problem:` and a code.")
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do next.")
    errors: list[Place] = Field(default_factory=list)
