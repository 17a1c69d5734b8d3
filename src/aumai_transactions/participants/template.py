"""References to a call's data in texts that an action's author wrote.

Owns: what a reference looks like, where it leads, and how its value becomes text or JSON.
Rules:
  1. A text is parsed once, when it is declared. What is inserted is never parsed again.
  2. There is no expression language: a reference names one value, and nothing is computed.
  3. A value that is not there, or that its place cannot hold, is refused by name, before
     anything is sent.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aumai_transactions.actions import StepContext
from aumai_transactions.core.values import VALUE_BYTES_MAX, canonical_json
from aumai_transactions.errors import NotDelivered, StepRejected
from aumai_transactions.participants.identity import forward_key_of
from aumai_transactions.participants.messages import printable

OUTPUT = "output"
_WITH_FIELDS = ("data", OUTPUT)
ROOTS = (*_WITH_FIELDS, "transaction_id", "step_id", "agent_id", "key", "forward_key")
PATH_PARTS_MAX = 64

# Why a limit of its own: a reference may stand many times in a body, each time with a value
# as large as a journal allows.
JSON_BYTES_MAX = 4 * VALUE_BYTES_MAX

_KINDS: dict[type, str] = {
    bool: "true or false",
    str: "a text",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")

Values = Mapping[str, Any]
"""What references lead to, by their first name."""

Insert = Callable[["Placeholder", str], str]
"""How a text is encoded for its place."""


class UnfitValue(Exception):
    """Say that a reference leads to nothing, or to what its place cannot hold."""


def rejection(context: StepContext, message: str) -> StepRejected | NotDelivered:
    """Return what a handler raises for a value that cannot be sent.

    Why not one of them always: the same data gives the same answer at every attempt, so trying
    again is pointless. But a second attempt that finds it was made with another definition than
    the first, which may well have arrived; it must not be heard as the answer to that one.
    """
    return StepRejected(message) if context.attempt <= 1 else NotDelivered(message)


@dataclass(slots=True, frozen=True)
class Placeholder:
    """Hold a reference: `{data.items.0.id}` has the root `data` and a path of three names."""

    root: str
    path: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The reference as its author wrote it."""
        return f"{{{printable('.'.join((self.root, *self.path)), 200)}}}"

    @property
    def is_ours(self) -> bool:
        """True where the value is an id that this package handed out, not an agent's data."""
        return self.root not in _WITH_FIELDS

    def value(self, values: Values) -> Any:
        """Return what it leads to.

        Raises:
            UnfitValue: There is nothing at this place.
        """
        if self.root not in values:
            message = (
                f"{self.shown} is known only in an undo, a probe or a verification, not in the "
                "call of the action itself"
            )
            raise UnfitValue(message)
        value = values[self.root]
        for part in self.path:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
                value = value[int(part)]
            else:
                message = f"{self.shown} leads to nothing: there is no {printable(part, 80)!r}"
                raise UnfitValue(f"{message} in {_kind(value)}")
        if self.root == OUTPUT and not self.path and value is None:
            message = f"{self.shown} leads to nothing: no output is known"
            raise UnfitValue(message)
        return value


@dataclass(slots=True, frozen=True)
class Text:
    """Hold a parsed text: literal pieces, and references between them."""

    parts: tuple[str | Placeholder, ...]

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        """The references in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, Placeholder))

    @property
    def shown(self) -> str:
        """The text for people, with its references as they were written."""
        parts = (part if isinstance(part, str) else part.shown for part in self.parts)
        return "".join(parts)

    @property
    def literal(self) -> str:
        """The text with an `x` for each reference: what can be checked at declaration."""
        return "".join("x" if isinstance(part, Placeholder) else part for part in self.parts)

    def rendered(self, values: Values, insert: Insert) -> str:
        """Return the text of one call.

        Args:
            values: What the references lead to.
            insert: How a value, as text, is encoded for this place; it may raise `UnfitValue`.

        Raises:
            UnfitValue: A reference leads to nothing, or to what cannot stand in a text.
        """
        return "".join(
            insert(part, as_text(part, part.value(values)))
            if isinstance(part, Placeholder)
            else part
            for part in self.parts
        )


Node = Text | Placeholder | list[Any] | dict[str, Any] | str | int | float | bool | None
"""A parsed JSON value: a reference that stands alone is a `Placeholder`, a mixed text a `Text`."""


def values_of(data: Mapping[str, Any], context: StepContext) -> Values:
    """Return what the references of one call lead to."""
    values: dict[str, Any] = {
        "data": data,
        "transaction_id": context.transaction_id,
        "step_id": context.step_id,
        "agent_id": context.agent_id,
        "key": context.idempotency_key,
        "forward_key": forward_key_of(context),
    }
    if context.operation != "action":
        values[OUTPUT] = context.output
    return values


def parsed_text(text: str) -> Text:
    """Return a text with its references found and `{{`, `}}` made into single braces.

    Raises:
        ValueError: A brace or a reference is wrong; the text says what to write instead.
    """
    parts: list[str | Placeholder] = []
    literal = ""
    end = 0
    for piece in _PIECE.finditer(text):
        literal += text[end : piece.start()]
        end = piece.end()
        if piece[1] is not None:
            parts += [literal] if literal else []
            parts.append(_placeholder(piece[1]))
            literal = ""
        elif len(piece[0]) == 2:
            literal += piece[0][0]
        else:
            message = (
                f"holds a single {piece[0]}; a reference is written {{data.flight_id}}, and a "
                f"brace that is meant as it stands {piece[0] * 2}"
            )
            raise ValueError(message)
    literal += text[end:]
    parts += [literal] if literal else []
    return Text(tuple(parts))


def parsed_json(value: Any, place: str = "") -> Node:
    """Return a checked JSON value with the references in its texts found; keys stay as they are.

    Raises:
        ValueError: A text in it is wrong; names its place.
    """
    if isinstance(value, str):
        try:
            text = parsed_text(value)
        except ValueError as error:
            message = f"{place}: {error}" if place else str(error)
            raise ValueError(message) from None
        if not text.placeholders:
            return "".join(part for part in text.parts if isinstance(part, str))
        only = text.parts[0]
        return only if len(text.parts) == 1 and isinstance(only, Placeholder) else text
    if isinstance(value, dict):
        inside = f"{place}." if place else ""
        return {
            key: parsed_json(item, f"{inside}{printable(key, 80)}") for key, item in value.items()
        }
    if isinstance(value, list):
        return [parsed_json(item, f"{place}[{index + 1}]") for index, item in enumerate(value)]
    return value  # type: ignore[no-any-return]


def placeholders_in(node: Node) -> Iterator[Placeholder]:
    """Yield every reference in a parsed JSON value."""
    match node:
        case Placeholder():
            yield node
        case Text():
            yield from node.placeholders
        case dict():
            for item in node.values():
                yield from placeholders_in(item)
        case list():
            for item in node:
                yield from placeholders_in(item)
        case _:
            return


def json_body(node: Node, values: Values) -> bytes:
    """Return a parsed JSON value as the bytes that one call sends.

    A reference that stands alone becomes the value itself, of whatever type, null included;
    one inside a longer text is inserted as text.

    Raises:
        UnfitValue: A reference leads to nothing, cannot stand in a text, or makes it too large.
    """
    return encoded_json(_Filling(values).filled(node))


def encoded_json(value: object) -> bytes:
    """Return a value as JSON, in the one way in which every body is written.

    Raises:
        UnfitValue: It is no JSON.
    """
    try:
        return canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the body cannot be written as JSON ({printable(str(error), 100)})"
        raise UnfitValue(message) from None


def as_text(placeholder: Placeholder, value: object) -> str:
    """Return a value as it stands inside a text: numbers and booleans as JSON writes them.

    Raises:
        UnfitValue: It is null, a list, an object, or no JSON at all.
    """
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not is_number:
        message = (
            f"{placeholder.shown} is {_kind(value)}; only text, a number, true or false can stand "
            "there"
        )
        raise UnfitValue(message)
    try:
        return json.dumps(value)
    except ValueError:
        message = f"{placeholder.shown} is a number with too many digits"
        raise UnfitValue(message) from None


class _Filling:
    """Fill one body, and stop before it takes more memory than its limit."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._left = JSON_BYTES_MAX
        self._weights: dict[Placeholder, int] = {}

    def filled(self, node: Node) -> Any:
        match node:
            case Placeholder():
                value = node.value(self._values)
                if node not in self._weights:
                    self._weights[node] = len(encoded_json(value))
                self._take(node, self._weights[node])
                return value
            case Text():
                return node.rendered(self._values, self._inserted)
            case dict():
                return {key: self.filled(item) for key, item in node.items()}
            case list():
                return [self.filled(item) for item in node]
            case _:
                return node

    def _inserted(self, placeholder: Placeholder, text: str) -> str:
        self._take(placeholder, len(text))
        return text

    def _take(self, placeholder: Placeholder, size: int) -> None:
        self._left -= size
        if self._left < 0:
            message = f"{placeholder.shown} makes the body longer than {JSON_BYTES_MAX:,} bytes"
            raise UnfitValue(message)


def _placeholder(written: str) -> Placeholder:
    parts = tuple(written.split("."))
    shown = f"{{{printable(written, 80)}}}"
    if not all(parts) or any(part != part.strip() for part in parts):
        message = (
            f"holds {shown}, which names nothing; a reference is written {{data.flight_id}}, "
            "without spaces, and braces that are meant as they stand {{ and }}"
        )
        raise ValueError(message)
    root, path = parts[0], parts[1:]
    if root not in ROOTS:
        near = difflib.get_close_matches(root, ROOTS, n=1, cutoff=0.7)
        guess = ".".join((near[0], *path)) if near else f"data.{written}"
        message = (
            f"holds {shown}; did you mean {{{printable(guess, 80)}}}? Known are "
            f"{', '.join(ROOTS)}; braces that are meant as they stand are written {{{{ and }}}}"
        )
        raise ValueError(message)
    if path and root not in _WITH_FIELDS:
        message = f"holds {shown}, but {root} is a text and has no fields; write {{{root}}}"
        raise ValueError(message)
    if len(path) > PATH_PARTS_MAX:
        message = f"holds a reference of more than {PATH_PARTS_MAX} names"
        raise ValueError(message)
    return Placeholder(root, path)


def _kind(value: object) -> str:
    """Return what a value is, in words; never the value itself."""
    if value is None:
        return "null"
    for cls, name in _KINDS.items():
        if isinstance(value, cls):
            return name
    return type(value).__name__
