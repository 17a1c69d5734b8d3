"""Whether a driver may still make the call that it has announced.

Owns: what is done between a durable intent and its call where the driver's lease may have run out.
Rules:
  1. Safety is not in here (invariants I6, I15): the store refuses whoever was replaced, and a
     participant the call of one. But whoever knows that it may have been replaced makes no call.
  2. Nothing is asked while nothing is late: that is two looks at a clock.
  3. Order matters: the lease is renewed first, so that nobody takes the transaction any more; then
     it is looked at who has taken it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.clock import Since
from aumai_transactions.core.entries import Claimed
from aumai_transactions.drivers.desk import Desk, read_journal
from aumai_transactions.drivers.messages import unavailable
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.errors import JournalConflict, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.entries import Entry
    from aumai_transactions.drivers.run import Run


def moment_of(desk: Desk) -> Since | None:
    """Return this moment; None where the store needs no lease."""
    return None if desk.lease is None else Since.now()


def may_be_over(desk: Desk, asked: Since | None) -> bool:
    """Tell whether somebody may have taken over, although the store has accepted an append.

    True where a renewal is late, or the process stood still between asking the store and now.

    Args:
        desk: The manager's.
        asked: When the append was asked for.
    """
    lease = desk.lease
    if lease is None or asked is None:
        return False
    return lease.is_late or asked.seconds_max > lease.pause_seconds


def see_whose(desk: Desk, run: Run) -> Procedure[None]:
    """Renew the lease, and go on only where nobody has taken the transaction meanwhile.

    Raises:
        JournalConflict: Somebody has.
        StoreUnavailable: Nobody can tell now.
    """
    if desk.lease is None:
        return
    # All that was seen is durable: if somebody has taken over, nothing of it is late.
    run.unrecorded = []
    try:
        yield from blocking(desk.lease.renew)
        journal = yield from read_journal(desk, run.transaction_id)
    except StoreUnavailable as error:
        raise unavailable(run, error) from error
    if journal.token != run.token:
        raise JournalConflict(run.transaction_id, "somebody else has claimed it since")


def is_idle_claim(run: Run, entries: Sequence[Entry]) -> bool:
    """True where nothing follows from a claim; that a driver has died is news in any case."""
    claim, locks = entries[0], run.saga.locks
    waits = locks is not None and locks.queued
    return len(entries) == 1 and isinstance(claim, Claimed) and not (claim.takeover or waits)
