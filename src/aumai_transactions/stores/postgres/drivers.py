"""Which drivers a store knows, and what each of them has.

Owns: that list, for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.store import HELD_MAX, KnownDriver
from aumai_transactions.stores.postgres.liveness import DriverRow
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.stores.postgres.pool import Lent


def known(
    lent: Lent, is_alive: Callable[[DriverRow], bool], lease_seconds: float
) -> list[KnownDriver]:
    """Return every driver that has a row, or that has a transaction.

    Args:
        lent: A connection.
        is_alive: Tells whether a driver lives.
        lease_seconds: How long a lease lasts.
    """
    rows = {row[0]: DriverRow(*row) for row in lent.read(statement("drivers")).fetchall()}
    for row in lent.read(statement("holders")).fetchall():
        rows.setdefault(row[0], DriverRow(*row))
    values = {"seconds": lease_seconds}
    told = {row[0]: row for row in lent.read(statement("drivers_told"), values).fetchall()}
    found = []
    for name, driver in sorted(rows.items()):
        held = lent.read(statement("held_by"), {"driver_id": name, "limit": HELD_MAX}).fetchall()
        _, host, pid, sign = told.get(name, (name, None, None, None))
        names = tuple(row[0] for row in held)
        found.append(KnownDriver(name, is_alive(driver), sign, host or None, pid, names))
    return found
