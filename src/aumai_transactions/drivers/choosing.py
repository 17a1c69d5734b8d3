"""Which transactions a worker takes next.

Owns: the choice among what is due, and for how long a transaction is left alone that this worker
could do nothing for.
Rules:
  1. What it can do nothing for stands in nobody's way: it is left alone for longer and longer, and
     what is seen for the first time comes before it.
  2. Nothing here reads a clock: instants come in as seconds of a clock that only goes forward.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Sequence

AGAIN_SECONDS = {
    "busy": (1.0, 1.0),
    "unavailable": (1.0, 30.0),
    "interrupted": (1.0, 60.0),
    "parked": (30.0, 600.0),
    "failed": (30.0, 600.0),
    "unreadable": (300.0, 3600.0),
}
"""How long a transaction is left alone that this worker could do nothing for, the first time and
at most; each time it is twice as long."""

_COMES_BACK = ("busy", "unavailable", "interrupted")
"""For these reasons it is only a matter of time until this worker can do something for it."""


class _LeftAlone(NamedTuple):
    """Hold what this worker could do nothing for.

    Args:
        why: A key of `AGAIN_SECONDS`.
        until: Until when it is left alone.
        seconds: How long that was when it began.
    """

    why: str
    until: float
    seconds: float


class Choice:
    """Choose what one worker takes, from any thread.

    Args:
        dice: Draws the order where workers would get in each other's way.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._guard = threading.Lock()
        self._left_alone: dict[str, _LeftAlone] = {}
        self._is_crowded = False

    def limit(self, free: int, in_hand: int) -> int:
        """Return how many that are due have to be known, so that enough of them are free.

        Why more than can be taken: those in hand in this process, and those left alone, are told
        of as well.

        Args:
            free: How many can be taken.
            in_hand: How many are in hand in this process.
        """
        with self._guard:
            return 2 * free + in_hand + len(self._left_alone)

    def chosen(
        self, due: Sequence[str], in_hand: Collection[str], free: int, now: float
    ) -> list[str]:
        """Return what to take now, in order.

        Args:
            due: What the store says is due.
            in_hand: What is in hand in this process.
            free: How many can be taken.
            now: The time.
        """
        with self._guard:
            known = dict(self._left_alone)
        skipped = {name for name, left in known.items() if left.until > now}
        self.forget((known.keys() - skipped).difference(due))
        new = [name for name in due if name not in in_hand and name not in skipped]
        if self._is_crowded or not skipped.isdisjoint(due):
            # Why: others take what is first in line, and look at the same line; and the turn of a
            # tenant whose first one is left alone would never come.
            self._dice.shuffle(new)
            self._is_crowded = False
        new.sort(key=known.__contains__)
        return new[:free]

    def heard(self, name: str, outcome: str, now: float) -> bool:
        """Take note of what became of one that was taken; return whether that is news.

        Args:
            name: The transaction.
            outcome: That of `Recovered`, or another key of `AGAIN_SECONDS`.
            now: The time.
        """
        if outcome not in AGAIN_SECONDS:
            self.forget({name})
            return True
        self._is_crowded = self._is_crowded or outcome == "busy"
        first, longest = AGAIN_SECONDS[outcome]
        with self._guard:
            before = self._left_alone.get(name)
            is_new = before is None or before.why != outcome
            seconds = first if before is None or is_new else min(2 * before.seconds, longest)
            self._left_alone[name] = _LeftAlone(outcome, now + seconds, seconds)
        return is_new and outcome != "busy"

    def forget(self, names: Collection[str]) -> None:
        """Take these for new ones when they are seen again."""
        with self._guard:
            for name in names:
                self._left_alone.pop(name, None)

    def left_alone(self) -> dict[str, bool]:
        """Return what is left alone, and whether it is only a matter of time until it is not."""
        with self._guard:
            return {name: left.why in _COMES_BACK for name, left in self._left_alone.items()}
