"""The trace that a transaction belongs to, as its journal holds it.

Owns: the text form of a span's place in a trace (W3C Trace Context), and where it stands in a
journal: that of the transaction in its metadata, that of an attempt in its `StepStarted`.
Rules:
  1. A journal may come from anybody. What is not exactly version 00 of the format is taken for
     nothing, and never refused: no outcome hangs on it.
  2. Two plans that differ in nothing but their trace are the same plan.

Source: W3C Trace Context, Level 2, sections 3.2 and 3.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aumai_transactions.core.definition import Definition
    from aumai_transactions.core.entries import StepStarted
    from aumai_transactions.core.saga import SagaStep

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACE_KEYS = (TRACEPARENT, TRACESTATE)
"""Under which keys the metadata of a transaction say in which trace it was begun."""

TRACESTATE_CHARACTERS_MAX = 512
TRACESTATE_MEMBERS_MAX = 32

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VISIBLE = r"\x21-\x2b\x2d-\x3c\x3e-\x7e"
_MEMBER = re.compile(rf"({_KEY})=([ {_VISIBLE}]{{0,255}}[{_VISIBLE}])")


class TraceParent(NamedTuple):
    """Hold a place in a trace.

    Args:
        trace_id: 128 bits; never 0.
        span_id: 64 bits; never 0.
        flags: 8 bits; the lowest one says that it is sampled.
    """

    trace_id: int
    span_id: int
    flags: int

    def __str__(self) -> str:
        """Return it as the header has it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


class Trace(NamedTuple):
    """Hold in which trace a transaction was begun.

    Args:
        parent: The span that its spans stand below.
        state: What vendors have noted, as the header has it; None for nothing.
    """

    parent: TraceParent
    state: str | None


def parsed_traceparent(text: object) -> TraceParent | None:
    """Return what a `traceparent` says; None where it is none."""
    found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(digits, 16) for digits in found.groups())
    return TraceParent(trace_id, span_id, flags) if trace_id and span_id else None


def parsed_tracestate(text: object) -> tuple[tuple[str, str], ...]:
    """Return the members of a `tracestate`; none where it is not exactly one."""
    if not isinstance(text, str) or not 0 < len(text) <= TRACESTATE_CHARACTERS_MAX:
        return ()
    if text != text.strip():
        return ()
    members: dict[str, str] = {}
    for part in text.split(","):
        found = _MEMBER.fullmatch(part.strip(" \t"))
        if found is None or found[1] in members:
            return ()
        members[found[1]] = found[2]
    return tuple(members.items()) if len(members) <= TRACESTATE_MEMBERS_MAX else ()


def trace_in(metadata: Mapping[str, Any] | None) -> Trace | None:
    """Return in which trace a transaction was begun, as its metadata say; None for in none."""
    if not metadata:
        return None
    parent = parsed_traceparent(metadata.get(TRACEPARENT))
    if parent is None:
        return None
    state = metadata.get(TRACESTATE)
    return Trace(parent, state if parsed_tracestate(state) else None)


def without_trace(definition: Definition) -> Definition:
    """Return a plan as if nobody had noted in which trace it was begun."""
    metadata = definition.metadata
    if not metadata or not any(key in metadata for key in TRACE_KEYS):
        return definition
    kept = {key: text for key, text in metadata.items() if key not in TRACE_KEYS}
    return definition._replace(metadata=kept or None)


def note_attempt(step: SagaStep, entry: StepStarted) -> None:
    """Let a step say in which span its last attempt was made, and since when."""
    step.traceparent, step.attempt_at = entry.traceparent, entry.at
