"""The table of figures in `docs/reliability.md`.

Owns: how figures are told to a reader. Run `python -m tests.reliability.page FILE` in the
repository, with the file that `AUMAI_FIGURES` named, to put the figures of a run into the page;
those of parts that did not run stay as they are.
"""

import json
import re
import sys
from pathlib import Path

from tests.reliability.figures import PARTS, Noted, read

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
COMMAND = "python -m tests.reliability.page FILE"
BEGIN = f"<!-- figures: generated, do not edit; renew them with: {COMMAND} -->"
END = "<!-- end of the figures -->"
LINE = re.compile(r"<!-- figure (\{.*\}) -->")


def block(found: dict[str, Noted]) -> str:
    """Return the block between the two markers, and the markers."""
    lines = [BEGIN, "", "| what | figures | took | share | on |", "|---|---|---|---|---|"]
    kept = []
    for name, title in PARTS.items():
        if name in found:
            one = found[name]
            share = "all" if one.share == "1" else one.share
            lines.append(
                f"| {title} | {counts_of(one)} | {time_of(one.seconds)} | {share} | "
                f"{one.at}, {one.machine} |"
            )
            kept.append(f"<!-- figure {json.dumps(one._asdict())} -->")
        else:
            lines.append(f"| {title} | not in any run yet | | | |")
    return "\n".join([*lines, "", *kept, END])


def counts_of(one: Noted) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in one.counts.items())


def time_of(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def on_page(page: str) -> dict[str, Noted]:
    """Return the figures that the page holds."""
    found = (Noted(**json.loads(text)) for text in LINE.findall(page))
    return {one.part: one for one in found if one.part in PARTS}


def with_block(page: str, new: dict[str, Noted]) -> str:
    """Return the page with these figures in the place of older ones of the same parts."""
    before, begin, rest = page.partition(BEGIN.partition(":")[0])
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no place for the figures: put {BEGIN} and {END} in it")
    return before + block(on_page(page) | new) + after


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {COMMAND}")
    file = Path(sys.argv[1])
    if not file.exists():
        sys.exit(f"{file} does not exist: run the tests with AUMAI_FIGURES={file}")
    PAGE.write_text(with_block(PAGE.read_text("utf-8"), read(file)), "utf-8")
