"""How rows become aligned lines.

Owns: columns. Nothing is shortened; where a row does not fit the terminal, it is stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aumai_transactions.cli.screen import Screen, Tone, columns_of

GAP = "  "


class Cell(NamedTuple):
    """Hold one text of a table, ready to be shown, and its tone."""

    text: str
    tone: Tone = "plain"


Row = Sequence[Cell]


def table(screen: Screen, head: Sequence[str], rows: Sequence[Row], indent: str = "") -> list[str]:
    """Return aligned lines with a head; stacked ones where the terminal is too narrow.

    Columns in which every cell is empty are left out.
    """
    kept = [place for place in range(len(head)) if any(row[place].text for row in rows)]
    titles = [head[place] for place in kept]
    cells = [[row[place] for place in kept] for row in rows]
    widths = [
        max(columns_of(title), *(columns_of(row[place].text) for row in cells))
        for place, title in enumerate(titles)
    ]
    total = len(indent) + sum(widths) + len(GAP) * (len(widths) - 1)
    if screen.width is not None and total > screen.width:
        return _stacked(screen, titles, cells, indent)
    first = indent + aligned(screen, [Cell(title, "dim") for title in titles], widths)
    return [first, *(indent + aligned(screen, row, widths) for row in cells)]


def aligned(screen: Screen, row: Row, widths: Sequence[int]) -> str:
    """Return one line; the last cell is not padded."""
    parts = []
    for place, cell in enumerate(row):
        padding = " " * (widths[place] - columns_of(cell.text))
        parts.append(screen.styled(cell.text, cell.tone) + padding)
    return GAP.join(parts).rstrip()


def _stacked(
    screen: Screen, titles: Sequence[str], rows: Sequence[Row], indent: str
) -> list[str]:
    """Return a row below its first cell, each further cell on a line of its own."""
    widest = max((columns_of(title) for title in titles[1:]), default=0)
    lines = []
    for row in rows:
        lines.append(indent + screen.styled(row[0].text, "bold"))
        for title, cell in zip(titles[1:], row[1:], strict=True):
            if cell.text:
                label = screen.styled(title.ljust(widest), "dim")
                lines.append(f"{indent}  {label}  {screen.styled(cell.text, cell.tone)}")
    return lines
