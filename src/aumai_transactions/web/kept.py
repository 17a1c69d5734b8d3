"""Answers that are kept for a moment, for many look at the same list at the same time.

Owns: for how long, and when they are forgotten sooner.
Rules:
  1. Only what lists many transactions is kept: one transaction is always told as it is.
  2. Whoever changes something through this server sees it at once; what others change is seen a
     quarter of a second later at most, as on the pages that follow live.
  3. What is being made for one is waited for by all who want the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from starlette.responses import Response

    from aumai_transactions.clock import Clock

KEPT_MICROSECONDS = 250_000
KEPT_MAX = 500


class _Answer(NamedTuple):
    at: int
    response: asyncio.Future[Response]


class Kept:
    """Keep answers for a moment.

    Args:
        clock: What time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[Hashable, _Answer] = {}

    async def answer(self, key: Hashable, make: Callable[[], Awaitable[Response]]) -> Response:
        """Return the answer to a request, made now or a moment ago.

        Args:
            key: All that the answer depends on, but for what is in the store.
            make: Makes it.
        """
        now = self._clock.now()
        found = self._answers.get(key)
        if found is not None and now - found.at < KEPT_MICROSECONDS:
            return await asyncio.shield(found.response)
        if len(self._answers) >= KEPT_MAX:
            self._answers.clear()
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        made = self._answers[key] = _Answer(now, response)
        try:
            response.set_result(await make())
        except BaseException as error:
            if self._answers.get(key) is made:
                del self._answers[key]
            response.set_exception(error)
            response.exception()  # Whoever waits for it is told; where nobody does, nobody is.
            raise
        return response.result()

    def forget(self) -> None:
        """Forget all, for something has changed."""
        self._answers.clear()
