"""`python -m aumai_transactions.testing.simulator`: simulate seeds from the command line.

Owns: its options and what it prints.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import click

from aumai_transactions.testing.simulator.running import TRANSACTIONS, Case, Report, run
from aumai_transactions.testing.simulator.shrinking import RUNS_MAX, shrink


def _listed(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(part for part in text.split(",") if part)


@click.command()
@click.option("--seed", type=int, required=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(1), default=1, help="How many seeds, one by one.")
@click.option(
    "--transactions",
    type=click.IntRange(1, 100_000),
    default=TRANSACTIONS,
    show_default=True,
    help="How many transactions each seed begins.",
)
@click.option("--only", help="Only these of them, such as 3,7.")
@click.option("--without", default="", help="Classes of faults that never happen.")
@click.option("--faults", help="Only these faults, such as crash#3,call_lost#1; or none.")
@click.option("--trace", is_flag=True, help="Print what happens.")
@click.option("--counts", is_flag=True, help="Print how often rare things have happened.")
@click.option("--shrink/--no-shrink", "is_shrunk", default=True, help="Make a failure smaller.")
def main(
    seed: int,
    seeds: int,
    transactions: int,
    only: str | None,
    without: str,
    faults: str | None,
    *,
    trace: bool,
    counts: bool,
    is_shrunk: bool,
) -> None:
    """Simulate seeds until one fails; exit with 1 then."""
    try:
        numbers = None if only is None else tuple(int(part) for part in only.split(","))
    except ValueError:
        raise click.BadParameter(
            "must be numbers with commas between", param_hint="--only"
        ) from None
    total: Counter[str] = Counter()
    began = time.perf_counter()
    happened = 0
    for one in range(seed, seed + seeds):
        case = Case(one, transactions, numbers, _listed(without) or (), _listed(faults))
        report = run(case, on_line=click.echo if trace else None)
        total += report.counts
        happened += report.happened
        if report.violations:
            _tell(report, is_shrunk=is_shrunk and not trace)
            sys.exit(1)
    seconds = time.perf_counter() - began
    count = seeds * (transactions if numbers is None else len(numbers))
    rate = count / seconds * 60
    click.echo(f"{seeds} seeds, {count} transactions, {happened} events: sound.")
    click.echo(f"{seconds:.1f} s, {rate:,.0f} transactions a minute; last digest {report.digest}")
    if counts:
        for name, number in sorted(total.items()):
            click.echo(f"{number:>10} {name}")


def _tell(report: Report, *, is_shrunk: bool) -> None:
    click.echo("\n".join(report.violations), err=True)
    click.echo(f"\nSee it again:\n  {report.case.command()}", err=True)
    if is_shrunk:
        click.echo(f"\nMaking it smaller, with at most {RUNS_MAX} more runs ...", err=True)
        smaller = shrink(report)
        click.echo(smaller.violations[0], err=True)
        click.echo(f"\nThe smallest that was found:\n  {smaller.case.command()}", err=True)


if __name__ == "__main__":
    main()
