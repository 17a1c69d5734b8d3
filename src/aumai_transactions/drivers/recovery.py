"""Finishing what others left.

Owns: which transactions recovery looks at and how it reports. It acts through the same claimed
path as all other work (invariant I14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Sequence
from datetime import timedelta
from functools import partial

from aumai_transactions.core.times import instant
from aumai_transactions.drivers.asking import (
    WAIT_SECONDS_MAX,
    missing_of,
    recover_one,
    waiting_until,
)
from aumai_transactions.drivers.desk import Desk, read_run
from aumai_transactions.drivers.operations import DoSleep, DoTogether, Procedure, blocking
from aumai_transactions.errors import JournalCorrupt, JournalTooNew, TransactionNotFound
from aumai_transactions.models import Recovered, TransactionResult

PAGE = 500
LOOKS_MAX = 1_000

FAR = 2**62
"""Behind every time that anything can wait for."""


def recover(
    desk: Desk, wait_max_seconds: float = WAIT_SECONDS_MAX, concurrency: int = 1
) -> Procedure[list[Recovered]]:
    """Finish every transaction that can be finished here, and report on each.

    Each is carried on at once; only when nothing is left to do, the times of next attempts are
    waited for, of all of them together.

    Args:
        desk: The manager's.
        wait_max_seconds: How long to wait for such times; what is due later is left waiting.
        concurrency: How many are carried on at the same time, and share durable writes.
    """
    until = waiting_until(desk, wait_max_seconds)
    report: dict[str, Recovered] = {}
    while True:
        limit, now = PAGE + len(report), desk.clock.now()
        due = yield from blocking(partial(desk.store.due, desk.driver_id, limit, now))
        new = [name for name in due if name not in report]
        report |= yield from _all_recovered(desk, new, concurrency)
        if new:
            continue
        waiting = {name: at for name, at in map(_waiting, report.values()) if at is not None}
        soonest = min(waiting.values(), default=None)
        if soonest is None or soonest > until:
            return list(report.values())
        while (left := soonest - desk.clock.now()) > 0:
            yield DoSleep(left / 1_000_000)
        now = desk.clock.now()
        due = [name for name, at in waiting.items() if at <= now]
        report |= yield from _all_recovered(desk, due, concurrency)


def _all_recovered(
    desk: Desk, names: Sequence[str], concurrency: int
) -> Procedure[dict[str, Recovered]]:
    found: list[Recovered] = yield DoTogether(
        [partial(recovered, desk, name) for name in names], concurrency
    )
    return dict(zip(names, found, strict=True))


def _waiting(report: Recovered) -> tuple[str, int | None]:
    """Return what was reported on, and the time that it waits for: microseconds since 1970 UTC."""
    waiting = report.result.waiting if report.result is not None else None
    if waiting is None or waiting.until is None:
        return report.transaction_id, None
    return report.transaction_id, (waiting.until - instant(0)) // timedelta(microseconds=1)


def recovered(desk: Desk, name: str, agents: Container[str] | None = None) -> Procedure[Recovered]:
    """Carry on one transaction that nobody drives, and report on it.

    Args:
        desk: The manager's.
        name: The transaction.
        agents: Only calls on behalf of these are made; None for all.
    """
    try:
        if desk.host is not None:
            return (yield from desk.host.handed(name))
        outcome = yield from recover_one(desk, name, agents)
    except (JournalCorrupt, JournalTooNew, TransactionNotFound) as error:
        return Recovered(transaction_id=name, outcome="unreadable", detail=str(error))
    if outcome is None:
        detail = "somebody else has it, or has finished it meanwhile"
        return Recovered(transaction_id=name, outcome="busy", detail=detail)
    if isinstance(outcome, TransactionResult):
        if outcome.is_final:
            state = outcome.state.value.replace("_", " ")
            return Recovered(transaction_id=name, outcome="finished", detail=state, result=outcome)
        detail = outcome.waiting.detail if outcome.waiting else outcome.state.value
        return Recovered(transaction_id=name, outcome="waiting", detail=detail, result=outcome)
    if outcome:
        named = ", ".join(outcome)
        detail = f"missing handler {named}; run recover where it is registered."
    else:
        detail = "its next call is made on behalf of an agent that is not served here."
    detail += " Nothing was changed."
    return Recovered(transaction_id=name, outcome="parked", detail=detail)


def lacking(desk: Desk, agents: Collection[str] | None = None) -> Procedure[dict[str, int]]:
    """Return which actions have no handler here, and how many transactions may need them."""
    found: Counter[str] = Counter()
    look = partial(desk.store.due, desk.driver_id, LOOKS_MAX, FAR, agents=agents)
    for name in (yield from blocking(look)):
        try:
            run = yield from read_run(desk, name)
        except (JournalCorrupt, JournalTooNew, TransactionNotFound):
            continue
        run.serves = agents
        found.update(set(missing_of(run)))
    return dict(sorted(found.items()))
