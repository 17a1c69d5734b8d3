"""How a step's data is filled in from earlier outputs.

Owns: JSON pointers (RFC 6901) and nothing else; there is no expression language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.values import clone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.models import JsonType


class UnresolvedReference(Exception):
    """Say that an output does not hold what a reference names."""


def resolved(step: StepDefinition, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the step's data with every reference replaced by the value it points to.

    Args:
        step: The step.
        outputs: The outputs of the steps that it depends on, by step id.

    Raises:
        UnresolvedReference: An output does not hold the place; names the reference.
    """
    data: dict[str, Any] = clone(step.data)
    for reference in step.references:
        value = clone(_at(outputs.get(reference.step_id), reference.step_id, reference.at))
        if reference.type is not None and reference.type not in types_of(value):
            place = f"at {reference.at!r}" if reference.at else "as a whole"
            message = (
                f"the output of step {reference.step_id!r} is {types_of(value)[0]} {place}, not "
                f"{reference.type} as {shown(reference.into)} needs"
            )
            raise UnresolvedReference(message)
        _put(data, reference.into, value)
    return data


def types_of(value: object) -> tuple[JsonType, ...]:
    """Return the JSON types that a value has; a whole number is an integer and a number."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int):
        return ("integer", "number")
    if isinstance(value, float):
        return ("number", "integer") if value.is_integer() else ("number",)
    if isinstance(value, str):
        return ("string",)
    return ("array",) if isinstance(value, list) else ("object",)


def shown(into: tuple[str | int, ...]) -> str:
    """Return a place in a step's data for people, such as `data.flight.id`."""
    text = "data"
    for part in into:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def pointer_to(into: tuple[str | int, ...]) -> str:
    """Return a place as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in into)


def _put(data: Any, into: tuple[str | int, ...], value: object) -> None:
    place = data
    try:
        for key in into[:-1]:
            place = place[key]
        place[into[-1]] = value
    except (KeyError, IndexError, TypeError):
        message = f"the step's data has no place {shown(into)} for an output"
        raise UnresolvedReference(message) from None


def _at(output: object, step_id: str, pointer: str) -> object:
    try:
        return at_pointer(output, pointer)
    except LookupError as error:
        message = (
            f"the output of step {step_id!r} has nothing at {pointer!r} ({error.args[0]} there)"
        )
        raise UnresolvedReference(message) from None


def at_pointer(value: object, pointer: str) -> object:
    """Return what stands at a place in a JSON value.

    Raises:
        LookupError: Nothing stands there; its argument says what kind of thing was found instead.
    """
    if not pointer:
        return value
    for token in pointer.removeprefix("/").split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and (index := _index(key)) < len(value):
            value = value[index]
        else:
            raise LookupError(type(value).__name__ if value is not None else "null")
    return value


def _index(key: str) -> int:
    # Why the length: thousands of digits are no index, and int() refuses to read them.
    is_index = key.isascii() and key.isdigit() and len(key) < 20
    return int(key) if is_index else 2**63
