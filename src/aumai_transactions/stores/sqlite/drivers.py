"""Which drivers a store knows, and what each of them has.

Owns: that list, for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.store import HELD_MAX, KnownDriver
from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.liveness import DriverRow

if TYPE_CHECKING:
    import sqlite3

    from aumai_transactions.stores.sqlite.liveness import DriverLocks


def rows_of(connection: sqlite3.Connection) -> list[DriverRow]:
    """Return what the database says about each driver."""
    return [DriverRow(*row) for row in connection.execute(statements.ALL_DRIVERS).fetchall()]


def known(
    connection: sqlite3.Connection, locks: DriverLocks, now: int, lease: int
) -> list[KnownDriver]:
    """Return every driver that has a row, or that has a transaction.

    Args:
        connection: The database.
        locks: Our own drivers, and how others are tried.
        now: Microseconds since 1970 UTC.
        lease: How long a lease lasts, in microseconds.
    """
    people = {row[0]: row for row in connection.execute(statements.DRIVERS_OF_PEOPLE)}
    rows = {row.driver_id: row for row in rows_of(connection)}
    holder = ""
    while True:
        holder = connection.execute(statements.NEXT_HOLDER, (holder,)).fetchone()[0]
        if holder is None:
            break
        rows.setdefault(holder, DriverRow(holder, None, None, None, None, None))
    found = []
    for name, row in sorted(rows.items()):
        held = connection.execute(statements.HELD_BY, (name, HELD_MAX)).fetchall()
        _, host, pid = people.get(name, (name, None, None))
        sign = None if row.lease_until is None else row.lease_until - lease
        alive = locks.is_alive(row, now)
        found.append(KnownDriver(name, alive, sign, host or None, pid, tuple(r[0] for r in held)))
    return found
