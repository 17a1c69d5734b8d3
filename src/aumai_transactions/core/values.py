"""Which values may stand in a journal, and how one is copied.

Owns: the limits of agent-supplied data. Data is hostile: it may be cyclic, deep, huge, or
hold what one of the stores would silently change (NaN becomes NULL in SQLite, NUL and lone
surrogates are refused by PostgreSQL).
Rules:
  1. A value is checked and copied in one pass, so that nobody can change it afterwards.
  2. Every store accepts the same set, whichever store is used.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aumai_transactions.errors import InvalidData

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DEPTH_MAX = 64
VALUE_BYTES_MAX = 2 * 1024 * 1024
INTEGER_MAX = 2**63 - 1
NAME_CHARACTERS_MAX = 1_000
NOTE_CHARACTERS_MAX = 10_000
PATH_CHARACTERS_MAX = 200

# Why a quarter: one character takes at most four bytes in UTF-8, so a value whose rough
# count stays below this can not exceed the limit, and is not encoded just to be measured.
_COUNT_CERTAINLY_FINE = VALUE_BYTES_MAX // 8


class ErrorRecord(NamedTuple):
    """Hold an exception as data: its type's name and its text."""

    type: str
    message: str

    def __str__(self) -> str:
        """Return both in one line, the text first where there is one."""
        return f"{self.type}: {self.message}" if self.message else self.type


def _one_encoder() -> Callable[[object], str]:
    """Return the function that writes JSON; the same settings for every call."""
    slow = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return slow
    # Why not `encode` itself: it makes a new C encoder for every call, which takes as long as
    # encoding a small entry. Without memory of what it visits: a checked value has no circles.
    sort_keys, skip_keys, allow_nan = True, False, False
    escape = json.encoder.encode_basestring
    write = make(None, _not_json, escape, None, ":", ",", sort_keys, skip_keys, allow_nan)
    return lambda value: "".join(write(value, 0))


def _not_json(value: object) -> object:
    message = f"{type(value).__name__} is not JSON"
    raise TypeError(message)


_encode = _one_encoder()


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of a checked value: sorted keys, no spaces, UTF-8."""
    return _encode(value).encode("utf-8")


def checked_copy(value: object, path: str = "$") -> Any:
    """Return a copy of a JSON value that shares nothing mutable with it.

    Tuples become lists, as JSON has it; subclasses of the JSON types become these types.

    Args:
        value: What to copy.
        path: How to name its root in an error.

    Returns:
        The copy, made of dict, list, str, int, float, bool and None only.

    Raises:
        InvalidData: It is not JSON, too deep or too large; the path names the place.
    """
    if type(value) is dict and (flat := _flat_copy(value)) is not None:
        return flat
    count = [0]
    copy = _copy(value, path, DEPTH_MAX, count)
    if count[0] > _COUNT_CERTAINLY_FINE:
        size = len(canonical_json(copy))
        if size > VALUE_BYTES_MAX:
            raise InvalidData(
                path,
                f"{size:,} bytes of JSON, more than the {VALUE_BYTES_MAX:,} allowed. "
                "Store it elsewhere and pass a reference to it.",
            )
    return copy


def checked_object(value: object, path: str = "$") -> dict[str, Any]:
    """Return a copy of a JSON object; like `checked_copy`, and refuse everything else."""
    if type(value) is dict and (flat := _flat_copy(value)) is not None:
        return flat
    if not isinstance(value, dict):
        raise InvalidData(
            path, f"must be a JSON object (a dict), not {_kind(value)}. Wrap the value in a dict."
        )
    copy: dict[str, Any] = checked_copy(value, path)
    return copy


# Why a memory: a process uses few names, each of them many times a second.
_FINE_NAMES: set[str] = set()
_FINE_NAMES_MAX = 10_000


def checked_name(value: object, path: str) -> str:
    """Return a non-empty text of bounded length that every store can hold.

    Raises:
        InvalidData: It is not a text, empty, too long, or holds NUL or a lone surrogate.
    """
    if type(value) is str and value in _FINE_NAMES:
        return value
    if not isinstance(value, str) or not value.strip():
        raise InvalidData(path, f"must be a non-empty text, not {shown(value)}.")
    if len(value) > NAME_CHARACTERS_MAX:
        raise InvalidData(path, f"is longer than {NAME_CHARACTERS_MAX:,} characters.")
    name = checked_text(str.__str__(value), path)
    if len(_FINE_NAMES) >= _FINE_NAMES_MAX:
        _FINE_NAMES.clear()
    _FINE_NAMES.add(name)
    return name


def checked_note(value: object, path: str) -> str:
    """Return a text of bounded length, maybe empty, that every store can hold.

    Raises:
        InvalidData: It is not a text, too long, or holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidData(path, f"must be a text, not {_kind(value)}.")
    if len(value) > NOTE_CHARACTERS_MAX:
        raise InvalidData(path, f"is longer than {NOTE_CHARACTERS_MAX:,} characters.")
    return checked_text(str.__str__(value), path)


# Why these bounds: with them a flat object is far below every limit, whatever it holds.
_FLAT_KEYS_MAX = 64
_FLAT_CHARACTERS_MAX = 1_000


def _flat_copy(value: dict[Any, Any]) -> dict[str, Any] | None:
    """Return a copy of a small object of plain short values; None where it is anything else.

    Most step data is such an object, and this is four times as fast as looking closely.
    """
    if len(value) > _FLAT_KEYS_MAX:
        return None
    for key, item in value.items():
        if type(key) is not str or not key.isascii() or "\0" in key:
            return None
        kind = type(item)
        if kind is int:
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return None
        elif kind is str:
            if len(item) > _FLAT_CHARACTERS_MAX or not item.isascii() or "\0" in item:
                return None
        elif kind is float:
            if not math.isfinite(item):
                return None
        elif item is not None and kind is not bool:
            return None
    return value.copy()


def clone(value: Any) -> Any:
    """Return a copy of a value that has been checked before, sharing nothing mutable."""
    kind = type(value)
    if kind is dict:
        for item in value.values():
            if type(item) is dict or type(item) is list:
                return {key: clone(inner) for key, inner in value.items()}
        return value.copy()
    if kind is list:
        return [clone(item) for item in value]
    return value


def _copy(value: object, path: str, depth: int, count: list[int]) -> object:
    kind = type(value)
    if count[0] > VALUE_BYTES_MAX * 4:
        # Why here as well: an object that holds another one many times over would be copied for
        # hours before its size was known.
        raise InvalidData(
            path[:PATH_CHARACTERS_MAX],
            f"is far larger than the {VALUE_BYTES_MAX:,} bytes of JSON allowed. "
            "Store it elsewhere and pass a reference to it.",
        )
    if kind is str:
        count[0] += len(value)  # type: ignore[arg-type]
        return checked_text(value, path)  # type: ignore[arg-type]
    if value is None or kind is bool:
        count[0] += 5
        return value
    if kind is int:
        count[0] += 20
        if -INTEGER_MAX <= value <= INTEGER_MAX:  # type: ignore[operator]
            return value
        raise InvalidData(path, "does not fit into 64 bits. Pass such a number as text.")
    if kind is float:
        count[0] += 25
        if math.isfinite(value):  # type: ignore[arg-type]
            return value
        raise InvalidData(path, f"{value!r} is not a JSON number. Pass null or a text instead.")
    if kind is dict:
        return _copy_object(value, path, depth, count)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        if depth == 0:
            raise InvalidData(
                path[:PATH_CHARACTERS_MAX], f"is nested more than {DEPTH_MAX} deep, or in a circle."
            )
        count[0] += 2
        path = path[:PATH_CHARACTERS_MAX]
        return [
            _copy(item, f"{path}[{index}]", depth - 1, count)
            for index, item in enumerate(cast("list[object]", value))
        ]
    return _copy(_plain(value, path), path, depth, count)


def _copy_object(
    value: dict[object, object], path: str, depth: int, count: list[int]
) -> dict[str, object]:
    if depth == 0:
        raise InvalidData(
            path[:PATH_CHARACTERS_MAX], f"is nested more than {DEPTH_MAX} deep, or in a circle."
        )
    copy = {}
    count[0] += 2
    path = path[:PATH_CHARACTERS_MAX]
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidData(
                path, f"key {shown(key)} is {_kind(key)}; JSON keys are text. Use str(key)."
            )
        text = str.__str__(key)
        place = f"{path}.{text}"
        count[0] += len(text) + 4
        # Order matters: the key first, so that a path is always text that a store can keep.
        name = checked_text(text, place)
        copy[name] = _copy(item, place, depth - 1, count)
    return copy


def _plain(value: object, path: str) -> object:
    """Return a subclass of a JSON type as that type itself."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    raise InvalidData(path, f"is {_kind(value)}, which is not JSON. {_advice(value)}")


def checked_text(value: str, path: str) -> str:
    """Return a text that every store can hold.

    Raises:
        InvalidData: It holds NUL or a lone surrogate.
    """
    # Why isascii first: it is one flag on the string, and nearly every text passes it.
    if value.isascii():
        if "\0" not in value:
            return value
        raise InvalidData(_printable(path), "holds a NUL character, which not every store keeps.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise InvalidData(
            _printable(path), f"holds the lone surrogate U+{code:04X}, which is not valid text."
        ) from None
    if "\0" in value:
        raise InvalidData(_printable(path), "holds a NUL character, which not every store keeps.")
    return value


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def shown(value: object) -> str:
    """Return a value from outside as an error shows it: bounded, whatever its `__repr__` does."""
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 (a hostile __repr__ must not hide what is wrong)
        # A number of more than 4,300 digits has none either; its type says enough.
        return f"something {_kind(value)} that cannot be shown"


def is_one_of(value: object, choices: Collection[object]) -> bool:
    """Tell whether a value is one of a few plain ones, types included: 1 is not True.

    Why not `in`: it calls the `__eq__` of whatever was given, such as an array's.
    """
    return any(isinstance(value, type(choice)) and value == choice for choice in choices)


def _kind(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"of type {name}"


def _advice(value: object) -> str:
    if hasattr(value, "model_dump"):
        return "Pass value.model_dump(mode='json')."
    if hasattr(value, "isoformat"):
        return "Pass value.isoformat()."
    if isinstance(value, (set, frozenset)):
        return "Pass sorted(value)."
    if isinstance(value, (bytes, bytearray)):
        return "Pass it as base64 text, or a reference to it."
    return "Pass text, numbers, booleans, null, lists and dicts only."
