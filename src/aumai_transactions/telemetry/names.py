"""What spans and metrics call things that agents and callers have named.

Owns: that such a name is harmless text of bounded length, and that metrics know only so many.
"""

from __future__ import annotations

from collections.abc import Collection

CHARACTERS_MAX = 200
NAMES_MAX = 100
OTHER = "_OTHER"
"""What stands for every name beyond those that are counted by themselves."""


def harmless(text: object) -> str:
    r"""Return text from outside in one line and bounded, what does not print escaped.

    Control characters, direction marks and lone surrogates become `\x1b`, `\u202e` and the like.
    """
    plain = str(text)
    told = plain[:CHARACTERS_MAX]
    if not (told.isascii() and told.isprintable()):
        told = "".join(one if one.isprintable() else escaped(one) for one in told)
    return told if len(plain) <= CHARACTERS_MAX else told + "…"


def escaped(character: str) -> str:
    r"""Return a character as `\x1b`, `\u202e` or the like."""
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class Counted:
    """Let only so many names become attributes of metrics.

    Agents may make up names without end, and each would be a time series of its own for ever.

    Args:
        names: The only ones; None for the first hundred that come.
    """

    def __init__(self, names: Collection[str] | None = None) -> None:
        self._is_closed = names is not None
        self._names = set(names or ())

    def of(self, name: str | None) -> str:
        """Return how a name is counted: as itself, or with all others; without one, as ``."""
        if name is None:
            return ""
        name = harmless(name)
        if name in self._names:
            return name
        if self._is_closed or len(self._names) >= NAMES_MAX:
            return OTHER
        self._names.add(name)
        return name
