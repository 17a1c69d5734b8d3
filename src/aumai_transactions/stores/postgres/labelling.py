"""What older releases did not write beside a journal.

Owns: filling in what transactions are searched by, from their journals.
Rules:
  1. Few in each commit: others go on meanwhile, and whoever is killed has done a part of it.
  2. What cannot be read is left out of it, and is not looked at again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.labels import IMPORT_KIND, PLAN_KIND, STEP_KIND, labels_of, named_in
from aumai_transactions.stores.postgres.arrays import numbers, texts
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from aumai_transactions.core.labels import Labels
    from aumai_transactions.stores.postgres.pool import Lent

AT_ONCE = 2_000


def is_untold(lent: Lent) -> bool:
    """Tell whether an older release has begun transactions since somebody looked."""
    return lent.read(statement("untold"), {"limit": 1}).fetchone() is not None


def tell(lent: Lent) -> None:
    """Fill in some, in one commit."""
    rows = lent.read(statement("untold"), {"limit": AT_ONCE}).fetchall()
    ordinals = [row[0] for row in rows]
    values = {
        "ordinals": numbers(ordinals),
        "plan": PLAN_KIND,
        "imported": IMPORT_KIND,
        "step": STEP_KIND,
    }
    bodies: dict[int, list[bytes]] = {}
    for ordinal, body in lent.read(statement("plans"), values).fetchall():
        bodies.setdefault(ordinal, []).append(body)
    told = [_labels(bodies.get(ordinal, []), *rest) for ordinal, *rest in rows]
    written = {
        "ordinals": numbers(ordinals),
        "terms": texts(labels.terms for labels in told),
        "words": texts(labels.words for labels in told),
    }
    lent.write(statement("tell_labels"), written)


def _labels(bodies: list[bytes], transaction_id: str, name: str | None, agents: Any) -> Labels:
    actions, metadata = named_in(bodies)
    try:
        known = tuple(agent for agent in json.loads(agents) if isinstance(agent, str))
    except (ValueError, TypeError, RecursionError):
        known = ()
    return labels_of(transaction_id, name, known, actions, metadata)
