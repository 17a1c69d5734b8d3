"""`recover`: finishing what dead processes left.

Owns: what recovery reports, and how long it waits for what is not due yet.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from aumai_transactions.cli.commands.person import somebody
from aumai_transactions.cli.driving import watched
from aumai_transactions.cli.exits import Code, needs_person
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    quiet_option,
    store_option,
    wait_option,
)
from aumai_transactions.cli.story import attention_lines
from aumai_transactions.cli.tables import table
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.times import instant
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.models import Recovered
from aumai_transactions.store import Query
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import STATE_TONES, Cell, Tone, when

PAGE = 200
HEAD = ("TRANSACTION", "OUTCOME", "STATE", "NAME", "DETAIL")
_TONES: dict[str, Tone] = {
    "finished": "good",
    "parked": "warn",
    "waiting": "warn",
    "busy": "busy",
    "unreadable": "bad",
}


@click.command("recover")
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="TX",
    help="First let this one go on, which came out of a backup; may be given several times.",
)
@click.option("--trust-all", is_flag=True, help="First let all go on that came out of a backup.")
@click.option("--note", metavar="TEXT", help="With --trust: how you know; it is journaled.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Carry on so many at the same time; Ctrl-C then waits for those that are under way.",
)
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def recover_command(
    settings: Settings,
    trusted: tuple[str, ...],
    trust_all: bool,
    note: str | None,
    concurrency: int,
    wait_max: float,
) -> Code:
    r"""Finish what dead processes left, and what is due; living ones are not touched.

    \b
    aumai-transactions recover
    aumai-transactions recover --trust 0d1c90a8 --note "the bank has no booking of it"
    """
    is_trusting = bool(trusted) or trust_all
    if is_trusting != bool((note or "").strip()):
        raise click.UsageError(
            "--trust and --trust-all need a --note: how you know that it may go on, for whoever "
            "reads the journal; and --note is for them only."
        )
    with session(settings) as held:
        try:
            if is_trusting:
                _trust(held, trusted, note or "", every=trust_all)
            with watched(held) as (manager, progress):
                report = _recovered(held, manager, wait_max, concurrency)
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


def _trust(held: Session, names: tuple[str, ...], note: str, *, every: bool) -> None:
    """Journal that these may go on; what follows is recovery's."""
    found = [held.find_id(name) for name in names]
    after: int | None = None
    while every and (page := held.store.find(Query(attention=True, after=after, limit=PAGE))):
        restored = [line.summary for line in page if line.summary.attention == "restored"]
        found += [summary.transaction_id for summary in restored]
        after = page[-1].position
    manager = held.reader()
    for name in dict.fromkeys(found):
        # Why no handlers and no wait: recovery goes on with it, or leaves it to whoever has them.
        manager.trust(name, by=somebody(), note=note, wait_max_seconds=0)


def _recovered(
    held: Session, manager: TransactionManager, wait_max: float, concurrency: int
) -> list[Recovered]:
    """Recover what is due, and what becomes due in time; report the rest as waiting.

    Why the loop: a manager knows the times of what it has parked itself, and not of what was
    parked before, or was waiting in the hands of a process that died.
    """
    clock = SystemClock()
    until = clock.now() + round(wait_max * 1_000_000)
    found: dict[str, Recovered] = {}
    while True:
        left = max(until - clock.now(), 0) / 1_000_000
        report = manager.recover(wait_max_seconds=left, concurrency=concurrency)
        found |= {item.transaction_id: item for item in report}
        told = {name for name, item in found.items() if item.outcome != "waiting"}
        waiting = [item for item in held.waiting_for_time() if item.transaction_id not in told]
        due_at = min((item.due_at or 0 for item in waiting), default=until + 1)
        if due_at > until:
            break
        held.say(f"the next attempt is due {when(instant(due_at))}")
        clock.sleep(max(due_at - clock.now(), 0) / 1_000_000)
    found |= {item.transaction_id: _not_due(manager, item) for item in waiting}
    return list(found.values())


def _not_due(manager: TransactionManager, summary: Summary) -> Recovered:
    name, at = summary.transaction_id, instant(summary.due_at or 0)
    try:
        result = manager.get_result(name)
    except (JournalCorrupt, JournalTooNew) as error:
        return Recovered(transaction_id=name, outcome="unreadable", detail=str(error))
    detail = result.waiting.detail if result.waiting else f"the next attempt is due at {when(at)}"
    return Recovered(transaction_id=name, outcome="waiting", detail=detail, result=result)


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
        detail = "" if item.outcome == "finished" else shown(item.detail)
        waiting = item.result.waiting if item.result is not None else None
        if waiting is not None and waiting.until is not None:
            steps = shown(", ".join(waiting.step_ids)) or "its program may go on with it"
            detail = f"until {when(waiting.until)}: {steps}"
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
        if item.result is None or not (needs_person(item.result) or item.result.waiting):
            continue
        transaction = manager.get_transaction(item.transaction_id)
        timeline = Timeline.of(item.transaction_id, manager.get_events(item.transaction_id))
        lines = attention_lines(settings, transaction, item.result, timeline)
        settings.out.say("", item.transaction_id, *lines[1:])


def code_of_report(report: list[Recovered]) -> Code:
    """Return the exit code of recovery: 4 where a person is needed, 5 where it is not done."""
    if any(
        item.outcome == "unreadable" or (item.result is not None and needs_person(item.result))
        for item in report
    ):
        return Code.attention
    return Code.done if all(item.outcome == "finished" for item in report) else Code.unfinished
