"""A transaction as it went, folded from its events for people.

Owns: which times, attempts, outputs and errors belong to which step. It decides nothing: where
a transaction stands is what the event says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aumai_transactions.models import Event, TransactionState

Outcome = Literal[
    "pending",
    "running",
    "done",
    "simulated",
    "failed",
    "never called",
    "in doubt",
    "undone",
    "undo failed",
    "not undone",
    "decided done",
    "decided not done",
    "undone by hand",
    "left in place",
]


@dataclass(slots=True)
class Call:
    """Hold what became of an action, or of a compensating action.

    Args:
        outcome: How it stands; empty where it was never to be called.
        attempt: How often it has been called.
        started_at: When the last call began.
        ended_at: When it ended.
        error: What it raised.
    """

    outcome: Outcome = "pending"
    attempt: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""

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

    def end(self, event: Event, outcome: Outcome) -> None:
        """Say that the call has ended."""
        self.outcome = outcome
        self.ended_at = event.at if self.started_at is not None else None
        self.error = error_text(event.fields.get("error"))


@dataclass(slots=True)
class StepLine:
    """Hold one step, and beside it what undoes it."""

    step_id: str
    agent_id: str
    action: str
    compensating_action: str | None
    data: dict[str, Any]
    call: Call = field(default_factory=Call)
    undo: Call = field(default_factory=Call)
    output: Any = None
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Timeline:
    """Hold a transaction as its events tell it."""

    transaction_id: str
    name: str | None = None
    state: TransactionState = TransactionState.pending
    reason: str = ""
    cause: str = ""
    sequence: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    steps: dict[str, StepLine] = field(default_factory=dict)

    @classmethod
    def of(cls, transaction_id: str, events: Iterable[Event]) -> Timeline:
        """Return the timeline of these events."""
        timeline = cls(transaction_id)
        for event in events:
            timeline.add(event)
        return timeline

    def add(self, event: Event) -> None:
        """Take in the next event; one that is known already changes nothing."""
        if event.sequence <= self.sequence:
            return
        self.sequence, self.state, self.updated_at = event.sequence, event.state, event.at
        if event.kind in ("plan_recorded", "transaction_imported"):
            self._plan(event.fields.get("definition") or {})
        elif event.kind in ("transaction_activated", "rollback_started"):
            self.started_at = self.started_at or event.at
        if event.kind == "rollback_started":
            self.reason = str(event.fields.get("reason", ""))
            error = error_text(event.fields.get("error"))
            self.cause = ": ".join(part for part in (event.step_id, error) if part)
        step = self.steps.get(event.step_id or "")
        if step is not None:
            _tell(step, event)

    def _plan(self, definition: Mapping[str, Any]) -> None:
        self.name = definition.get("name")
        self.steps = {
            step["step_id"]: StepLine(
                step["step_id"],
                step["agent_id"],
                step["action"],
                step.get("compensating_action"),
                _with_references(step),
            )
            for step in definition.get("steps") or ()
        }


def _with_references(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's data as its author wrote it: references where values will be."""
    data: dict[str, Any] = copy.deepcopy(dict(step.get("data") or {}))
    for reference in step.get("references") or ():
        place: Any = data
        *way, last = reference["into"]
        for key in way:
            place = place[key]
        at = {"at": reference["at"]} if reference.get("at") else {}
        place[last] = {"$output": reference["step_id"]} | at
    return data


def _tell(step: StepLine, event: Event) -> None:
    fields = event.fields
    match event.kind:
        case "step_started":
            step.call.start(event)
            step.data = fields.get("data") or step.data
        case "step_succeeded":
            step.call.end(event, "simulated" if fields.get("simulated") else "done")
            step.output = fields.get("output")
        case "step_failed":
            step.call.end(event, "failed" if fields.get("attempt") else "never called")
        case "step_in_doubt":
            step.call.end(event, "in doubt")
        case "compensation_started":
            step.undo.start(event)
        case "compensation_succeeded":
            step.undo.end(event, "simulated" if fields.get("simulated") else "undone")
        case "compensation_failed":
            step.undo.end(event, "undo failed")
        case "step_outstanding":
            step.undo.end(event, "not undone")
        case "resolution_given":
            _resolve(step, event)
        case "retry_requested":
            _note(step, "asked to try again", fields)
        case _:
            return


_DECISIONS: dict[str, Outcome] = {
    "happened": "decided done",
    "did_not_happen": "decided not done",
    "undone": "undone by hand",
    "left_in_place": "left in place",
}


def _resolve(step: StepLine, event: Event) -> None:
    answer = str(event.fields.get("answer", ""))
    call = step.call if answer in ("happened", "did_not_happen") else step.undo
    call.outcome = _DECISIONS.get(answer, "not undone")
    call.started_at = call.ended_at = None
    call.attempt = 0
    _note(step, answer.replace("_", " "), event.fields)


def _note(step: StepLine, what: str, fields: Mapping[str, Any]) -> None:
    by, note = fields.get("by"), fields.get("note")
    step.notes.append(what + (f", by {by}" if by else "") + (f" ({note})" if note else ""))


def error_text(error: object) -> str:
    """Return a journaled error in one line."""
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    kind, message = error.get("type", ""), error.get("message", "")
    return f"{kind}: {message}" if message else str(kind)
