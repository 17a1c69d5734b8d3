"""How a transaction looks who holds what it wants.

Owns: the look itself, and what it means for when to look again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.decider import advance
from aumai_transactions.core.observations import LocksSeen
from aumai_transactions.drivers.operations import Procedure, blocking

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.locking import LockTable
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.run import Run


def shown_locks(desk: Desk, run: Run) -> Procedure[LockTable]:
    """Return the table of locks as far as a transaction has to look at it."""
    names = () if run.saga.locks is None else tuple(run.saga.locks.look)
    return (yield from blocking(partial(desk.store.locks, names)))


def with_locks(run: Run, table: LockTable, now: int) -> tuple[list[Entry], list[Call]]:
    """Decide on what the table of locks shows; return the entries and the calls."""
    locks = run.saga.locks
    decided = advance(run.saga, [LocksSeen(table)], now, run.parallel_max, run.serves)
    if locks is not None:
        if locks.look:
            # Still in somebody's way.
            run.look_at = now + round(locks.pause_seconds * 1_000_000)
        locks.look.clear()
        locks.checked = False
    return decided
