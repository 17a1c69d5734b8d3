"""Connections that cannot hold up a server.

Owns: how long a connection may take to ask, and what happens when there are too many of them.
Rules:
  1. The head of a request arrives within ten seconds, however slowly its bytes come.
  2. Where there are as many connections as there may be, a new one takes the place of the one that
     has been silent for longest: who only connects keeps nobody out. One that is being answered
     is not closed for that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_SECONDS_MAX = 10
CONNECTIONS_MAX = 400
"""Why so few: the limit of open files is often 1,024, and the store needs some of them."""


class Connection(H11Protocol):
    """Be one connection of a client."""

    _deadline: asyncio.TimerHandle | None = None
    _silent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and make room where there is none."""
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > CONNECTIONS_MAX:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in some bytes of a request."""
        super().data_received(data)
        if self.is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.is_answering():
            self._wait_for_head()

    def is_answering(self) -> bool:
        """Tell whether an answer is under way."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._silent_since = self.loop.time()
        self._deadline = self.loop.call_later(HEAD_SECONDS_MAX, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        oldest = min(self._others(), key=lambda one: one._silent_since, default=None)  # noqa: SLF001
        if oldest is not None:
            oldest.transport.abort()
            self.connections.discard(oldest)
        else:
            self.transport.abort()

    def _others(self) -> Iterator[Connection]:
        for one in self.connections:
            if isinstance(one, Connection) and one is not self and not one.is_answering():
                yield one
