"""How foreign text is quoted in an error message.

Owns: what a participant wrote is hostile: it may be endless, and hold escape sequences that
repaint a terminal or turn its text around.
"""

from __future__ import annotations

from collections.abc import Iterable

LINE_CHARACTERS_MAX = 300
SECRET_CHARACTERS_MIN = 4


def printable(text: str, characters_max: int = LINE_CHARACTERS_MAX) -> str:
    """Return the beginning of a text with everything that does not print escaped."""
    beginning = text[:characters_max]
    shown = "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in beginning
    )
    return shown if len(text) <= characters_max else shown + "…"


def first_line(text: str) -> str:
    """Return the first line that is not blank, fit for an error message; else an empty text."""
    return printable(next((line.strip() for line in _lines(text) if line.strip()), ""))


def last_line(text: str) -> str:
    """Return the last line that is not blank, fit for an error message; else an empty text."""
    return printable(next((line.strip() for line in reversed(_lines(text)) if line.strip()), ""))


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text in which secrets that were sent along are painted over.

    Very short ones stay, for painting them over would make every message unreadable.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_CHARACTERS_MIN:
            text = text.replace(secret, "•••")
    return text


def _lines(text: str) -> list[str]:
    # Why not splitlines: it breaks at form feeds and at U+2028 too, which are to be shown.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
