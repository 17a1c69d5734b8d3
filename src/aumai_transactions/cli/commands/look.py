"""`status`, `show` and `list`: looking without touching.

Owns: what these print; `status` is the seed's.
"""

from __future__ import annotations

from typing import Any

import click

from aumai_transactions.cli.commands.start import seconds
from aumai_transactions.cli.exits import Code, code_of
from aumai_transactions.cli.screen import shown
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import (
    Settings,
    exit_status_option,
    json_option,
    named,
    store_option,
    transaction_argument,
)
from aumai_transactions.cli.story import event_lines, show_lines
from aumai_transactions.cli.tables import Cell, Row, table
from aumai_transactions.cli.timeline import Timeline
from aumai_transactions.cli.wording import ATTENTION, state_cell, when
from aumai_transactions.core.outcome import Summary, instant
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query

LIST_MAX = 50
EVERYTHING = 2**31 - 1


@click.command("status")
@transaction_argument()
@exit_status_option()
@store_option()
@json_option()
@click.pass_obj
def status_command(
    settings: Settings, words: tuple[str, ...], tx_id: str | None, exit_status: bool
) -> Code:
    """Print where a transaction stands, as JSON."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        manager = held.reader()
        found = held.find_id(name)
        transaction = manager.get_transaction(found)
        settings.out.say_json(
            {
                "transaction_id": transaction.transaction_id,
                "state": transaction.state.value,
                "steps": len(transaction.steps),
                "created_at": transaction.created_at.isoformat(),
                "timeout_seconds": seconds(transaction.timeout_seconds),
            }
        )
        return code_of(manager.get_result(found)) if exit_status else Code.done


@click.command("show")
@transaction_argument()
@click.option("--events", "wants_events", is_flag=True, help="Print the journal entry by entry.")
@exit_status_option()
@store_option()
@json_option()
@click.pass_obj
def show_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    wants_events: bool,
    exit_status: bool,
) -> Code:
    """Show all about a transaction: each step, and beside it what undid it."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        manager = held.reader()
        found = held.find_id(name)
        events = manager.get_events(found)
        transaction, result = manager.get_transaction(found), manager.get_result(found)
        if settings.as_json:
            told: Any = [event.model_dump(mode="json") for event in events]
            if not wants_events:
                told = {
                    "transaction": transaction.model_dump(mode="json"),
                    "result": result.model_dump(mode="json"),
                    "events": told,
                }
            settings.out.say_json(told)
        elif wants_events:
            settings.out.say(*event_lines(settings.out, events))
        else:
            timeline = Timeline.of(found, events)
            settings.out.say(*show_lines(settings, transaction, result, timeline))
        return code_of(result) if exit_status else Code.done


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in TransactionState]),
    help="Only these; may be given several times.",
)
@click.option("--attention", is_flag=True, help="Only those that need a person.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=LIST_MAX,
    show_default=True,
    help="How many at most; 0 for all.",
)
@click.option("--oldest", is_flag=True, help="The oldest first, instead of the newest.")
@exit_status_option()
@store_option()
@json_option()
@click.pass_obj
def list_command(
    settings: Settings,
    states: tuple[str, ...],
    attention: bool,
    limit: int,
    oldest: bool,
    exit_status: bool,
) -> Code:
    """List transactions, the newest first."""
    query = Query(
        states=tuple(TransactionState(state) for state in states),
        attention=attention,
        limit=limit or EVERYTHING,
        newest_first=not oldest,
    )
    with session(settings) as held:
        summaries = [listed.summary for listed in held.store.find(query)]
        total = held.store.count(query)
    if settings.as_json:
        items = [summary_json(summary) for summary in summaries]
        settings.out.say_json({"items": items, "total": total})
    elif summaries:
        head = ("TRANSACTION", "STATE", "STEPS", "CREATED", "NAME", "AGENTS", "WAITS FOR")
        rows = [_row(summary) for summary in summaries]
        settings.out.say(
            *table(settings.out, head, rows, optional=("AGENTS", "NAME", "CREATED", "STEPS"))
        )
    else:
        settings.err.say("no transactions" + (" like that" if states or attention else ""))
    if total > len(summaries):
        settings.err.say(f"{total - len(summaries):,} more; --limit 0 lists all {total:,}")
    needed = exit_status and any(summary.attention for summary in summaries)
    return Code.attention if needed else Code.done


def _row(summary: Summary) -> Row:
    return (
        Cell(summary.transaction_id),
        state_cell(summary.state),
        Cell(f"{summary.completed}/{summary.steps}"),
        Cell(when(instant(summary.created_at)), "dim"),
        Cell(shown(summary.name or "")),
        Cell(shown(", ".join(summary.agents))),
        _waits_for(summary),
    )


def _waits_for(summary: Summary) -> Cell:
    if summary.attention:
        return Cell(f"a person: {ATTENTION[summary.attention]}", "bad")
    return Cell("" if summary.due_at is None else when(instant(summary.due_at)), "warn")


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return one line of a list as JSON."""
    return {
        "transaction_id": summary.transaction_id,
        "name": summary.name,
        "state": summary.state.value,
        "steps": summary.steps,
        "completed": summary.completed,
        "agents": list(summary.agents),
        "attention": summary.attention,
        "due_at": None if summary.due_at is None else instant(summary.due_at).isoformat(),
        "created_at": instant(summary.created_at).isoformat(),
        "updated_at": instant(summary.updated_at).isoformat(),
        "timeout_seconds": seconds(summary.timeout_seconds),
    }
