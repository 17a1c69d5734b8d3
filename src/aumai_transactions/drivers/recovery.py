"""Finishing what others left, and checking what was written.

Owns: which transactions recovery looks at and how it reports. It acts through the same claimed
path as all other work (invariant I14).
"""

from __future__ import annotations

from functools import partial

from aumai_transactions.core.journal import load
from aumai_transactions.drivers.desk import Desk, read_journal
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.drivers.procedures import recover_one
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.models import Recovered, TransactionResult, Verification
from aumai_transactions.store import Query

PAGE = 500


def recover(desk: Desk) -> Procedure[list[Recovered]]:
    """Finish every transaction that can be finished here, each once, and report on each."""
    report: list[Recovered] = []
    seen: set[str] = set()
    while True:
        due = yield from blocking(lambda: desk.store.due(desk.driver_id, PAGE + len(seen)))
        new = [name for name in due if name not in seen]
        if not new:
            return report
        for name in new:
            seen.add(name)
            report.append((yield from _recovered(desk, name)))


def _recovered(desk: Desk, name: str) -> Procedure[Recovered]:
    try:
        outcome = yield from recover_one(desk, name)
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
    named = ", ".join(outcome)
    detail = f"missing handler {named}; run recover where it is registered. Nothing was changed."
    return Recovered(transaction_id=name, outcome="parked", detail=detail)


def verify(desk: Desk, transaction_id: str | None) -> Procedure[Verification]:
    """Check the hash chain and every entry of one journal, or of all, one at a time."""
    found = Verification()
    if transaction_id is not None:
        yield from _verify_one(desk, transaction_id, found)
        return found
    after: int | None = None
    while True:
        query = Query(after=after, limit=PAGE)
        page = yield from blocking(partial(desk.store.find, query))
        for listed in page:
            yield from _verify_one(desk, listed.summary.transaction_id, found)
        if len(page) < PAGE:
            return found
        after = page[-1].position


def _verify_one(desk: Desk, transaction_id: str, found: Verification) -> Procedure[None]:
    found.transactions += 1
    journal = yield from read_journal(desk, transaction_id)
    found.entries += len(journal.entries)
    try:
        load(journal)
    except (JournalCorrupt, JournalTooNew) as error:
        found.problems[transaction_id] = str(error)
