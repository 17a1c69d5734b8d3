"""How deep a JSON text is nested, told before anybody parses it.

Owns: that. A parser that calls itself for each level fails somewhere in its depths, and so does
whatever the interpreter does meanwhile, such as finalizing an object.
"""

from __future__ import annotations

import re
from typing import Final

PARSED_DEPTH_MAX: Final = 200
"""What every parser takes without being near its limit; data is refused long before it."""

_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


def is_nested_deeper(text: str, depth: int = PARSED_DEPTH_MAX) -> bool:
    """Tell whether a text has more brackets open at once than that; it need not be JSON."""
    # Why first: to count takes no time, and nearly no text has as many at all.
    if text.count("[") + text.count("{") <= depth:
        return False
    level = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        first = found[0][0]
        if first in "[{":
            level += 1
            if level > depth:
                return True
        elif first in "]}":
            level -= 1
    return False
