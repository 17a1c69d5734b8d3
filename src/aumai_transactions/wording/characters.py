"""Text from outside made harmless, whoever shows it.

Owns: which characters are shown as themselves.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from aumai_transactions.core.masking import masked


def shown(text: object) -> str:
    r"""Return text from outside in one line, with everything that does not print escaped.

    Control characters, escape sequences, direction marks and lone surrogates become `\x1b`,
    `\u202e` and the like, so that they neither repaint a terminal nor turn a line around.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(run for run, _ in runs_of(plain))


def runs_of(text: str) -> Iterator[tuple[str, bool]]:
    """Yield a text in runs, ready to be shown, and for each whether that is how it stood there."""
    for is_plain, run in itertools.groupby(text, key=str.isprintable):
        found = "".join(run)
        if is_plain:
            yield found, True
        else:
            yield found.encode("unicode_escape", "surrogatepass").decode("ascii"), False


def shown_lines(text: object) -> str:
    """Return text from outside like `shown`, but keep its line ends."""
    return "\n".join(shown(line) for line in str(text).split("\n"))


def shown_json(value: object) -> str:
    """Return a JSON value in one line, for people; what looks like a secret is painted over."""
    return shown(json.dumps(masked(value), ensure_ascii=False))
