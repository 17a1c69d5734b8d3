"""What it means that a driver takes a transaction.

Owns: the part of `evolve` that is about claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core import poison
from aumai_transactions.core.states import ACTIVE, COMPENSATING
from aumai_transactions.core.transitions import require

if TYPE_CHECKING:
    from aumai_transactions.core.entries import Claimed
    from aumai_transactions.core.saga import Saga


def claimed(saga: Saga, entry: Claimed) -> None:
    """Let a driver have the transaction, and those before it no more."""
    require(entry.token == saga.token + 1, "its token does not follow the one in force")
    is_dead = entry.takeover and saga.driver_id != entry.driver_id
    dead = saga.driver_id if is_dead else None
    # Why not after a restore: what became of that driver nobody knows.
    if is_dead and saga.restored is None and poison.under_way(saga):
        saga.crashes += 1
    require(
        saga.restored != "held", "it came out of a backup, and nobody has said that it may go on"
    )
    saga.restored = None
    saga.token = entry.token
    saga.driver_id = entry.driver_id
    if entry.takeover and saga.state in (ACTIVE, COMPENSATING):
        saga.taken_over_at = None if entry.resumes else entry.at
    if saga.is_interactive:
        _taken_up(saga, entry)
    saga.rereads = {}
    if saga.has_reads:
        for step in saga.steps:
            step.rereading = False
    saga.undoing = 0
    if not saga.undo and not saga.doubtful and not is_dead and not saga.to_confirm:
        return
    for step in saga.steps:
        # Why: no call of an earlier driver is waited for; those that it had left behind in its
        # threads died with it, if it died. Those of others before it may go on in theirs.
        step.undo_running = step.probing = step.verifying = step.confirming = False
        if is_dead and step.left_behind:
            step.left_behind = {
                attempt: driver for attempt, driver in step.left_behind.items() if driver != dead
            }


def _taken_up(saga: Saga, entry: Claimed) -> None:
    if entry.resumes:
        saga.awaiting_since = None
        saga.commit_requested = False  # Its program asks for it again.
        for scope in saga.scopes.values():
            if scope.state == "released":
                scope.state = "open"  # Its program goes through it again.
    elif entry.takeover and saga.awaiting_since is None:
        saga.awaiting_since = entry.at
