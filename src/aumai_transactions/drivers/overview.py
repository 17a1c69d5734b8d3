"""All about one transaction, from one reading of its journal.

Owns: what somebody sees who looks at a transaction that they do not drive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import replay
from aumai_transactions.core.outcome import (
    is_runnable,
    result_of,
    summary_of,
    transaction_of,
)
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.desk import Desk, event_of, read_journal
from aumai_transactions.drivers.operations import Procedure

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.models import Event, Transaction, TransactionResult


class Look(NamedTuple):
    """Hold how a transaction stood at one moment.

    Args:
        transaction: Its steps, and what was said when it was begun.
        result: Its outcome so far.
        events: Its journal, entry by entry.
        summary: What lists tell of it.
        driver_id: Who has it; None where nobody does.
        is_runnable: True where a driver has something to do.
        hashes: The hash of each entry, checked against the chain.
        saga: What the journal says.
    """

    transaction: Transaction
    result: TransactionResult
    events: list[Event]
    summary: Summary
    driver_id: str | None
    is_runnable: bool
    hashes: list[bytes]
    saga: Saga

    @property
    def sequence(self) -> int:
        """The place of its last entry."""
        return self.saga.sequence


def look_at(desk: Desk, transaction_id: str) -> Procedure[Look]:
    """Return all about a transaction, every entry checked.

    Raises:
        TransactionNotFound: The store does not hold it.
        JournalCorrupt: Its journal is damaged.
    """
    journal = yield from read_journal(desk, transaction_id)
    saga = Saga(transaction_id)
    events = [event_of(saga, saga.sequence, entry) for entry in replay(journal, saga)]
    saga.driver_id = journal.driver_id
    return _of(desk, saga, events, [entry.hash for entry in journal.entries])


def look_at_new(desk: Desk, transaction_id: str, definition: Definition) -> Look:
    """Return all about a transaction of which nothing is durable yet."""
    saga = Saga(transaction_id)
    evolve(saga, PlanRecorded(definition.created_at, definition))
    saga.sequence = 0
    return _of(desk, saga, [], [])


def _of(desk: Desk, saga: Saga, events: list[Event], hashes: list[bytes]) -> Look:
    return Look(
        transaction_of(saga),
        result_of(saga, durable=desk.store.is_durable),
        events,
        summary_of(saga),
        saga.driver_id,
        is_runnable(saga),
        hashes,
        saga,
    )
