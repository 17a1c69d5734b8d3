"""Show results: as a table for a terminal, and as one for a page.

Owns: how figures are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from race.rounds import Aim, Comparison, Group, Middle, Result, average, comparisons, middle

TITLE_WIDTH = 32
COLUMNS = ("per second", "p50 ms", "p99 ms", "CPU us", "commits", "KiB written", "KiB kept")
WIDTHS = (27, 10, 10, 10, 9, 13, 10)
VERDICTS = {True: "met", False: "NOT met", None: ""}


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with as many digits as say something."""
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def spread(found: Middle) -> str:
    """Return a median with the lowest and the highest."""
    return f"{number(found.value)} ({number(found.low)}–{number(found.high)})"


def kibibytes(value: float | None) -> str:
    return number(None if value is None else value / 1024)


def cells(result: Result) -> list[str]:
    """Return the figures of one entrant."""
    p50, p99 = average(result, "p50_us"), average(result, "p99_us")
    return [
        spread(middle([one.rate for one in result.rounds])),
        number(None if p50 is None else p50 / 1e3, 3 if (p50 or 0) < 1e4 else 1),
        number(None if p99 is None else p99 / 1e3, 3 if (p99 or 0) < 1e4 else 1),
        number(average(result, "cpu_us")),
        number(average(result, "commits")),
        kibibytes(average(result, "written")),
        kibibytes(result.kept),
    ]


def words(aim: Aim) -> str:
    """Return what a ratio is of."""
    match aim.quality:
        case "rate":
            return f"of the rate of “{aim.reference}”"
        case "time":
            return f"of the time of “{aim.reference}”"
        case "p99":
            return f"of the p99 of “{aim.reference}”"
        case "cpu":
            return f"of the processor time of “{aim.reference}”"
        case _:
            return f"us of processor a step over “{aim.reference}”"


def wanted(aim: Aim) -> str:
    """Return what a ratio should be."""
    if aim.target is None:
        return ""
    return f"{'≥' if aim.quality == 'rate' else '≤'} {aim.target:g}"


def sentence(found: Comparison) -> str:
    """Return a comparison as a line for a terminal."""
    sign = "" if found.aim.quality == "step" else "× "
    line = f"{sign}{spread(found.ratio)} {words(found.aim)}"
    if found.aim.target is None:
        return line
    return f"{line}; wanted {wanted(found.aim)}: {VERDICTS[found.is_met]}"


def header() -> str:
    """Return the line above the columns."""
    names = "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))
    return " " * TITLE_WIDTH + names


def text(group: Group, results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of a group for a terminal."""
    yield f"\n{group.title}\n{header()}"
    for result in results:
        title = result.entrant.title
        if not result.rounds:
            yield f"{title:<{TITLE_WIDTH}}  did not run: {result.failure}"
            continue
        found = zip(cells(result), WIDTHS, strict=True)
        yield f"{title:<{TITLE_WIDTH}}" + "".join(f"{cell:>{width}}" for cell, width in found)
        for comparison in comparisons(result, results):
            yield f"    {sentence(comparison)}"


def summary(groups: Sequence[tuple[Group, Sequence[Result]]]) -> Iterator[str]:
    """Yield what is not as it should be, and how much is."""
    met, unmet = 0, []
    for group, results in groups:
        for result in results:
            for found in comparisons(result, results):
                met += found.is_met is True
                if found.is_met is False:
                    unmet.append(f"    {group.title}: {result.entrant.title}, {sentence(found)}")
    if met or unmet:
        yield f"\n{met} of {met + len(unmet)} are as wanted" + (", but not" if unmet else "")
    yield from unmet


def markdown(groups: Sequence[tuple[Group, Sequence[Result]]]) -> Iterator[str]:
    """Yield the lines of all groups for a page."""
    for group, results in groups:
        yield f"### {group.title}"
        yield ""
        yield (
            "| what | per second | p50, ms | p99, ms | CPU, µs | commits | KiB written | KiB kept |"
        )
        yield "|---|---|---|---|---|---|---|---|"
        for result in results:
            if result.rounds:
                yield f"| {result.entrant.title} | " + " | ".join(cells(result)) + " |"
        yield ""
        compared = [one for result in results for one in ratio_rows(result, results)]
        if compared:
            yield "| what | compared | ratio | wanted | |"
            yield "|---|---|---|---|---|"
            yield from compared
            yield ""


def ratio_rows(result: Result, results: Sequence[Result]) -> Iterator[str]:
    """Yield the comparisons of one entrant for a page."""
    for found in comparisons(result, results):
        verdict = VERDICTS[found.is_met]
        yield (
            f"| {result.entrant.title} | {words(found.aim).replace('us of', 'µs of')} | "
            f"{spread(found.ratio)} | {wanted(found.aim)} | {verdict} |"
        )
