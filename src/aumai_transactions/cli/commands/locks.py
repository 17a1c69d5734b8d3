"""`locks`: who holds what, who waits for it, and what moves them on.

Owns: what it prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from aumai_transactions.cli.commands.look import summary_json
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.screen import shown
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import Settings, json_option, store_option
from aumai_transactions.cli.tables import Cell, Row, table
from aumai_transactions.cli.wording import ATTENTION, state_cell
from aumai_transactions.core.outcome import Summary
from aumai_transactions.models import ResourceLock


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


def _is_alive(summary: Summary | None, unattended: set[str]) -> bool | None:
    """Tell whether a living process has a transaction; None where nothing is to be done."""
    if summary is None or not summary.runnable:
        return None
    return summary.transaction_id not in unattended


def _json(
    lock: ResourceLock, summaries: dict[str, Summary | None], unattended: set[str]
) -> dict[str, Any]:
    summary = summaries[lock.transaction_id]
    found = lock.model_dump(mode="json")
    found["transaction"] = None if summary is None else summary_json(summary)
    return found | {"is_alive": _is_alive(summary, unattended)}


def _row(lock: ResourceLock, summary: Summary | None, unattended: set[str]) -> Row:
    if lock.token is not None:
        holds = Cell(f"{lock.mode}, token {lock.token}", "good")
    else:
        holds = Cell(f"waits, place {lock.place} ({lock.mode})", "warn")
    return (
        Cell(shown(lock.resource)),
        Cell(lock.transaction_id),
        holds,
        Cell("") if summary is None else state_cell(summary.state),
        Cell("" if summary is None else shown(", ".join(summary.agents))),
        _why(lock, summary, unattended),
    )


def _why(lock: ResourceLock, summary: Summary | None, unattended: set[str]) -> Cell:
    if lock.token is None and lock.waits_for:
        return Cell(f"behind {', '.join(lock.waits_for)}", "warn")
    if lock.token is None:
        return Cell("its turn has come", "busy")
    if summary is None:
        return Cell("")
    if summary.attention:
        return Cell(f"a person: {ATTENTION[summary.attention]}", "bad")
    if _is_alive(summary, unattended) is False:
        return Cell("no living process has it", "bad")
    return Cell("a living process", "busy")


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
        elif _is_alive(summary, unattended) is False:
            what = "no living process has it; finish it with"
            yield f"{name}: {what} {held.settings.command('recover', app=True)}"
