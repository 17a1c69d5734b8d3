"""Put results into the documentation.

Owns: the block of `performance.md` between two markers, and `performance.svg` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from race.chart import chart
from race.rounds import Group, Result
from race.tables import markdown

BEGIN = "<!-- measured: generated, do not edit; renew: make bench ARGS='--peers --write docs' -->"
END = "<!-- end of what was measured -->"
PAGE, PICTURE = "performance.md", "performance.svg"
Found = Sequence[tuple[Group, Sequence[Result]]]
IN_PICTURE = ("-1", "-64")
# What says little that another bar does not say.
NOT_IN_PICTURE = ("thread", "lock", "journal, going back")


def versions(groups: Found) -> str:
    """Return which release of what took part."""
    return ", ".join(sorted({one.about for _, found in groups for one in found if one.about}))


def block(groups: Found, about: str, how: str) -> str:
    """Return what stands between the markers, and the markers."""
    lines = [
        BEGIN,
        "",
        f"![Transactions per second, on a logarithmic scale]({PICTURE})",
        "",
        f"{about}.",
        f"{how}; took part: {versions(groups)}.",
        "",
        *markdown(groups),
        END,
    ]
    return "\n".join(lines)


def with_block(page: str, new: str) -> str:
    """Return the page with this block in the place of the older one.

    Raises:
        ValueError: The page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN.partition(":")[0])
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no place for the figures: put {BEGIN} and {END} in it")
    return before + new + after


def write(folder: Path, groups: Found, about: str, how: str) -> None:
    """Write the table and the picture."""
    page = folder / PAGE
    page.write_text(with_block(page.read_text("utf-8"), block(groups, about, how)), "utf-8")
    (folder / PICTURE).write_text(chart(pictured(groups)), "utf-8")


def pictured(groups: Found) -> list[tuple[Group, list[Result]]]:
    """Return what is drawn: one and 64 at once, where they were measured."""
    chosen = [one for one in groups if one[0].name.endswith(IN_PICTURE)] or groups
    return [
        (group, [one for one in found if not any(w in one.entrant.title for w in NOT_IN_PICTURE)])
        for group, found in chosen
    ]
