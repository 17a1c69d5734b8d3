"""A transaction as an SVG that stands by itself.

Owns: what is drawn, and how big.
Rules:
  1. There is no script, no font and no address in it. It is fit to be shown beside other text, in
     light and in dark.
  2. Text that agents have written is escaped, cleaned of what XML cannot hold, and cut.
  3. Nothing is told by colour alone: each bar has its outcome in words, as text or as its title.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from aumai_transactions.pictures.layout import Bar, Lane, Layout, Line, laid_out, tone_of
from aumai_transactions.timelines.outcome import outcome_sentence
from aumai_transactions.wording.characters import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.models import TransactionResult
    from aumai_transactions.timelines.timeline import Timeline

WIDTH = 960
LABELS = 250
RIGHT = 150
ROW = 26
LANE = 24
TOP = 76
HEAD = 46
BAR = 14
BAR_WIDTH_MIN = 3.0

_UNFIT = re.compile("[^\\t\\n\\r -\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_DIRECTIONS = re.compile("[\\u202a-\\u202e\\u2066-\\u2069\\u200e\\u200f\\x7f-\\x9f]")

STYLE = """
.aumai-tx{font:13px system-ui,sans-serif;--ink:#1b1f24;--soft:#6a737d;--line:#d0d7de;--paper:#fff;
--good:#1a7f37;--bad:#cf222e;--undone:#9a6700;--busy:#0969da;--quiet:#8c959f}
@media (prefers-color-scheme:dark){.aumai-tx{--ink:#e6edf3;--soft:#9198a1;--line:#30363d;
--paper:#0d1117;--good:#3fb950;--bad:#f85149;--undone:#d29922;--busy:#58a6ff;--quiet:#7d8590}}
.aumai-tx text{fill:var(--ink)}.aumai-tx .soft{fill:var(--soft)}.aumai-tx .head{font-weight:600}
.aumai-tx .axis{stroke:var(--line)}.aumai-tx .join{stroke:var(--undone);fill:none;
stroke-dasharray:3 3}.aumai-tx .paper{fill:var(--paper)}
.aumai-tx .wait{stroke:var(--quiet);stroke-width:2;stroke-dasharray:1 3;fill:none}
.aumai-tx .good{fill:var(--good)}.aumai-tx .bad{fill:var(--bad)}
.aumai-tx .undone{fill:var(--undone)}.aumai-tx .busy{fill:var(--busy)}
.aumai-tx .quiet{fill:var(--quiet)}
.aumai-tx text.good{fill:var(--good)}.aumai-tx text.bad{fill:var(--bad)}
.aumai-tx text.undone{fill:var(--undone)}.aumai-tx text.busy{fill:var(--busy)}
.aumai-tx text.quiet{fill:var(--quiet)}
.aumai-tx .compensation{fill-opacity:.35;stroke-width:1.5}
.aumai-tx .compensation.undone{stroke:var(--undone)}.aumai-tx .compensation.bad{stroke:var(--bad)}
.aumai-tx .compensation.good{stroke:var(--good)}.aumai-tx .compensation.busy{stroke:var(--busy)}
""".strip().replace("\n", "")


def drawn(timeline: Timeline, result: TransactionResult, *, is_inside: bool = False) -> str:
    """Return a transaction as the text of an SVG file.

    Args:
        timeline: How it went.
        result: What became of it.
        is_inside: True where it stands in a page that has `STYLE`, and a head, already.
    """
    return "\n".join(_lines(timeline, result, is_inside=is_inside)) + "\n"


def fit(text: str, characters_max: int) -> str:
    """Return a text as it may stand in XML: cleaned, cut and escaped."""
    clean = _DIRECTIONS.sub("", _UNFIT.sub("", text)).replace("\n", " ")
    clean = shown(clean)
    cut = clean if len(clean) <= characters_max else clean[: characters_max - 1] + "…"
    return escape(cut, {'"': "&quot;"})


def _lines(timeline: Timeline, result: TransactionResult, *, is_inside: bool) -> Iterator[str]:
    layout = laid_out(timeline)
    rows = sum(LANE + ROW * len(lane.lines) for lane in layout.lanes)
    height = TOP + rows + (40 if layout.left_out else 20)
    top = HEAD if is_inside else 0
    said = outcome_sentence(timeline, result)
    name = timeline.name or "transaction"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="aumai-tx" role="img" '
        f'viewBox="0 {top} {WIDTH} {height - top}" width="{WIDTH}" height="{height - top}" '
        f'aria-label="{fit(f"{name}: {said}", 400)}">'
    )
    if not is_inside:
        yield f"<style>{STYLE}</style>"
    yield f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
    if not is_inside:
        yield from _head(name, said, result)
    yield from _axis(layout, height)
    y = TOP
    for lane in layout.lanes:
        yield from _lane(lane, y)
        y += LANE + ROW * len(lane.lines)
    if layout.left_out:
        yield f'<text x="12" y="{y + 18}" class="soft">{layout.left_out:,} more steps</text>'
    yield "</svg>"


def _head(name: str, said: str, result: TransactionResult) -> Iterator[str]:
    tone = _TONES_OF_STATES.get(result.state.value, "busy")
    yield f'<text x="12" y="22" class="head">{fit(name, 80)}</text>'
    yield (
        f'<text x="{WIDTH - 12}" y="22" text-anchor="end" class="{tone} head">'
        f"{result.state.value.replace('_', ' ')}</text>"
    )
    yield f'<text x="12" y="41" class="soft">{fit(said, 150)}</text>'


_TONES_OF_STATES = {
    "committed": "good",
    "rolled_back": "undone",
    "failed": "bad",
    "pending": "quiet",
}


def _x(place: float) -> float:
    return round(LABELS + place * (WIDTH - LABELS - RIGHT), 1)


def _axis(layout: Layout, height: int) -> Iterator[str]:
    for mark in layout.marks:
        x = _x(mark.at)
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{height - 12}"/>'
        yield f'<text x="{x}" y="{TOP - 12}" class="soft" text-anchor="middle">{mark.text}</text>'


def _lane(lane: Lane, y: int) -> Iterator[str]:
    yield f'<line class="axis" x1="12" x2="{WIDTH - 12}" y1="{y}" y2="{y}"/>'
    yield f'<text x="12" y="{y + 17}" class="soft head">{fit(lane.agent_id, 60)}</text>'
    for number, line in enumerate(lane.lines):
        yield from _row(line, y + LANE + ROW * number)


def _row(line: Line, y: int) -> Iterator[str]:
    step, middle = line.step, y + ROW / 2
    label = f"{step.step_id}  {step.action}"
    yield f'<text x="24" y="{middle + 4:g}">{fit(label, 32)}</text>'
    for start, end in line.joins:
        first, last = _x(start), _x(end)
        yield f'<path class="join" d="M{first} {middle:g}H{last}"/>'
    for start, end in line.waits:
        first, last = _x(start), _x(end)
        title = "<title>waiting for the next attempt</title>"
        yield f'<path class="wait" d="M{first} {middle:g}H{last}">{title}</path>'
    for bar in line.bars:
        yield _bar(bar, step.action, step.compensating_action, middle)
    said, tone = _ending(line)
    end = max((bar.end for bar in line.bars), default=0.0)
    x = _x(end) + 8
    yield f'<text x="{x:g}" y="{middle + 4:g}" class="{tone}">{fit(said, 40)}</text>'


def _bar(bar: Bar, action: str, undo: str | None, middle: float) -> str:
    x, width = _x(bar.start), max(_x(bar.end) - _x(bar.start), BAR_WIDTH_MIN)
    called = undo if bar.kind == "compensation" else action
    what = {"action": "", "compensation": "undo: ", "confirmation": "confirm: "}[bar.kind]
    again = f", attempt {bar.number}" if bar.number > 1 else ""
    title = fit(f"{what}{called or ''}: {bar.outcome}{again}", 200)
    classes = f"{tone_of(bar.outcome)} {bar.kind}"
    return (
        f'<rect class="{classes}" x="{x}" y="{middle - BAR / 2:g}" width="{width:g}" '
        f'height="{BAR}" rx="3"><title>{title}</title></rect>'
    )


def _ending(line: Line) -> tuple[str, str]:
    """Return how a step stands, in words, and how that is painted."""
    step = line.step
    parts = [step.call.outcome]
    if step.confirmation.outcome != "pending":
        parts.append(step.confirmation.outcome)
    if step.undo.outcome != "pending":
        parts.append(step.undo.outcome)
    return ", ".join(parts), tone_of(parts[-1])
