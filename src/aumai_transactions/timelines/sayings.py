"""What single facts of the journal say, in words.

Owns: the phrases for probes, verifications, late answers, approvals, locks and errors. Where they
are shown is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aumai_transactions.core.times import instant

_LATE = {
    "succeeded": "and succeeded",
    "not_done": "and had not done it",
    "in_doubt": "and does not know what it did",
}
_PROBE_SAYS = {"done": "done", "not_done": "not done", "unknown": "it cannot tell"}


def instant_of(value: object) -> datetime | None:
    """Return an instant that an event's fields hold: a text, or microseconds since 1970 UTC."""
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return instant(value) if isinstance(value, int) else None


def declared_text(step: Mapping[str, Any], *, is_planned: bool = True) -> str:
    """Return what a step declares beyond what is done and what undoes it; maybe nothing.

    Args:
        step: The step as its definition, or its model, has it as JSON.
        is_planned: False where its program asks for each step when it is its turn.
    """
    parts = []
    before = dict.fromkeys(step.get("after") or ())
    before |= dict.fromkeys(item["step_id"] for item in step.get("references") or ())
    if step.get("after") is not None and (before or is_planned):
        parts.append(f"after {', '.join(before)}" if before else "at once")
    if step.get("pivot"):
        parts.append("the pivot: its success is the commit")
    if step.get("on_commit"):
        parts.append("held until the commit")
    if step.get("confirming_action"):
        parts.append(f"confirmed by {step['confirming_action']}")
    if step.get("requires_approval"):
        limit = step.get("approval_timeout_seconds")
        within = "" if limit is None else f" within {limit:g} s"
        parts.append(f"a person must allow it{within}")
    if step.get("resources"):
        parts.append(f"uses {resources_text(step['resources'])}")
    if step.get("undo_within_seconds") is not None:
        parts.append(f"can be undone for {step['undo_within_seconds']:g} s")
    return "; ".join(parts)


def by_whom(fields: Mapping[str, Any]) -> str:
    """Return who said something, and what for, to put behind it; maybe nothing."""
    by, note = fields.get("by"), fields.get("note")
    return (f", by {by}" if by else "") + (f" ({note})" if note else "")


def answered_by(fields: Mapping[str, Any]) -> str:
    """Return who has answered for an approval, and why, to put behind the answer."""
    nobody = "" if fields.get("by") else ", for nobody answered in time"
    return nobody + by_whom(fields)


def asked_text(fields: Mapping[str, Any]) -> str:
    """Return how often somebody was asked, where that was more than once."""
    times = fields.get("attempt", 1)
    return f" (asked {times} times)" if times > 1 else ""


def reread_text(fields: Mapping[str, Any]) -> str:
    """Return what was found when something was read again before the commit point."""
    if fields.get("holds"):
        return "read again before the commit: it still holds"
    return with_error("read again before the commit: it does not hold any more", fields)


def resources_text(uses: Sequence[Mapping[str, Any]]) -> str:
    """Return resources by name, and of each whether it is shared."""
    shared = {True: " (shared)", False: ""}
    return ", ".join(f"{use['name']}{shared[use.get('mode') == 'shared']}" for use in uses)


def locks_text(kind: str, fields: Mapping[str, Any]) -> str:
    """Return what an entry says about resources."""
    if kind == "locks_awaited":
        behind = ", ".join(fields.get("behind") or ())
        after = f", behind {behind}" if behind else ""
        return f"waits for {resources_text(fields.get('resources') or ())}{after}"
    if kind == "versions_read":
        names = ", ".join(item["name"] for item in fields.get("versions") or ())
        return f"reads {names}, which must not change before the commit"
    grants = fields.get("grants") or ()
    return f"has {resources_text(grants)}" if grants else "has all that it waited for"


def late_text(fields: Mapping[str, Any]) -> str:
    """Return what a call said that had been given up before."""
    operation = str(fields.get("operation", "action"))
    what = "call" if operation == "action" else operation
    outcome = _LATE.get(str(fields.get("outcome")), "")
    said = f"a {what} that had been given up (attempt {fields.get('attempt', 1)}) returned later, "
    return said + with_error(outcome, fields)


def probe_text(fields: Mapping[str, Any]) -> str:
    """Return what a probe answered."""
    answer = str(fields.get("answer"))
    return with_error(f"the probe says: {_PROBE_SAYS.get(answer, answer)}", fields)


def verification_text(fields: Mapping[str, Any]) -> str:
    """Return what was found after an undo."""
    if fields.get("answer") == "clean":
        return "verified: nothing is left"
    if fields.get("answer") == "residue":
        left = json.dumps(fields.get("left"), ensure_ascii=False)
        return f"verified: something is left: {left}"
    return with_error("not verified: it cannot be told whether anything is left", fields)


def with_error(text: str, fields: Mapping[str, Any]) -> str:
    """Return a phrase, and behind it the error that a fact holds."""
    error = error_text(fields.get("error"))
    return f"{text}: {error}" if error else text


def error_text(error: object) -> str:
    """Return a journaled error in one line."""
    if not isinstance(error, Mapping):
        return "" if error is None else str(error)
    kind, message = error.get("type", ""), error.get("message", "")
    return f"{kind}: {message}" if message else str(kind)
