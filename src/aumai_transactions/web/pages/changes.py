"""What has changed, told to pages that are open.

Owns: the stream of server-sent events behind a page, and how the store is watched for it.
Rules:
  1. The store is looked at once for all pages, and only while there is one.
  2. A stream ends with its login, and there are never more than `STREAMS_MAX`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from aumai_transactions.errors import StoreError
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from aumai_transactions.web.service import Service

PAUSE_SECONDS = 0.5
BEAT_SECONDS = 15.0
STREAMS_MAX = 100


class Changes:
    """Watch a store for all open pages."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._seen = -1
        self._streams = 0
        self._watch: asyncio.Task[None] | None = None

    async def stream(
        self, request: Request, render: Callable[[], Awaitable[str]]
    ) -> StreamingResponse:
        """Answer with what a page shows, whenever that is something else than before.

        Args:
            request: Whose session it is.
            render: Returns the changing part of the page.

        Raises:
            Problem: Too many pages are open.
        """
        if self._streams >= STREAMS_MAX:
            detail = f"{STREAMS_MAX} pages are open already; this one changes when it is reloaded."
            raise Problem(503, "too-many-pages", detail, headers={"retry-after": "30"})
        return StreamingResponse(
            self._parts(request, render),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _parts(
        self, request: Request, render: Callable[[], Awaitable[str]]
    ) -> AsyncIterator[str]:
        service, session = service_of(request), request.scope["state"]["session"]
        self._streams += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._look(service))
        try:
            seen, last = -1, None
            yield "retry: 2000\n\n"
            while service.sessions.find(session.name) is not None:
                if seen != self._seen:
                    seen = self._seen
                    text = await render()
                    if text != last:
                        last = text
                        yield "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
                else:
                    yield ": still here\n\n"
                await self._wait(seen)
        finally:
            self._streams -= 1
            if not self._streams and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _wait(self, seen: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._seen != seen)

    async def _look(self, service: Service) -> None:
        while True:
            with contextlib.suppress(StoreError):
                changes = (await service.transactions.info()).changes
                if changes != self._seen:
                    async with self._changed:
                        self._seen = changes
                        self._changed.notify_all()
            await asyncio.sleep(PAUSE_SECONDS)
