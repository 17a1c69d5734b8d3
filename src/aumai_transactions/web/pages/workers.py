"""Who carries transactions out, and who waits for whom.

Owns: the page of workers and locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.locking import reached
from aumai_transactions.core.times import instant
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.web.pages.changes import stream
from aumai_transactions.web.pages.listing import Row, rows_of
from aumai_transactions.web.pages.rendering import live_part, page, path_of
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.wording.words import Cell, holding_cell, is_alive, lock_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.models import ResourceLock
    from aumai_transactions.store import KnownDriver

OPEN_MAX = 500
LOCKS_MAX = 500
OPEN = tuple(state for state in TransactionState if not state.is_final)


class Driver(NamedTuple):
    """Hold one process, and what it has.

    Args:
        name: Its driver id.
        state: Whether it lives, as far as it can be told.
        where: Its process and its machine, where they are known.
        last_sign: When it has given its last sign; None where it need not give any.
        rows: Its transactions.
    """

    name: str
    state: Cell
    where: str
    last_sign: datetime | None
    rows: list[Row]


class Place(NamedTuple):
    """Hold who has a resource, or waits for it."""

    lock: ResourceLock
    path: str
    title: str
    holding: Cell
    why: Cell
    is_in_circle: bool


async def show(request: Request) -> Response:
    """Show workers and locks."""
    return page(request, "workers.html", await values_of(request))


async def follow(request: Request) -> Response:
    """Show them as they change."""

    async def render() -> str:
        return live_part(request, "workers.html", await values_of(request))

    return await stream(request, render)


async def values_of(request: Request) -> dict[str, Any]:
    """Return what the page shows."""
    service, who = service_of(request), principal_of(request)
    found = await service.transactions.find(who, Query(states=OPEN, limit=OPEN_MAX))
    unattended = await service.transactions.unattended()
    by_driver: dict[str, list[Row]] = {}
    for one, row in zip(found, await rows_of(request, found), strict=True):
        by_driver.setdefault(one.driver_id or "", []).append(row)
    nobodys = by_driver.pop("", [])
    summaries = {one.summary.transaction_id: one.summary for one in found}
    locks = (await service.transactions.locks())[:LOCKS_MAX]
    if who.tenant is not None:
        locks = [lock for lock in locks if lock.transaction_id in summaries]
    circles = circles_in(locks)
    resources: dict[str, list[Place]] = {}
    for lock in locks:
        summary = summaries.get(lock.transaction_id)
        if summary is None:
            summary = await service.transactions.summary_of(who, lock.transaction_id)
        place = _place(lock, summary, unattended, circles)
        resources.setdefault(lock.resource, []).append(place)
    known = await service.transactions.drivers()
    if who.tenant is not None:
        known = [driver for driver in known if driver.driver_id in by_driver]
    return {
        "drivers": [_driver(driver, by_driver.get(driver.driver_id, [])) for driver in known],
        "nobodys": nobodys,
        "resources": resources,
        "circles": circles,
        "open_max": OPEN_MAX,
        "is_cut": len(found) >= OPEN_MAX,
        "locks_line": service.command("locks"),
        "recover_line": service.command("recover"),
        "live": "/workers/live",
    }


def circles_in(locks: Sequence[ResourceLock]) -> set[str]:
    """Return the transactions that wait in a circle; whoever meets one breaks it."""
    ways: dict[str, set[str]] = {}
    for lock in locks:
        ways.setdefault(lock.transaction_id, set()).update(lock.waits_for)

    def behind(name: str) -> set[str]:
        return ways.get(name, set())

    return {name for name in ways if name in reached(behind, name)}


def _driver(known: KnownDriver, rows: list[Row]) -> Driver:
    state = Cell("alive", "good") if known.is_alive else Cell("dead", "bad")
    where = f"process {known.pid}" if known.pid is not None else ""
    if known.host:
        where = f"{where} on {known.host}".strip()
    sign = None if known.last_sign_at is None else instant(known.last_sign_at)
    return Driver(known.driver_id, state, where, sign, rows)


def _place(
    lock: ResourceLock, summary: Summary | None, unattended: set[str], circles: set[str]
) -> Place:
    return Place(
        lock,
        path_of(lock.transaction_id),
        (summary.name or "") if summary is not None else "",
        holding_cell(lock),
        lock_cell(lock, summary, alive=is_alive(summary, unattended)),
        lock.transaction_id in circles,
    )
