"""`locks`: who holds what, who waits for it, and what moves them on.

Owns: what it prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from aumai_transactions.cli.commands.look import summary_json
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import Settings, json_option, store_option
from aumai_transactions.cli.tables import Row, table
from aumai_transactions.core.outcome import Summary
from aumai_transactions.models import ResourceLock
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import Cell, holding_cell, is_alive, lock_cell, state_cell


@click.command("locks")
@click.argument("resource", required=False)
@store_option()
@json_option()
@click.pass_obj
def locks_command(settings: Settings, resource: str | None) -> Code:
    r"""Show who holds which resource, and who waits for it.

    \b
    aumai-transactions locks
    aumai-transactions locks account:42
    """
    with session(settings) as held:
        locks = held.reader().locks(resource)
        names = dict.fromkeys(lock.transaction_id for lock in locks)
        summaries = {name: held.summary_of(name) for name in names}
        unattended = held.unattended() if locks else set()
    if settings.as_json:
        items = [_json(lock, summaries, unattended) for lock in locks]
        settings.out.say_json({"items": items, "total": len(items)})
    elif locks:
        head = ("RESOURCE", "TRANSACTION", "HOLDS", "STATE", "AGENTS", "WHY")
        rows = [_row(lock, summaries[lock.transaction_id], unattended) for lock in locks]
        settings.out.say(*table(settings.out, head, rows, optional=("AGENTS", "STATE")))
        settings.err.say(*_next(held, locks, summaries, unattended))
    else:
        what = "nobody holds or wants anything" if resource is None else "nobody holds or wants it"
        settings.err.say(what)
    return Code.done


def _json(
    lock: ResourceLock, summaries: dict[str, Summary | None], unattended: set[str]
) -> dict[str, Any]:
    summary = summaries[lock.transaction_id]
    found = lock.model_dump(mode="json")
    found["transaction"] = None if summary is None else summary_json(summary)
    return found | {"is_alive": is_alive(summary, unattended)}


def _row(lock: ResourceLock, summary: Summary | None, unattended: set[str]) -> Row:
    alive = is_alive(summary, unattended)
    return (
        Cell(shown(lock.resource)),
        Cell(lock.transaction_id),
        holding_cell(lock),
        Cell("") if summary is None else state_cell(summary.state),
        Cell("" if summary is None else shown(", ".join(summary.agents))),
        lock_cell(lock, summary, alive=alive),
    )


def _next(
    held: Session,
    locks: Sequence[ResourceLock],
    summaries: dict[str, Summary | None],
    unattended: set[str],
) -> Iterator[str]:
    """Yield what can be done about holders that do not go on by themselves."""
    told: set[str] = set()
    for lock in locks:
        summary = summaries[lock.transaction_id]
        if lock.token is None or summary is None or lock.transaction_id in told:
            continue
        told.add(lock.transaction_id)
        name = lock.transaction_id
        if summary.attention:
            yield f"{name} waits for a person: {held.settings.command('show', name)}"
        elif is_alive(summary, unattended) is False:
            what = "no living process has it; finish it with"
            yield f"{name}: {what} {held.settings.command('recover', app=True)}"
