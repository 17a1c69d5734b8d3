"""What a person sees: streams, colours, and text from outside made harmless.

Owns: every write to standard output and standard error.
Rules:
  1. Text from outside passes through `shown` first; nothing else may reach a stream.
  2. A reader that went away (`| head`) is no error and stops no transaction.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import unicodedata
from dataclasses import dataclass, field
from typing import Any, TextIO

import click

from aumai_transactions.wording.words import Tone

_STYLES: dict[Tone, dict[str, Any]] = {
    "good": {"fg": "green"},
    "bad": {"fg": "red", "bold": True},
    "warn": {"fg": "yellow"},
    "busy": {"fg": "cyan"},
    "dim": {"dim": True},
    "bold": {"bold": True},
    "plain": {},
}
_READER_LEFT = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.EBADF}


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns_of_character(character) for character in text)


def plain_columns(styled: str) -> int:
    """Return how many columns a text takes that `Screen.styled` may have coloured."""
    return columns_of(click.unstyle(styled))


def _columns_of_character(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def clipped(text: str, columns: int) -> str:
    """Return as much of a text as fits, with … where something is left out."""
    if columns_of(text) <= columns:
        return text
    kept, used = [], 0
    for character in text:
        used += _columns_of_character(character)
        if used > columns - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def wants_colour(stream: TextIO | None) -> bool:
    """Tell whether a stream gets colours.

    Source: no-color.org and bixense.com/clicolors; click itself knows neither.
    """
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    if environment.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return _is_terminal(stream) and environment.get("TERM") != "dumb"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # It is closed.
        return False


@dataclass(slots=True)
class Screen:
    """Write to one stream.

    Args:
        stream: Where to; None where the process was started without it.
        has_colour: Whether styles are written.
        is_terminal: Whether a person sits there.
        problem: Why nothing more can be written, other than that the reader left.
    """

    stream: TextIO | None
    has_colour: bool = False
    is_terminal: bool = False
    problem: str = ""
    _is_gone: bool = field(default=False)

    @classmethod
    def of(cls, stream: TextIO | None) -> Screen:
        """Return the screen of a stream as the environment wants it."""
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # Why: an arrow must not become an exception where the encoding is ASCII.
            reconfigure(errors="backslashreplace")
        return cls(stream, wants_colour(stream), _is_terminal(stream))

    @property
    def is_live(self) -> bool:
        """True where lines can be drawn over."""
        return self.is_terminal and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def width(self) -> int | None:
        """How many columns there are; None where nobody counts them."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    def styled(self, text: str, tone: Tone) -> str:
        """Return a text in a tone, where this stream has colours."""
        if not self.has_colour or tone == "plain" or not text:
            return text
        return click.style(text, **_STYLES[tone])

    def say(self, *lines: str) -> None:
        """Write lines."""
        self.write("".join(f"{line}\n" for line in lines))

    def say_json(self, value: object) -> None:
        """Write a JSON document, in ASCII, so that no terminal can be tricked by it."""
        self.say(json.dumps(value, indent=2))

    def write(self, text: str) -> None:
        """Write text at once."""
        if self.stream is None or self._is_gone or not text:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self._lose(error)
        except ValueError:  # It was closed by somebody.
            self._is_gone = True

    def _lose(self, error: OSError) -> None:
        if error.errno not in _READER_LEFT:
            self.problem = error.strerror or str(error)
        self.abandon()

    def abandon(self) -> None:
        """Write nothing more; what is still buffered goes nowhere."""
        self._is_gone = True
        try:
            # Why: what is buffered would fail once more when the interpreter ends.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno() if self.stream else null)
            os.close(null)
        except (OSError, ValueError):
            self.stream = None


def standard_streams() -> tuple[Screen, Screen]:
    """Return standard output and standard error."""
    return Screen.of(sys.stdout), Screen.of(sys.stderr)


def occupy_standard_descriptors() -> None:
    """Point descriptors 0 to 2 somewhere where the process was started without them.

    Why: a database that got number 2 would be written to by the next error message.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
