"""A transaction as it went, folded from its events for people.

Owns: which times, attempts, outputs and errors belong to which step. It decides nothing: where
a transaction stands is what the event says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from aumai_transactions.models import Event, TransactionResult, TransactionState
from aumai_transactions.timelines.lines import (
    NOT_BEGUN,
    Asked,
    Call,
    Group,
    Next,
    Outcome,
    StepLine,
)
from aumai_transactions.timelines.sayings import (
    answered_by,
    asked_text,
    by_whom,
    error_text,
    instant_of,
    late_text,
    probe_text,
    reread_text,
    verification_text,
)

COURSE = frozenset(
    {
        "scope_opened",
        "scope_released",
        "step_added",
        "partial_rollback_started",
        "approval_requested",
        "approval_given",
        "approval_denied",
        "undo_window_closing",
        "reread_answered",
        "locks_awaited",
        "commit_decided",
        "rollback_requested",
        "step_requested",
        "step_refused",
        "undo_request_refused",
    }
)
"""Entries that are about more than one call, and are told one by one."""


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
    shape: str = "planned"
    groups: dict[str, Group] = field(default_factory=dict)
    course: list[Event] = field(default_factory=list)

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
        if event.kind in COURSE:
            self.course.append(event)
            self._go_along(event)
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

    def waiting_for_approval(self) -> list[StepLine]:
        """Return the steps that a person must allow, and has not answered for yet."""
        return [step for step in self.steps.values() if step.call.outcome == "asked"]

    def _go_along(self, event: Event) -> None:
        """Take in what a program adds, groups and takes back."""
        fields = event.fields
        match event.kind:
            case "step_added":
                step = StepLine.of(fields["step"])
                self.steps[step.step_id] = step
            case "scope_opened":
                scope = fields["scope"]
                self.groups[scope["scope_id"]] = Group(
                    scope["scope_id"],
                    scope.get("kind", "savepoint"),
                    scope.get("name", ""),
                    scope.get("parent"),
                )
            case "scope_released":
                self._end_group(fields, "released")
            case "partial_rollback_started":
                self._end_group(fields, "rolled_back")
                for name in fields.get("step_ids", ()):
                    step = self.steps[name]
                    if step.call.outcome in NOT_BEGUN:
                        step.call.outcome = "left out"
            case _:
                return

    def _end_group(self, fields: Mapping[str, Any], state: str) -> None:
        group = self.groups.get(fields.get("scope_id") or "")
        # Why not a savepoint: its program goes on in it after that.
        if group is not None and group.kind != "savepoint":
            group.state = state

    def _go_on(self) -> None:
        self.reason = self.cause = ""
        for step in self.steps.values():
            if step.call.outcome in ("failed", "never called"):
                step.call.outcome = "pending"
            elif step.call.outcome == "pending" and step.declared.get("on_commit"):
                step.call.outcome = "held"

    def _stop_waiting(self) -> None:
        for step in self.steps.values():
            if step.call.outcome == "waiting":
                step.call.outcome = "in doubt" if step.call.is_doubtful else "failed"
            elif step.call.outcome in NOT_BEGUN:
                step.call.outcome = "pending"

    def _claimed(self, event: Event) -> None:
        driver_id = str(event.fields.get("driver_id", ""))
        if event.fields.get("takeover") and (
            driver_id != self.driver_id or self._is_resumed(event)
        ):
            self.course.append(event)
        if event.fields.get("takeover") and driver_id != self.driver_id:
            # Why: what another process had left behind in its threads died with it.
            for step in self.steps.values():
                if step.call.outcome == "given up":
                    step.call.outcome = "in doubt"
        self.driver_id = driver_id

    @staticmethod
    def _is_resumed(event: Event) -> bool:
        return bool(event.fields.get("resumes"))

    def _plan(self, definition: Mapping[str, Any]) -> None:
        self.name = definition.get("name")
        self.shape = definition.get("shape", "planned")
        self.steps = {step["step_id"]: StepLine.of(step) for step in definition.get("steps") or ()}


_LEFT: dict[str, Outcome] = {
    "residue": "left something",
    "may_still_act": "may still act",
    "acted_late": "acted late",
}
_PROBED: dict[str, Outcome] = {"done": "done", "not_done": "failed", "unknown": "in doubt"}


def _tell(step: StepLine, event: Event) -> None:
    if not _tell_call(step, event) and not _tell_commit(step, event):
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


def _tell_commit(step: StepLine, event: Event) -> bool:
    """Take in what an event says about approvals and the commit point; tell whether it does."""
    fields, call = event.fields, step.call
    match event.kind:
        case "approval_requested":
            step.asked = Asked(str(fields.get("digest", "")), instant_of(fields.get("until")))
            step.data = fields.get("data") or step.data
            call.outcome = "asked"
            until = step.asked.until
            call.next = None if until is None else Next("approval", 0, until, event.at)
        case "approval_given" | "approval_denied":
            call.outcome = "allowed" if event.kind == "approval_given" else "denied"
            step.notes.append(call.outcome + answered_by(fields))
        case "reread_answered":
            step.told["reread"] = reread_text(fields)
        case "confirmation_started":
            step.confirmation.start(event)
        case "confirmation_succeeded":
            step.confirmation.end(event, "simulated" if fields.get("simulated") else "confirmed")
        case "confirmation_failed":
            step.confirmation.end(event, "not confirmed")
        case "retry_scheduled" if fields.get("operation") == "confirmation":
            step.confirmation.wait(event)
        case _:
            return False
    return True


def _probed(step: StepLine, event: Event) -> None:
    answer = str(event.fields.get("answer"))
    step.call.outcome = _PROBED.get(answer, "in doubt")
    step.call.is_doubtful = answer not in ("done", "not_done")
    if answer == "done":
        step.output = event.fields.get("output")
    step.told["probe"] = probe_text(event.fields) + asked_text(event.fields)


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
            step.told["verification"] = verification_text(fields) + asked_text(fields)
        case "retry_scheduled":
            undo.wait(event)
        case "step_outstanding":
            undo.end(event, _LEFT.get(str(fields.get("reason")), "not undone"))
        case "resolution_given":
            _resolve(step, event)
        case "retry_requested":
            _note(step, "asked to try again", fields)
            for call in (step.call, undo, step.confirmation):
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
    if event.state is TransactionState.committing and not step.call.is_doubtful:
        call, outcome = _resolved_behind(step, answer)
    else:
        call = step.call if answer in ("happened", "did_not_happen") else step.undo
        outcome = _DECISIONS.get(answer, "not undone")
    call.outcome = outcome
    call.started_at = call.ended_at = None
    call.attempt = 0
    call.is_doubtful = False
    _note(step, answer.replace("_", " "), event.fields)


def _resolved_behind(step: StepLine, answer: str) -> tuple[Call, Outcome]:
    """Return which call a person has settled that was stuck behind the commit point, and how."""
    has_happened = answer == "happened"
    if step.confirmation.outcome != "pending":
        return step.confirmation, "confirmed by hand" if has_happened else "left unconfirmed"
    return step.call, "decided done" if has_happened else "decided left out"


def _note(step: StepLine, what: str, fields: Mapping[str, Any]) -> None:
    step.notes.append(what + by_whom(fields))
