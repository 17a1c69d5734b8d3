"""What a manager does with a caller's transaction: every procedure of it, written once.

Owns: how a transaction is begun under a key, committed, saved, rolled back and cancelled. The
loop that carries one out is in `driving.py`, wishes and waiting are in `asking.py`.
Rules:
  1. Recovery, and whatever a person asks for, goes through the same loop; there is no second
     way to act (invariant I14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from aumai_transactions.core import restoring
from aumai_transactions.core.codec import same_definition
from aumai_transactions.core.journal import load
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    Observation,
    PlanGiven,
    RollbackCalled,
    UndoAsked,
)
from aumai_transactions.core.outcome import transaction_of
from aumai_transactions.core.risks import risks_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.states import ACTIVE, PENDING
from aumai_transactions.core.tracing import without_trace
from aumai_transactions.core.values import clone
from aumai_transactions.drivers.asking import (
    WAIT_SECONDS_MAX,
    ask,
    leave,
    refuse_own_handler,
    see_through,
    waiting_until,
    waits_for_a_time,
)
from aumai_transactions.drivers.desk import (
    Desk,
    check_transaction,
    current,
    id_of,
    pending_run,
    read_result,
    read_saga,
    read_transaction,
    whole_and_part,
)
from aumai_transactions.drivers.driving import (
    MOVED,
    HeldByAnother,
    append_request,
    decide_and_evolve,
    drive,
)
from aumai_transactions.drivers.finishing import finish
from aumai_transactions.drivers.freezing import frozen
from aumai_transactions.drivers.operations import DoSleep, Procedure, blocking
from aumai_transactions.drivers.parts import Part
from aumai_transactions.drivers.repeating import check_whole, other_plan, repeat_of, start_repeating
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.submitting import submit
from aumai_transactions.drivers.taking_part import undo
from aumai_transactions.errors import (
    IdempotencyKeyReused,
    InvalidTransactionState,
    JournalConflict,
    UnknownAction,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aumai_transactions.actions import ActionRegistry
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.models import Risk, Transaction, TransactionResult

PAUSE_SECONDS = 0.001


def begin_keyed(desk: Desk, transaction: Transaction) -> Procedure[Transaction]:
    """Make a new transaction durable under its idempotency key, or return the one that has it.

    Raises:
        IdempotencyKeyReused: That one was begun with other options.
    """
    key = transaction.idempotency_key or ""
    info = yield from blocking(desk.store.info)
    # Why the id itself: so the store's own rule, that one sequence is taken once, makes the key
    # unique, and no store needs another. Why with the store: two stores know nothing of each
    # other, and participants would take their calls for each other's.
    name = str(uuid5(NAMESPACE_OID, f"{info.store_id}/{key}"))
    transaction.transaction_id = name
    definition = frozen(transaction, desk.registry, None)
    while True:
        journal = yield from blocking(lambda: desk.store.read(name))
        if journal is not None:
            break
        if desk.telemetry is not None:
            desk.telemetry.begin(transaction)
            definition = frozen(transaction, desk.registry, None)
        run = Run(name, Saga(name), desk.registry)
        entries = decide_and_evolve(desk, run, PlanGiven(definition))
        answer = yield from append_request(desk, run, entries)
        if answer is not MOVED:
            desk.announce(run, entries)
            desk.book.hold(transaction, run.saga.sequence)
            return transaction
    saga = load(journal)
    definition = without_trace(definition)
    recorded = saga.plan._replace(created_at=definition.created_at, steps=(), actions=None)
    recorded = without_trace(recorded)
    if not same_definition(recorded, definition):
        different = [
            field
            for field, old, new in zip(definition._fields, recorded, definition, strict=True)
            if repr(old) != repr(new)
        ]
        raise IdempotencyKeyReused(key, name, f"it was begun with another {', '.join(different)}")
    found = transaction_of(saga)
    if desk.book.get(name) is None:
        desk.book.hold(found, saga.sequence)
    start_repeating(found, saga.plan.steps)
    return found


def commit(
    desk: Desk,
    transaction: Transaction,
    by: str = "",
    wait_max_seconds: float = WAIT_SECONDS_MAX,
) -> Procedure[TransactionResult]:
    """Carry a pending transaction out to its end, and return the outcome.

    One that was begun under a key may have been carried out before; then its outcome is returned.
    """
    check_transaction(transaction, "commit")
    if desk.host is not None:
        return _commit_hosted(desk, transaction, by, wait_max_seconds)
    if transaction.idempotency_key is None:
        return _commit_new(desk, transaction, by, wait_max_seconds)
    return _commit_keyed(desk, transaction, by, wait_max_seconds)


def _commit_hosted(
    desk: Desk, transaction: Transaction, by: str, wait_max_seconds: float
) -> Procedure[TransactionResult]:
    """Leave a transaction to the engine of this manager, and wait for the outcome."""
    name = transaction.transaction_id
    if transaction.state is PENDING or transaction.idempotency_key is None:
        registry = desk.registry_for(transaction.actions)
        _refuse_unknown(name, registry, (step.action for step in transaction.steps))
        named = (step.compensating_action for step in transaction.steps)
        _refuse_unknown(name, registry, named)
        yield from submit(desk, transaction, by, here=True)
        # Why: whoever interrupts the wait means that the transaction is not wanted any more.
        transaction.state = ACTIVE
    while True:
        until = waiting_until(desk, wait_max_seconds)
        result = yield from see_through(desk, name, until, others=True)
        is_in_hand = result.waiting is None or result.waiting.reason == "running"
        if result.is_final or not is_in_hand:
            break
    saga = yield from read_saga(desk, name)
    shown = current(desk, saga)
    transaction.state, transaction.steps = shown.state, shown.steps
    return result


def _commit_keyed(
    desk: Desk, transaction: Transaction, by: str, wait_max_seconds: float
) -> Procedure[TransactionResult]:
    repeat = repeat_of(transaction)
    if repeat is not None:
        check_whole(transaction, repeat)
    while transaction.state is PENDING:
        mine = frozen(transaction, desk.registry_for(transaction.actions), desk.before_record)
        given = [(step, step.data) for step in transaction.steps]
        try:
            return (yield from _commit_new(desk, transaction, by, wait_max_seconds, mine))
        except (JournalConflict, InvalidTransactionState):
            # Somebody else was faster with the same key, which is no harm if the plan is the same.
            if (yield from _is_begun_elsewhere(desk, transaction, mine)):
                break
        # Why: the hook `before_record` is to see what the caller gave, not what it returned.
        for step, data in given:
            step.data = data
    if repeat is not None:
        repeat.is_waiting = True
    until = waiting_until(desk, wait_max_seconds)
    result = yield from see_through(desk, transaction.transaction_id, until, others=True)
    saga = yield from read_saga(desk, transaction.transaction_id)
    shown = transaction_of(saga)
    transaction.state, transaction.steps = shown.state, shown.steps
    return result


def _is_begun_elsewhere(desk: Desk, transaction: Transaction, mine: Definition) -> Procedure[bool]:
    """Tell whether somebody else carries out the same plan; False where it was only saved.

    Args:
        desk: The manager's.
        transaction: The caller's object.
        mine: The caller's plan.

    Raises:
        IdempotencyKeyReused: It is another plan.
        InvalidTransactionState: It came out of a backup, and nobody has let it go on.
    """
    name = transaction.transaction_id
    while True:
        under_way = desk.book.run_of(name) is not None
        saga = yield from read_saga(desk, name)
        is_begun = saga.state is not PENDING or saga.commit_requested
        if is_begun or not under_way:
            break
        # Its first entries are not durable yet, so nobody can say what its plan is.
        yield DoSleep(PAUSE_SECONDS)
    restoring.refuse_held(saga, "commit")
    is_empty = not is_begun and not saga.steps
    different = None if is_empty else other_plan(transaction, mine, saga.plan)
    if different is not None:
        detail = f"somebody else has another plan under it ({different})"
        raise IdempotencyKeyReused(transaction.idempotency_key or "", name, detail)
    if not is_begun:
        desk.book.hold(transaction, saga.sequence)
    return is_begun


def _commit_new(
    desk: Desk,
    transaction: Transaction,
    by: str,
    wait_max_seconds: float,
    definition: Definition | None = None,
) -> Procedure[TransactionResult]:
    name = transaction.transaction_id
    run = yield from pending_run(desk, transaction, "commit")
    definition = _frozen(desk, run, transaction, definition)
    if desk.strict:
        _refuse_unknown(name, run.registry, (step.action for step in definition.steps))
        undos = (step.compensating_action for step in definition.steps)
        _refuse_unknown(name, run.registry, undos)
    return (yield from _drive_pending(desk, run, definition, CommitCalled(by), wait_max_seconds))


def check(desk: Desk, transaction: Transaction | str) -> Procedure[list[Risk]]:
    """Return the risks of a transaction; nothing of it is run, and no hook is called."""
    name = id_of(transaction)
    if not isinstance(transaction, str):
        check_transaction(transaction, "check")
    if isinstance(transaction, str) or transaction.state is not PENDING:
        transaction = yield from read_transaction(desk, name)
    registry = desk.registry_for(transaction.actions)
    if transaction.state is PENDING:
        definition = frozen(transaction, registry, None)
    else:
        saga = yield from read_saga(desk, transaction.transaction_id)
        definition = saga.plan
    return risks_of(definition, {action.name: action.is_plain for action in registry.everything()})


def save(desk: Desk, transaction: Transaction) -> Procedure[None]:
    """Make a pending transaction durable as it stands, without starting it."""
    check_transaction(transaction, "save")
    run = yield from pending_run(desk, transaction, "save")
    definition = _frozen(desk, run, transaction)
    entries = decide_and_evolve(desk, run, PlanGiven(definition))
    if not entries:
        return
    answer = yield from append_request(desk, run, entries)
    if answer is MOVED:
        raise JournalConflict(
            run.transaction_id, "somebody else changed it while it was saved here"
        )
    desk.announce(run, entries)
    desk.book.hold(transaction, run.saga.sequence)


def rollback(
    desk: Desk,
    transaction: Transaction,
    by: str = "",
    wait_max_seconds: float = WAIT_SECONDS_MAX,
) -> Procedure[TransactionResult]:
    """Undo a pending or active transaction, and return the outcome."""
    check_transaction(transaction, "rollback")
    name = transaction.transaction_id
    wish = RollbackCalled(by)
    held = desk.book.get(name)
    here = desk.book.run_of(name)
    if here is not None and here.shared is not None and here.shared.is_begun:
        refuse_own_handler(desk, name)
        return (yield from finish(desk, here.shared, Part(name), wish, wait_max_seconds))
    if here is not None:
        return (yield from ask(desk, name, wish, wait_max_seconds=wait_max_seconds))
    if held is None:
        saga = yield from read_saga(desk, name)
        desk.book.hold(transaction, saga.sequence)
        return (yield from ask(desk, name, wish, wait_max_seconds=wait_max_seconds))
    if held.sequence > 0:
        saga = yield from read_saga(desk, name)
        # Why the caller's object where it is current: what was added to it since counts as well.
        is_begun = saga.state is not PENDING or saga.commit_requested
        if is_begun or saga.sequence != held.sequence:
            return (yield from ask(desk, name, wish, wait_max_seconds=wait_max_seconds))
    run = yield from pending_run(desk, transaction, "roll back")
    definition = _frozen(desk, run, transaction)
    if desk.strict or desk.host is not None:
        undos = (step.compensating_action for step in definition.steps)
        _refuse_unknown(name, run.registry, undos)
    if desk.host is not None:
        yield from save(desk, transaction)
        return (yield from ask(desk, name, wish, wait_max_seconds=wait_max_seconds))
    return (yield from _drive_pending(desk, run, definition, wish, wait_max_seconds))


def rollback_by_id(
    desk: Desk, transaction_id: str, *, wait_max_seconds: float = WAIT_SECONDS_MAX
) -> Procedure[TransactionResult]:
    """Undo a transaction, or a nested one, that is known by its id."""
    name, scope_id = yield from whole_and_part(desk, transaction_id)
    if scope_id is None:
        transaction = yield from read_transaction(desk, name)
        return (yield from rollback(desk, transaction, wait_max_seconds=wait_max_seconds))
    here = desk.book.run_of(name)
    if here is not None and here.shared is not None:
        refuse_own_handler(desk, name)
        yield from undo(desk, here.shared, Part(name), UndoAsked(scope_id=scope_id))
    else:
        wish = RollbackCalled(scope_id=scope_id)
        yield from ask(desk, name, wish, wait_max_seconds=0.0)
    return (yield from read_result(desk, transaction_id))


def is_left_behind(desk: Desk, transaction: Transaction) -> bool:
    """Tell whether an interrupt has left this transaction half-way, and nobody drives it here."""
    repeat = repeat_of(transaction)
    if repeat is not None and repeat.is_waiting:
        # Who only waits for what others have begun may stop waiting; it is not theirs to undo.
        return False
    under_way = not transaction.state.is_final and transaction.state is not PENDING
    return under_way and desk.book.run_of(transaction.transaction_id) is None


def cancel(desk: Desk, transaction: Transaction) -> Procedure[TransactionResult]:
    """Undo a transaction whose procedure was interrupted between two operations."""
    wish = RollbackCalled(note="interrupted", reason="cancelled")
    return (yield from ask(desk, transaction.transaction_id, wish))


def _drive_pending(
    desk: Desk,
    run: Run,
    definition: Definition,
    wish: CommitCalled | RollbackCalled,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    run.wait_until = waiting_until(desk, wait_max_seconds)
    desk.book.enter(run, "commit" if isinstance(wish, CommitCalled) else "roll back")
    try:
        seen: list[Observation] = [PlanGiven(definition), wish, DriverArrived(desk.driver_id)]
        result = yield from drive(desk, run, seen)
    except HeldByAnother:
        raise JournalConflict(run.transaction_id, "somebody else is carrying it out") from None
    finally:
        leave(desk, run)
    if not waits_for_a_time(result, run):
        return result
    until = run.wait_until
    return (yield from see_through(desk, run.transaction_id, until, is_callers=True))


def _frozen(
    desk: Desk, run: Run, transaction: Transaction, definition: Definition | None = None
) -> Definition:
    if definition is None:
        definition = frozen(transaction, run.registry, desk.before_record)
    if desk.before_record is not None:
        for model, step in zip(run.models, definition.steps, strict=False):
            model.data = clone(step.data)
    return definition


def _refuse_unknown(
    transaction_id: str, registry: ActionRegistry, names: Iterable[str | None]
) -> None:
    missing = registry.missing(name for name in names if name is not None)
    if missing:
        raise UnknownAction(
            missing,
            transaction_id,
            "Register it with action_handlers= or @manager.action; on the command line, name the "
            "manager that has it with --app module:attribute. Nothing was run.",
        )
