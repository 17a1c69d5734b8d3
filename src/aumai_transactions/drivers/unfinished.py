"""A run that is not over though its block is left: it waits, or everything is undone.

Owns: what becomes of a transaction then. Who knows that a run is not over, such as the adapter of a
framework whose runs can be interrupted, says so here.
Rules:
  1. Leaving a block never commits what somebody has said to be half of something. `tx.commit()`
     does, for that is the program's own word.
  2. Where the program has said that it will come back (`on_crash`), the transaction waits for it as
     after a crash; else it goes back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.observations import RollbackCalled
from aumai_transactions.core.states import ACTIVE, PENDING
from aumai_transactions.core.values import ErrorRecord
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX, leave, waiting_until
from aumai_transactions.drivers.groups import Group
from aumai_transactions.drivers.interests import DoubtsInterest
from aumai_transactions.drivers.operations import DoTurn
from aumai_transactions.drivers.parts import Patience
from aumai_transactions.drivers.taking_part import attend, release

if TYPE_CHECKING:
    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.operations import Procedure
    from aumai_transactions.drivers.parts import Part
    from aumai_transactions.drivers.shared import Shared
    from aumai_transactions.models import TransactionResult


def begin_run(block: BlockBase, key: object, what: str) -> None:
    """Say that something in a transaction is not over, until `end_run` says that it is.

    Args:
        block: The transaction.
        key: Which run it is.
        what: What is not over, for a person; the rest of a sentence that begins with "it".
    """
    block._shared.unfinished[key] = what  # noqa: SLF001 (one package)


def end_run(block: BlockBase, key: object) -> None:
    """Say that a run is over."""
    block._shared.unfinished.pop(key, None)  # noqa: SLF001 (one package)


def unfinished_of(block: BlockBase) -> list[object]:
    """Return the runs in a transaction that are not over."""
    return list(block._shared.unfinished)  # noqa: SLF001 (one package)


def goes_back(shared: Shared) -> RollbackCalled | None:
    """Return the wish that leaving a block stands for where a run is not over; None else."""
    if not shared.unfinished:
        return None
    told = "; ".join(shared.unfinished.values())
    why = f"its block was left while {told}. End the run inside of the block"
    return RollbackCalled(error=ErrorRecord("RunNotOver", why))


def is_put_off(shared: Shared) -> bool:
    """True where a transaction is to wait for its program though its block is left."""
    stands = shared.saga.state in (PENDING, ACTIVE) and shared.broken is None
    return stands and bool(shared.unfinished) and shared.on_crash in ("wait", "resume")


def put_off(desk: Desk, shared: Shared, part: Part) -> Procedure[TransactionResult]:
    """Let a transaction wait until its program resumes it, as after a crash."""
    if not shared.is_begun:
        # Nothing was done yet, and nothing is durable; but whoever resumes it has to find it.
        nothing = Group(shared.free_scope_id("c"), "child", "nothing yet", None)
        yield from release(desk, shared, part, nothing)
    patience = Patience(waiting_until(desk, WAIT_SECONDS_MAX))
    let_go = partial(shared.let_go, desk, part, takeover=True)
    has_let_go = False
    while not has_let_go:
        yield from attend(desk, shared, part, [], DoubtsInterest(), patience=patience)
        has_let_go = yield DoTurn(desk, shared.lock, let_go, part)
    result = desk.result_of(shared.run)
    shared.run.result = result
    leave(desk, shared.run)
    if part.interrupt is not None:
        raise part.interrupt
    return result
