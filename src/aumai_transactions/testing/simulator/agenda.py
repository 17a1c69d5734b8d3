"""What happens when, in a simulation.

Owns: the one heap of a simulated world, its time, and the clocks that its processes read.
Rules:
  1. Whatever happens at the same instant happens in the order in which it was put down, so that
     one seed is one history.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

T0 = 1_772_193_600_000_000
"""When every simulation begins: microseconds since 1970 UTC."""

SECOND = 1_000_000


class Agenda:
    """Hold what is to happen, and let it happen in order."""

    def __init__(self) -> None:
        self.now = T0
        self.happened = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def after(self, seconds: float, what: Callable[..., None], *given: Any) -> None:
        """Let something happen so many seconds from now."""
        self._number += 1
        at = self.now + int(seconds * SECOND)
        heapq.heappush(self._heap, (at, self._number, what, given))

    def next(self, until: int) -> bool:
        """Let the next thing happen; where there is none until then, let the time pass instead.

        Returns:
            Whether anything has happened.
        """
        if not self._heap or self._heap[0][0] > until:
            self.now = until
            return False
        self.now, _number, what, given = heapq.heappop(self._heap)
        self.happened += 1
        what(*given)
        return True

    def seconds(self) -> float:
        """Return for how long the simulation has gone on, in its own time."""
        return (self.now - T0) / SECOND


class ProcessClock:
    """Be the clock of one simulated machine: wrong by as much as the seed says.

    Args:
        agenda: The time.
        skew: By how much it is wrong, microseconds.
    """

    def __init__(self, agenda: Agenda, skew: int) -> None:
        self._agenda = agenda
        self.skew = skew

    def now(self) -> int:
        """Return microseconds since 1970 UTC, as this machine has them."""
        return self._agenda.now + self.skew

    def sleep(self, seconds: float) -> None:
        """Do nothing: what waits inside of one operation happens at one instant here."""

    async def sleep_async(self, seconds: float) -> None:
        """Do nothing, like `sleep`."""
