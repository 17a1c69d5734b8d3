"""Columns of many values as one parameter.

Owns: how a list becomes the text of a PostgreSQL array.
Why not psycopg's own lists: they look at each value in Python, which took longer than the statement
itself where many transactions are written at once; and the type of a list of numbers changes with
its biggest one, so that a statement would be prepared again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def numbers(values: Iterable[int | None]) -> str:
    """Return an array of whole numbers."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def flags(values: Iterable[bool]) -> str:
    """Return an array of booleans."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    """Return an array of texts."""
    return "{" + ",".join([_quoted(value) for value in values]) + "}"


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    # Why both: in quotes, these two are all that means something else than itself.
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
