"""What goes wrong in a simulation, and when.

Owns: the classes of faults, how often each one happens under a seed, and the record of those that
did, by which a run can be repeated with fewer of them.
Rules:
  1. Each class draws from a stream of its own for each process or transaction, so that what is left
     out changes no draw of another.
  2. Every seed has its own mixture: some classes never happen, others often (swarm testing).

Source of the idea: Groce et al., Swarm Testing (2012).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple


class FaultClass(NamedTuple):
    """Describe one class of faults.

    Args:
        most: How likely it is at most, at each moment at which it can happen.
        heals: True where it stops when the world heals; what participants decide does not.
    """

    most: float
    heals: bool = True


CLASSES: dict[str, FaultClass] = {
    # Processes: at each operation that a procedure asks for.
    "crash": FaultClass(0.02),
    "pause": FaultClass(0.02),
    "interrupt": FaultClass(0.01),
    # Clocks: at each start of a process, and while it runs.
    "skew": FaultClass(1.0),
    "jump": FaultClass(0.3),
    # The store: at each call of it.
    "store_lost": FaultClass(0.10),
    "store_reply_lost": FaultClass(0.10),
    "store_later": FaultClass(0.05),
    "store_slow": FaultClass(0.15),
    "store_down": FaultClass(0.02),
    "lease_lost": FaultClass(0.5),
    # The network between a process and a participant: at each call.
    "call_lost": FaultClass(0.10),
    "call_reply_lost": FaultClass(0.15),
    "call_twice": FaultClass(0.20),
    "call_late": FaultClass(0.10),
    "call_very_late": FaultClass(0.03),
    "call_slow": FaultClass(0.20),
    "not_delivered": FaultClass(0.10),
    # What a participant says.
    "rejects": FaultClass(0.15, heals=False),
    "fails": FaultClass(0.15),
    "asks_for_later": FaultClass(0.10),
    "unknown": FaultClass(0.10),
    "undo_fails": FaultClass(0.40),
    "undo_lies": FaultClass(0.50),
    "cannot_tell": FaultClass(0.50),
    "reread_differs": FaultClass(0.30, heals=False),
    "continues": FaultClass(0.40, heals=False),
    "unknown_done": FaultClass(0.10),
}


class Faults:
    """Draw what goes wrong under one seed.

    Args:
        seed: The seed.
        without: Classes that never happen.
        only: The faults that may happen, as `fired` names them; None for all.
    """

    def __init__(
        self, seed: int, without: Collection[str] = (), only: Collection[str] | None = None
    ) -> None:
        self.is_healed = False
        self.fired: list[str] = []
        self.counts: Counter[str] = Counter()
        self._only = None if only is None else frozenset(only)
        self._seed = seed
        mixture = random.Random(f"{seed}/mixture")  # noqa: S311 (a simulation)
        self.rates: dict[str, float] = {}
        self._streams: dict[tuple[str, object], _Stream] = {}
        self._last: dict[str, _Stream] = {}
        for name, fault in CLASSES.items():
            # Order matters: each class takes its two draws, whether it happens or not.
            is_drawn, much = mixture.random(), mixture.random()
            if is_drawn < 0.45 and name not in without:
                self.rates[name] = fault.most * much * much

    def hit(self, name: str, whose: object) -> bool:
        """Tell whether a fault of this class happens now.

        Args:
            name: The class.
            whose: Of which process, or which transaction.
        """
        rate = self.rates.get(name)
        if rate is None:
            return False
        stream = self._streams.get((name, whose))
        if stream is None:
            stream = self._streams[name, whose] = _Stream(f"{self._seed}/{name}/{whose}")
        stream.asked += 1
        if stream.random() >= rate or (self.is_healed and CLASSES[name].heals):
            return False
        fault = f"{name}@{whose}#{stream.asked}"
        if self._only is not None and fault not in self._only:
            return False
        self.fired.append(fault)
        self.counts[name] += 1
        self._last[name] = stream
        return True

    def details(self, name: str) -> random.Random:
        """Return what the details of the last fault of a class are drawn from."""
        return self._last[name]


class _Stream(random.Random):
    """Draw, and count how often it was asked."""

    asked = 0
