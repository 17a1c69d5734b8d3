"""Finishing what others left, and checking what was written.

Owns: which transactions recovery looks at and how it reports. It acts through the same claimed
path as all other work (invariant I14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container
from datetime import timedelta
from functools import partial

from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.journal import Journal, load
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.times import instant
from aumai_transactions.drivers.asking import (
    WAIT_SECONDS_MAX,
    missing_of,
    recover_one,
    waiting_until,
)
from aumai_transactions.drivers.desk import Desk, read_journal, read_run
from aumai_transactions.drivers.operations import DoSleep, Procedure, blocking
from aumai_transactions.errors import JournalCorrupt, JournalTooNew, TransactionNotFound
from aumai_transactions.models import Recovered, TransactionResult, Verification
from aumai_transactions.store import Listed, Query

PAGE = 500
LOOKS_MAX = 1_000

FAR = 2**62
"""Behind every time that anything can wait for."""


def recover(desk: Desk, wait_max_seconds: float = WAIT_SECONDS_MAX) -> Procedure[list[Recovered]]:
    """Finish every transaction that can be finished here, and report on each.

    Each is carried on at once; only when nothing is left to do, the times of next attempts are
    waited for, of all of them together.

    Args:
        desk: The manager's.
        wait_max_seconds: How long to wait for such times; what is due later is left waiting.
    """
    until = waiting_until(desk, wait_max_seconds)
    report: dict[str, Recovered] = {}
    while True:
        limit, now = PAGE + len(report), desk.clock.now()
        due = yield from blocking(partial(desk.store.due, desk.driver_id, limit, now))
        new = [name for name in due if name not in report]
        for name in new:
            report[name] = yield from recovered(desk, name)
        if new:
            continue
        waiting = {name: at for name, at in map(_waiting, report.values()) if at is not None}
        soonest = min(waiting.values(), default=None)
        if soonest is None or soonest > until:
            return list(report.values())
        while (left := soonest - desk.clock.now()) > 0:
            yield DoSleep(left / 1_000_000)
        now = desk.clock.now()
        for name, at in waiting.items():
            if at <= now:
                report[name] = yield from recovered(desk, name)


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
        outcome = yield from recover_one(desk, name, agents)
    except (JournalCorrupt, JournalTooNew) as error:
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


def verify(desk: Desk, transaction_id: str | None) -> Procedure[Verification]:
    """Check the hash chain and every entry of one journal, or of all, one at a time."""
    found = Verification()
    query = Query(prefix=transaction_id or "", limit=PAGE)
    is_found = False
    while True:
        page = yield from blocking(partial(desk.store.find, query))
        for listed in page:
            if transaction_id in (None, listed.summary.transaction_id):
                is_found = True
                yield from _verify_one(desk, listed, found)
        if len(page) < PAGE:
            break
        query = query._replace(after=page[-1].position)
    if transaction_id is not None and not is_found:
        yield from read_journal(desk, transaction_id)
    if transaction_id is None:
        yield from _verify_owners(desk, found)
    return found


def _verify_owners(desk: Desk, found: Verification) -> Procedure[None]:
    """Check that nothing is held, or waited for, by transactions that are not there."""
    table = yield from blocking(partial(desk.store.locks, None))
    for name in sorted({lock.transaction_id for lock in table.locks}):
        if (yield from blocking(partial(desk.store.read, name))) is None:
            found.problems[name] = (
                f"the table of locks has lines of transaction {name}, which is not there. Others "
                "wait for it in vain; compare it with a backup."
            )


def _verify_locks(desk: Desk, journal: Journal, saga: Saga) -> Procedure[str | None]:
    """Return what is wrong where the table of locks does not say what a journal says."""
    name = saga.transaction_id
    wanted = {(held.resource, held.mode, held.token) for held in holdings_of(saga)}
    table = yield from blocking(partial(desk.store.locks, None))
    lines = {
        (lock.resource, lock.mode, lock.token)
        for lock in table.locks
        if lock.transaction_id == name
    }
    if lines == wanted:
        return None
    again = yield from read_journal(desk, name)
    if again.head_sequence != journal.head_sequence:
        return None  # Somebody has appended between the two reads.
    wrong = ", ".join(sorted(resource for resource, _mode, _token in lines ^ wanted))
    return (
        f"the table of locks does not fit the journal of transaction {name}: {wrong}. Compare it "
        "with a backup."
    )


def _verify_one(desk: Desk, listed: Listed, found: Verification) -> Procedure[None]:
    """Check one journal, and that the line which lists it says what the journal says."""
    name = listed.summary.transaction_id
    found.transactions += 1
    journal = yield from read_journal(desk, name)
    found.entries += len(journal.entries)
    try:
        saga = load(journal)
    except (JournalCorrupt, JournalTooNew) as error:
        found.problems[name] = str(error)
        return
    told = summary_of(saga)
    if listed.summary.due_at is None and saga.locks is not None:
        # It was its turn, and the store has said so.
        told = told._replace(due_at=None)
    if listed.summary.next_agent is None:
        # Not known: an earlier release wrote the line.
        told = told._replace(next_agent=None)
    # Why the time: somebody may have appended between the two reads.
    if told != listed.summary and told.updated_at == listed.summary.updated_at:
        wrong = [
            field
            for field, mine, theirs in zip(told._fields, told, listed.summary, strict=True)
            if mine != theirs
        ]
        found.problems[name] = (
            f"the summary of transaction {name} does not fit its journal: {', '.join(wrong)}. "
            "Lists and recovery go by the summary; compare it with a backup."
        )
    elif journal.token != saga.token:
        found.problems[name] = (
            f"the summary of transaction {name} has token {journal.token}, its journal "
            f"{saga.token}. Compare it with a backup."
        )
    elif saga.locks is not None:
        problem = yield from _verify_locks(desk, journal, saga)
        if problem is not None:
            found.problems[name] = problem
