"""Clocks of tests: one that stands still until it is moved, and one that is wrong.

Owns: `ManualClock` and `SkewedClock`, each an `aumai_transactions.clock.Clock`.
Rules:
  1. With a manual clock nothing waits: `sleep` and `sleep_async` move the time and return at once.
  2. Only who waits for other threads or tasks as well, as a block does, waits for real; a manual
     clock then moves by as much.
  3. A skewed clock waits as long as the machine's own does; only what it tells is wrong.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from aumai_transactions.clock import SystemClock


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


class SkewedClock(SystemClock):
    """Tell the machine's time, wrong by so much.

    Args:
        seconds: By how much; negative for a clock that is late.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._off = round(seconds * 1_000_000)

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return super().now() + self._off

    def jump(self, seconds: float) -> None:
        """Be wrong by this much from now on, whatever it was before."""
        self._off = round(seconds * 1_000_000)

    def set_to(self, instant: datetime) -> None:
        """Tell this time now, and go on from there."""
        self._off = _microseconds(instant) - super().now()


def _microseconds(instant: datetime) -> int:
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
