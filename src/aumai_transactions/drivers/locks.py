"""Who holds which resource, for people, and how a program is run again that gave way.

Owns: the view of the table of locks, and which outcomes are worth another run of the whole.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.locking import Lock, in_the_way
from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.drivers.operations import Procedure, blocking
from aumai_transactions.errors import Deadlock, DefinitionError, ReadConflict
from aumai_transactions.models import ResourceLock

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk

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
    message = f"retries must be a whole number from 0 to {RETRIES_MAX:,}, not {value!r:.80}."
    raise DefinitionError(message)
