"""What has changed, told to pages that are open.

Owns: the stream of server-sent events behind a page.
Rules:
  1. What is sent is what the page would show now, and only where that is something else.
  2. A stream ends with its login.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

BEAT_SECONDS = 15.0


async def stream(request: Request, render: Callable[[], Awaitable[str]]) -> StreamingResponse:
    """Answer with what a page shows, whenever that is something else than before.

    Args:
        request: Whose session it is.
        render: Returns the changing part of the page.

    Raises:
        Problem: Too many pages are open.
    """
    if service_of(request).live.is_full:
        detail = "Too many pages are open already; this one changes when it is reloaded."
        raise Problem(503, "too-many-pages", detail, headers={"retry-after": "30"})
    return StreamingResponse(
        _parts(request, render),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _parts(request: Request, render: Callable[[], Awaitable[str]]) -> AsyncIterator[str]:
    service, session = service_of(request), request.scope["state"]["session"]
    last = ""
    with service.live.listen() as listener:
        yield "retry: 2000\n\n"
        while service.sessions.find(session.name) is not None and not listener.is_dropped:
            listener.forget()
            text = await render()
            if text != last:
                last = text
                yield "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
            # Why also without a change: what was begun before anybody listened is not told.
            if await listener.next(BEAT_SECONDS) is None:
                yield ": still here\n\n"
