"""Checking what was written: that it still says what it said.

Owns: what is compared with what. Nothing here changes anything.
Rules:
  1. Every column beside a journal that can be told from it is told from it, and compared; what
     cannot be told is the store's own matter (`StoreInfo.problems`).
  2. Whoever appends meanwhile is not taken for damage: what does not fit is looked at once more.
  3. What a witness has seen must be there; see `core/witnesses.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.journal import replay
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.desk import Desk, read_journal
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.errors import (
    JournalCorrupt,
    JournalTooNew,
    StoreFormatError,
    TransactionNotFound,
)
from aumai_transactions.models import Verification
from aumai_transactions.store import Keeping, Query

if TYPE_CHECKING:
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.core.witnesses import Witness
    from aumai_transactions.store import Listed

PAGE = 500
LOOKS_MAX = 3


def verify(
    desk: Desk,
    transaction_id: str | None,
    *,
    witness: Witness | None = None,
    purged_before: int = 0,
) -> Procedure[Verification]:
    """Check one journal, or all of them and the store, one at a time.

    Args:
        desk: The manager's.
        transaction_id: Which; None for all.
        witness: What the store must hold; None where nobody has written that down.
        purged_before: What had ended before this time may be gone; microseconds since 1970 UTC.
    """
    found = Verification()
    there: set[str] = set()
    if transaction_id is None:
        yield from _verify_store(desk, found, witness)
    try:
        yield from _verify_all(desk, transaction_id, found, witness, there)
        if transaction_id is None:
            yield from _verify_owners(desk, found)
    except StoreFormatError as error:
        # What is behind it cannot be reached; what was found before it stands.
        if transaction_id is not None:
            raise
        found.store_problems.append(str(error))
        return found
    if witness is not None:
        missing = witness.missing(there, purged_before)
        if transaction_id is not None:
            missing = {name: why for name, why in missing.items() if name == transaction_id}
        found.problems |= missing
    if transaction_id is not None and transaction_id not in there | found.problems.keys():
        yield from read_journal(desk, transaction_id)
    return found


def _verify_store(desk: Desk, found: Verification, witness: Witness | None) -> Procedure[None]:
    """Check what belongs to no transaction."""
    store = desk.store
    if isinstance(store, Keeping):
        found.store_problems += yield from blocking(store.problems)
    if witness is None:
        return
    info = yield from blocking(store.info)
    if witness.store_id != info.store_id:
        found.store_problems.append(
            f"this is the store {info.store_id}, and the witness is of {witness.store_id}: another "
            "file stands in its place, or it is the witness of another store."
        )
    elif info.changes < witness.changes:
        found.store_problems.append(
            f"the store is at change {info.changes}, and the witness has seen it at "
            f"{witness.changes}: what was written since then is lost, or this is an older copy."
        )


def _verify_all(
    desk: Desk,
    transaction_id: str | None,
    found: Verification,
    witness: Witness | None,
    there: set[str],
) -> Procedure[None]:
    query = Query(prefix=transaction_id or "", limit=PAGE)
    while True:
        page = yield from blocking(partial(desk.store.find, query))
        for listed in page:
            name = listed.summary.transaction_id
            if transaction_id not in (None, name):
                continue
            there.add(name)
            found.transactions += 1
            problem = yield from _problem_of(desk, listed, found, witness)
            if problem is not None:
                found.problems[name] = problem
        if len(page) < PAGE:
            return
        query = query._replace(after=page[-1].position)


def _problem_of(
    desk: Desk, listed: Listed, found: Verification, witness: Witness | None
) -> Procedure[str | None]:
    """Return what is wrong with one journal, or with what stands beside it."""
    name = listed.summary.transaction_id
    line: Listed | None = listed
    hashes: list[bytes] = []
    problem: str | None = None
    for _ in range(LOOKS_MAX):
        if line is None:
            return None  # It was purged meanwhile.
        try:
            journal = yield from read_journal(desk, name)
        except (JournalCorrupt, TransactionNotFound) as error:
            again = yield from _line_of(desk, name)
            if isinstance(error, TransactionNotFound) and again is None and line is not listed:
                return None
            return str(error)
        saga = Saga(name)
        try:
            for _entry in replay(journal, saga):
                pass
        except (JournalCorrupt, JournalTooNew) as error:
            found.entries += len(journal.entries)
            return str(error)
        found.entries += len(journal.entries) - len(hashes)
        hashes = [entry.hash for entry in journal.entries]
        problem = yield from _mismatch(desk, line.summary, journal, saga)
        if problem is None:
            break
        # Why again: somebody may have appended between two reads.
        line, before = (yield from _line_of(desk, name)), line
        again_journal = yield from blocking(partial(desk.store.read, name))
        if line == before and again_journal == journal:
            return problem
    if problem is None and witness is not None:
        problem = witness.problem_of(name, hashes)
    return problem


def _line_of(desk: Desk, name: str) -> Procedure[Listed | None]:
    """Return the line that lists a transaction."""
    lines = yield from blocking(partial(desk.store.find, Query(prefix=name, limit=PAGE)))
    return next((line for line in lines if line.summary.transaction_id == name), None)


def _mismatch(desk: Desk, summary: Summary, journal: Journal, saga: Saga) -> Procedure[str | None]:
    """Return what does not say what the journal says."""
    name = saga.transaction_id
    if wrong := list(_wrong_fields(summary, saga)):
        return (
            f"the summary of transaction {name} does not fit its journal: {', '.join(wrong)}. "
            "Lists and recovery go by the summary; compare it with a backup."
        )
    if journal.token != saga.token:
        return (
            f"the summary of transaction {name} has token {journal.token!r}, its journal "
            f"{saga.token}. Compare it with a backup."
        )
    if journal.driver_id not in (None, saga.driver_id):
        return (
            f"the summary of transaction {name} has driver {journal.driver_id!r}, its journal "
            f"{saga.driver_id}. Compare it with a backup."
        )
    if saga.locks is not None:
        return (yield from _verify_locks(desk, saga))
    return None


def _wrong_fields(summary: Summary, saga: Saga) -> Iterator[str]:
    """Yield the names of the fields of a summary that its journal contradicts."""
    if summary.attention == "damaged":
        yield "it cannot be read"
        return
    told = summary_of(saga)
    if summary.due_at is None and saga.locks is not None:
        # It was its turn, and the store has said so.
        told = told._replace(due_at=None)
    if summary.next_agent is None:
        # Not known: an earlier release wrote the line.
        told = told._replace(next_agent=None)
    for field, mine, theirs in zip(told._fields, told, summary, strict=True):
        # Why the type as well: a flag is no number, and 60 is not 60.0.
        if mine != theirs or type(mine) is not type(theirs):
            yield field


def _verify_owners(desk: Desk, found: Verification) -> Procedure[None]:
    """Check that nothing is held, or waited for, by transactions that are not there."""
    table = yield from blocking(partial(desk.store.locks, None))
    for name in sorted({lock.transaction_id for lock in table.locks}):
        try:
            is_there = (yield from blocking(partial(desk.store.read, name))) is not None
        except JournalCorrupt:
            is_there = True  # It is named already.
        if not is_there:
            found.problems[name] = (
                f"the table of locks has lines of transaction {name}, which is not there. Others "
                "wait for it in vain; compare it with a backup."
            )


def _verify_locks(desk: Desk, saga: Saga) -> Procedure[str | None]:
    """Return what is wrong where the table of locks does not say what a journal says."""
    name = saga.transaction_id
    wanted = {(held.resource, held.mode, held.token) for held in holdings_of(saga)}
    try:
        table = yield from blocking(partial(desk.store.locks, None))
    except StoreFormatError as error:
        return str(error) if wanted else None
    lines = {
        (lock.resource, lock.mode, lock.token)
        for lock in table.locks
        if lock.transaction_id == name
    }
    low = [
        held.resource
        for held in holdings_of(saga)
        if held.token is not None and table.fence(held.resource).token < held.token
    ]
    if lines == wanted and not low:
        return None
    wrong = ", ".join(sorted({*low, *(resource for resource, _mode, _token in lines ^ wanted)}))
    return (
        f"the table of locks does not fit the journal of transaction {name}: {wrong}. Compare it "
        "with a backup."
    )
