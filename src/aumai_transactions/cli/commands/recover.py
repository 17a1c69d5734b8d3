"""`recover`: finishing what dead processes left.

Owns: what recovery reports.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from aumai_transactions.cli.driving import watched
from aumai_transactions.cli.exits import Code, needs_person
from aumai_transactions.cli.screen import Tone, shown
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    quiet_option,
    store_option,
)
from aumai_transactions.cli.story import attention_lines
from aumai_transactions.cli.tables import Cell, table
from aumai_transactions.cli.wording import STATE_TONES
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.models import Recovered
from aumai_transactions.store import Query

HEAD = ("TRANSACTION", "OUTCOME", "STATE", "NAME", "DETAIL")
_TONES: dict[str, Tone] = {
    "finished": "good",
    "parked": "warn",
    "waiting": "bad",
    "busy": "busy",
    "unreadable": "bad",
}


@click.command("recover")
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def recover_command(settings: Settings) -> Code:
    """Finish what dead processes left; living ones are not touched."""
    with session(settings) as held:
        try:
            with watched(held) as (manager, progress):
                report = manager.recover()
        finally:
            held.changed()
        names = {name: timeline.name or "" for name, timeline in progress.timelines.items()}
        tell(settings, report, names)
        if not settings.as_json:
            _tell_attention(settings, manager, report)
        waiting = held.store.count(Query(attention=True))
        if waiting:
            command = settings.command("outstanding")
            settings.err.say(f"{waiting:,} need{'s' if waiting == 1 else ''} a person: {command}")
    return code_of_report(report)


def tell(settings: Settings, report: list[Recovered], names: Mapping[str, str]) -> None:
    """Write what recovery did.

    Args:
        settings: What the command was told.
        report: What became of each transaction.
        names: What people call them, by id, as far as it is known.
    """
    if settings.as_json:
        settings.out.say_json([item.model_dump(mode="json") for item in report])
        return
    if not report:
        settings.err.say("nothing to recover")
        return
    rows = []
    for item in report:
        state = Cell("")
        if item.result is not None:
            state = Cell(item.result.state.value, STATE_TONES[item.result.state])
        detail = "" if item.result is not None and item.result.is_final else shown(item.detail)
        rows.append(
            (
                Cell(item.transaction_id),
                Cell(item.outcome, _TONES[item.outcome]),
                state,
                Cell(shown(names.get(item.transaction_id, ""))),
                Cell(detail),
            )
        )
    settings.out.say(*table(settings.out, HEAD, rows, optional=("NAME",)))


def _tell_attention(
    settings: Settings, manager: TransactionManager, report: list[Recovered]
) -> None:
    for item in report:
        if item.result is None or not needs_person(item.result):
            continue
        transaction = manager.get_transaction(item.transaction_id)
        lines = attention_lines(settings, transaction, item.result)
        settings.out.say("", item.transaction_id, *lines[1:])


def code_of_report(report: list[Recovered]) -> Code:
    """Return the exit code of recovery: 4 where a person is needed, 5 where it is not done."""
    if any(
        item.outcome in ("waiting", "unreadable")
        or (item.result is not None and needs_person(item.result))
        for item in report
    ):
        return Code.attention
    if any(item.outcome in ("parked", "busy") for item in report):
        return Code.unfinished
    return Code.done
