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
from typing import Self

from aumai_transactions.cli.screen import Screen, clipped, columns_of
from aumai_transactions.cli.tables import aligned
from aumai_transactions.clock import SystemClock
from aumai_transactions.models import Event
from aumai_transactions.timelines.lines import Call, StepLine
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.happenings import log_line
from aumai_transactions.wording.words import (
    STATE_TONES,
    Cell,
    call_cell,
    duration,
    reason_text,
    step_cell,
)

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
        self.approve: Callable[[str, str], str] | None = None
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
        if event.sequence > timeline.sequence + 1:
            self.catch_up(event.transaction_id, event.sequence)
        self._take(timeline, event)

    def catch_up(self, transaction_id: str, before: int | None = None) -> None:
        """Take in what others have journaled meanwhile.

        Args:
            transaction_id: The transaction.
            before: Only what stands before this entry; None for all.
        """
        timeline = self.timelines.get(transaction_id)
        if timeline is None or self.read is None:
            return
        for event in self.read(transaction_id):
            if before is None or event.sequence < before:
                self._take(timeline, event)

    def _take(self, timeline: Timeline, event: Event) -> None:
        if event.sequence <= timeline.sequence:
            return  # It was read before it came.
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
            self.say(log_line(timeline, event))
        if event.kind == "approval_requested" and self.approve is not None:
            command = self.approve(event.transaction_id, event.step_id or "")
            self.say(f"allow it with: {shown(command)}")

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


def _is_empty_plan(event: Event) -> bool:
    # Why: under an idempotency key a transaction is recorded before it has any steps.
    return event.kind == "plan_recorded" and event.sequence == 1


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
    chosen = _chosen(steps, room)
    lines += _fitted(screen, [_block_row(step, now) for step in chosen], columns)
    hidden = len(steps) - len(chosen)
    if hidden:
        running = sum(step.is_busy for step in steps) - sum(step.is_busy for step in chosen)
        more = f", {running} of them running" if running else ""
        lines.append(screen.styled(clipped(f"  … {hidden} more steps{more}", columns - 1), "dim"))
    return lines


def _chosen(steps: list[StepLine], room: int) -> list[StepLine]:
    """Return as many steps as there is room for: those that something happens to, and theirs.

    What runs is never hidden by what does not; the rest are the nearest ones, in order.
    """
    first = _first_shown(steps, room)
    chosen = set(range(first, min(first + room, len(steps))))
    hidden = [place for place, step in enumerate(steps) if step.is_busy and place not in chosen]
    quiet = sorted((place for place in chosen if not steps[place].is_busy), reverse=True)
    for place, other in zip(hidden, quiet, strict=False):
        chosen ^= {place, other}
    return [steps[place] for place in sorted(chosen)]


def _first_shown(steps: list[StepLine], room: int) -> int:
    """Return which step to begin with, so that what happens now is among those shown."""
    busy = [place for place, step in enumerate(steps) if step.is_busy]
    started = [place for place, step in enumerate(steps) if step.call.outcome != "pending"]
    focus = busy[0] if busy else (started[-1] if started else 0)
    return max(min(focus - room // 2, len(steps) - room), 0)


def _block_row(step: StepLine, now: int) -> list[Cell]:
    cells = [Cell(shown(step.step_id)), Cell(shown(step.agent_id)), Cell(shown(step.action))]
    cells.append(_counting(step.call, step_cell(step), now))
    if step.undo.outcome == "pending":
        return [*cells, Cell("")]
    undo = _counting(step.undo, call_cell(step.undo), now)
    verb = "undoing with " if step.undo.outcome == "running" else ""
    name = shown(step.compensating_action or "nothing declared")
    return [*cells, Cell(f"{verb}{name}: {undo.text}", undo.tone)]


def _counting(call: Call, cell: Cell, now: int) -> Cell:
    """Return how a call stands, with the time that it takes, or that is left, counted."""
    at = datetime.fromtimestamp(now / 1_000_000, UTC)
    if call.outcome == "running" and call.started_at is not None:
        elapsed = duration(max((at - call.started_at).total_seconds(), 0))
        again = f", attempt {call.attempt}" if call.attempt > 1 else ""
        return Cell(f"running {elapsed}{again}", cell.tone)
    if call.outcome in ("waiting", "asked") and call.next is not None:
        left = duration(max((call.next.due_at - at).total_seconds(), 0))
        text = f"in {left}" if call.outcome == "waiting" else f"{left} left"
        return Cell(f"{cell.text}, {text}", cell.tone)
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
