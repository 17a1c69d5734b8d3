"""`watch`: what is journaled about a transaction, as it becomes durable.

Owns: how somebody else's transaction is followed, from any process that reaches the store.
Rules:
  1. It only reads, so it hinders nobody and can be ended at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aumai_transactions.cli.exits import Code, code_of, needs_person
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    json_option,
    named,
    store_option,
    transaction_argument,
)
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.outcome import Summary
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.models import SECONDS_MAX, Event, TransactionResult
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.happenings import log_line

PAUSE_SECONDS_MIN = 0.02
PAUSE_SECONDS_MAX = 0.5

F = TypeVar("F", bound=Callable[..., Any])
OnEvent = Callable[[Event], object]


def timeout_option() -> Callable[[F], F]:
    """Add `--timeout`."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, max=SECONDS_MAX),
        metavar="SECONDS",
        help="How long to wait at most; default as long as it takes.",
    )


@click.command("watch")
@transaction_argument()
@click.option(
    "--wait",
    "waits",
    is_flag=True,
    help="Wait for approvals as well, and let the exit code say how it ended, as for wait.",
)
@timeout_option()
@store_option()
@json_option()
@click.pass_obj
def watch_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    waits: bool,
    timeout: float | None,
) -> Code:
    r"""Print what becomes of it, as it happens, until it is finished or needs a person.

    \b
    aumai-transactions watch 0d1c90a8
    aumai-transactions watch 0d1c90a8 --wait --timeout 60 --json
    """
    (name,) = named(words, tx_id)
    with session(settings) as held:
        manager = held.reader()
        found = held.find_id(name)
        timeline = Timeline(found)

        def told(event: Event) -> None:
            timeline.add(event)
            if settings.as_json:
                settings.out.say(json.dumps(event.model_dump(mode="json")))
            else:
                settings.out.say(log_line(timeline, event))

        result = follow(held, manager, found, told, timeout=timeout, through_approvals=waits)
        if not result.is_final and result.waiting is not None:
            settings.err.say(shown(result.waiting.detail))
    return code_of(result) if waits else Code.done


def follow(
    held: Session,
    manager: TransactionManager,
    name: str,
    on_event: OnEvent | None = None,
    *,
    timeout: float | None,
    through_approvals: bool,
) -> TransactionResult:
    """Return how a transaction stands once it is finished, needs a person, or the time is over.

    Args:
        held: The store.
        manager: One that only looks.
        name: The transaction.
        on_event: Told of each entry of its journal, in order.
        timeout: How long to wait; None for as long as it takes.
        through_approvals: True to go on while a person is asked to allow a step.
    """
    clock, pause, told = SystemClock(), PAUSE_SECONDS_MIN, 0
    until = None if timeout is None else clock.now() + round(timeout * 1_000_000)
    result = manager.get_result(name)
    before: Summary | None = None
    while True:
        # Order matters: what is journaled behind the summary is seen with the next one.
        summary = held.summary_of(name)
        left = None if until is None else (until - clock.now()) / 1_000_000
        if summary is None or summary != before:
            before, pause = summary, PAUSE_SECONDS_MIN
            result = manager.get_result(name)
            events = manager.get_events(name)
            if on_event is not None:
                for event in events[told:]:
                    on_event(event)
            told = len(events)
            if _is_over(result, through_approvals=through_approvals):
                return result
        if left is not None and left <= 0:
            return result
        clock.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, PAUSE_SECONDS_MAX)


def _is_over(result: TransactionResult, *, through_approvals: bool) -> bool:
    is_asked = result.waiting is not None and result.waiting.reason == "approval"
    return result.is_final or needs_person(result) or (is_asked and not through_approvals)
