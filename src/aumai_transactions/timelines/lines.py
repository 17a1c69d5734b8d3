"""What is known of one step: its calls, and what else it is waited for.

Owns: the shape of these lines; what an event adds to them is in `timeline.py`.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aumai_transactions.models import Event
from aumai_transactions.timelines.sayings import error_text

Outcome = Literal[
    "pending",
    "running",
    "waiting",
    "done",
    "simulated",
    "failed",
    "never called",
    "in doubt",
    "given up",
    "probing",
    "undone",
    "nothing to undo",
    "verifying",
    "not verified",
    "left something",
    "may still act",
    "acted late",
    "undo failed",
    "not undone",
    "went on instead",
    "decided done",
    "decided not done",
    "undone by hand",
    "left in place",
    "held",
    "asked",
    "allowed",
    "denied",
    "left out",
    "decided left out",
    "confirmed",
    "not confirmed",
    "confirmed by hand",
    "left unconfirmed",
]
BUSY: frozenset[Outcome] = frozenset({"running", "probing", "verifying"})
"""What something is happening at right now."""

NOT_BEGUN: frozenset[Outcome] = frozenset({"pending", "held", "asked", "allowed"})
"""What has not been called, and need not be undone."""

ERRORS_KEPT_MAX = 5
ATTEMPTS_KEPT_MAX = 50


@dataclass(slots=True, frozen=True)
class Next:
    """Hold what is waited for.

    Args:
        operation: What is called then; `left_behind` where an undo waits for a call that was given
            up.
        attempt: Which attempt of it that is; 0 where it is none.
        due_at: When, at the earliest; at the latest for `left_behind`.
        since: When that was decided; None where nobody knows.
    """

    operation: str
    attempt: int
    due_at: datetime
    since: datetime | None


@dataclass(slots=True)
class Attempt:
    """Hold one call of an action, or of a compensating action.

    Args:
        number: Which one; 1 for the first.
        started_at: When it began.
        ended_at: When it ended; None where it has not, or nobody knows.
        outcome: What became of it.
    """

    number: int
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome = "running"


@dataclass(slots=True)
class Call:
    """Hold what became of an action, or of a compensating action.

    Args:
        outcome: How it stands; empty where it was never to be called.
        attempt: How often it has been called.
        started_at: When the last call began.
        ended_at: When it ended.
        error: What it raised.
        questions: How often its probe, or its verification, has been asked.
        next: What it waits for, while its outcome is `waiting`.
        is_doubtful: True where nobody knows whether the action happened.
        has_returned_late: True where a call that was given up has answered since.
        errors: The last errors, each with its attempt.
        attempts: The last attempts, in order.
    """

    outcome: Outcome = "pending"
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    questions: int = 0
    next: Next | None = None
    is_doubtful: bool = False
    has_returned_late: bool = False
    errors: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=ERRORS_KEPT_MAX))
    attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=ATTEMPTS_KEPT_MAX))

    @property
    def seconds(self) -> float | None:
        """How long the last call took; None where it has not ended, or never began."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max((self.ended_at - self.started_at).total_seconds(), 0.0)

    def start(self, event: Event) -> None:
        """Say that a call begins."""
        self.outcome, self.attempt = "running", event.fields.get("attempt", 1)
        self.started_at, self.ended_at, self.error = event.at, None, ""
        self.has_returned_late = False
        self.attempts.append(Attempt(self.attempt, event.at))

    def end(self, event: Event, outcome: Outcome) -> None:
        """Say that the call has ended."""
        self.outcome = outcome
        self.ended_at = event.at if self.started_at is not None else None
        self.error = error_text(event.fields.get("error"))
        if self.attempts and self.attempts[-1].ended_at is None:
            self.attempts[-1].ended_at, self.attempts[-1].outcome = event.at, outcome
        if self.error:
            self.errors.append((self.attempt, self.error))

    def ask(self, event: Event, outcome: Outcome) -> None:
        """Say that somebody is asked about the call."""
        self.outcome, self.questions = outcome, event.fields.get("attempt", 1)

    def wait(self, event: Event) -> None:
        """Say when the next call begins, or the next question is asked."""
        fields = event.fields
        due_at = datetime.fromisoformat(fields["due_at"])
        self.next = Next(fields["operation"], fields.get("attempt", 1), due_at, event.at)
        self.outcome = "waiting"


@dataclass(slots=True, frozen=True)
class Asked:
    """Hold what a person is asked to allow.

    Args:
        digest: Of exactly what is to be allowed.
        until: Until when an answer is waited for; None for ever.
    """

    digest: str
    until: datetime | None


@dataclass(slots=True)
class StepLine:
    """Hold one step, and beside it what undoes it.

    `notes` are what people decided, `told` what else is worth telling, by what it is about;
    `declared` is the step's definition as JSON.
    """

    step_id: str
    agent_id: str
    action: str
    compensating_action: str | None
    data: dict[str, Any]
    call: Call = field(default_factory=Call)
    undo: Call = field(default_factory=Call)
    output: Any = None
    notes: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    confirmation: Call = field(default_factory=Call)
    declared: Mapping[str, Any] = field(default_factory=dict)
    asked: Asked | None = None

    @property
    def is_busy(self) -> bool:
        """True where one of its calls is under way."""
        calls = (self.call, self.undo, self.confirmation)
        return any(call.outcome in BUSY for call in calls)

    @classmethod
    def of(cls, step: Mapping[str, Any]) -> StepLine:
        """Return the line of a step that was declared thus."""
        line = cls(
            step["step_id"],
            step["agent_id"],
            step["action"],
            step.get("compensating_action"),
            _with_references(step),
            declared=step,
        )
        if step.get("on_commit"):
            line.call.outcome = "held"
        return line


@dataclass(slots=True)
class Group:
    """Hold a savepoint or a nested transaction.

    Args:
        group_id: Its name within the transaction.
        kind: `savepoint` or `child`.
        name: What its program calls it.
        parent: The group that it stands in.
        state: `open`, `released`, or `rolled_back`.
    """

    group_id: str
    kind: str
    name: str = ""
    parent: str | None = None
    state: str = "open"

    @property
    def text(self) -> str:
        """What people call it."""
        what = "the savepoint" if self.kind == "savepoint" else "the nested transaction"
        return f"{what} {self.name or self.group_id}"


def _with_references(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's data as its author wrote it: references where values will be."""
    data: dict[str, Any] = copy.deepcopy(dict(step.get("data") or {}))
    for reference in step.get("references") or ():
        place: Any = data
        *way, last = reference["into"]
        for key in way:
            place = place[key]
        more = {key: reference[key] for key in ("at", "type") if reference.get(key)}
        place[last] = {"$output": reference["step_id"]} | more
    return data
