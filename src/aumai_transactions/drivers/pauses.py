"""How long a driver waits with a transaction in hand.

Owns: which waits are slept through, and until when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.planning import timer_at, wake_at

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.run import Run

HOLD_SECONDS_MAX = 2.0
"""The longest wait that is slept through with the transaction in hand: so long at most, somebody
else's wish goes unheard."""


def seconds_left(desk: Desk, run: Run) -> float | None:
    """Return how long it is until time alone gives something to do; None for ever.

    Why from when it was planned: what has fallen due since then has not been looked at yet.
    """
    due = timer_at(run.saga, run.planned_at)
    if run.look_at is not None:
        due = run.look_at if due is None else min(due, run.look_at)
    return None if due is None else max(0.0, (due - desk.clock.now()) / 1_000_000)


def pause_of(desk: Desk, run: Run) -> float | None:
    """Return how long to sleep with the transaction in hand; None to let go of it."""
    saga = run.saga
    if run.look_at is not None:
        # Why not where nobody waits here: the store says when it is its turn.
        is_patient = run.is_callers and (run.wait_until is None or run.look_at <= run.wait_until)
        return max(0.0, (run.look_at - desk.clock.now()) / 1_000_000) if is_patient else None
    if not saga.waiting and not saga.undo and not saga.approvals and not saga.windows:
        return None
    due = wake_at(saga)
    if due is None:
        return None
    now = desk.clock.now()
    seconds = (due - now) / 1_000_000
    # Why not while a call that was left behind is waited for: it may answer long before that.
    is_left_behind = any(step.left_behind for step in saga.steps)
    if seconds > HOLD_SECONDS_MAX or is_left_behind:
        return None
    if run.wait_until is not None and due > run.wait_until:
        return None
    return max(seconds, 0.0)
