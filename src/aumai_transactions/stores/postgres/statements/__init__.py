"""The SQL that runs against a store.

Owns: reading the named statements in the `.sql` files beside this one.
Rules:
  1. A statement begins with `-- name: …` and ends where the next one does.
  2. Statements are put together from constants of these files, when they are loaded. Data arrives
     as a parameter, always.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from aumai_transactions.errors import InternalError

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@cache
def statement(name: str, *, is_search: bool = False) -> bytes:
    """Return a statement by its name.

    Args:
        name: Its name.
        is_search: True where each line is looked at.

    Raises:
        InternalError: There is none of this name.
    """
    try:
        text = _all()[name]
    except KeyError:
        raise InternalError(f"there is no statement {name!r}.") from None
    for part in ("listed", "served"):
        text = text.replace("{" + part + "}", _all()[part])
    text = text.replace("{searched}", _all()["searched"] if is_search else "")
    return text.encode()


@cache
def directed(name: str, *, downwards: bool, is_search: bool = False) -> bytes:
    """Return a statement that lists, in one direction.

    Args:
        name: Its name.
        downwards: True for the newest first.
        is_search: True where each line is looked at.
    """
    direction = b"DESC" if downwards else b"ASC"
    return statement(name, is_search=is_search).replace(b"{direction}", direction)


@cache
def _all() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(Path(__file__).parent.glob("*.sql")):
        _, *parts = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise InternalError(f"two statements are called {name!r}.")
            found[name] = _COMMENT.sub("", text).strip()
    return found
