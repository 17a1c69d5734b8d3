"""What users hold: a transaction, its steps, and its result.

Owns: the shapes that cross the public boundary, all pydantic v2 models with an equal JSON
round trip.
Rules:
  1. No model decides anything. The journal decides; a model shows.
  2. The caller's own `Transaction` object is kept current after each durable append, and
     never before it.
  3. Times are aware UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, computed_field

from aumai_transactions.errors import (
    ReadConflict,
    TransactionExpired,
    TransactionNotFinal,
    TransactionRolledBack,
)

DEFAULT_TIMEOUT_SECONDS = 60
SECONDS_MAX = 10 * 366 * 86_400

JsonType = Literal["string", "integer", "number", "boolean", "object", "array", "null"]


class Model(BaseModel):
    """Be a pydantic model whose schema is built at its first use, not when it is imported."""

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def made(cls, fields: dict[str, Any]) -> Self:
        """Return a model of values that are known to be right: every field, none checked.

        Like `model_construct`, which looks for aliases and defaults and takes six times as long;
        a transaction makes some of these for every step.
        """
        model = cls.__new__(cls)
        put = object.__setattr__
        put(model, "__dict__", fields)
        put(model, "__pydantic_fields_set__", set(fields))
        put(model, "__pydantic_extra__", None)
        put(model, "__pydantic_private__", None)
        return model


RollbackReason = Literal[
    "requested",
    "step_failed",
    "in_doubt",
    "deadline",
    "denied",
    "conflict",
    "deadlock",
    "cancelled",
    "crash",
]


class TransactionState(StrEnum):
    """Name where a transaction stands; the seed's five and two that last only a while."""

    pending = "pending"
    active = "active"
    committing = "committing"
    compensating = "compensating"
    committed = "committed"
    rolled_back = "rolled_back"
    failed = "failed"

    @property
    def is_final(self) -> bool:
        """True where no step of the transaction will run any more."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset(
    {TransactionState.committed, TransactionState.rolled_back, TransactionState.failed}
)


class StepState(StrEnum):
    """Name where one step stands."""

    pending = "pending"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    in_doubt = "in_doubt"
    compensating = "compensating"
    compensated = "compensated"
    outstanding = "outstanding"
    resolved = "resolved"
    skipped = "skipped"


def _new_step_id() -> str:
    return f"s-{uuid4().hex[:12]}"


class RetryPolicy(Model):
    """Say how often, and how long apart, a call is tried again that was not done.

    The wait before attempt n+1 is at most `first_delay_seconds * delay_factor ** (n - 1)`, and at
    most `delay_seconds_max`; how much of it is waited is drawn evenly (full jitter), so that
    those who failed together do not come back together. The draw and the time of the next
    attempt stand in the journal.
    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        attempts_max: How often it is called at most, the first time included.
        first_delay_seconds: The longest wait before the second attempt.
        delay_factor: How much longer each further wait may be.
        delay_seconds_max: The longest wait of all; what `RetryLater` asks for may be longer.
        jitter: Which part of a wait is drawn: 1 for all of it, 0 to wait exactly that long.
        budget_seconds: No attempt begins later than this after the first one; None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts_max: int = Field(default=5, ge=1, le=10_000)
    first_delay_seconds: float = Field(default=0.5, ge=0, le=SECONDS_MAX, allow_inf_nan=False)
    delay_factor: float = Field(default=2.0, ge=1, le=1_000, allow_inf_nan=False)
    delay_seconds_max: float = Field(default=60.0, ge=0, le=SECONDS_MAX, allow_inf_nan=False)
    jitter: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    budget_seconds: float | None = Field(default=None, gt=0, le=SECONDS_MAX, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Output:
    """Stand in a step's data for what an earlier step will return; `step.output(…)` makes one.

    Args:
        step_id: The earlier step.
        at: JSON pointer (RFC 6901) into its output; empty for the whole of it.
        type: Which JSON type must stand there; None for any.
    """

    step_id: str
    at: str = ""
    type: JsonType | None = None


class OutputReference(Model):
    """Point from a place in a step's data to a place in an earlier step's output.

    Args:
        into: Keys and indexes that lead to the place in the step's data.
        step_id: The step whose output is taken; the referring step waits for it.
        at: JSON pointer (RFC 6901) into that output; empty for the whole of it.
        type: Which JSON type must stand there; None for any.
    """

    into: list[str | int]
    step_id: str
    at: str = ""
    type: JsonType | None = None


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
        retry: How often it is tried again; None means what its action says.
        timeout_seconds: How long a call of it may take; None means what its action says.
        pivot: True where its success is the commit point.
        on_commit: True where it is held until everything else has succeeded.
        confirming_action: What makes it final after the commit point, if it was only a try.
        requires_approval: True where a person must allow it; None means what its action says.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
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
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    pivot: bool = False
    on_commit: bool = False
    confirming_action: str | None = None
    requires_approval: bool | None = None
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
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


class OutstandingCompensation(Model):
    """Hold one effect that may still stand and that a person has to look at.

    Args:
        step_id: The step whose effect it is.
        agent_id: The agent that acted.
        action: What was done, or may have been done.
        compensating_action: What should have undone it, if there is such an action.
        reason: `failed` (the undo raised), `no_handler` (the undo has no handler here),
            `no_compensation` (in doubt, and nothing declared undoes it), `residue` (the undo left
            something), `may_still_act` (undone, but a call of the action that was given up after
            its timeout still runs), `acted_late` (such a call succeeded after the undo). Once a
            person has resolved it, it is no longer listed; a warning tells what was decided.
        error: The error's text, where there was one.
    """

    step_id: str
    agent_id: str
    action: str
    compensating_action: str | None = None
    reason: str
    error: str | None = None


class Waiting(Model):
    """Say what a transaction that is not final waits for.

    Args:
        reason: `in_doubt` (a person must say what happened), `halted` (an undo failed and the
            policy is halt), `retry` (the next attempt is due at `until`), `left_behind` (an undo
            waits, until then at most, for a call that was given up), `approval` (a person must
            allow a step), `resume` (its program died, and may go on with it), `committing` (its
            commit is decided, and something behind the commit point failed), `parent` (a nested one
            has committed into its parent, and is final with it), or `running` (a driver has it, or
            one must claim it).
        detail: A sentence that says what to do next.
        step_ids: The steps that it waits for.
        until: When it goes on, where time alone decides.
    """

    reason: Literal[
        "in_doubt",
        "halted",
        "retry",
        "left_behind",
        "approval",
        "resume",
        "committing",
        "parent",
        "running",
    ]
    detail: str
    step_ids: list[str] = Field(default_factory=list)
    until: AwareDatetime | None = None


class TransactionResult(Model):
    """Tell the outcome of a transaction, whole; nothing swallowed is missing from it.

    `print(result)` tells it in plain lines.

    Args:
        transaction_id: The transaction.
        state: Its state when this was taken.
        completed_steps: Ids of the steps that had completed, in the order of completion. After a
            failure these are the steps that had completed before it.
        failed_step: The step that failed or came into doubt first, if one did.
        error: Why, with the original exception's text.
        reason: Why it went back: `requested`, `step_failed`, `in_doubt`, `deadline`, `cancelled`,
            `crash`, …; None where it did not.
        outputs: What the steps returned, by step id; steps that returned nothing are left out.
        compensated_steps: Ids of the steps that were undone, in the order of undoing.
        uncompensated: Ids of steps that took effect and declare nothing that undoes them.
        outstanding: Effects that may still stand and that need a person.
        unverified: Ids of steps that were undone, and of which it could not be told whether the
            undo left nothing.
        simulated_steps: Ids of steps that ran without a handler, that is, did nothing.
        warnings: Everything else worth knowing, one sentence each.
        durable: True where the outcome survives the end of this process.
        waiting: What it waits for, where it is not final, or where an undo of it is tried again.
        started_at: When execution began, if it did.
        finished_at: When it became final, if it did.
    """

    transaction_id: str
    state: TransactionState
    completed_steps: list[str] = Field(default_factory=list)
    failed_step: str | None = None
    error: str | None = None
    reason: RollbackReason | None = None
    outputs: dict[str, Any] = Field(default_factory=dict)
    compensated_steps: list[str] = Field(default_factory=list)
    uncompensated: list[str] = Field(default_factory=list)
    outstanding: list[OutstandingCompensation] = Field(default_factory=list)
    unverified: list[str] = Field(default_factory=list)
    simulated_steps: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    durable: bool = False
    waiting: Waiting | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_final(self) -> bool:
        """True where the state will not change any more."""
        return self.state.is_final

    @computed_field  # type: ignore[prop-decorator]
    @property
    def clean(self) -> bool:
        """True where nothing is left for a person: committed or undone without remainder."""
        left = self.outstanding or self.uncompensated or self.unverified or self.waiting
        return self.is_final and not left

    def attach_cause(self, cause: BaseException | None) -> None:
        """Remember the exception that `raise_for_state` names as the cause."""
        # Why not a private attribute: pydantic compares those, and a result that was read back
        # from JSON must equal the one that was written.
        self.__dict__["_cause"] = cause

    def raise_for_state(self) -> TransactionResult:
        """Return this result where it is committed; raise otherwise.

        Raises:
            TransactionRolledBack: It went back; the step's own exception is the cause, where
                this process saw it.
            TransactionExpired: Its deadline had passed before anything ran.
            TransactionNotFinal: It still waits for something.
        """
        if self.state is TransactionState.committed:
            return self
        if not self.is_final:
            raise TransactionNotFinal(self)
        if self.state is TransactionState.failed:
            raise TransactionExpired(self)
        if self.reason == "conflict":
            raise ReadConflict(self) from self.__dict__.get("_cause")
        raise TransactionRolledBack(self) from self.__dict__.get("_cause")

    def __str__(self) -> str:
        """Tell the story in plain lines."""
        return "\n".join(self._story())

    def _story(self) -> Iterator[str]:
        headline = f"Transaction {self.transaction_id}: {self.state.value}"
        if self.reason:
            headline += f" ({self.reason.replace('_', ' ')})"
        yield headline
        if self.failed_step:
            yield f"  failed step: {self.failed_step}: {self.error}"
        elif self.error:
            yield f"  why: {self.error}"
        for label, steps in (
            ("completed", self.completed_steps),
            ("undone", self.compensated_steps),
            ("cannot be undone, nothing declared", self.uncompensated),
            ("undone, but not verified", self.unverified),
            ("simulated, no handler", self.simulated_steps),
        ):
            if steps:
                yield f"  {label}: {', '.join(steps)}"
        for item in self.outstanding:
            undo = item.compensating_action or "no compensating action"
            why = f": {item.error}" if item.error else ""
            yield f"  needs a person: {item.step_id} {item.action} ({undo}, {item.reason}){why}"
        if self.waiting:
            yield f"  waiting: {self.waiting.detail}"
        for warning in self.warnings:
            yield f"  warning: {warning}"
        if not self.durable:
            yield "  kept in memory only: this record ends with the process"


class DescribedStep(Model):
    """Tell a model about one step.

    Args:
        step_id: The step.
        agent_id: On whose behalf it acts.
        action: What it does.
        data: With what, as JSON; shortened where it is long.
        undo: What undoes it, if anything does.
        can_be_undone: True where it can be undone now.
        undo_before: Until when it can be undone, where that is limited.
        error: Why it failed, or is in doubt.
    """

    step_id: str
    agent_id: str
    action: str
    data: str
    undo: str | None = None
    can_be_undone: bool = False
    undo_before: AwareDatetime | None = None
    error: str | None = None


class Description(Model):
    """Tell a model how a transaction stands, fit to put into a prompt.

    `str()` of it is text. Lists that are empty are left out of it.

    Args:
        transaction_id: The transaction.
        state: Its state.
        name: What people call it.
        can_be_rolled_back: True while all of it can still be undone.
        deadline: When it is rolled back, unless it has been committed by then.
        done: Steps that took effect.
        running: Steps under way.
        held: Steps that run when the transaction commits, and not before.
        waiting_for_approval: Steps that a person must allow.
        in_doubt: Steps of which nobody knows whether they happened.
        failed: Steps that did not happen.
        undone: Steps that were taken back.
        needs_a_person: Steps whose undo failed.
    """

    transaction_id: str
    state: TransactionState
    name: str | None = None
    can_be_rolled_back: bool = False
    deadline: AwareDatetime
    done: list[DescribedStep] = Field(default_factory=list)
    running: list[DescribedStep] = Field(default_factory=list)
    held: list[DescribedStep] = Field(default_factory=list)
    waiting_for_approval: list[DescribedStep] = Field(default_factory=list)
    in_doubt: list[DescribedStep] = Field(default_factory=list)
    failed: list[DescribedStep] = Field(default_factory=list)
    undone: list[DescribedStep] = Field(default_factory=list)
    needs_a_person: list[DescribedStep] = Field(default_factory=list)

    def __str__(self) -> str:
        """Tell it in plain lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        named = f" ({self.name})" if self.name else ""
        back = "can still be rolled back" if self.can_be_rolled_back else "cannot be rolled back"
        yield f"Transaction {self.transaction_id}{named}: {self.state.value}, {back}"
        for title, steps in (
            ("done", self.done),
            ("under way", self.running),
            ("held until the commit", self.held),
            ("waiting for an approval", self.waiting_for_approval),
            ("in doubt, nobody knows whether it happened", self.in_doubt),
            ("failed, did not happen", self.failed),
            ("undone", self.undone),
            ("undo failed, needs a person", self.needs_a_person),
        ):
            if steps:
                yield f"{title}:"
            for step in steps:
                yield f"- {step.step_id} {step.agent_id}: {step.action} {step.data}{_ending(step)}"


def _ending(step: DescribedStep) -> str:
    if step.error is not None:
        return f" ({step.error})"
    if step.can_be_undone and step.undo_before is not None:
        until = step.undo_before.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f" (can be undone until {until})"
    return " (can be undone)" if step.can_be_undone else ""


class Event(Model):
    """Tell a hook about one journal entry, right after it became durable.

    Args:
        transaction_id: The transaction.
        sequence: The entry's place in its journal, from 1.
        kind: What it says, such as `step_succeeded`.
        at: When it was decided.
        state: The transaction's state with it.
        step_id: The step that it is about, if it is about one.
        fields: The entry's other fields that differ from their defaults.
    """

    transaction_id: str
    sequence: int
    kind: str
    at: AwareDatetime
    state: TransactionState
    step_id: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


RiskCode = Literal[
    "no_steps",
    "unknown_action",
    "not_undone",
    "verify_without_undo",
    "plain_handler",
    "no_probe",
    "retry_not_idempotent",
    "undo_not_idempotent",
    "timeout_beyond_deadline",
    "secret_in_data",
    "plan",
]


class Risk(Model):
    """Name something that may go wrong with a transaction that has not run yet.

    Args:
        code: Which rule found it; for programs.
        message: What may happen, and what to do about it.
        step_id: The step that it is about, if it is about one.
    """

    code: RiskCode
    message: str
    step_id: str | None = None


class Recovered(Model):
    """Say what became of one transaction that recovery looked at.

    Args:
        transaction_id: The transaction.
        outcome: `finished` (see `result`), `parked` (handlers are missing here), `waiting` (a
            person is needed), `busy` (somebody else has it), or `unreadable` (see `detail`).
        detail: A sentence that says what happened and what to do next.
        result: The outcome, where it was driven here.
    """

    transaction_id: str
    outcome: Literal["finished", "parked", "waiting", "busy", "unreadable"]
    detail: str
    result: TransactionResult | None = None


class Verification(Model):
    """Say what `verify` found.

    Args:
        transactions: How many journals were checked.
        entries: How many entries they hold.
        problems: What does not fit, one sentence each, by transaction id.
    """

    transactions: int = 0
    entries: int = 0
    problems: dict[str, str] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_intact(self) -> bool:
        """True where nothing was found."""
        return not self.problems
