"""A clock that stands still until a test moves it.

Owns: `ManualClock`, the `aumai_transactions.clock.Clock` of tests and simulations.
Rules:
  1. Nothing waits: `sleep` and `sleep_async` move the time and return at once.
  2. Only who waits for other threads or tasks as well, as a block does, waits for real; the time
     moves by as much.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime


class ManualClock:
    """Tell the time that a test has set.

    Args:
        now: Where it starts: microseconds since 1970 UTC, or an aware datetime.
    """

    def __init__(self, now: int | datetime) -> None:
        self._guard = threading.Lock()
        self._now = _microseconds(now) if isinstance(now, datetime) else now

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the time by this much, and let other threads work."""
        self.advance(seconds)
        # Why: whoever waits in a loop waits for another thread, which needs its turn.
        threading.Event().wait(0)

    async def sleep_async(self, seconds: float) -> None:
        """Move the time by this much, and let other tasks work."""
        import asyncio

        self.advance(seconds)
        await asyncio.sleep(0)

    def waited(self, seconds: float) -> None:
        """Move the time by what was waited for real, together with others."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time by this much; backwards where it is negative."""
        with self._guard:
            self._now += round(seconds * 1_000_000)


def _microseconds(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
