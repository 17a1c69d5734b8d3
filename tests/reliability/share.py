"""How much of the long tests is done: all of it, or a share.

Owns: `AUMAI_SHARE`, a fraction such as 1/8, which is 1 where nothing is said.
Rules:
  1. Of what is enumerated, such as every system call, a share is every so many of it, evenly, and
     always the same ones. Of what is done so many times, or for so long, it is so much less.
  2. Every figure says of which share it is (`figures.py`).
"""

import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

NAME = "AUMAI_SHARE"
ALL = Fraction(1)
Item = TypeVar("Item")


def share_of(text: str) -> Fraction:
    """Read a share.

    Raises:
        ValueError: It is no fraction above 0 and at most 1.
    """
    share = Fraction(text)
    if not 0 < share <= 1:
        raise ValueError(f"{NAME} must be above 0 and at most 1, such as 1/8, not {text}")
    return share


SHARE = share_of(os.environ.get(NAME, "1"))


def some(every: Iterable[Item], share: Fraction = SHARE) -> Iterator[Item]:
    """Yield a share of an enumeration, the first of it included."""
    for number, item in enumerate(every):
        if math.ceil((number + 1) * share) > math.ceil(number * share):
            yield item


def times(number: float, *, least: float = 1, share: Fraction = SHARE) -> int:
    """Return how often something is done of which `number` is the full length."""
    return round(max(number * share, least))
