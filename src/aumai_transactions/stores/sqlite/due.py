"""Which transactions a driver may take.

Owns: the walk through what is free, parked and left, however much has finished.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from aumai_transactions.core.fairness import Candidate
from aumai_transactions.stores.sqlite import statements


def candidates(
    connection: sqlite3.Connection,
    values: dict[str, Any],
    is_alive: Callable[[sqlite3.Connection, str], bool],
) -> list[Candidate]:
    """Return all whose turn it may be: more than are asked for, but no more than it takes.

    Args:
        connection: Of the store.
        values: What the statements ask for; `tenant` is the one that was served last.
        is_alive: Tells whether a driver lives.
    """
    found = connection.execute(statements.PARKED_AND_DUE, values).fetchall()
    # Why from there on and around: no more tenants need be looked at than have their turn.
    tenant = connection.execute(statements.NEXT_TENANT, (values["tenant"],)).fetchone()[0]
    seen: set[str] = set()
    while len(seen) < max(values["limit"], 1):
        if tenant is None:
            tenant = connection.execute(statements.FIRST_TENANT).fetchone()[0]
        if tenant is None or tenant in seen:
            break
        seen.add(tenant)
        of_tenant = values | {"tenant": tenant}
        found += connection.execute(statements.DUE_OF_TENANT, of_tenant).fetchall()
        tenant = connection.execute(statements.NEXT_TENANT, (tenant,)).fetchone()[0]
    holder = ""
    while True:
        holder = connection.execute(statements.NEXT_HOLDER, (holder,)).fetchone()[0]
        if holder is None:
            break
        if holder == values["driver_id"] or not is_alive(connection, holder):
            of_holder = values | {"driver_id": holder}
            found += connection.execute(statements.DUE_OF_DRIVER, of_holder).fetchall()
    return [Candidate(*row) for row in found]
