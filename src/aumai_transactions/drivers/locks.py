"""Who holds which resource, for people, and how a program is run again that gave way.

Owns: the view of the table of locks, and which outcomes are worth another run of the whole.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.locking import Lock, in_the_way
from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.core.values import shown
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.errors import (
    Deadlock,
    DefinitionError,
    ReadConflict,
    TransactionError,
    rolled_back,
)
from aumai_transactions.models import ResourceLock

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.models import TransactionResult

RUNS_AGAIN = (Deadlock, ReadConflict)
"""What gave way to others, and was undone: the whole may well succeed the next time."""

RETRIES_MAX = 1_000


def read_locks(desk: Desk, resource: str | None) -> Procedure[list[ResourceLock]]:
    """Return who holds what, and who waits for it, in the order of resources and queues.

    Args:
        desk: The manager's.
        resource: Only this one; None for all.
    """
    name = None if resource is None else canonical_resource(resource)
    table = yield from blocking(partial(desk.store.locks, None if name is None else [name]))
    places: dict[str, int] = {}
    found = []
    for lock in sorted(table.locks, key=_in_order):
        place = None
        waits_for: list[str] = []
        if lock.token is None:
            place = places[lock.resource] = places.get(lock.resource, 0) + 1
            use = ResourceUse(lock.resource, lock.mode)
            waits_for = list(in_the_way(table, lock.transaction_id, [use]))
        if name in (None, lock.resource):
            found.append(
                ResourceLock(
                    resource=lock.resource,
                    mode=lock.mode,
                    transaction_id=lock.transaction_id,
                    token=lock.token,
                    place=place,
                    waits_for=waits_for,
                )
            )
    return found


def _in_order(lock: Lock) -> tuple[str, bool, int]:
    return lock.resource, lock.token is None, lock.ticket


def checked_retries(value: object) -> int:
    """Return how often something is run again.

    Raises:
        DefinitionError: It is no whole number from 0 to 1,000.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= RETRIES_MAX:
        return value
    message = f"retries must be a whole number from 0 to {RETRIES_MAX:,}, not {shown(value)}."
    raise DefinitionError(message)


def runs_left(
    left: int, error: Exception, result: TransactionResult | None, *, is_nested: bool
) -> int:
    """Return how many more runs there may be after one in which a transaction gave way.

    Args:
        left: How many more there might have been before.
        error: What left the block.
        result: What became of the transaction.
        is_nested: True where it was a nested one: who gives way is undone with all around it.

    Raises:
        Exception: That error, where it is about something else, or there is no run left.
        Deadlock: There is no run left; the error is what that did to another thread.
    """
    why: Exception | None = error if isinstance(error, RUNS_AGAIN) else None
    # Why these: other threads and tasks of it learn only that it has ended, and may raise together.
    if why is None and result is not None and isinstance(error, (TransactionError, ExceptionGroup)):
        found = rolled_back(result)
        why = found if isinstance(found, RUNS_AGAIN) else None
    if why is None or is_nested or (left == 0 and why is error):
        raise error
    if left == 0:
        raise why from error
    return left - 1
