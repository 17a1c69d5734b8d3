"""`python -m aumai_transactions.testing.simulator`: simulate seeds from the command line.

Owns: its options and what it prints.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from aumai_transactions.testing.simulator.faults import CLASSES
from aumai_transactions.testing.simulator.running import TRANSACTIONS, Case, Report, run
from aumai_transactions.testing.simulator.shrinking import RUNS_MAX, shrink


def main(arguments: list[str] | None = None) -> int:
    """Simulate seeds until one fails; return 1 then, and 0 where all are sound.

    Args:
        arguments: Those of the command line; None for the process's own.
    """
    given = _parser().parse_args(arguments)
    total: Counter[str] = Counter()
    began = time.perf_counter()
    happened, digest = 0, ""
    for seed in range(given.seed, given.seed + given.seeds):
        case = Case(seed, given.transactions, given.only, given.without, given.faults)
        report = run(case, on_line=_show if given.trace else None)
        total += report.counts
        happened, digest = happened + report.happened, report.digest
        if report.violations:
            _tell(report, is_shrunk=not given.no_shrink and not given.trace)
            return 1
    seconds = time.perf_counter() - began
    count = given.seeds * (given.transactions if given.only is None else len(given.only))
    rate = count / seconds * 60
    _show(f"{given.seeds} seeds, {count} transactions, {happened} events: sound.")
    _show(f"{seconds:.1f} s, {rate:,.0f} transactions a minute; last digest {digest}")
    if given.counts:
        for name, number in sorted(total.items()):
            _show(f"{number:>10} {name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aumai_transactions.testing.simulator",
        description="Simulate the product under faults; one seed is one history.",
    )
    add = parser.add_argument
    add("--seed", type=int, required=True, help="the first seed")
    add("--seeds", type=_positive, default=1, help="how many seeds, one by one (1)")
    add(
        "--transactions",
        type=_positive,
        default=TRANSACTIONS,
        help=f"how many transactions each seed begins ({TRANSACTIONS})",
    )
    add("--only", type=_numbers, help="only these of them, such as 3,7")
    add("--without", type=_classes, default=(), help="classes of faults that never happen")
    add("--faults", type=_names, help="only these faults, such as crash@p0.1#3; or none")
    add("--trace", action="store_true", help="print what happens")
    add("--counts", action="store_true", help="print how often rare things have happened")
    add("--no-shrink", action="store_true", help="do not make a failure smaller")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        message = f"{text!r} is no whole number from 1"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(part for part in text.split(",") if part)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _names(text))
    except ValueError:
        message = f"{text!r} must be numbers with commas between, such as 3,7"
        raise argparse.ArgumentTypeError(message) from None


def _classes(text: str) -> tuple[str, ...]:
    names = _names(text)
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        message = f"there is no class {unknown[0]!r} of faults; there are {', '.join(CLASSES)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _tell(report: Report, *, is_shrunk: bool) -> None:
    _say(*report.violations, "", "See it again:", f"  {report.case.command()}")
    if is_shrunk:
        _say("", f"Making it smaller, with at most {RUNS_MAX} more runs ...")
        smaller = shrink(report)
        _say(smaller.violations[0], "", "The smallest that was found:")
        _say(f"  {smaller.case.command()}")


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _say(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
