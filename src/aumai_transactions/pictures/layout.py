"""Where everything of a transaction stands in a picture.

Owns: the way from times to places.
Rules:
  1. The axis is not linear: what is short can be seen beside what is long, and a wait of a day does
     not push everything else into a corner. So each distance is that of a logarithm, and the marks
     say what time it is.
  2. A step has one line, in the lane of its agent; what undid it stands behind it on the same line,
     and is joined to it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from aumai_transactions.timelines.lines import Call, Outcome, StepLine
    from aumai_transactions.timelines.timeline import Timeline

Tone = Literal["good", "bad", "undone", "busy", "quiet"]
Kind = Literal["action", "compensation", "confirmation"]

STEPS_MAX = 2_000

_TONES: dict[Tone, frozenset[Outcome]] = {
    "good": frozenset(
        {"done", "went on instead", "decided done", "allowed", "confirmed", "confirmed by hand"}
    ),
    "bad": frozenset(
        {
            "failed", "never called", "in doubt", "given up", "left something", "may still act",
            "acted late", "undo failed", "not undone", "denied", "not confirmed",
        }
    ),
    "undone": frozenset(
        {
            "undone", "nothing to undo", "not verified", "undone by hand", "left in place",
            "decided not done", "left out", "decided left out", "left unconfirmed",
        }
    ),
    "busy": frozenset({"running", "probing", "verifying", "waiting", "asked"}),
}  # fmt: skip


def tone_of(outcome: Outcome) -> Tone:
    """Return how an outcome is painted."""
    return next((tone for tone, outcomes in _TONES.items() if outcome in outcomes), "quiet")


@dataclass(slots=True, frozen=True)
class Bar:
    """Hold one call, from 0 to 1 of the width.

    Args:
        kind: What was called.
        start: Where it begins.
        end: Where it ends.
        outcome: What became of it.
        number: Which attempt it was.
        is_open: True where it has not ended.
    """

    kind: Kind
    start: float
    end: float
    outcome: Outcome
    number: int
    is_open: bool = False


@dataclass(slots=True, frozen=True)
class Line:
    """Hold one step.

    Args:
        step: It.
        bars: Its calls, in order.
        joins: For each bar that undoes or confirms, from where to where it is joined.
        waits: From where to where its next attempt was waited for.
    """

    step: StepLine
    bars: tuple[Bar, ...]
    joins: tuple[tuple[float, float], ...]
    waits: tuple[tuple[float, float], ...] = ()


@dataclass(slots=True, frozen=True)
class Lane:
    """Hold the steps of one agent."""

    agent_id: str
    lines: tuple[Line, ...]


@dataclass(slots=True, frozen=True)
class Mark:
    """Hold a place on the axis, and what time it is there."""

    at: float
    text: str


@dataclass(slots=True)
class Layout:
    """Hold a whole picture, in parts of its width.

    Args:
        lanes: By agent, in the order in which they first appear.
        marks: Of the axis.
        left_out: How many steps are not shown.
    """

    lanes: list[Lane] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    left_out: int = 0


def laid_out(timeline: Timeline) -> Layout:
    """Return where everything stands."""
    steps = list(timeline.steps.values())
    axis = _Axis(_instants(steps[:STEPS_MAX]))
    by_agent: dict[str, list[Line]] = {}
    for step in steps[:STEPS_MAX]:
        by_agent.setdefault(step.agent_id, []).append(_line(step, axis))
    lanes = [Lane(agent_id, tuple(lines)) for agent_id, lines in by_agent.items()]
    return Layout(lanes, axis.marks(), max(len(steps) - STEPS_MAX, 0))


class _Axis:
    """Know where an instant stands, from 0 to 1."""

    def __init__(self, instants: list[datetime]) -> None:
        self._instants = instants
        self._places: dict[datetime, float] = {}
        place, before = 0.0, None
        for instant in instants:
            if before is not None:
                gone = (instant - before).total_seconds()
                place += 1 + 1.2 * math.log10(1 + gone * 1_000)
            self._places[instant] = place
            before = instant
        self._whole = place or 1.0

    def at(self, instant: datetime) -> float:
        return self._places[instant] / self._whole

    def marks(self) -> list[Mark]:
        found: list[Mark] = []
        for instant in self._instants:
            place = self.at(instant)
            if found and place - found[-1].at < 0.11:
                continue
            gone = (instant - self._instants[0]).total_seconds()
            found.append(Mark(place, duration_text(gone)))
        return found


def duration_text(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 0.001:
        return "0" if seconds <= 0 else "<1 ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1_000:.3g} ms"


def _instants(steps: list[StepLine]) -> list[datetime]:
    found = {
        instant
        for step in steps
        for _kind, call in _calls(step)
        for attempt in call.attempts
        for instant in (attempt.started_at, attempt.ended_at)
        if instant is not None
    }
    return sorted(found)


def _calls(step: StepLine) -> list[tuple[Kind, Call]]:
    return [
        ("action", step.call),
        ("confirmation", step.confirmation),
        ("compensation", step.undo),
    ]


def _line(step: StepLine, axis: _Axis) -> Line:
    bars: list[Bar] = []
    joins: list[tuple[float, float]] = []
    waits: list[tuple[float, float]] = []
    for kind, call in _calls(step):
        before = bars[-1].end if bars else None
        made = [
            Bar(
                kind,
                axis.at(one.started_at),
                1.0 if one.ended_at is None else axis.at(one.ended_at),
                one.outcome,
                one.number,
                is_open=one.ended_at is None,
            )
            for one in call.attempts
        ]
        if made and call.attempts[-1].ended_at is not None:
            # Why the last one: a probe, a verification or a person may have said something since.
            made[-1] = Bar(kind, made[-1].start, made[-1].end, call.outcome, made[-1].number)
        if kind != "action" and made and before is not None:
            joins.append((before, made[0].start))
        waits += [(one.end, after.start) for one, after in itertools.pairwise(made)]
        if made and call.outcome == "waiting":
            waits.append((made[-1].end, 1.0))
        bars += made
    return Line(step, tuple(bars), tuple(joins), tuple(waits))
