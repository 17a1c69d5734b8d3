"""One event in one line, for a log and for the course of a transaction.

Owns: which sentence stands for which entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aumai_transactions.models import Event
from aumai_transactions.timelines.lines import Next, StepLine
from aumai_transactions.timelines.sayings import (
    answered_by,
    by_whom,
    error_text,
    instant_of,
    late_text,
    locks_text,
    probe_text,
    reread_text,
    verification_text,
)
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import (
    call_cell,
    clock_time,
    confirmation_text,
    duration,
    next_text,
    reason_text,
)

# What is told of the whole, although the entry names a step.
_OF_THE_WHOLE = {"rollback_started", "partial_rollback_started", "step_added"}


def log_line(timeline: Timeline, event: Event) -> str:
    """Return one event for a log."""
    return f"{event.at.strftime('%H:%M:%S.%f')[:-3]}  {sentence(timeline, event)}"


def sentence(timeline: Timeline, event: Event) -> str:
    """Return what an event says; the timeline has taken it in already."""
    step = timeline.steps.get(event.step_id or "")
    if step is None or event.kind in _OF_THE_WHOLE:
        return _said_of_transaction(timeline, event)
    return f"{shown(step.step_id)}: {_said_of_step(step, event)}"


def _said_of_transaction(timeline: Timeline, event: Event) -> str:
    fields = event.fields
    match event.kind:
        case "plan_recorded":
            count = len(timeline.steps)
            name = f"{shown(timeline.name)}, " if timeline.name else ""
            return f"recorded: {name}{count} step{'' if count == 1 else 's'}"
        case "rollback_started":
            why = f": {shown(timeline.cause)}" if timeline.cause else ""
            return f"rolling back ({reason_text(timeline.reason)}){why}"
        case "rollback_requested":
            group = timeline.groups.get(fields.get("scope_id") or "")
            what = "" if group is None else f" of {group.text}"
            return shown(f"rollback{what} requested{by_whom(fields)}")
        case "transaction_expired":
            return f"failed: {shown(error_text(fields.get('error')))}"
        case "commit_decided":
            return "the commit is decided: from here on it only goes forward"
        case "claimed" if fields.get("resumes"):
            return "its program was started again, and goes on with it"
        case "claimed" if not fields.get("takeover"):
            return "somebody has taken it, and carries it out"
        case "claimed":
            return "its process had died; another one took it over"
        case _:
            return _said_of_parts(timeline, event)


def _said_of_parts(timeline: Timeline, event: Event) -> str:
    """Return what an event says about what a program adds, groups and takes back."""
    fields = event.fields
    match event.kind:
        case "step_added":
            return _added(timeline, fields)
        case "scope_opened":
            scope = fields["scope"]
            around = timeline.groups.get(scope.get("parent") or "")
            inside = f", inside {shown(around.text)}" if around is not None else ""
            return f"{shown(timeline.groups[scope['scope_id']].text)} begins{inside}"
        case "scope_released":
            group = timeline.groups.get(fields.get("scope_id", ""))
            what = shown(group.text) if group is not None else "a nested transaction"
            return f"{what} has committed into what it stands in, and is final with that"
        case "partial_rollback_started":
            return _taken_back(timeline, event)
        case "step_requested":
            step = fields["step"]
            who, what = shown(step["agent_id"]), shown(step["action"])
            return f"somebody else wants {who} to do {what}{shown(by_whom(fields))}"
        case "step_refused":
            why = error_text(fields.get("error"))
            return _ended("what somebody else wanted cannot be, and was not begun", why)
        case "undo_request_refused":
            group = timeline.groups.get(fields.get("scope_id") or "")
            what = "it" if group is None else shown(group.text)
            names = shown(", ".join(fields.get("step_ids", ())))
            return f"{what} is not undone alone, for this depends on it: {names}"
        case "locks_awaited" | "locks_granted" | "versions_read":
            return shown(locks_text(event.kind, fields))
        case kind:
            return shown(kind.removeprefix("transaction_").replace("_", " "))


def _added(timeline: Timeline, fields: Mapping[str, Any]) -> str:
    step = fields["step"]
    group = timeline.groups.get(step.get("scope_id") or "")
    inside = f", inside {shown(group.text)}" if group is not None else ""
    fork = fields.get("fork")
    other = f", in the place of {shown(fork)}, which was not asked for again" if fork else ""
    who, what = shown(step["agent_id"]), shown(step["action"])
    return f"{shown(step['step_id'])}: {who} asks for {what}{inside}{other}"


def _taken_back(timeline: Timeline, event: Event) -> str:
    fields = event.fields
    names = shown(", ".join(fields.get("step_ids", ()))) or "nothing"
    group = timeline.groups.get(fields.get("scope_id") or "")
    what = f"{shown(group.text)} is rolled back: {names}" if group is not None else names
    because = event.step_id if event.step_id and event.step_id != names else None
    of = f" of {shown(because)}" if because else ""
    error = error_text(fields.get("error"))
    why = f": {shown(error)}" if error else ""
    verb = "" if group is not None else " is undone alone"
    return f"{what}{verb} ({reason_text(fields.get('reason', ''))}{of}){why}"


def _said_of_step(step: StepLine, event: Event) -> str:
    fields = event.fields
    undo = shown(step.compensating_action or "")
    attempt = fields.get("attempt", 1)
    again = f", attempt {attempt}" if attempt > 1 else ""
    match event.kind:
        case "step_started":
            return f"{shown(step.agent_id)} starts {shown(step.action)}{again}"
        case "step_succeeded" | "step_failed" | "step_in_doubt":
            return _ended(call_cell(step.call).text, step.call.error)
        case "compensation_started":
            return f"undoing it with {undo}{again}"
        case "compensation_succeeded" | "compensation_failed":
            return _ended(call_cell(step.undo).text, step.undo.error or str(fields.get("note", "")))
        case "step_outstanding":
            return _ended("not undone, needs a person", step.undo.error)
        case "rollback_revoked":
            return "its undo answered with an output; the transaction goes on"
        case _:
            return _said_about_calls(fields, event, again)


def _said_about_calls(fields: dict[str, Any], event: Event, again: str) -> str:
    """Return what an event says that is neither the beginning nor the end of a call."""
    match event.kind:
        case "retry_scheduled":
            return _scheduled(fields, event.at)
        case "probe_started":
            return f"asking what became of it{again}"
        case "probe_answered":
            return shown(probe_text(fields))
        case "verification_started":
            return f"looking whether anything is left{again}"
        case "verification_answered":
            return shown(verification_text(fields))
        case "call_returned_late":
            return shown(late_text(fields))
        case "retry_requested" | "resolution_given":
            answer = str(fields.get("answer", "try again")).replace("_", " ")
            by, note = shown(fields.get("by", "")), shown(fields.get("note", ""))
            return f"{by or 'somebody'} says: {answer}" + (f" ({note})" if note else "")
        case _:
            return _said_about_commit(fields, event, again)


def _said_about_commit(fields: dict[str, Any], event: Event, again: str) -> str:
    """Return what an event says about an approval, an undo window, or the commit point."""
    match event.kind:
        case "approval_requested":
            until = instant_of(fields.get("until"))
            limit = "" if until is None else f" until {clock_time(until, event.at)}"
            return f"a person must allow it{limit}"
        case "approval_given":
            return f"allowed{shown(answered_by(fields))}"
        case "approval_denied":
            return f"denied{shown(answered_by(fields))}"
        case "undo_window_closing":
            until = instant_of(fields.get("until"))
            at = "" if until is None else f" {clock_time(until, event.at)}"
            return f"it can be undone until{at} only, and that is soon"
        case "reread_answered":
            return shown(reread_text(fields))
        case "locks_awaited" | "locks_granted":
            return shown(locks_text(event.kind, fields))
        case "confirmation_started":
            return f"confirming it{again}"
        case "confirmation_succeeded":
            return f"confirmed{again}"
        case "confirmation_failed":
            return _ended(f"not confirmed{again}", error_text(fields.get("error")))
        case kind:
            return shown(kind.replace("_", " "))


def _scheduled(fields: dict[str, Any], at: datetime) -> str:
    due_at = datetime.fromisoformat(fields["due_at"])
    following = Next(fields["operation"], fields.get("attempt", 1), due_at, at)
    left = duration(max((due_at - at).total_seconds(), 0))
    is_confirming = following.operation == "confirmation"
    text = confirmation_text(following) if is_confirming else next_text(following)
    return f"{text}, in {left}"


def _ended(what: str, error: str) -> str:
    return f"{what}: {shown(error)}" if error else what
