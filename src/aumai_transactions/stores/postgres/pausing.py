"""How often something is tried again, and after which pauses.

Owns: the pauses between the tries of what a server rolled back for a passing cause.
"""

from __future__ import annotations

from functools import partial
from random import SystemRandom
from threading import Event
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_PAUSE_SECONDS: Final = 0.01
_draw = SystemRandom().random


def pauses(tries_max: int) -> Iterator[Callable[[], object] | None]:
    """Yield, for each try, what waits before the next one; None for the last.

    Why with a draw: those who got into each other's way should not meet again.
    """
    for number in range(tries_max - 1):
        seconds = FIRST_PAUSE_SECONDS * 2**number * (0.5 + _draw())
        yield partial(Event().wait, seconds)
    yield None
