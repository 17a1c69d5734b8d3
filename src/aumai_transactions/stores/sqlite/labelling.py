"""What older releases did not write beside a journal.

Owns: filling in what transactions are searched by, from their journals.
Rules:
  1. Few in each write: others go on meanwhile, and whoever is killed has done a part of it.
  2. What cannot be read is left out of it, and is not looked at again.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from aumai_transactions.core.labels import IMPORT_KIND, PLAN_KIND, STEP_KIND, labels_of, named_in
from aumai_transactions.stores.sqlite import statements

AT_ONCE = 2_000


def is_untold(connection: sqlite3.Connection) -> bool:
    """Tell whether an older release has begun transactions since somebody looked."""
    return connection.execute(statements.UNTOLD, {"limit": 1}).fetchone() is not None


def tell(connection: sqlite3.Connection) -> tuple[int, bool]:
    """Fill in some, in a write transaction; return how many, and whether that is any."""
    rows = connection.execute(statements.UNTOLD, {"limit": AT_ONCE}).fetchall()
    told = [(*_labels(connection, *row), row[0]) for row in rows]
    connection.executemany(statements.TELL_LABELS, told)
    return len(told), bool(told)


def _labels(
    connection: sqlite3.Connection, ordinal: int, transaction_id: Any, name: Any, agents: Any
) -> tuple[str, str]:
    kinds = {"ordinal": ordinal, "plan": PLAN_KIND, "imported": IMPORT_KIND, "step": STEP_KIND}
    rows = connection.execute(statements.PLANS, kinds).fetchall()
    actions, metadata = named_in(body for (body,) in rows)
    try:
        found = json.loads(agents)
        known = tuple(agent for agent in found if isinstance(agent, str))
    except (ValueError, TypeError, RecursionError):
        known = ()
    title = name if isinstance(name, str) else None
    return labels_of(str(transaction_id), title, known, actions, metadata)
