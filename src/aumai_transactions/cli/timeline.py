"""A transaction as it went, folded from its events for people.

Owns: which times, attempts, outputs and errors belong to which step. It decides nothing: where
a transaction stands is what the event says.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from aumai_transactions.models import Event, TransactionResult, TransactionState

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
]
BUSY: frozenset[Outcome] = frozenset({"running", "probing", "verifying"})
"""What something is happening at right now."""

ERRORS_KEPT_MAX = 5


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

    def end(self, event: Event, outcome: Outcome) -> None:
        """Say that the call has ended."""
        self.outcome = outcome
        self.ended_at = event.at if self.started_at is not None else None
        self.error = error_text(event.fields.get("error"))
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


@dataclass(slots=True)
class StepLine:
    """Hold one step, and beside it what undoes it.

    `notes` are what people decided, `told` what else is worth telling, by what it is about.
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
    driver_id: str = ""

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
            self._stop_waiting()
        elif event.kind == "rollback_revoked":
            self._go_on()
        elif event.kind == "claimed":
            self._claimed(event)
        step = self.steps.get(event.step_id or "")
        if step is not None:
            _tell(step, event)

    def take(self, result: TransactionResult) -> None:
        """Take in what follows from all events, and that none of them says by itself."""
        for item in result.outstanding:
            outcome = _LEFT.get(item.reason)
            if outcome is not None and item.step_id in self.steps:
                self.steps[item.step_id].undo.outcome = outcome
        waiting = result.waiting
        if waiting is not None and waiting.reason == "left_behind" and waiting.until is not None:
            for name in waiting.step_ids:
                if name in self.steps:
                    undo = self.steps[name].undo
                    undo.next = Next("left_behind", 0, waiting.until, None)
                    undo.outcome = "waiting"

    def _go_on(self) -> None:
        self.reason = self.cause = ""
        for step in self.steps.values():
            if step.call.outcome in ("failed", "never called"):
                step.call.outcome = "pending"

    def _stop_waiting(self) -> None:
        for step in self.steps.values():
            if step.call.outcome == "waiting":
                step.call.outcome = "in doubt" if step.call.is_doubtful else "failed"

    def _claimed(self, event: Event) -> None:
        driver_id = str(event.fields.get("driver_id", ""))
        if event.fields.get("takeover") and driver_id != self.driver_id:
            # Why: what another process had left behind in its threads died with it.
            for step in self.steps.values():
                if step.call.outcome == "given up":
                    step.call.outcome = "in doubt"
        self.driver_id = driver_id

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


_LEFT: dict[str, Outcome] = {
    "residue": "left something",
    "may_still_act": "may still act",
    "acted_late": "acted late",
}
_LATE = {
    "succeeded": "and succeeded",
    "not_done": "and had not done it",
    "in_doubt": "and does not know what it did",
}
_PROBED: dict[str, Outcome] = {"done": "done", "not_done": "failed", "unknown": "in doubt"}
_PROBE_SAYS = {"done": "done", "not_done": "not done", "unknown": "it cannot tell"}


def _tell(step: StepLine, event: Event) -> None:
    if not _tell_call(step, event):
        _tell_undo(step, event)


def _tell_call(step: StepLine, event: Event) -> bool:
    """Take in what an event says about a step's action; tell whether it says anything."""
    fields, call = event.fields, step.call
    match event.kind:
        case "step_started":
            call.start(event)
            call.is_doubtful = False
            step.data = fields.get("data") or step.data
        case "step_succeeded":
            call.end(event, "simulated" if fields.get("simulated") else "done")
            step.output = fields.get("output")
        case "step_failed":
            call.end(event, "failed" if fields.get("attempt") else "never called")
        case "step_in_doubt":
            call.end(event, "given up" if fields.get("left_behind") else "in doubt")
            call.is_doubtful = True
        case "probe_started":
            call.ask(event, "probing")
        case "probe_answered":
            _probed(step, event)
        case "retry_scheduled" if fields.get("operation") in ("action", "probe"):
            call.wait(event)
        case "call_returned_late":
            step.told[f"late {fields.get('operation')} {fields.get('attempt')}"] = late_text(fields)
            if fields.get("operation") == "action":
                call.has_returned_late = True
        case _:
            return False
    return True


def _probed(step: StepLine, event: Event) -> None:
    answer = str(event.fields.get("answer"))
    step.call.outcome = _PROBED.get(answer, "in doubt")
    step.call.is_doubtful = answer not in ("done", "not_done")
    if answer == "done":
        step.output = event.fields.get("output")
    step.told["probe"] = probe_text(event.fields) + _asked(event.fields)


def _tell_undo(step: StepLine, event: Event) -> None:
    """Take in what an event says about a step's undo, or what a person says."""
    fields, undo = event.fields, step.undo
    match event.kind:
        case "compensation_started":
            undo.start(event)
        case "compensation_succeeded":
            done: Outcome = "nothing to undo" if fields.get("note") else "undone"
            undo.end(event, "simulated" if fields.get("simulated") else done)
            if fields.get("note"):
                step.told["undo"] = f"nothing to undo: {fields['note']}"
        case "compensation_failed":
            undo.end(event, "undo failed")
        case "rollback_revoked":
            undo.end(event, "went on instead")
            step.call.outcome, step.call.is_doubtful = "done", False
            step.output = fields.get("output")
            step.told["undo"] = "its undo answered with an output, and the transaction went on"
        case "verification_started":
            undo.ask(event, "verifying")
        case "verification_answered":
            undo.outcome = _VERIFIED.get(str(fields.get("answer")), "not verified")
            step.told["verification"] = verification_text(fields) + _asked(fields)
        case "retry_scheduled":
            undo.wait(event)
        case "step_outstanding":
            undo.end(event, _LEFT.get(str(fields.get("reason")), "not undone"))
        case "resolution_given":
            _resolve(step, event)
        case "retry_requested":
            _note(step, "asked to try again", fields)
            for call in (step.call, undo):
                if call.outcome == "waiting" and call.next is not None:
                    call.next = replace(call.next, due_at=event.at)
        case _:
            return


_VERIFIED: dict[str, Outcome] = {
    "clean": "undone",
    "residue": "left something",
    "unknown": "not verified",
}


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
    call.is_doubtful = False
    _note(step, answer.replace("_", " "), event.fields)


def _note(step: StepLine, what: str, fields: Mapping[str, Any]) -> None:
    by, note = fields.get("by"), fields.get("note")
    step.notes.append(what + (f", by {by}" if by else "") + (f" ({note})" if note else ""))


def late_text(fields: Mapping[str, Any]) -> str:
    """Return what a call said that had been given up before."""
    operation = str(fields.get("operation", "action"))
    what = "call" if operation == "action" else operation
    outcome = _LATE.get(str(fields.get("outcome")), "")
    said = f"a {what} that had been given up (attempt {fields.get('attempt', 1)}) returned later, "
    return said + _with(outcome, fields)


def probe_text(fields: Mapping[str, Any]) -> str:
    """Return what a probe answered."""
    answer = str(fields.get("answer"))
    return _with(f"the probe says: {_PROBE_SAYS.get(answer, answer)}", fields)


def verification_text(fields: Mapping[str, Any]) -> str:
    """Return what was found after an undo."""
    if fields.get("answer") == "clean":
        return "verified: nothing is left"
    if fields.get("answer") == "residue":
        left = json.dumps(fields.get("left"), ensure_ascii=False)
        return f"verified: something is left: {left}"
    return _with("not verified: it cannot be told whether anything is left", fields)


def _asked(fields: Mapping[str, Any]) -> str:
    times = fields.get("attempt", 1)
    return f" (asked {times} times)" if times > 1 else ""


def _with(text: str, fields: Mapping[str, Any]) -> str:
    error = error_text(fields.get("error"))
    return f"{text}: {error}" if error else text


def error_text(error: object) -> str:
    """Return a journaled error in one line."""
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    kind, message = error.get("type", ""), error.get("message", "")
    return f"{kind}: {message}" if message else str(kind)
