"""Whose turn it is among those who wait for a driver.

Owns: the order in which tenants are served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Candidate(NamedTuple):
    """Hold a transaction that waits for a driver.

    Args:
        position: Its place in the order of arrival.
        transaction_id: It.
        tenant: Whose it is; empty for nobody's.
    """

    position: int
    transaction_id: str
    tenant: str


def in_turns(candidates: Iterable[Candidate], limit: int, after: str) -> list[Candidate]:
    """Return those whose turn it is: one of each tenant after the other, the oldest first.

    Args:
        candidates: Who waits, in any order.
        limit: How many to return at most.
        after: Which tenant was the first one the last time; now it is the next in order.
    """
    queues: dict[str, list[Candidate]] = {}
    for candidate in sorted(set(candidates), reverse=True):
        queues.setdefault(candidate.tenant, []).append(candidate)
    tenants = sorted(queues, key=lambda tenant: (tenant <= after, tenant))
    found: list[Candidate] = []
    while tenants and len(found) < limit:
        found += [queues[tenant].pop() for tenant in tenants]
        tenants = [tenant for tenant in tenants if queues[tenant]]
    return found[: max(limit, 0)]
