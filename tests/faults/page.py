"""The table of the fault matrix in `docs/guarantees.md`.

Owns: how what the law says of each cell is told to a reader. Every sentence of it is a cell that
`test_matrix.py` and `test_matrix_kills.py` compare with the participant's own database.
Run `python -m tests.faults.page` in the repository to renew the page.
"""

import sys
from pathlib import Path

from tests.faults.cells import CELLS, COLUMNS, FAULTS, IN_UNDO, KINDS, TWICE, Cell, Direction
from tests.faults.law import Law, Seen

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
COMMAND = "python -m tests.faults.page"
BEGIN = f"<!-- fault matrix: generated, do not edit; renew it with: {COMMAND} -->"
END = "<!-- end of the fault matrix -->"
HEADINGS = {IN_UNDO: "The undo fails", TWICE: "The call is delivered twice"}
NOTHING_BEGUN = "unknown transaction"


def told(seen: Seen) -> str:
    """Return the outcome in as few words as can be read; the page explains them."""
    standing = seen.standing
    if seen.state == "committed":
        return "done" if standing == 1 else f"**done {standing} times, unseen**"
    if seen.outstanding is None:
        return "undone" if standing == 0 else "**left, unseen**"
    return "undone, listed" if standing == 0 else "left, listed"


def alive(cell: Cell) -> dict[str, str]:
    """Return the outcomes in a process that lives: with functions, and with coroutines."""
    ways = {"sync": True, "async": False}
    return {name: told(Law(cell, leaves_behind=left).seen()) for name, left in ways.items()}


def killed(cell: Cell) -> set[str]:
    """Return the outcomes after a kill, wherever it hits."""
    found = []
    for leaves_behind in (True, False):
        whole = Law(cell, leaves_behind=leaves_behind, threads_answer=False)
        whole.seen()
        for kill_at in whole.distinct_points():
            law = Law(cell, leaves_behind=leaves_behind, kill_at=kill_at, threads_answer=False)
            found.append(law.seen())
    return {told(seen) for seen in found if seen.state != NOTHING_BEGUN}


def content_of(cell: Cell) -> str:
    ways = alive(cell)
    text = ways["sync"]
    if ways["async"] != text:
        text = f"{text} (async: {ways['async']})"
    more = sorted(killed(cell) - set(ways.values()))
    return f"{text}<br>killed, also: {' or '.join(more)}" if more else text


def table(column: str, direction: Direction) -> list[str]:
    here = [
        fault
        for fault in FAULTS.values()
        if fault.direction == direction and fault.column == column
    ]
    lines = [
        f"| {direction}: the action has | {' | '.join(fault.title for fault in here)} |",
        "|---" * (1 + len(here)) + "|",
    ]
    for kind in KINDS.values():
        cells = [content_of(CELLS[f"{fault.name}-{kind.name}"]) for fault in here]
        lines.append(f"| {kind.title} | {' | '.join(cells)} |")
    return [*lines, ""]


def generated() -> str:
    """Return the block between the two markers, and the markers."""
    lines = [BEGIN, ""]
    for column in COLUMNS:
        lines += [
            f"### The call {column}",
            "",
            *table(column, "forward"),
            *table(column, "backward"),
        ]
    return "\n".join([*lines, END])


def with_block(page: str) -> str:
    """Return the page with a fresh block in the place of the old one."""
    before, begin, rest = page.partition(BEGIN.partition(":")[0])
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no place for the fault matrix: put {BEGIN} and {END} in it")
    return before + generated() + after


if __name__ == "__main__":
    PAGE.write_text(with_block(PAGE.read_text("utf-8")), "utf-8")
