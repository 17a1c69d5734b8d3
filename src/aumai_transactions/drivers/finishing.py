"""How a program ends its transaction: its commit, its rollback, and leaving its block.

Owns: what is done until the outcome is known, or somebody else may go on with it.
Rules:
  1. Nobody goes from a transaction that this process has without letting go of it: nobody else
     would look after it for as long as this process lives.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.observations import CommitCalled, Observation, RollbackCalled
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import ACTIVE, COMMITTED, COMMITTING, COMPENSATING, PENDING
from aumai_transactions.drivers.asking import ask, leave, see_through, waiting_until
from aumai_transactions.drivers.desk import Desk, read_saga
from aumai_transactions.drivers.interests import WholeInterest
from aumai_transactions.drivers.operations import DoSleep, DoTurn, Procedure
from aumai_transactions.drivers.parts import Part, Patience
from aumai_transactions.drivers.shared import Shared
from aumai_transactions.drivers.taking_part import attend
from aumai_transactions.errors import InternalError, InvalidTransactionState, StoreError

if TYPE_CHECKING:
    from aumai_transactions.models import TransactionResult

QUIET_SECONDS = 0.005


def leave_block(
    desk: Desk,
    shared: Shared,
    part: Part,
    wish: CommitCalled | RollbackCalled | None,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    """Do what leaving a block means, and return the outcome.

    Where another thread or task of it has gone back, or has decided to commit, since it was known
    what leaving means, that is seen through.
    """
    try:
        return (yield from finish(desk, shared, part, wish, wait_max_seconds))
    except InvalidTransactionState:
        if wish is None or shared.saga.state in (PENDING, ACTIVE):
            raise
    return (yield from finish(desk, shared, part, None, wait_max_seconds))


def finish(
    desk: Desk,
    shared: Shared,
    part: Part,
    wish: CommitCalled | RollbackCalled | None,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    """Commit, or roll back, and return the outcome; without a wish, see what is wanted through."""
    until = waiting_until(desk, wait_max_seconds)
    # Why: undos, confirmations and held steps must not be left half-way, and nothing else begins.
    part.is_callers = False
    part.goes_back = isinstance(wish, CommitCalled)
    seen: list[Observation] = [] if wish is None else [wish]
    while True:
        try:
            yield from attend(desk, shared, part, seen, WholeInterest(), patience=Patience(until))
        except InvalidTransactionState:
            # Why not where the store was lost behind the decision: that is seen through as well.
            if isinstance(wish, RollbackCalled) or not isinstance(shared.broken, StoreError):
                raise
            return (yield from _finish_broken(desk, shared, wish, wait_max_seconds))
        except Exception as error:
            if shared.broken is None:
                if not isinstance(error, StoreError):
                    raise
                # Why: nobody else would look after it for as long as this process lives.
                shared.lose(error)
            return (yield from _finish_broken(desk, shared, wish, wait_max_seconds))
        except BaseException:
            # An interrupt came between two operations; whoever asked goes on from the journal.
            shared.give_up()
            leave(desk, shared.run)
            raise
        if shared.saga.state.is_final or (yield from _let_go(desk, shared, part)):
            break
        seen = []  # Another part has begun something meanwhile; that is waited for.
    if shared.saga.state is COMMITTED:
        shared.run.hook_warnings += [
            f"step {name} had been carried out before its program was resumed, which did not ask "
            "for it again; it stays"
            for name in not_asked_again(shared)
        ]
    result = desk.result_of(shared.run)
    shared.run.result = result
    leave(desk, shared.run)
    return result


def _let_go(desk: Desk, shared: Shared, part: Part) -> Procedure[bool]:
    """Let others have the transaction; tell whether that was possible."""
    try:
        has_let_go: bool = yield DoTurn(desk, shared.lock, partial(shared.let_go, desk, part), part)
    except BaseException:
        # It is this process's yet, and whoever recovers here has to find it.
        leave(desk, shared.run)
        raise
    return has_let_go


def not_asked_again(shared: Shared) -> list[str]:
    """Return the recorded steps in force that a resumed program has not asked for again."""
    with shared.lock:
        return [
            name
            for intent, names in shared.recorded.items()
            for name in names[shared.replayed.get(intent, 0) :]
            if is_in_force(shared.saga.by_id[name])
        ]


def _finish_broken(
    desk: Desk,
    shared: Shared,
    wish: CommitCalled | RollbackCalled | None,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    """Go on from the journal, as after a crash, once no call is under way here any more."""
    if shared.closed is not None:
        raise shared.closed
    while not shared.is_quiet():
        yield DoSleep(QUIET_SECONDS)
    run = shared.run
    leave(desk, run)
    if shared.is_begun or desk.store.is_blocking:
        saga = yield from read_saga(desk, run.transaction_id)
        if saga.state.is_final:
            run.saga = saga
            return desk.result_of(run)
        result: TransactionResult | None = None
        if saga.state in (COMPENSATING, COMMITTING):
            until = waiting_until(desk, wait_max_seconds)
            result = yield from see_through(desk, run.transaction_id, until, is_callers=True)
        elif isinstance(wish, RollbackCalled):
            seconds = wait_max_seconds
            result = yield from ask(desk, run.transaction_id, wish, wait_max_seconds=seconds)
        if result is not None:
            run.saga = yield from read_saga(desk, run.transaction_id)
            return result
    raise shared.broken or InternalError("a transaction is broken, and nobody knows why.")
