"""How a bug is planted in the product for a while.

Owns: the list of all mutants, and the way in which one of them replaces functions of the product.
Rules:
  1. A mutant is one mistake that a programmer could make in the product: a rule of the core, of the
     drivers, of the store's contract or of the barrier. Nothing of what watches is ever replaced.
  2. Its docstring begins with the rules by which it may be found, and says what it does.
  3. The core checks some of its rules twice, when it decides and when it evolves; `blind` switches
     the second check off, so that a mutant is found by who watches and not by the product itself.
"""

import sys
from contextlib import contextmanager
from typing import NamedTuple

from aumai_transactions.core import transitions

_ABSENT = object()

_WATCHERS = (
    "aumai_transactions.testing.invariants",
    "aumai_transactions.testing.simulator.watching",
    "aumai_transactions.testing.simulator.chains",
)


class Mutant(NamedTuple):
    """Hold one mistake.

    `seed` is one at which it is known to be found, None where it is so rare that only the search
    among fresh seeds looks for it; `needs` names what has to have happened in a
    history that can show it.
    """

    name: str
    rules: frozenset[str]
    sentence: str
    plant: object
    seed: int | None
    needs: tuple[str, ...]


MUTANTS: list[Mutant] = []


def mutant(*, seed, needs=()):
    """Enter a function in the list of mutants; it is given a `Planting`."""

    def enter(plant):
        rules, _colon, sentence = " ".join(plant.__doc__.split()).partition(": ")
        names = frozenset(rules.split(", "))
        MUTANTS.append(Mutant(plant.__name__, names, sentence, plant, seed, tuple(needs)))
        return plant

    return enter


class Planting:
    """Replace what a mutant names, and remember what was there."""

    def __init__(self):
        self._before = []

    def put(self, owner, name, new):
        """Replace one attribute of a module or a class."""
        self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, new)

    def everywhere(self, sound, mutated):
        """Replace a function in every module of the product that knows it by a name."""
        places = [
            (module, name)
            for module in _product()
            for name, value in list(vars(module).items())
            if value is sound
        ]
        assert places, f"{sound} is nowhere"
        for module, name in places:
            self.put(module, name, mutated)

    def blind(self):
        """Let `evolve` accept what it would refuse."""
        self.everywhere(transitions.require, lambda holds, otherwise: None)

    def take_back(self):
        """Let everything be as it was."""
        while self._before:
            owner, name, old = self._before.pop()
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _product():
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("aumai_transactions") and not name.startswith(_WATCHERS)
    ]


@contextmanager
def planted(one):
    """Let the product have this mistake inside of the block."""
    planting = Planting()
    try:
        one.plant(planting)
        yield
    finally:
        planting.take_back()
