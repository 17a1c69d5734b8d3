"""The stream of changes, as server-sent events.

Owns: how a change is written, and who hears of which.
Source: HTML standard, section "Server-sent events".
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from aumai_transactions.web.api import answers, bodies
from aumai_transactions.web.api.requests import query_of
from aumai_transactions.web.live import Change, number_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.web.live import Live, Number
    from aumai_transactions.web.principals import Principal

KEEP_ALIVE_SECONDS = 15
STREAMS_MAX_EACH = 8
_open: Counter[str] = Counter()


async def stream(request: Request) -> Response:
    """Tell of changes as they come."""
    service, who = service_of(request), principal_of(request)
    wanted = query_of(request, bodies.StreamQuery)
    said = request.headers.get("last-event-id")
    last = None if not said else number_of(said)
    if said and last is None:
        detail = "Last-Event-ID is no id of this stream. Begin without it."
        raise Problem(400, "bad-request", detail)
    if service.live.is_full or _open[who.name] >= STREAMS_MAX_EACH:
        detail = "Too many listen already. Close a stream, or try again later."
        raise Problem(503, "too-many-streams", detail, headers={"retry-after": "5"})
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    told = _told(service.live, who, wanted, last)
    return StreamingResponse(told, headers=headers, media_type="text/event-stream")


async def _told(
    live: Live, who: Principal, wanted: bodies.StreamQuery, last: Number | None
) -> AsyncIterator[bytes]:
    _open[who.name] += 1
    try:
        with live.listen(last) as listener:
            # Why at once: so that whoever has opened it knows that nothing is missed from here on.
            yield b"retry: 1000\n: listening\n\n"
            while True:
                change = await listener.next(KEEP_ALIVE_SECONDS)
                if change is not None:
                    if _concerns(change, who, wanted):
                        yield written(change)
                elif listener.is_dropped:
                    return
                else:
                    yield b": still here\n\n"
    finally:
        _open[who.name] -= 1


def _concerns(change: Change, who: Principal, wanted: bodies.StreamQuery) -> bool:
    summary = change.summary
    if summary is None:
        return True
    if who.tenant is not None and summary.tenant != who.tenant:
        return False
    if wanted.state and summary.state not in wanted.state:
        return False
    return not wanted.transaction_id or summary.transaction_id in wanted.transaction_id


def written(change: Change) -> bytes:
    """Return a change as an event; `reset` where everything is to be looked at again."""
    summary = change.summary
    if summary is None:
        return f"event: reset\nid: {change.number}\ndata: {{}}\n\n".encode()
    told = answers.Change(
        transaction_id=summary.transaction_id,
        state=summary.state,
        sequence=change.sequence,
        attention=summary.attention,
    )
    text = told.model_dump_json()
    return f"event: transaction\nid: {change.number}\ndata: {text}\n\n".encode()
