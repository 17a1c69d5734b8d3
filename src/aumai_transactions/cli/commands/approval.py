"""`approve` and `deny`: a person's answer to a step that waits for one.

Owns: what is shown before the answer is recorded, and that the answer is bound to it.
"""

from __future__ import annotations

import click

from aumai_transactions.cli.commands.person import judge_of, somebody, step_of
from aumai_transactions.cli.driving import drive, stored
from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    named,
    quiet_option,
    store_option,
    transaction_argument,
    wait_option,
)
from aumai_transactions.cli.story import approval_lines
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.models import Transaction, TransactionResult
from aumai_transactions.timelines.lines import StepLine
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown

BY = "Who says so; default your user name. It stands in the journal."


@click.command("approve")
@transaction_argument("STEP")
@click.option("--digest", metavar="DIGEST", help="Only if it is exactly this that waits; see show.")
@click.option("--note", default="", metavar="TEXT", help="Why; it stands in the journal.")
@click.option("--by", metavar="NAME", help=BY)
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def approve_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    digest: str | None,
    note: str,
    by: str | None,
    wait_max: float,
) -> Code:
    r"""Allow a step that waits for a person, and see to it that it goes on.

    \b
    aumai-transactions outstanding
    aumai-transactions approve 0d1c90a8 charge --note "within the budget"
    """
    name, step_id = named(words, tx_id, "STEP")
    who = _somebody(by)
    with session(settings) as held:
        found = held.find_id(name)
        transaction = held.manager().get_transaction(found)
        step = _asked(held, transaction, step_id)
        settings.err.say(f"about to allow, as {shown(who)}:", *approval_lines(step))
        # Why also where nobody gave one: something else may wait by the time it is recorded.
        shown_digest = step.asked.digest if digest is None and step.asked is not None else digest

        def work(manager: TransactionManager, _: Transaction) -> TransactionResult:
            return manager.approve(
                found, step_id, by=who, note=note, digest=shown_digest, wait_max_seconds=wait_max
            )

        return drive(held, stored(found), work, judge_of(transaction), goes_back=False)


@click.command("deny")
@transaction_argument("STEP")
@click.option("--note", required=True, metavar="TEXT", help="Why not; it stands in the journal.")
@click.option("--by", metavar="NAME", help=BY)
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def deny_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    note: str,
    by: str | None,
    wait_max: float,
) -> Code:
    r"""Refuse a step that waits for a person; everything is undone.

    \b
    aumai-transactions deny 0d1c90a8 charge --note "too expensive"
    """
    name, step_id = named(words, tx_id, "STEP")
    who = _somebody(by)
    if not note.strip():
        raise click.UsageError("--note is empty; say why not, for whoever reads the journal.")
    with session(settings) as held:
        found = held.find_id(name)
        transaction = held.manager().get_transaction(found)
        step = _asked(held, transaction, step_id)
        settings.err.say(f"about to deny, as {shown(who)}:", *approval_lines(step))

        def work(manager: TransactionManager, _: Transaction) -> TransactionResult:
            return manager.deny(found, step_id, by=who, note=note, wait_max_seconds=wait_max)

        return drive(held, stored(found), work, judge_of(transaction))


def _somebody(by: str | None) -> str:
    if by is not None and not by.strip():
        raise click.UsageError("--by is empty; leave it out for your user name.")
    return somebody() if by is None else by


def _asked(held: Session, transaction: Transaction, step_id: str) -> StepLine:
    """Return the step that waits, as it is shown.

    Raises:
        Refused: There is no such step, or it waits for no approval; names those that do.
    """
    step_of(transaction, step_id)
    name = transaction.transaction_id
    timeline = Timeline.of(name, held.reader().get_events(name))
    waiting = timeline.waiting_for_approval() if not transaction.state.is_final else []
    for step in waiting:
        if step.step_id == step_id:
            return step
    names = ", ".join(step.step_id for step in waiting)
    others = f" These do: {names}." if names else ""
    text = f"step {step_id} of transaction {name} waits for no approval.{others}"
    raise Refused(f"{text} See: {held.settings.command('show', name)}", Code.conflict)
