"""`outstanding`, `retry` and `resolve`: what only a person can settle.

Owns: how what is left is told, and how an answer is given.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from typing import Any

import click

from aumai_transactions.cli.commands.look import approvals_json, code_of_list
from aumai_transactions.cli.driving import Judge, drive, stored
from aumai_transactions.cli.exits import Code, Refused, code_of, needs_person
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    exit_status_option,
    json_option,
    named,
    quiet_option,
    store_option,
    transaction_argument,
    wait_option,
)
from aumai_transactions.cli.story import attention_lines
from aumai_transactions.core.entries import Answer
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.times import instant
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import JournalCorrupt, JournalTooNew, UnknownAction
from aumai_transactions.models import (
    StepState,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
)
from aumai_transactions.store import Query
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import ATTENTION, Tone, when

PAGE = 200


@click.command("outstanding")
@exit_status_option()
@store_option()
@json_option()
@click.pass_obj
def outstanding_command(settings: Settings, exit_status: bool) -> Code:
    """List what needs a person, each with the commands that go on from there."""
    told: list[dict[str, Any]] = []
    found: list[Summary] = []
    with session(settings) as held:
        manager = held.reader()
        unattended = held.unattended()
        for summary in _needing_a_person(held):
            try:
                result = manager.get_result(summary.transaction_id)
                transaction = manager.get_transaction(summary.transaction_id)
                events = manager.get_events(summary.transaction_id)
            except (JournalCorrupt, JournalTooNew) as error:
                settings.err.say(f"note: {shown(error)}")
                continue
            found.append(summary)
            timeline = Timeline.of(summary.transaction_id, events)
            told.append(_json(summary, result, timeline))
            if not settings.as_json:
                is_alive = summary.runnable and summary.transaction_id not in unattended
                head = _head(settings, summary)
                lines = attention_lines(
                    settings, transaction, result, timeline, is_alive=is_alive or None
                )
                settings.out.say(*head, *lines[2:], "")
    if settings.as_json:
        settings.out.say_json(told)
    elif not told:
        settings.err.say("nothing needs a person")
    return code_of_list(found) if exit_status else Code.done


def _needing_a_person(held: Session) -> Iterator[Summary]:
    after: int | None = None
    while page := held.store.find(Query(attention=True, after=after, limit=PAGE)):
        yield from (listed.summary for listed in page)
        after = page[-1].position


def _json(summary: Summary, result: TransactionResult, timeline: Timeline) -> dict[str, Any]:
    return {
        "transaction_id": summary.transaction_id,
        "name": summary.name,
        "state": summary.state.value,
        "attention": summary.attention,
        "outstanding": [item.model_dump(mode="json") for item in result.outstanding],
        "waiting": result.waiting.model_dump(mode="json") if result.waiting else None,
        "approvals": approvals_json(timeline),
    }


def _head(settings: Settings, summary: Summary) -> list[str]:
    out = settings.out
    why = ATTENTION[summary.attention] if summary.attention else "needs a person"
    name = f"  {shown(summary.name)}" if summary.name else ""
    tone: Tone = "warn" if summary.attention == "approval" else "bad"
    head = f"{out.styled(summary.transaction_id, 'bold')}  {out.styled(why, tone)}{name}"
    age = out.styled(f"  {summary.state.value} since {when(instant(summary.updated_at))}", "dim")
    return [head, age]


@click.command("retry")
@transaction_argument("STEP")
@click.option("--note", default="", metavar="TEXT", help="Why; it stands in the journal.")
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def retry_command(
    settings: Settings, words: tuple[str, ...], tx_id: str | None, note: str, wait_max: float
) -> Code:
    r"""Try now what waits for its next attempt, is in doubt, failed to be undone, or is stuck.

    \b
    aumai-transactions retry 0d1c90a8 charge
    """
    name, step_id = named(words, tx_id, "STEP")
    with session(settings) as held:
        found = held.find_id(name)
        manager = held.manager()
        transaction = manager.get_transaction(found)
        step = step_of(transaction, step_id)
        waiting = manager.get_result(found).waiting
        # Why not what kills its driver: whoever says that it does so no more may leave the next
        # attempt to workers, on whose list it is then.
        if waiting is None or waiting.reason != "poisoned":
            _refuse_without_handler(manager, transaction, step)

        def work(driver: TransactionManager, _: Transaction) -> TransactionResult:
            return driver.retry(found, step_id, note=note, by=somebody(), wait_max_seconds=wait_max)

        return drive(held, stored(found), work, judge_of(transaction))


@click.command("resolve")
@transaction_argument("STEP")
@click.option("--happened", is_flag=True, help="In doubt, or stuck: it did happen.")
@click.option("--did-not-happen", is_flag=True, help="In doubt: it did not happen.")
@click.option("--undone", is_flag=True, help="Outstanding: nothing of it is left.")
@click.option("--left-in-place", is_flag=True, help="Outstanding, or stuck: it stays as it is.")
@click.option("--note", required=True, metavar="TEXT", help="How you know; it is journaled.")
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def resolve_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    happened: bool,
    did_not_happen: bool,
    undone: bool,
    left_in_place: bool,
    note: str,
    wait_max: float,
) -> Code:
    r"""Say what happened to a step in doubt or stuck, or what was done about one outstanding.

    \b
    aumai-transactions resolve 0d1c90a8 charge --undone --note "refunded by phone"
    aumai-transactions resolve 0d1c90a8 mail --happened --note "it is in the outbox"
    """
    name, step_id = named(words, tx_id, "STEP")
    given: dict[Answer, bool] = {
        "happened": happened,
        "did_not_happen": did_not_happen,
        "undone": undone,
        "left_in_place": left_in_place,
    }
    answers = [answer for answer, is_given in given.items() if is_given]
    if len(answers) != 1:
        raise click.UsageError(
            "give exactly one answer: --happened or --did-not-happen for a step in doubt, "
            "--undone or --left-in-place for one whose effect may stand, --happened or "
            "--left-in-place for one that is stuck behind the commit point."
        )
    if not note.strip():
        raise click.UsageError("--note is empty; say how you know, for whoever reads the journal.")
    with session(settings) as held:
        found = held.find_id(name)
        transaction = held.reader().get_transaction(found)
        step_of(transaction, step_id)

        def work(driver: TransactionManager, _: Transaction) -> TransactionResult:
            return driver.resolve(
                found,
                step_id,
                answers[0],
                note=note,
                by=somebody(),
                wait_max_seconds=wait_max,
            )

        return drive(held, stored(found), work, judge_of(transaction))


def somebody() -> str:
    """Return who sits here, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"


def judge_of(before: Transaction) -> Judge:
    """Return what an outcome means: 3 only where a commit was still possible before."""
    if before.state in (TransactionState.active, TransactionState.committing):
        return code_of

    def judge(result: TransactionResult) -> Code:
        if needs_person(result):
            return Code.attention
        return Code.done if result.is_final else Code.unfinished

    return judge


def step_of(transaction: Transaction, step_id: str) -> TransactionStep:
    """Return a step of a transaction.

    Raises:
        Refused: It has no such step; names those that it has.
    """
    for step in transaction.steps:
        if step.step_id == step_id:
            return step
    steps = ", ".join(step.step_id for step in transaction.steps) or "none"
    raise Refused(
        f"transaction {transaction.transaction_id} has no step {step_id!r}. Its steps: {steps}.",
        Code.not_found,
    )


# What such a step waits for is its action, or the probe that goes with it.
_GOING_FORWARD = (StepState.pending, StepState.running, StepState.in_doubt)


def _refuse_without_handler(
    manager: TransactionManager, transaction: Transaction, step: TransactionStep
) -> None:
    # Why before it is asked for: afterwards it would be on nobody's list, and wait.
    if transaction.state is TransactionState.committing:
        # What is stuck there is a held step, or the confirmation of one that has succeeded.
        succeeded = step.state is StepState.succeeded
        name = step.confirming_action if succeeded else step.action
    else:
        name = step.action if step.state in _GOING_FORWARD else step.compensating_action
    if name is None or name in manager.actions or name in transaction.actions:
        return
    raise UnknownAction(
        [name],
        transaction.transaction_id,
        "Name the manager that has it with --app module:attribute. Nothing was changed.",
    )
