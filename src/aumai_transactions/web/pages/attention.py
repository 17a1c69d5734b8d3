"""What needs a person, with the buttons right there.

Owns: that queue: oldest first, and beside it what only waits for a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from aumai_transactions.core.outcome import Attention
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.store import Query
from aumai_transactions.web.pages.changes import stream
from aumai_transactions.web.pages.listing import rows_of
from aumai_transactions.web.pages.rendering import live_part, page, path_of
from aumai_transactions.web.pages.story import story_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.wording.words import ATTENTION

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.core.outcome import Summary

PAGE = 20
PARKED_MAX = 50


class Card(NamedTuple):
    """Hold one transaction that needs a person.

    Args:
        position: Its place in the order of arrival.
        summary: What lists tell of it.
        path: Of its page.
        why: Why it needs somebody, in words.
        story: All about it; None where its journal cannot be read.
        problem: Why not.
    """

    position: int
    summary: Summary
    path: str
    why: str
    story: dict[str, Any] | None
    problem: str


async def show(request: Request) -> Response:
    """Show what needs a person."""
    return page(request, "attention.html", await values_of(request))


async def follow(request: Request) -> Response:
    """Show it as it changes."""

    async def render() -> str:
        return live_part(request, "attention.html", await values_of(request))

    return await stream(request, render)


async def values_of(request: Request) -> dict[str, Any]:
    """Return what the queue shows."""
    service, who = service_of(request), principal_of(request)
    reason, after = request.query_params.get("reason", ""), request.query_params.get("after", "")
    if after and not after.isdecimal():
        raise Problem(
            400, "bad-request", "The address of this page is damaged. Begin at /attention"
        )
    reasons: tuple[Attention, ...] = tuple(name for name in ATTENTION if name == reason)
    query = Query(attention=reasons or True, limit=PAGE, after=int(after[:19]) if after else None)
    found = await service.transactions.find(who, query)
    tally = await service.transactions.tally(who)
    counts = {} if tally is None else tally.attention
    cards = [await _card(request, one.position, one.summary) for one in found]
    said = {key: text for key, text in (("reason", reason), ("after", after)) if text}
    next_said = urlencode(
        {**({"reason": reason} if reason else {}), "after": found.goes_on_after or ""}
    )
    parked = await service.transactions.parked(who, PARKED_MAX)
    return {
        "cards": cards,
        "reason": reason,
        "reasons": [(name, text, counts.get(name, 0)) for name, text in ATTENTION.items()],
        "is_counted": tally is not None,
        "parked": await rows_of(request, parked),
        "parked_max": PARKED_MAX,
        "next_href": f"/attention?{next_said}" if found.goes_on_after is not None else "",
        "live": "/attention/live" + (f"?{urlencode(said)}" if said else ""),
    }


async def _card(request: Request, position: int, summary: Summary) -> Card:
    service, who = service_of(request), principal_of(request)
    why = ATTENTION[summary.attention] if summary.attention else "needs a person"
    path = path_of(summary.transaction_id)
    try:
        look = await service.transactions.look(who, summary.transaction_id)
    except (JournalCorrupt, JournalTooNew) as error:
        return Card(position, summary, path, why, None, str(error))
    return Card(position, summary, path, why, story_of(service, look), "")
