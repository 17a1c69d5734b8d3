"""How a transaction is left to whoever carries it out.

Owns: what `submit` journals, and that nothing is added to a transaction behind that.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.observations import CommitCalled, Observation, PlanGiven
from aumai_transactions.core.states import PENDING
from aumai_transactions.drivers.desk import (
    Desk,
    check_transaction,
    pending_run,
    read_result,
    read_saga,
)
from aumai_transactions.drivers.driving import MOVED, append_request, decide_and_evolve
from aumai_transactions.drivers.freezing import frozen
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.drivers.repeating import check_whole, other_plan, repeat_of
from aumai_transactions.errors import IdempotencyKeyReused, JournalConflict

if TYPE_CHECKING:
    from aumai_transactions.models import Transaction, TransactionResult

_SUBMITTED = "_submitted"


def is_submitted(transaction: Transaction) -> bool:
    """Tell whether a caller's object has been submitted; then it is no plan any more."""
    return _SUBMITTED in transaction.__dict__


def _taken_already(desk: Desk, transaction: Transaction) -> Procedure[bool]:
    """Tell whether a transaction with a key is somebody's already; it must be the same plan.

    Raises:
        IdempotencyKeyReused: It is another plan.
    """
    repeat = repeat_of(transaction)
    if repeat is not None:
        check_whole(transaction, repeat)
    name = transaction.transaction_id
    saga = yield from read_saga(desk, name)
    if not saga.commit_requested and saga.state is PENDING:
        return False
    if transaction.state is PENDING and (transaction.steps or not saga.steps):
        registry = desk.registry_for(transaction.actions)
        mine = frozen(transaction, registry, desk.before_record)
        different = other_plan(transaction, mine, saga.plan)
        if different is not None:
            detail = f"it was submitted with another plan ({different})"
            raise IdempotencyKeyReused(transaction.idempotency_key or "", name, detail)
    transaction.__dict__[_SUBMITTED] = True
    return True


def submit(
    desk: Desk, transaction: Transaction, by: str = "", *, here: bool = False
) -> Procedure[TransactionResult]:
    """Journal a pending transaction and the wish that it be committed, and leave it to others.

    One that was begun under a key may have been submitted before; then nothing is written.

    Args:
        desk: The manager's.
        transaction: The transaction.
        by: Who submits it.
        here: True where an engine is to carry it out in this process.
    """
    result = yield from _submitted(desk, transaction, by)
    if desk.host is not None and not result.is_final:
        yield from blocking(partial(desk.host.wake, transaction.transaction_id, here=here))
    return result


def _submitted(desk: Desk, transaction: Transaction, by: str) -> Procedure[TransactionResult]:
    check_transaction(transaction, "submit")
    name = transaction.transaction_id
    has_key = transaction.idempotency_key is not None
    if has_key and (yield from _taken_already(desk, transaction)):
        return (yield from read_result(desk, name))
    run = yield from pending_run(desk, transaction, "submit")
    definition = frozen(transaction, run.registry, desk.before_record)
    seen: list[Observation] = [PlanGiven(definition), CommitCalled(by)]
    entries = [entry for one in seen for entry in decide_and_evolve(desk, run, one)]
    answer = yield from append_request(desk, run, entries)
    if answer is MOVED:
        if has_key and (yield from _taken_already(desk, transaction)):
            return (yield from read_result(desk, name))
        raise JournalConflict(name, "somebody else changed it while it was submitted here")
    desk.announce(run, entries)
    transaction.__dict__[_SUBMITTED] = True
    desk.book.hold(transaction, run.saga.sequence)
    return desk.result_of(run)
