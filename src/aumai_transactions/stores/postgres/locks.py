"""The table of locks, as SQL.

Owns: how it is read, and how what was decided about a batch of appends is written into it.
Rules:
  1. What may be held is decided by `core.locking`, on what nobody else can change meanwhile: the
     rows of `resources` are held from before the look until the COMMIT, in the order of names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.lock_book import LockBook
from aumai_transactions.core.locking import Change, Fence, Lock, LockTable, whose_turn
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aumai_transactions.store import Append
    from aumai_transactions.stores.postgres.pool import Lent


def table_of(lent: Lent, resources: Collection[str] | None) -> LockTable:
    """Return the locks on these resources and on all that are waited for; None for all locks."""
    if resources is None:
        rows = lent.read(statement("all_locks")).fetchall()
        resources = {row[0] for row in rows}
    else:
        rows = lent.read(statement("locks_seen"), {"names": list(resources)}).fetchall()
    fences = {name: Fence() for name in resources}
    for name, token, version in lent.read(statement("fences"), {"names": list(fences)}).fetchall():
        fences[name] = Fence(token, version)
    return LockTable([Lock(*row) for row in rows], fences)


def book_for(lent: Lent, appends: Sequence[Append]) -> LockBook:
    """Return the locks that a batch of appends is about, which nobody else can change now."""
    ids = sorted({append.transaction_id for append in appends})
    mine = lent.read(statement("locks_of"), {"ids": ids}).fetchall()
    names = {row[0] for row in mine}
    for append in appends:
        names |= {holding.resource for holding in append.holdings or ()}
        names |= {read.name for read in append.reads}
    values = {"names": sorted(names)}
    lent.read(statement("claim_resources"), values)
    held = lent.read(statement("hold_resources"), values).fetchall()
    fences = {name: Fence(token, version) for name, token, version in held}
    rows = lent.read(statement("locks_on"), values).fetchall()
    return LockBook.of_batch([Lock(*row) for row in rows], fences)


def write(lent: Lent, changes: Mapping[str, Sequence[Change]], book: LockBook | None) -> None:
    """Write what has changed in the table of locks.

    Args:
        lent: In a transaction that holds the resources' rows.
        changes: What has changed, in order, by transaction.
        book: How the table stands with all of it; None where nothing has.
    """
    if book is None:
        return
    said = [change for one in changes.values() for change in one]
    resources = {name for change in said for name in change.freed}
    resources |= {use.name for change in said for use in change.waits}
    resources |= {holding.resource for change in said for holding in change.granted}
    if not resources:
        return
    # Why by what there is now: what a batch has taken and let go of again need not be written.
    now = [lock for lock in book.table(resources, circles=False).locks if lock.is_new]
    gone = [lock.ticket for change in said for lock in change.gone]
    lent.read(statement("remove_locks"), {"tickets": gone})
    new = sorted(
        (lock for lock in now if lock.transaction_id in changes), key=lambda lock: lock.ticket
    )
    if new:
        lent.read(
            statement("add_locks"),
            {
                "resource": [lock.resource for lock in new],
                "transaction_id": [lock.transaction_id for lock in new],
                "mode": [lock.mode for lock in new],
                "token": [lock.token for lock in new],
                "cost": [lock.cost for lock in new],
            },
        )
    table = book.table(resources, circles=False)
    turns = whose_turn(table.locks, {name: one for name, one in changes.items() if one})
    if turns:
        lent.read(statement("wake"), {"ids": turns})
    fences = table.fences
    lent.read(
        statement("move_fences"),
        {
            "name": list(fences),
            "token": [fence.token for fence in fences.values()],
            "version": [fence.version for fence in fences.values()],
        },
    )
