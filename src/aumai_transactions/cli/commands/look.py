"""`status`, `show` and `list`: looking without touching.

Owns: what these print; `status` is the seed's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

import click

from aumai_transactions.cli.commands.start import seconds
from aumai_transactions.cli.exits import Code, code_of
from aumai_transactions.cli.searching import Searched, search_options, searched
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    exit_status_option,
    json_option,
    named,
    store_option,
    transaction_argument,
)
from aumai_transactions.cli.story import event_lines, show_lines
from aumai_transactions.cli.tables import Row, table
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.times import instant
from aumai_transactions.models import Event, TransactionResult, TransactionState
from aumai_transactions.store import Query
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.happenings import sentence
from aumai_transactions.wording.words import Cell, state_cell, waits_for_cell, when

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
@click.option(
    "--format",
    "picture",
    type=click.Choice(["svg", "mermaid", "html"]),
    help="Print a picture of it instead: SVG, Mermaid, or a page that needs nothing else.",
)
@exit_status_option()
@store_option()
@json_option()
@click.pass_obj
def show_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    wants_events: bool,
    picture: str | None,
    exit_status: bool,
) -> Code:
    """Show all about a transaction: each step, and beside it what undid it."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        manager = held.reader()
        found = held.find_id(name)
        events = manager.get_events(found)
        transaction, result = manager.get_transaction(found), manager.get_result(found)
        timeline = Timeline.of(found, events)
        if picture is not None:
            settings.out.say(_drawn(picture, timeline, result, events))
            return code_of(result) if exit_status else Code.done
        is_alive = None if result.is_final else held.is_alive(found)
        if settings.as_json:
            told: Any = [event.model_dump(mode="json") for event in events]
            if not wants_events:
                told = {
                    "transaction": transaction.model_dump(mode="json"),
                    "result": result.model_dump(mode="json"),
                    "groups": groups_json(timeline),
                    "approvals": approvals_json(timeline),
                    "is_alive": is_alive,
                    "events": told,
                }
            settings.out.say_json(told)
        elif wants_events:
            settings.out.say(*event_lines(settings.out, events))
        else:
            lines = show_lines(settings, transaction, result, timeline, is_alive=is_alive)
            settings.out.say(*lines)
        return code_of(result) if exit_status else Code.done


def _drawn(
    picture: str, timeline: Timeline, result: TransactionResult, events: Iterable[Event]
) -> str:
    """Return a picture of a transaction, as the text of a file."""
    from aumai_transactions.pictures import mermaid, page, svg

    timeline.take(result)
    if picture == "svg":
        return svg.drawn(timeline, result).rstrip("\n")
    if picture == "mermaid":
        return mermaid.drawn(timeline, result).rstrip("\n")
    growing = Timeline(timeline.transaction_id)
    said = []
    for event in events:
        growing.add(event)
        said.append((event, sentence(growing, event)))
    return page.drawn(timeline, result, said).rstrip("\n")


def groups_json(timeline: Timeline) -> list[dict[str, Any]]:
    """Return the savepoints and nested transactions as JSON."""
    return [
        {
            "scope_id": group.group_id,
            "kind": group.kind,
            "name": group.name,
            "parent": group.parent,
            "state": group.state,
        }
        for group in timeline.groups.values()
    ]


def approvals_json(timeline: Timeline) -> list[dict[str, Any]]:
    """Return what a person is asked to allow as JSON."""
    return [
        {
            "step_id": step.step_id,
            "agent_id": step.agent_id,
            "action": step.action,
            "compensating_action": step.compensating_action,
            "data": step.data,
            "digest": step.asked.digest,
            "until": None if step.asked.until is None else step.asked.until.isoformat(),
        }
        for step in timeline.waiting_for_approval()
        if step.asked is not None
    ]


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
@search_options
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
    **asked: Unpack[Searched],
) -> Code:
    """List transactions, the newest first."""
    query = Query(
        states=tuple(TransactionState(state) for state in states),
        attention=attention,
        limit=limit or EVERYTHING,
        newest_first=not oldest,
    )
    query = searched(query, asked)
    with session(settings) as held:
        summaries = [listed.summary for listed in held.store.find(query)]
        total = held.store.count(query)
        alive = _alive(held, summaries)
    if settings.as_json:
        items = [
            summary_json(summary) | {"is_alive": alive.get(summary.transaction_id)}
            for summary in summaries
        ]
        settings.out.say_json({"items": items, "total": total})
    elif summaries:
        head = ("TRANSACTION", "STATE", "STEPS", "CREATED", "NAME", "AGENTS", "WAITS FOR")
        rows = [_row(summary, alive.get(summary.transaction_id)) for summary in summaries]
        settings.out.say(
            *table(settings.out, head, rows, optional=("AGENTS", "NAME", "CREATED", "STEPS"))
        )
    else:
        settings.err.say(
            "no transactions"
            + (" like that" if query[:3] != Query()[:3] or query.is_search else "")
        )
    if total > len(summaries):
        settings.err.say(f"{total - len(summaries):,} more; --limit 0 lists all {total:,}")
    return code_of_list(summaries) if exit_status else Code.done


def code_of_list(summaries: Iterable[Summary]) -> Code:
    """Return 4 where one of them needs a person, 5 where one only waits for an approval."""
    needs = {summary.attention for summary in summaries} - {None}
    if needs - {"approval"}:
        return Code.attention
    return Code.unfinished if needs else Code.done


def _alive(held: Session, summaries: Sequence[Summary]) -> dict[str, bool]:
    """Return, of those that are under way, whether a living process has them."""
    under_way = [item for item in summaries if item.runnable and not item.state.is_final]
    unattended = held.unattended() if under_way else set()
    return {item.transaction_id: item.transaction_id not in unattended for item in under_way}


def _row(summary: Summary, is_alive: bool | None) -> Row:
    return (
        Cell(summary.transaction_id),
        state_cell(summary.state),
        Cell(f"{summary.completed}/{summary.steps}"),
        Cell(when(instant(summary.created_at)), "dim"),
        Cell(shown(summary.name or "")),
        Cell(shown(", ".join(summary.agents))),
        waits_for_cell(summary, alive=is_alive),
    )


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return one line of a list as JSON."""
    return {
        "transaction_id": summary.transaction_id,
        "name": summary.name,
        "state": summary.state.value,
        "steps": summary.steps,
        "completed": summary.completed,
        "agents": list(summary.agents),
        "actions": list(summary.actions),
        "metadata": summary.metadata or {},
        "tenant": summary.tenant,
        "attention": summary.attention,
        "due_at": None if summary.due_at is None else instant(summary.due_at).isoformat(),
        "created_at": instant(summary.created_at).isoformat(),
        "updated_at": instant(summary.updated_at).isoformat(),
        "timeout_seconds": seconds(summary.timeout_seconds),
    }
