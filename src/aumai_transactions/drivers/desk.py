"""What the procedures of one manager share, and how they read.

Owns: the way from a transaction id to its saga, its handlers and its caller's object.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import FOREIGN, Action, ActionRegistry
from aumai_transactions.core.codec import describe
from aumai_transactions.core.decider import next_after
from aumai_transactions.core.entries import (
    Entry,
)
from aumai_transactions.core.evolution import STATE_WITH
from aumai_transactions.core.journal import Journal, load, replay
from aumai_transactions.core.outcome import result_of, scope_result, transaction_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.states import (
    PENDING,
)
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import checked_text, clone, shown
from aumai_transactions.drivers.append_queue import AppendQueue
from aumai_transactions.drivers.ids import new_id
from aumai_transactions.drivers.noticing import ConflictWatch
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.drivers.run import Book, Run
from aumai_transactions.errors import (
    DefinitionError,
    InvalidData,
    InvalidTransactionState,
    JournalConflict,
    TransactionNotFound,
)
from aumai_transactions.forking import watch
from aumai_transactions.models import Event, Transaction, TransactionResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.clock import Clock
    from aumai_transactions.drivers.background import LeaseKeeper
    from aumai_transactions.drivers.freezing import BeforeRecord
    from aumai_transactions.drivers.hooks import Hooks
    from aumai_transactions.drivers.host import Host
    from aumai_transactions.drivers.noticing import Noticed
    from aumai_transactions.drivers.telemetry import Watcher
    from aumai_transactions.store import Append, AppendAnswer, Store

log = logging.getLogger("aumai_transactions")

ActionSource = Callable[[Mapping[str, Any]], Iterable[Action]]
"""Given the action definitions that a journal holds itself, return the actions."""

# Why not the module's own: whoever seeds that one, in a test or a simulation, means to be the only
# one who draws from it.
_DICE = random.Random()  # noqa: S311 (the jitter of waits)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Desk:
    """Hold what the procedures of one manager share.

    Args:
        store: The journal.
        driver_id: Who this manager is to the store.
        registry: Its handlers.
        book: The callers' objects.
        clock: The time.
        strict: True where an unknown action is refused before anything runs.
        before_record: The user's hook that cleans data before it is journaled.
        on_event: The user's hooks that see each entry once it is durable.
        telemetry: Who watches; None for nobody.
        action_source: Where the actions come from that a journal defines itself.
        draw: Draws a number from 0 to 1, for the jitter of waits.
        is_inherited: True in a child of fork, whose parent the store belongs to.
        lease: What renews this manager's lease; None where the store needs none.
        new_id: Draws the name of a new transaction.
        nonce: What the names of its appends begin with; no other manager has the same.
        parallel_max: How many steps of one transaction may run at once.
        hosted: Who its engine's executions in this process are to the store.
        host: What hands its planned transactions to an engine; None where they are driven here.
    """

    store: Store
    driver_id: str
    registry: ActionRegistry
    book: Book
    clock: Clock
    strict: bool = False
    before_record: BeforeRecord | None = None
    on_event: Hooks | None = None
    telemetry: Watcher | None = None
    action_source: ActionSource | None = None
    draw: Callable[[], float] = _DICE.random
    lease: LeaseKeeper | None = None
    new_id: Callable[[], str] = new_id
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    parallel_max: int = 1
    hosted: set[str] = field(default_factory=set)
    host: Host | None = None
    is_inherited: bool = False
    _queue: AppendQueue | None = None
    _watch: ConflictWatch = field(init=False)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        """Get ready to look; nobody does yet."""
        self._watch = ConflictWatch(self.store, self.clock.now)
        watch(self)

    def after_fork_in_child(self) -> None:
        """Let a child of fork be refused by the store, and not wait for its parent's threads."""
        self.is_inherited = self.store.is_blocking
        self._queue = None
        self.book.after_fork_in_child()

    def append_id(self) -> str:
        """Return a name that no other append has, from any process."""
        return f"{self.nonce}.{next(self._numbers)}"

    def append(self, append: Append) -> AppendAnswer:
        """Append from this thread, together with what other threads append at the same time."""
        if not self.store.is_blocking:
            return self.store.append((append,))[0]
        if self._queue is None:
            self._queue = AppendQueue(self.store)
        return self._queue.append(append)

    def registry_for(self, definitions: Mapping[str, Any] | None) -> ActionRegistry:
        """Return the handlers for a transaction that may define some of its actions itself."""
        if not definitions or self.action_source is None:
            return self.registry
        registry = ActionRegistry(self.registry)
        for name, definition in definitions.items():
            try:
                for action in self.action_source({name: definition}):
                    registry.add(action)
            except DefinitionError as error:
                # Why no error: what cannot be made here is a missing handler of this one
                # transaction, which is refused or left to others by name; the rest goes on.
                told = {"action": name, "driver_id": self.driver_id}
                log.warning("the action %r cannot be carried out here: %s", name, error, extra=told)
        return registry

    def registry_of(self, saga: Saga) -> ActionRegistry:
        """Return the handlers for going on with a transaction as the journal has it."""
        registry = self.registry_for(saga.plan.actions)
        names = {step.definition.action for step in saga.steps} if saga.is_interactive else ()
        foreign = [FOREIGN.get(name) for name in names if registry.get(name) is None]
        if not any(foreign):
            return registry
        registry = ActionRegistry(registry)
        for callee in foreign:
            if callee is not None:
                registry.add(callee.action)
        return registry

    def result_of(self, run: Run) -> TransactionResult:
        """Return the outcome of a run so far, with what only this process knows."""
        result = result_of(run.saga, durable=self.store.is_durable)
        result.warnings.extend(run.hook_warnings)
        result.attach_cause(run.causes.get(run.saga.failed_step or ""))
        return result

    def announce(self, run: Run, written: Sequence[Entry]) -> None:
        """Tell whoever watches, and the user's hooks, about entries that have become durable."""
        if self.telemetry is not None:
            self.telemetry.record(run, written)
        if self.on_event is None:
            return
        for event in self.events_of(run, written):
            if run.is_shared:
                run.unannounced.append(event)
            else:
                self.tell(run, event)

    def events_of(self, run: Run, written: Sequence[Entry]) -> Iterator[Event]:
        """Yield what the user's hook is told about entries that have just become durable."""
        first = run.saga.sequence - len(written) + 1
        for number, entry in enumerate(written, first):
            event = event_of(run.saga, number, entry)
            # Why not the saga's: it has said all of them already.
            event.state = run.announced = STATE_WITH.get(type(entry), run.announced)
            yield event

    def watch(self, noticed: Noticed) -> None:
        """Look from now on what others change of what a transaction has read."""
        self._watch.add(noticed)

    def close_blocks(self) -> None:
        """Let no block that is open do anything more; recovery settles what it has done."""
        self._watch.stop()
        left = []
        for run in self.book.runs():
            if run.shared is not None:
                run.shared.close()
                left += [run.transaction_id] if run.sequence > 0 else []
        if left:
            whose = "any manager" if self.store.is_durable else "a manager with this very store"
            text = (
                "blocks were open when their manager was closed: %s; recover() of %s settles them"
            )
            log.warning(text, ", ".join(left), whose)

    def tell(self, run: Run, event: Event) -> None:
        """Tell the user's hooks; what one raises becomes a warning."""
        if self.on_event is not None:
            self.on_event.tell(run, event)


def id_of(tx: object) -> str:
    """Return the id of a transaction that was given by its id, or as an object that has one.

    Raises:
        InvalidData: It is neither, or text that no store can hold.
    """
    name = tx if isinstance(tx, str) else getattr(tx, "transaction_id", None)
    if isinstance(name, str):
        return checked_text(name, "transaction")
    raise InvalidData("transaction", f"must be a Transaction or its id, not {shown(tx)}.")


def check_transaction(tx: object, call: str) -> None:
    """Refuse what is no transaction object, and one whose steps were replaced by something else.

    Raises:
        InvalidData: It is something else, such as an id.
    """
    if isinstance(tx, Transaction) and isinstance(tx.transaction_id, str):
        if not isinstance(tx.steps, list):
            problem = f"must be a list of steps, not {shown(tx.steps)}. Use add_step()."
            raise InvalidData("steps", problem)
        return
    problem = f"{call} takes a Transaction, not {shown(tx)}. get_transaction(id) returns one."
    raise InvalidData("transaction", problem)


def read_journal(desk: Desk, transaction_id: str) -> Procedure[Journal]:
    """Return a transaction's journal as the store has it.

    Raises:
        TransactionNotFound: The store does not hold it.
    """
    journal = yield from blocking(lambda: desk.store.read(transaction_id))
    if journal is None:
        info = yield from blocking(desk.store.info)
        raise TransactionNotFound(
            transaction_id,
            info.url,
            "See which there are with get_all_transactions(), or: aumai-transactions list",
        )
    return journal


def read_saga(desk: Desk, transaction_id: str) -> Procedure[Saga]:
    """Return what the journal says about a transaction, every entry checked."""
    journal = yield from read_journal(desk, transaction_id)
    return load(journal)


def read_events(desk: Desk, transaction_id: str) -> Procedure[list[Event]]:
    """Return a transaction's journal for people, every entry checked."""
    journal = yield from read_journal(desk, transaction_id)
    saga = Saga(transaction_id)
    return [event_of(saga, saga.sequence, entry) for entry in replay(journal, saga)]


def event_of(saga: Saga, sequence: int, entry: Entry) -> Event:
    """Return an entry as people and hooks see it.

    Args:
        saga: The transaction as it stands with the entry.
        sequence: The entry's place.
        entry: The entry.
    """
    kind, described = describe(entry)
    # Why a copy: a hook may change what it is given, and the saga must not change with it.
    fields = clone(described)
    for name in ("due_at", "until", "made_at"):
        if name in fields:
            fields[name] = instant(fields[name]).isoformat()
    # Why the step's own too: what adds a step holds the whole of it, its id inside. A wish for a
    # step has no id yet.
    step_id = fields.pop("step_id", None) or fields.get("step", {}).get("step_id") or None
    return Event(
        transaction_id=saga.transaction_id,
        sequence=sequence,
        kind=kind,
        at=instant(fields.pop("at")),
        state=saga.state,
        step_id=step_id,
        fields=fields,
    )


def whole_and_part(desk: Desk, transaction_id: str) -> Procedure[tuple[str, str | None]]:
    """Return the id of a transaction, and of the nested one in it that is meant.

    Why a look at the store: an id may have a dot of its own.
    """
    name, dot, scope_id = transaction_id.rpartition(".")
    if not dot or (yield from blocking(lambda: desk.store.read(transaction_id))) is not None:
        return transaction_id, None
    saga = yield from read_saga(desk, name)
    if scope_id not in saga.scopes:
        info = yield from blocking(desk.store.info)
        hint = f"Its root {name} has no nested transaction of that name."
        raise TransactionNotFound(transaction_id, info.url, hint)
    return name, scope_id


def read_result(desk: Desk, transaction_id: str) -> Procedure[TransactionResult]:
    """Return what the journal says about a transaction's outcome now."""
    transaction_id, scope_id = yield from whole_and_part(desk, transaction_id)
    saga = yield from read_saga(desk, transaction_id)
    if scope_id is not None:
        return scope_result(saga, scope_id, durable=desk.store.is_durable)
    if desk.book.get(transaction_id) is not None and desk.book.run_of(transaction_id) is None:
        current(desk, saga)
    return result_of(saga, durable=desk.store.is_durable)


def read_transaction(desk: Desk, transaction_id: str) -> Procedure[Transaction]:
    """Return the caller's object of this id, brought up to date, or a new one."""
    held = desk.book.get(transaction_id)
    if held is not None and (held.sequence == 0 or desk.book.run_of(transaction_id) is not None):
        return held.transaction
    saga = yield from read_saga(desk, transaction_id)
    return current(desk, saga)


def current(desk: Desk, saga: Saga) -> Transaction:
    """Return the caller's object of this saga, brought up to date, or a new one."""
    fresh = transaction_of(saga)
    held = desk.book.get(saga.transaction_id)
    if held is None:
        desk.book.hold(fresh, saga.sequence)
        return fresh
    transaction = held.transaction
    if held.sequence != saga.sequence:
        if transaction.state is PENDING and transaction.idempotency_key is not None:
            # Why not the caller's: whoever else has begun it under this key, the caller is still
            # putting the same plan together, which is to be compared and not replaced.
            return fresh
        known = {step.step_id: step for step in transaction.steps}
        for index, step in enumerate(fresh.steps):
            mine = known.get(step.step_id)
            if mine is not None:
                mine.state = step.state
                fresh.steps[index] = mine
        transaction.state = fresh.state
        transaction.steps = fresh.steps
        desk.book.hold(transaction, saga.sequence)
    return transaction


def read_run(desk: Desk, transaction_id: str) -> Procedure[Run]:
    """Return a run of a stored transaction, with its caller's object if somebody holds one."""
    saga = yield from read_saga(desk, transaction_id)
    run = Run(
        transaction_id,
        saga,
        desk.registry_of(saga),
        sequence=saga.sequence,
        parallel_max=desk.parallel_max,
    )
    if desk.book.get(transaction_id) is not None and desk.book.run_of(transaction_id) is None:
        run.attach(current(desk, saga))
    return run


def pending_run(desk: Desk, transaction: Transaction, call: str) -> Procedure[Run]:
    """Return a run of a transaction that is still pending, as its caller wants it.

    Raises:
        InvalidTransactionState: It is not pending any more.
        JournalConflict: Somebody else changed it since it was read here.
        TransactionNotFound: Neither this manager nor the store knows it.
    """
    name = transaction.transaction_id
    under_way = desk.book.run_of(name)
    if under_way is not None:
        raise InvalidTransactionState(
            name, under_way.saga.state.value, call, "It is being carried out right now."
        )
    held = desk.book.get(name)
    registry = desk.registry_for(transaction.actions)
    if held is not None and held.sequence == 0:
        run = Run(name, Saga(name), registry)
    else:
        saga = yield from read_saga(desk, name)
        if saga.state is not PENDING:
            raise InvalidTransactionState(name, saga.state.value, call, next_after(saga.state))
        if held is not None and held.sequence != saga.sequence:
            raise JournalConflict(name, "somebody else changed it since it was read here")
        run = Run(name, saga, registry, sequence=saga.sequence)
    run.parallel_max = desk.parallel_max
    run.attach(transaction)
    return run
