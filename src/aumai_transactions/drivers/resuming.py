"""How a block comes to be that is not the first: nested in another, or resumed after a crash.

Owns: that.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.desk import Desk, current, read_saga, whole_and_part
from aumai_transactions.drivers.driving import HeldByAnother
from aumai_transactions.drivers.groups import Group
from aumai_transactions.drivers.manager import BLOCK_TIMEOUT_SECONDS
from aumai_transactions.drivers.parts import Part
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.shared import Shared
from aumai_transactions.drivers.taking_part import settle
from aumai_transactions.errors import (
    DefinitionError,
    InternalError,
    InvalidTransactionState,
    TransactionNotActive,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aumai_transactions.drivers.manager import ManagerBase
    from aumai_transactions.drivers.operations import Procedure
    from aumai_transactions.models import Transaction

B = TypeVar("B", bound=BlockBase)


def nested_in(
    around: BlockBase, kind: type[B], timeout_seconds: float, options: Mapping[str, Any]
) -> B:
    """Return a block that is nested in the one around it.

    Raises:
        DefinitionError: An option is given that only a root has.
    """
    for option in options:
        if option != "name":
            message = (
                f"a nested transaction has no {option!r} of its own; its root decides that. Give "
                "it name and timeout_seconds only."
            )
            raise DefinitionError(message)
    seconds = None if timeout_seconds == BLOCK_TIMEOUT_SECONDS else timeout_seconds
    group = around._new_group("child", options.get("name") or "", seconds)  # noqa: SLF001
    transaction = around._transaction  # noqa: SLF001 (one package)
    return kind(around._manager, transaction, parent=around, group=group)  # noqa: SLF001


def resume(desk: Desk, transaction_id: str) -> Procedure[tuple[Shared, Transaction]]:
    """Take an interactive transaction whose process died, and settle what is in doubt."""
    root, scope_id = yield from whole_and_part(desk, transaction_id)
    if scope_id is not None:
        hint = f"It is nested: resume its root {root}, and enter it there again by its name."
        raise InvalidTransactionState(transaction_id, "a part of another", "resume", hint)
    saga = yield from read_saga(desk, transaction_id)
    registry = desk.registry_of(saga)
    run = Run(transaction_id, saga, registry, sequence=saga.sequence, is_shared=True)
    transaction = current(desk, saga)
    run.attach(transaction)
    claim = DriverArrived(desk.driver_id, takeover=saga.driver_id is not None, resumes=True)
    shared = Shared(run, None, claim)
    desk.book.enter(run, "resume")
    part = Part(transaction_id)
    try:
        yield from settle(desk, shared, part)
    except HeldByAnother:
        desk.book.leave(run)
        raise InvalidTransactionState(
            transaction_id,
            saga.state.value,
            "resume",
            "A living process has it; wait until that has ended.",
        ) from None
    except BaseException:
        desk.book.leave(run)
        raise
    if part.interrupt is not None:
        desk.book.leave(run)
        raise part.interrupt
    shared.remember_recorded()
    return shared, transaction


def block_of(
    kind: type[B], manager: ManagerBase, shared: Shared, transaction: Transaction, desk: Desk
) -> B:
    """Return a block that goes on with a transaction."""
    block = kind(manager, transaction)
    block._take(desk, shared)  # noqa: SLF001 (one package)
    # Why: a block that is never entered would be held by this process for ever.
    weakref.finalize(block, desk.book.leave, shared.run)
    return block


def join(kind: type[B], manager: ManagerBase, desk: Desk, transaction_id: str) -> B:
    """Return a block that takes part in one which is open in this process.

    Raises:
        TransactionNotActive: None of this id is open here.
    """
    root, _, scope_id = transaction_id.partition(".")
    run = desk.book.run_of(root)
    shared = None if run is None else run.shared
    if run is None or shared is None or run.transaction is None:
        raise TransactionNotActive(
            transaction_id,
            "not open in this process",
            "take part in",
            "Join it where it is open; from elsewhere it can be approved, resolved, retried and "
            "rolled back by its id.",
        )
    group = None if not scope_id else _group_of(shared, scope_id, transaction_id)
    block = kind(manager, run.transaction, group=group, is_guest=True)
    block._desk_opened, block._shared_run = desk, shared  # noqa: SLF001 (one package)
    return block


def _group_of(shared: Shared, scope_id: str, transaction_id: str) -> Group:
    with shared.lock:
        scope = shared.saga.scopes.get(scope_id)
        chain = [] if scope is None else scope.chain()
    if scope is None or scope.state != "open":
        state = "unknown" if scope is None else scope.state.replace("_", " ")
        hint = "A nested one can be joined from its first step on, until it ends."
        raise TransactionNotActive(transaction_id, state, "take part in", hint)
    group: Group | None = None
    for one in reversed(chain):
        told = one.definition
        group = Group(told.scope_id, told.kind, told.name, group, told.expires_at)
        group.is_placed = True
    if group is None:
        raise InternalError("a group stands in nothing, not even in itself.")
    return group
