"""Where in the program a function stands, and whether two functions are one.

Owns: that. What a name is to find again after a restart, and what may go by one name until then,
follows from it.
Rules:
  1. A function that was defined once more, as by a reload or in a notebook, is the same one.
  2. Of two functions that were made at one place, each around other things, neither is the other.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from typing import Any

_made: Counter[str] = Counter()
"""How many functions that cannot be found again were made at one place."""


def name_here(name: str) -> str:
    """Return a name that no other function made at the same place has, in this process.

    Args:
        name: The place.
    """
    _made[name] += 1
    return name if _made[name] == 1 else f"{name}#{_made[name]}"


def place_of(function: Any) -> str:
    """Return `module:qualname` of what a function is at heart, for people and to compare."""
    inner = inspect.unwrap(function)
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', None)}:{name}"


def are_two(one: Any, other: Any) -> bool:
    """True where two functions stand at different places, at which both are found again."""
    places = place_of(one), place_of(other)
    if places[0] == places[1] or any("<" in place for place in places):
        return False
    codes = [getattr(inspect.unwrap(function), "__code__", None) for function in (one, other)]
    # Why: a module may be imported under two names, as the main program and as what it is.
    files = [(code.co_filename, code.co_qualname) for code in codes if code is not None]
    return len(files) < 2 or files[0] != files[1]


def is_there(function: Any) -> bool:
    """True where a function is still found at its place; a notebook may have dropped it."""
    module, _, path = place_of(function).partition(":")
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return callable(found) and inspect.unwrap(found) is inspect.unwrap(function)


def is_redefined(one: Any, other: Any) -> bool:
    """True where one function is the other, defined once more around the same things."""
    if place_of(one) != place_of(other):
        return False
    return _around(inspect.unwrap(one)) == _around(inspect.unwrap(other))


def _around(function: Any) -> list[int]:
    cells = getattr(function, "__closure__", None) or ()
    # Why by what they are, and not by what they equal: two clients of two services may be equal.
    return [id(_inside(cell)) for cell in cells]


def _inside(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return cell  # It is empty yet.
