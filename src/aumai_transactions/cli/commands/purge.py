"""`purge`: deleting what has long ended.

Owns: how old is old enough, and that nobody deletes by accident.
"""

from __future__ import annotations

import sys

import click

from aumai_transactions.cli.ages import Age
from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import Settings, json_option, store_option
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.times import instant
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.wording.words import when

# How many go in one durable write: others wait for no longer than that takes.
BATCH = 500
PAGE = 1_000
_FINAL = tuple(state for state in TransactionState if state.is_final)


@click.command("purge")
@click.option(
    "--older-than",
    "age",
    type=Age(),
    metavar="AGE",
    required=True,
    help="Only what changed last so long ago: 30d, 12h, 6w.",
)
@click.option("--dry-run", is_flag=True, help="Count, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option()
@json_option()
@click.pass_obj
def purge_command(settings: Settings, age: int, dry_run: bool, yes: bool) -> Code:
    """Delete finished transactions, with their journals; what needs a person stays."""
    before = SystemClock().now() - age * 1_000_000
    with session(settings) as held:
        if dry_run:
            count = _count(held, before)
        else:
            _be_sure(settings, held, before, yes=yes)
            count = _purged(held, before)
    if settings.as_json:
        found = {"purged": 0 if dry_run else count, "found": count, "dry_run": dry_run}
        settings.out.say_json({**found, "before": instant(before).isoformat()})
    else:
        what = f"{count:,} transaction{'' if count == 1 else 's'} that ended before"
        verb = "would be deleted" if dry_run else "deleted"
        settings.out.say(f"{what} {when(instant(before))}: {verb}")
    return Code.done


def _count(held: Session, before: int) -> int:
    """Count what a purge would delete, page by page."""
    count, after = 0, None
    while page := held.store.find(Query(states=_FINAL, after=after, limit=PAGE)):
        for item in page:
            summary = item.summary
            is_over = summary.attention is None and not summary.runnable
            count += is_over and summary.updated_at < before
        after = page[-1].position
    return count


def _be_sure(settings: Settings, held: Session, before: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(
            "purge deletes journals for good. Say --yes to do it, or --dry-run to count.",
            Code.usage,
        )
    count = _count(held, before)
    question = f"Delete {count:,} transactions of {held.place} and their journals for good?"
    click.confirm(question, abort=True, err=True)
    settings.err.say("deleting")


def _purged(held: Session, before: int) -> int:
    """Delete in batches, so that others can write in between."""
    total = 0
    try:
        while count := held.store.purge(before, BATCH):
            total += count
    finally:
        held.changed()
    return total
