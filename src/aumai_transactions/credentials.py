"""Secrets that are named and never held.

Owns: where a name leads (`env:NAME`, `file:PATH`), and how a secret is kept out of what is
recorded.
Rules:
  1. A name is journaled, and a value never is: it is read when a call is made, and painted over in
     whatever comes back from it.
  2. A place in a step's data is filled in only where the step's definition says so: what an agent
     writes into data is data, whatever it looks like.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aumai_transactions.core.masking import MARK, PAINT
from aumai_transactions.core.references import at_pointer
from aumai_transactions.core.values import shown
from aumai_transactions.errors import DefinitionError, NotDelivered

CHARACTERS_MIN = 6
"""Shorter ones are not painted over: the text would be unreadable, and they are no secrets."""
CHARACTERS_MAX = 65_536


class SecretMissing(NotDelivered):
    """Say that a secret is not to be had here; nothing was called.

    Args:
        name: Its name.
        why: What is wrong.
    """

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"the secret {name} {why}. Nothing was called.")


def checked_secret_name(name: object) -> str:
    """Return the name of a secret.

    Raises:
        DefinitionError: It is no `env:NAME` and no `file:PATH`.
    """
    if isinstance(name, str) and name.isprintable() and len(name) <= 1_000:
        scheme, _, rest = name.partition(":")
        is_variable = scheme == "env" and rest.isidentifier() and rest.isascii()
        if is_variable or (scheme == "file" and Path(rest).is_absolute()):
            return name
    message = f"a secret is named env:NAME or file:/absolute/path, not {shown(name)}."
    raise DefinitionError(message)


def secret_of(name: str) -> str:
    """Return a secret.

    Args:
        name: `env:NAME`, or `file:PATH`: the file's text, without the line break at its end.

    Raises:
        SecretMissing: It is not set, or cannot be read.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "env":
        value = os.environ.get(rest, "")
        if not value:
            raise SecretMissing(name, "is not set")
        return value
    try:
        found = Path(rest).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > CHARACTERS_MAX:
            raise SecretMissing(name, "is no file, or too large for a secret")
        value = Path(rest).read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "is no text"
        raise SecretMissing(name, f"cannot be read: {why}") from error
    if not value:
        raise SecretMissing(name, "is empty")
    return value


def names_in(data: Any, places: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each place of a step's data that a secret belongs to, and the secret's name.

    Args:
        data: The data, as it is recorded.
        places: JSON pointers into it.
    """
    for place in places:
        try:
            found = at_pointer(data, place)
        except LookupError:
            continue  # A hook has taken it out before it was recorded.
        if isinstance(found, dict) and isinstance(name := found.get(MARK), str):
            yield place, name


def filled_in(data: dict[str, Any], places: Iterable[str]) -> dict[str, Any]:
    """Put each secret where it belongs in a copy of a step's data, and return that.

    Raises:
        SecretMissing: One is not to be had here.
    """
    for place, name in list(names_in(data, places)):
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in place[1:].split("/")]
        holder: Any = data
        for part in way:
            holder = holder[int(part) if isinstance(holder, list) else part]
        holder[int(last) if isinstance(holder, list) else last] = secret_of(name)
    return data


def missing_in(data: dict[str, Any], places: Iterable[str]) -> Iterator[str]:
    """Yield the names of the secrets of a step that are not to be had here."""
    for _, name in names_in(data, places):
        try:
            secret_of(name)
        except SecretMissing:
            yield name


def values_in(data: dict[str, Any], places: Iterable[str]) -> list[str]:
    """Return the secrets of a step that can be had here, the longest first."""
    found = set()
    for _, name in names_in(data, places):
        try:
            found.add(secret_of(name))
        except SecretMissing:
            continue
    return sorted(found, key=len, reverse=True)


def painted(value: Any, secrets: Iterable[str]) -> Any:
    """Return a value in which secrets are painted over, wherever they stand in its texts.

    Args:
        value: JSON, or a record of such values.
        secrets: The secrets, the longest first.
    """
    if isinstance(value, str):
        for secret in secrets:
            if len(secret) >= CHARACTERS_MIN:
                value = value.replace(secret, PAINT)
        return value
    if isinstance(value, dict):
        return {painted(key, secrets): painted(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [painted(item, secrets) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make([painted(item, secrets) for item in value])
    return value
