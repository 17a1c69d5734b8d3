"""What is seen while transactions run: a block that is drawn over, or a line for each event.

Owns: standard error while a command drives. It only watches: whatever goes wrong with drawing
stops no transaction.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from aumai_transactions.cli.screen import Screen, clipped, columns_of, shown
from aumai_transactions.cli.tables import Cell, aligned
from aumai_transactions.cli.timeline import (
    BUSY,
    Call,
    Next,
    StepLine,
    Timeline,
    error_text,
    late_text,
    probe_text,
    verification_text,
)
from aumai_transactions.cli.wording import STATE_TONES, call_cell, duration, next_text, reason_text
from aumai_transactions.clock import SystemClock
from aumai_transactions.models import Event

REDRAW_SECONDS = 0.125
# Which column is cut to which width, one after the other, until a line fits: agent, action, step.
CUTS = ((1, 8), (2, 8), (0, 8), (1, 0), (2, 0))
# Told by other entries, or of no interest while it runs.
_SILENT = {"claimed", "commit_requested", "transaction_activated", "transaction_imported"}

Reader = Callable[[str], list[Event]]


class Progress:
    """Tell about events as they come; use it as a context manager, and as `on_event`.

    Args:
        screen: Standard error.
        is_quiet: True to say nothing but what a person needs after a kill.
    """

    def __init__(self, screen: Screen, *, is_quiet: bool = False) -> None:
        self._screen = screen
        self._is_quiet = is_quiet
        self._block = _Block(screen) if screen.is_live and not is_quiet else None
        self.timelines: dict[str, Timeline] = {}
        self.read: Reader | None = None
        self.is_interrupted = False
        self._said_interrupted = False

    def __enter__(self) -> Self:
        if self._block is not None:
            self._block.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._block is not None:
            self._block.stop(keep=True)

    def clear(self) -> None:
        """Take the block away, for what it says follows as a result."""
        if self._block is not None:
            self._block.stop(keep=False)

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        timeline = self._timeline(event)
        timeline.add(event)
        if self._is_quiet:
            return
        if self.is_interrupted and not self._said_interrupted:
            self._said_interrupted = True
            self.say(
                "interrupted: undoing what was done (Ctrl-C again stops at once; see `recover`)"
            )
        if self._block is not None:
            self._block.show(timeline)
        elif event.kind not in _SILENT and (timeline.steps or not _is_empty_plan(event)):
            self.say(_line(timeline, event))

    def _timeline(self, event: Event) -> Timeline:
        known = self.timelines.get(event.transaction_id)
        if known is not None:
            return known
        timeline = Timeline(event.transaction_id)
        if event.sequence > 1 and self.read is not None:
            earlier = self.read(event.transaction_id)
            timeline = Timeline.of(event.transaction_id, earlier[: event.sequence - 1])
        self.timelines[event.transaction_id] = timeline
        # Why at once: whoever kills this process needs the id to see what became of it.
        self.say(f"transaction {shown(event.transaction_id)}")
        return timeline

    def say(self, line: str) -> None:
        """Write a line above the block."""
        if self._block is not None:
            self._block.say(line)
        else:
            self._screen.say(line)


def _line(timeline: Timeline, event: Event) -> str:
    """Return one event for a log."""
    at = event.at.strftime("%H:%M:%S.%f")[:-3]
    step = timeline.steps.get(event.step_id or "")
    if step is None or event.kind == "rollback_started":
        return f"{at}  {_said_of_transaction(timeline, event)}"
    return f"{at}  {shown(step.step_id)}: {_said_of_step(step, event)}"


def _said_of_transaction(timeline: Timeline, event: Event) -> str:
    if event.kind == "plan_recorded":
        count = len(timeline.steps)
        name = f"{shown(timeline.name)}, " if timeline.name else ""
        return f"recorded: {name}{count} step{'' if count == 1 else 's'}"
    if event.kind == "rollback_started":
        why = f": {shown(timeline.cause)}" if timeline.cause else ""
        return f"rolling back ({reason_text(timeline.reason)}){why}"
    if event.kind == "transaction_expired":
        return f"failed: {shown(error_text(event.fields.get('error')))}"
    return shown(event.kind.removeprefix("transaction_").replace("_", " "))


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
        case kind:
            return shown(kind.replace("_", " "))


def _scheduled(fields: dict[str, Any], at: datetime) -> str:
    due_at = datetime.fromisoformat(fields["due_at"])
    following = Next(fields["operation"], fields.get("attempt", 1), due_at, at)
    left = duration(max((due_at - at).total_seconds(), 0))
    return f"{next_text(following)}, in {left}"


def _is_empty_plan(event: Event) -> bool:
    # Why: under an idempotency key a transaction is recorded before it has any steps.
    return event.kind == "plan_recorded" and event.sequence == 1


def _ended(what: str, error: str) -> str:
    return f"{what}: {shown(error)}" if error else what


class _Block:
    """Draw the lines of one transaction over and over at the bottom of a terminal.

    A thread redraws while a call runs, so that its duration counts up.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._timeline: Timeline | None = None
        self._drawn = 0
        self._clock = SystemClock()
        self._thread = threading.Thread(target=self._tick, name="aumai-progress", daemon=True)

    def start(self) -> None:
        """Begin to redraw."""
        self._thread.start()

    def show(self, timeline: Timeline) -> None:
        """Draw this transaction from now on; the former one stays as it was drawn last."""
        with self._lock:
            if self._timeline is not None and timeline is not self._timeline:
                self._drawn = 0
            self._timeline = timeline
            self._draw()

    def say(self, line: str) -> None:
        """Write a line above the block."""
        with self._lock:
            self._erase()
            self._screen.say(line)
            self._draw()

    def stop(self, *, keep: bool) -> None:
        """Draw no more."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        with self._lock:
            if keep:
                self._draw()
            else:
                self._erase()
            self._timeline = None

    def _tick(self) -> None:
        while not self._stopped.wait(REDRAW_SECONDS):
            with self._lock:
                if not self._stopped.is_set():
                    self._draw()

    def _erase(self) -> None:
        if self._drawn:
            self._screen.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        if self._timeline is None:
            return
        size = shutil.get_terminal_size()
        lines = block_lines(
            self._screen, self._timeline, size.columns, size.lines - 2, self._clock.now()
        )
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        body = "".join(f"{line}\x1b[K\n" for line in lines)
        # Why one write without wrapping: nothing flickers, and a line that is wider than the
        # terminal cannot push the block out of its place.
        self._screen.write(f"{up}\x1b[?7l{body}\x1b[J\x1b[?7h")
        self._drawn = len(lines)


def block_lines(
    screen: Screen, timeline: Timeline, columns: int, lines_max: int, now: int
) -> list[str]:
    """Return the block: where the transaction stands, and its steps as far as they fit.

    Args:
        screen: Where it is drawn.
        timeline: The transaction.
        columns: How wide a line may be.
        lines_max: How many lines there may be.
        now: Microseconds since 1970 UTC.
    """
    state = timeline.state
    reason = f" ({reason_text(timeline.reason)})" if timeline.reason else ""
    name = f"  {shown(timeline.name)}" if timeline.name else ""
    head = screen.styled(f"{state.value}{reason}", STATE_TONES[state])
    lines = [head + clipped(name, max(columns - columns_of(state.value + reason) - 1, 1))]
    if timeline.cause:
        lines.append(screen.styled(clipped(f"  {shown(timeline.cause)}", columns - 1), "dim"))
    steps = list(timeline.steps.values())
    room = max(lines_max - len(lines) - 1, 1)
    first = _first_shown(steps, room)
    rows = [_block_row(step, now) for step in steps[first : first + room]]
    lines += _fitted(screen, rows, columns)
    hidden = len(steps) - len(rows)
    if hidden:
        lines.append(screen.styled(f"  … {hidden} more steps", "dim"))
    return lines


def _first_shown(steps: list[StepLine], room: int) -> int:
    """Return which step to begin with, so that what happens now is among those shown."""
    busy = [
        place
        for place, step in enumerate(steps)
        if not BUSY.isdisjoint((step.call.outcome, step.undo.outcome))
    ]
    started = [place for place, step in enumerate(steps) if step.call.outcome != "pending"]
    focus = busy[0] if busy else (started[-1] if started else 0)
    return max(min(focus - room // 2, len(steps) - room), 0)


def _block_row(step: StepLine, now: int) -> list[Cell]:
    cells = [Cell(shown(step.step_id)), Cell(shown(step.agent_id)), Cell(shown(step.action))]
    cells.append(_counting(step.call, now))
    if step.undo.outcome == "pending":
        return [*cells, Cell("")]
    undo = _counting(step.undo, now)
    verb = "undoing with " if step.undo.outcome == "running" else ""
    name = shown(step.compensating_action or "nothing declared")
    return [*cells, Cell(f"{verb}{name}: {undo.text}", undo.tone)]


def _counting(call: Call, now: int) -> Cell:
    """Return how a call stands, with the time that it takes, or that is left, counted."""
    cell = call_cell(call)
    at = datetime.fromtimestamp(now / 1_000_000, UTC)
    if call.outcome == "running" and call.started_at is not None:
        elapsed = duration(max((at - call.started_at).total_seconds(), 0))
        again = f", attempt {call.attempt}" if call.attempt > 1 else ""
        return Cell(f"running {elapsed}{again}", cell.tone)
    if call.outcome == "waiting" and call.next is not None:
        left = duration(max((call.next.due_at - at).total_seconds(), 0))
        return Cell(f"{cell.text}, in {left}", cell.tone)
    return cell


def _fitted(screen: Screen, rows: list[list[Cell]], columns: int) -> list[str]:
    """Return aligned lines; agents, then actions, then steps are cut where there is no room."""
    if not rows:
        return []
    widths = [max(columns_of(row[place].text) for row in rows) for place in range(5)]
    kept = [place for place in range(5) if widths[place]]
    for cut in (*CUTS, None):
        excess = 2 + sum(widths[place] for place in kept) + 2 * (len(kept) - 1) + 1 - columns
        if excess <= 0:
            break
        if cut is None:
            widths[kept[-1]] = max(widths[kept[-1]] - excess, 1)
            break
        place, columns_min = cut
        widths[place] = max(widths[place] - excess, min(widths[place], columns_min))
        if not widths[place]:
            kept.remove(place)
    return [
        "  " + _cut_line(screen, [row[place] for place in kept], [widths[place] for place in kept])
        for row in rows
    ]


def _cut_line(screen: Screen, row: list[Cell], widths: list[int]) -> str:
    cells = [
        Cell(clipped(cell.text, width), cell.tone) for cell, width in zip(row, widths, strict=True)
    ]
    return aligned(screen, cells, widths)
