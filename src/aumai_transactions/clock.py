"""What time it is, and how to wait.

Owns: the only place of the package that reads a clock.
Rules:
  1. Instants are microseconds since 1970 UTC.
  2. Nothing that must be safe depends on them (invariant I15).
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, Protocol, Self


class Clock(Protocol):
    """Tell the time and wait."""

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for this long."""

    async def sleep_async(self, seconds: float) -> None:
        """Let the calling task wait for this long."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return time.time_ns() // 1_000

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for this long."""
        # Why not time.sleep: it raises EINVAL under libfaketime, an event's wait does not.
        threading.Event().wait(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Let the calling task wait for this long."""
        # Why here: asyncio costs 40 ms to import, and most who tell the time never wait in a task.
        import asyncio

        await asyncio.sleep(seconds)


def waited(clock: Clock, seconds: float) -> None:
    """Let a clock that moves only when it is told to know that so long was waited elsewhere.

    Args:
        clock: Any clock; only one that has a `waited(seconds)` of its own hears of it.
        seconds: How long.
    """
    hear = getattr(clock, "waited", None)
    if hear is not None:
        hear(seconds)


class Since(NamedTuple):
    """Hold a moment of this process, to tell later how long ago it may be.

    Args:
        monotonic: By the clock that is never set; it may stand still with its machine.
        wall: By the clock that people read; it may be set.
    """

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        """Return this moment."""
        return cls(time.monotonic(), time.time())

    @property
    def seconds_max(self) -> float:
        """How long ago it is at most: whatever the clock says that says more.

        Why both: the monotonic clock does not count how long a machine was suspended, or a virtual
        one stood still; the wall clock does, once it has been set right.
        """
        return max(time.monotonic() - self.monotonic, time.time() - self.wall)


LONG_AGO = Since(float("-inf"), float("-inf"))
"""Before everything."""
