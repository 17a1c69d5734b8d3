"""How rows become aligned lines.

Owns: columns. Nothing is shortened; where a row does not fit the terminal, it is stacked.
"""

from __future__ import annotations

from collections.abc import Sequence

from aumai_transactions.cli.screen import Screen, columns_of
from aumai_transactions.wording.words import Cell

GAP = "  "


Row = Sequence[Cell]


def table(
    screen: Screen,
    head: Sequence[str],
    rows: Sequence[Row],
    indent: str = "",
    optional: Sequence[str] = (),
) -> list[str]:
    """Return aligned lines with a head; stacked ones where the terminal is too narrow.

    Columns in which every cell is empty are left out.

    Args:
        screen: Where they are shown.
        head: The titles.
        rows: A cell for each title.
        indent: What stands before each line.
        optional: Titles of columns that a narrow terminal goes without, the first one first.
    """
    kept = [place for place in range(len(head)) if any(row[place].text for row in rows)]
    widths = {
        place: max(columns_of(head[place]), *(columns_of(row[place].text) for row in rows))
        for place in kept
    }
    for title in (*optional, None):
        total = len(indent) + sum(widths.values()) + len(GAP) * (len(widths) - 1)
        if screen.width is None or total <= screen.width:
            break
        if title is None:
            return _stacked(screen, head, rows, list(widths), indent)
        if title in head:
            widths.pop(head.index(title), None)
    columns = list(widths.values())
    first = aligned(screen, [Cell(head[place], "dim") for place in widths], columns)
    lines = [aligned(screen, [row[place] for place in widths], columns) for row in rows]
    return [indent + line for line in (first, *lines)]


def aligned(screen: Screen, row: Row, widths: Sequence[int]) -> str:
    """Return one line; the last cell is not padded."""
    parts = []
    for place, cell in enumerate(row):
        padding = " " * max(widths[place] - columns_of(cell.text), 0)
        parts.append(screen.styled(cell.text, cell.tone) + padding)
    return GAP.join(parts).rstrip()


def _stacked(
    screen: Screen, head: Sequence[str], rows: Sequence[Row], places: Sequence[int], indent: str
) -> list[str]:
    """Return a row below its first cell, each further cell on a line of its own."""
    widest = max((columns_of(head[place]) for place in places[1:]), default=0)
    lines = []
    for row in rows:
        lines.append(indent + screen.styled(row[places[0]].text, "bold"))
        for place in places[1:]:
            if row[place].text:
                label = screen.styled(head[place].ljust(widest), "dim")
                text = screen.styled(row[place].text, row[place].tone)
                lines.append(f"{indent}  {label}  {text}")
    return lines
