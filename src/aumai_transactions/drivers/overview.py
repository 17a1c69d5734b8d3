"""All about one transaction, from one reading of its journal.

Owns: what somebody sees who looks at a transaction that they do not drive, and which ones nobody
drives.
"""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.entries import PlanRecorded, RollbackStarted, StepInDoubt
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import replay
from aumai_transactions.core.outcome import (
    is_runnable,
    result_of,
    summary_of,
    transaction_of,
)
from aumai_transactions.core.planning import CRASH
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.drivers.desk import Desk, event_of, read_journal
from aumai_transactions.drivers.operations import Procedure
from aumai_transactions.models import StepState, TransactionState

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.models import Event, Transaction, TransactionResult
    from aumai_transactions.store import Store


NO_DRIVER = ""
WAITING_MAX = 10_000
FAR = 2**62
"""Behind every time that anything can wait for."""


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


class Rollback(NamedTuple):
    """Say what a rollback would do.

    Args:
        undoes: The steps that it would undo, or has still to undo, in its order.
        keeps: The steps that have taken effect, and that it would leave in place.
    """

    undoes: list[str]
    keeps: list[str]


def rollback_of(look: Look) -> Rollback:
    """Return what a rollback would do, from here."""
    saga = copy.deepcopy(look.saga)
    _go_back(saga)
    undoes = [saga.steps[index].step_id for index in reversed(saga.undo)]
    keeps = [
        step.step_id
        for step in (saga.steps[index] for index in saga.effects)
        if not (step.to_undo or step.simulated or step.definition.effect == "none")
        and step.definition.compensating_action is None
    ]
    return Rollback(undoes, keeps)


def _go_back(saga: Saga) -> None:
    """Let a saga go back that is nobody's, to see what it would undo.

    Why not said here: what is undone, and in which order, is said once, where it goes back.
    """
    if saga.state not in (TransactionState.active, TransactionState.pending):
        return
    at = saga.updated_at
    for step in saga.steps:
        if step.state is StepState.running:
            evolve(saga, StepInDoubt(at, step.step_id, step.attempt, "crash", CRASH))
    # Why: what may be committed already does not go back, and whoever asks for it is told so.
    with contextlib.suppress(IllegalEntry):
        evolve(saga, RollbackStarted(at, "requested"))


def unattended(store: Store) -> set[str]:
    """Return what has something to be done, and what no living process has."""
    # Why a driver that is none: whatever any driver has that lives is left out.
    return set(store.due(NO_DRIVER, WAITING_MAX, FAR))
