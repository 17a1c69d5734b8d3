"""A run told for the person who has to mend it.

Owns: the order of the story: what went wrong, what happened step by step, what is left behind, what
to do about it. The journal speaks in the words of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aumai_transactions.testing.atomic.judge import Verdict
    from aumai_transactions.testing.atomic.lives import Ended

LEFT_LINES_MAX = 20


class NotAtomic(AssertionError):
    """Say that a transaction has left something behind, and tell how it came to that.

    Args:
        story: The whole story.
        faults: What had gone wrong, as `only=` takes it.
        left: How the world differs from what it should be, a line each.
        advice: What to do about it, a sentence each.
    """

    def __init__(
        self, story: str, faults: str, left: tuple[str, ...], advice: tuple[str, ...]
    ) -> None:
        super().__init__(story)
        self.faults = faults
        self.left = left
        self.advice = advice


class NothingToProve(AssertionError):
    """Say that a transaction, or a world, gives nothing that could be proved; says what to do."""


def told(ended: Ended, verdict: Verdict) -> NotAtomic:
    """Return the error that tells about a run."""
    faults = ended.record.struck
    key = " ".join(fault.key for fault in faults)
    lines = [verdict.problem, "", "what went wrong"]
    lines += [f"  {fault}" for fault in faults] or ["  nothing: this was a clean run"]
    lines += ["", "what happened", *_course(ended)]
    if verdict.left:
        lines += ["", "what is left behind"]
        lines += [f"  {line}" for line in verdict.left[:LEFT_LINES_MAX]]
        if len(verdict.left) > LEFT_LINES_MAX:
            lines.append(f"  … and {len(verdict.left) - LEFT_LINES_MAX} more lines like these")
    lines += ["", "what to do about it"]
    lines += [f"  {line}" for line in verdict.advice]
    lines += ["", "to see just this again", f"  assert_atomic(..., only={key!r})"]
    return NotAtomic("\n".join(lines), key, verdict.left, verdict.advice)


def _course(ended: Ended) -> Iterator[str]:
    """Yield what happened, line by line: the journal, and what the world saw between its lines."""
    said = _sentences(ended)
    for line in ended.record.happenings:
        match line.what:
            case "begins" if line.text:
                yield "  >>>  a new process recovers"
            case "written":
                entries = said.get(line.transaction_id, [])
                while entries and entries[0][0] <= line.sequence:
                    yield f"  {entries.pop(0)[1]}"
            case "acted" if line.moment is not None:
                yield f"       ... {line.moment} has acted"
            case "fault" if line.fault is not None:
                yield f"  !!!  {line.fault}"
            case "raised":
                yield f"       the program ends with {line.text}"
            case "recovered":
                yield f"       recover() says: {line.text}"
            case _:
                continue


def _sentences(ended: Ended) -> dict[str, list[tuple[int, str]]]:
    """Return what each journal says: sequence and sentence."""
    # Why here: only a story needs the words of the command line.
    from aumai_transactions.timelines.timeline import Timeline
    from aumai_transactions.wording.happenings import sentence

    found: dict[str, list[tuple[int, str]]] = {}
    for name, events in ended.events.items():
        timeline, lines = Timeline(name), []
        for event in events:
            timeline.add(event)
            lines.append((event.sequence, f"{event.sequence:3}  {sentence(timeline, event)}"))
        found[name] = lines
    return found
