"""What this process knows about a transaction beyond the journal.

Owns: the callers' objects, and which transactions are being driven here right now.
Rules:
  1. Nothing here is the truth. It may be lost at any time; the journal says what happened.
  2. With a durable store, only what is not saved yet and what somebody still holds is kept.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import InvalidTransactionState
from aumai_transactions.models import TransactionState

if TYPE_CHECKING:
    from collections.abc import Container

    from aumai_transactions.actions import ActionRegistry
    from aumai_transactions.core.locking import Holding
    from aumai_transactions.core.observations import Observation
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.shared import Shared
    from aumai_transactions.models import Event, Transaction, TransactionResult, TransactionStep

_SEQUENCE = "_sequence"


@dataclass(slots=True, eq=False)
class Run:
    """Hold one transaction while it is driven here.

    Args:
        transaction_id: The transaction.
        saga: What the journal says.
        registry: The handlers that serve it.
        transaction: The caller's object; None where no caller holds one.
        models: The caller's step objects, by index, as they were when the plan was frozen.
        causes: What the last call of a step's action raised here, itself, by step id.
        interrupt: A cancellation that arrived meanwhile; raised again once all is recorded.
        is_cancelled: True once that cancellation has been journaled.
        sequence: The last entry known to be durable.
        token: The fencing token under which this process acts; 0 where it has none.
        hook_warnings: What went wrong in the user's hooks.
        result: The outcome, once there is one.
        is_over: True once nothing is driven here any more.
        announced: The state with the last entry that the user's hook was told about.
        is_callers: True where whoever began the transaction waits for it here: an interrupt then
            means that it is not wanted any more. Who only carries on what others began just stops.
        is_shared: True where a program carries it out step by step.
        shared: What those share who take part in it then.
        unannounced: What the user's hook is to be told of a shared one, outside its lock.
        trace: What whoever watches it remembers about it; see `telemetry.py`.
        planned_at: By which time it was planned last; microseconds since 1970 UTC.
        parallel_max: How many of its calls may be under way at once.
        holdings: What the store is known to keep of its locks; None where that is not known.
        is_released: True where this process has let go of it with its last append.
        serves: The agents on whose behalf calls are made here; None for all.
        unrecorded: What was seen and is not durable yet.
        look_at: When to look again at the resources that it waits for; microseconds since 1970 UTC.
        wait_until: Until when times to come are waited for here; microseconds since 1970 UTC, None
            for ever.
        terms: Under which what is being decided now counts.
    """

    transaction_id: str
    saga: Saga
    registry: ActionRegistry
    transaction: Transaction | None = None
    models: list[TransactionStep] = field(default_factory=list)
    causes: dict[str, BaseException] = field(default_factory=dict)
    interrupt: BaseException | None = None
    is_cancelled: bool = False
    sequence: int = 0
    token: int = 0
    hook_warnings: list[str] = field(default_factory=list)
    result: TransactionResult | None = None
    is_over: bool = False
    announced: TransactionState = TransactionState.pending
    is_callers: bool = True
    wait_until: int | None = None
    holdings: tuple[Holding, ...] | None = None
    look_at: int | None = None
    is_released: bool = False
    serves: Container[str] | None = None
    unrecorded: list[Observation] = field(default_factory=list)
    parallel_max: int = 1
    planned_at: int = 0
    is_shared: bool = False
    shared: Shared | None = None
    unannounced: list[Event] = field(default_factory=list)
    terms: Terms = ANY
    trace: Any = None

    def __post_init__(self) -> None:
        self.announced = self.saga.state

    def attach(self, transaction: Transaction) -> None:
        """Let a caller's object follow this run."""
        self.transaction = transaction
        self.models = list(transaction.steps)


class Held(NamedTuple):
    """Hold a caller's object and the sequence that it shows; 0 where it was never saved."""

    transaction: Transaction
    sequence: int


class Book:
    """Hold the callers' objects of one manager, and what it is driving.

    Args:
        keeps_all: True where no store remembers for longer than this process, so that nothing
            may be forgotten.
    """

    def __init__(self, *, keeps_all: bool) -> None:
        self._keeps_all = keeps_all
        self._lock = threading.Lock()
        self._kept: dict[str, Transaction] = {}
        self._seen: weakref.WeakValueDictionary[str, Transaction] = weakref.WeakValueDictionary()
        self._runs: dict[str, Run] = {}

    def hold(self, transaction: Transaction, sequence: int) -> None:
        """Take in a caller's object that shows the journal up to this sequence."""
        # Why on the object itself: the number lives exactly as long as what it is about, and a
        # copy of the object shows the same.
        transaction.__dict__[_SEQUENCE] = sequence
        name = transaction.transaction_id
        if sequence == 0 or self._keeps_all:
            self._kept[name] = transaction
        else:
            self._kept.pop(name, None)
            self._seen[name] = transaction

    def get(self, transaction_id: str) -> Held | None:
        """Return the caller's object of this id, if anybody holds one."""
        transaction = self._kept.get(transaction_id) or self._seen.get(transaction_id)
        if transaction is None:
            return None
        return Held(transaction, transaction.__dict__[_SEQUENCE])

    def unsaved(self) -> list[Transaction]:
        """Return the transactions that no store knows yet, oldest first."""
        return [kept for kept in list(self._kept.values()) if kept.__dict__[_SEQUENCE] == 0]

    def all_kept(self) -> list[Transaction]:
        """Return every object that is kept here, oldest first."""
        return list(self._kept.values())

    def enter(self, run: Run, call: str) -> None:
        """Say that this run is driven here from now on.

        Raises:
            InvalidTransactionState: It is driven here already.
        """
        with self._lock:
            other = self._runs.get(run.transaction_id)
            if other is not None:
                raise InvalidTransactionState(
                    run.transaction_id,
                    other.saga.state.value,
                    call,
                    "It is being carried out in this process right now.",
                )
            self._runs[run.transaction_id] = run

    def leave(self, run: Run) -> None:
        """Say that this run is not driven here any more."""
        with self._lock:
            self._runs.pop(run.transaction_id, None)
        run.is_over = True

    def run_of(self, transaction_id: str) -> Run | None:
        """Return the run of this transaction, if it is driven here."""
        return self._runs.get(transaction_id)

    def runs(self) -> list[Run]:
        """Return what is driven here."""
        with self._lock:
            return list(self._runs.values())

    def driven(self) -> list[str]:
        """Return the ids of what is driven here."""
        return list(self._runs)

    def after_fork_in_child(self) -> None:
        """Let go of the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def count(self) -> int:
        """Return how many transactions are driven here."""
        return len(self._runs)

    def is_driving(self) -> bool:
        """Tell whether anything is driven here."""
        return bool(self._runs)
