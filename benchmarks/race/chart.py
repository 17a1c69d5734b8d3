"""A picture of the rates: one bar for each entrant, on a logarithmic scale.

Owns: the SVG for `docs/performance.md`, which needs no program to be seen.
Rules:
  1. It has no background, and only colours that can be read on a light page and on a dark one.
  2. Each bar says its number: nobody has to measure a length, and a logarithm least of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from race.rounds import Group, Result, middle
from race.tables import number

WIDTH, LEFT, RIGHT = 860, 250, 150
BAR, GAP, HEAD, FOOT = 18, 6, 34, 40
TEXT, LINE = "#7d7d7d", "#9a9a9a"
COLOURS = {"ours": "#3f8fd0", "floor": "#9a9a9a", "peer": "#c98a2b"}
FONT = "font-family='system-ui, sans-serif'"


def kind_of(result: Result) -> str:
    """Return whether it is ours, a floor or a peer."""
    if result.entrant.is_peer:
        return "peer"
    return "floor" if result.entrant.module == "race.floors" else "ours"


def label(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{TEXT}' font-size='{size}' "
        f"text-anchor='{anchor}'>{escape(text)}</text>"
    )


class Scale:
    """Place rates on a line whose every decade is as long as the next.

    Args:
        lowest: The lowest rate.
        highest: The highest.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        self.first = math.floor(math.log10(lowest))
        self.last = max(math.ceil(math.log10(highest)), self.first + 1)

    def x(self, rate: float) -> float:
        """Return where a rate stands."""
        part = (math.log10(rate) - self.first) / (self.last - self.first)
        return LEFT + part * (WIDTH - LEFT - RIGHT)


def bar(result: Result, scale: Scale, y: float) -> Iterator[str]:
    """Yield the bar of an entrant, with its number and the line from lowest to highest."""
    found = middle([one.rate for one in result.rounds])
    end, kind = scale.x(found.value), kind_of(result)
    centre = y + BAR / 2
    yield label(LEFT - 8, y + BAR - 5, result.entrant.title, anchor="end")
    yield (
        f"<rect x='{LEFT}' y='{y}' width='{max(end - LEFT, 1):.1f}' height='{BAR}' rx='2' "
        f"fill='{COLOURS[kind]}'/>"
    )
    low, high = scale.x(found.low), scale.x(found.high)
    yield (
        f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{centre}' y2='{centre}' stroke='{TEXT}' "
        "stroke-width='2'/>"
    )
    yield label(max(end, high) + 6, y + BAR - 5, f"{number(found.value)}/s")


def chart(groups: Sequence[tuple[Group, Sequence[Result]]]) -> str:
    """Return the picture of these groups."""
    shown = [(group, [one for one in results if one.rounds]) for group, results in groups]
    shown = [(group, results) for group, results in shown if results]
    rates = [one.rate for _, results in shown for result in results for one in result.rounds]
    scale = Scale(min(rates, default=1.0), max(rates, default=10.0))
    parts, y = [], 8.0
    for group, results in shown:
        parts.append(label(0, y + 16, group.title, size=15))
        y += HEAD
        for result in results:
            parts += bar(result, scale, y)
            y += BAR + GAP
        y += GAP * 2
    for decade in range(scale.first, scale.last + 1):
        x = scale.x(10.0**decade)
        parts.insert(
            0,
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{y:.0f}' stroke='{LINE}' "
            "stroke-opacity='0.35'/>",
        )
        parts.append(label(x, y + 16, f"{10**decade:,}", anchor="middle", size=12))
    x = float(LEFT)
    for kind, words in {"ours": "ours", "floor": "the least", "peer": "peers"}.items():
        parts.append(f"<rect x='{x}' y='{y + 24}' width='12' height='12' fill='{COLOURS[kind]}'/>")
        parts.append(label(x + 18, y + 35, words, size=12))
        x += 110
    height = y + FOOT
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' "
        f"width='{WIDTH}' height='{height:.0f}' {FONT} role='img' "
        "aria-label='Transactions per second, logarithmic'>\n"
        "<title>Transactions per second, on a logarithmic scale</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )
