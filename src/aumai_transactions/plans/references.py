"""References to earlier outputs, as they are written in JSON and TOML.

Owns: the form `{"$output": "step", "at": "/pointer", "type": "string"}`, for plan files and for
the command line alike.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from aumai_transactions.core.definition import Reference
from aumai_transactions.core.values import checked_object
from aumai_transactions.errors import InvalidData, PlanFileError
from aumai_transactions.models import JsonType
from aumai_transactions.plans.document import (
    REFERENCE_KEY,
    Place,
    kind_of,
    quoted,
    shown_place,
)
from aumai_transactions.plans.problems import did_you_mean, listed

_POINTER = re.compile(r"(/([^~/]|~[01])*)*")


def data_with_references(
    file: str, data: dict[str, Any], place: Place
) -> tuple[dict[str, Any], tuple[Reference, ...]]:
    """Return a step's data with null where a reference stands, and the references.

    Args:
        file: How to name in an error where it was written.
        data: The data as it was written.
        place: Where it stands there.

    Raises:
        PlanFileError: It is not JSON, or a reference in it cannot be; names the place.
    """
    try:
        copy = checked_object(data)
    except InvalidData as error:
        inside = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + 1}]", error.path)
        where = shown_place(place) + inside.removeprefix("$")
        raise PlanFileError(file, where.removeprefix("."), error.problem) from None
    if REFERENCE_KEY in copy:
        problem = (
            "cannot be a reference as a whole; put it under a key, as in "
            '{ flight = { "$output" = "flight" } }.'
        )
        raise PlanFileError(file, shown_place(place), problem)
    references: list[Reference] = []
    _collect(file, copy, place, (), references)
    return copy, tuple(references)


def _collect(file: str, value: Any, place: Place, into: Place, found: list[Reference]) -> None:
    """Put null where a reference stands, and the reference into the list."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        here: Place = (*into, key)
        if isinstance(item, dict) and REFERENCE_KEY in item:
            found.append(_reference(file, item, (*place, *here), here))
            value[key] = None
        elif isinstance(item, (dict, list)):
            _collect(file, item, place, here, found)


def _reference(file: str, item: dict[str, Any], place: Place, into: Place) -> Reference:
    for key, text in item.items():
        where = shown_place((*place, key))
        if key not in (REFERENCE_KEY, "at", "type"):
            problem = 'is not a key of a reference, which has "$output", at and type only.'
            raise PlanFileError(file, where, problem + did_you_mean(key, ["at", "type"]))
        if not isinstance(text, str):
            raise PlanFileError(file, where, f"must be text, not {kind_of(text)}.")
    pointer = item.get("at", "")
    if not _POINTER.fullmatch(pointer):
        problem = (
            f"{quoted(pointer)} is not a JSON pointer. It begins with /, as in "
            '"/reservation/id"; ~ is written ~0, and / within a name ~1.'
        )
        raise PlanFileError(file, shown_place((*place, "at")), problem)
    kind = item.get("type")
    if kind is not None and kind not in get_args(JsonType):
        problem = (
            f"{quoted(kind)} is not a JSON type, which are {listed(get_args(JsonType))}."
            f"{did_you_mean(kind, get_args(JsonType))}"
        )
        raise PlanFileError(file, shown_place((*place, "type")), problem)
    return Reference(into, item[REFERENCE_KEY], pointer, kind)
