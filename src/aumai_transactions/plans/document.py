"""How a plan file becomes a document: nested dicts and lists.

Owns: everything that can be wrong with a file before its keys are looked at.
Rules:
  1. The size is checked before parsing, and so is what the parser takes too long for.
  2. A key that stands twice is an error in both formats.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NoReturn

from aumai_transactions.core.nesting import is_nested_deeper
from aumai_transactions.core.values import checked_text
from aumai_transactions.errors import InvalidData, PlanFileError
from aumai_transactions.participants.messages import printable

FILE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 80
DOTTED_PARTS_MAX = 64
HUGE_NUMBER = "a whole number of more than 4,300 digits. Put such a number in quotes."

REFERENCE_KEY = "$output"
"""The key that makes an object in a step's data a reference."""

Place = tuple[str | int, ...]

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
# Why: tomllib needs quadratic time and memory for one key of very many dotted parts; 240 KB
# of them take all of a machine's memory.
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DOTTED_PARTS_MAX}}}")
_TOML_PLACE = re.compile(r"\s*\(at (line \d+, column \d+|end of document)\)$")
_BARE_KEY = re.compile(r"[A-Za-z0-9_$-]+")


def read_document(path: Path, file: str) -> dict[str, Any]:
    """Return what a plan file holds.

    Args:
        path: The file.
        file: How to name it in an error.

    Raises:
        PlanFileError: It cannot be read, or is not a TOML or JSON document.
    """
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        raise PlanFileError(file, "", "plan files are TOML or JSON; YAML is not read.")
    if suffix not in (".toml", ".json"):
        raise PlanFileError(file, "", "a plan file is named ….toml or ….json; rename it.")
    text = _text(path, file)
    document = _from_toml(text, file) if suffix == ".toml" else _from_json(text, file)
    _check_values(document, file)
    if not document:
        raise PlanFileError(file, "", "is empty. A plan has at least [[steps]].")
    return document


def shown_place(place: Sequence[str | int]) -> str:
    """Return a place for people: `steps[2].agent` is the key of the second step.

    Items of lists are counted from 1, as the default names of steps are.
    """
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += f"[{part + 1}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) and len(part) <= 80 else quoted(part)
            shown += f".{key}" if shown else key
    return shown


def quoted(text: str) -> str:
    """Return foreign text in double quotes, bounded and printable."""
    return f'"{printable(text, 80)}"'


def _text(path: Path, file: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise PlanFileError(file, "", f"does not exist ({_absolute(path)}).") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PlanFileError(file, "", f"cannot be read: {why}.") from error
    if len(content) > FILE_BYTES_MAX:
        problem = (
            f"is larger than {FILE_BYTES_MAX // 1024} KB. Keep large data elsewhere and pass a "
            "reference to it."
        )
        raise PlanFileError(file, "", problem)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"is not UTF-8 (byte 0x{content[error.start]:02x}). Save it as UTF-8."
        raise PlanFileError(file, f"line {line}", problem) from None


def _from_toml(text: str, file: str) -> dict[str, Any]:
    long_key = _LONG_KEY.search(text)
    if long_key:
        line = text.count("\n", 0, long_key.start()) + 1
        problem = f"has more than {DOTTED_PARTS_MAX} names with dots between them in a row."
        raise PlanFileError(file, f"line {line}", problem)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        told = str(error)
        place = _TOML_PLACE.search(told)
        problem = _TOML_PLACE.sub("", told)
        where = place[1] if place else ""
        raise PlanFileError(file, where, f"is not TOML: {printable(problem)}.") from None
    except RecursionError:
        raise PlanFileError(file, "", "is nested too deep.") from None
    except ValueError as error:
        # tomllib lets the errors of int() and of datetime pass as they are.
        raise PlanFileError(file, "", _number_problem(error, "TOML")) from None


def holds_huge_number(error: ValueError) -> bool:
    """Tell whether a parser met a whole number of more digits than Python reads."""
    return "set_int_max_str_digits" in str(error)


def _number_problem(error: ValueError, kind: str) -> str:
    if holds_huge_number(error):
        return f"holds {HUGE_NUMBER}"
    return f"is not {kind}: {printable(str(error))}."


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        return path  # The current folder was removed.


class _Repeating(dict[str, Any]):
    """Be a JSON object in which a key stands twice; remember which."""

    repeated: str = ""


def _from_json(text: str, file: str) -> dict[str, Any]:
    if is_nested_deeper(text):
        raise PlanFileError(file, "", "is nested too deep.")
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = "is empty" if not text.strip() else f"is not JSON: {error.msg}"
        raise PlanFileError(file, where, f"{problem}.") from None
    except ValueError as error:
        raise PlanFileError(file, "", _number_problem(error, "JSON")) from None
    if not isinstance(document, dict):
        problem = f"must be one object, {{ … }}, not {kind_of(document)}."
        raise PlanFileError(file, "", problem)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            repeating.repeated = key
        seen.add(key)
    return repeating


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


def kind_of(value: object) -> str:
    """Return what a value is, in the words of the file formats."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (datetime, date, time)):
        return "a date or a time"
    names = {
        str: "text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a table",
        type(None): "null",
    }
    for cls, name in names.items():
        if isinstance(value, cls):
            return name
    return type(value).__name__


def _check_values(document: dict[str, Any], file: str) -> None:
    """Refuse what JSON or a store has not, keys that stand twice and great depth.

    Why without recursion: the depth is what is looked at.
    """
    waiting: list[tuple[Place, object]] = [((), document)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > DEPTH_MAX:
            problem = f"is nested more than {DEPTH_MAX} deep."
            raise PlanFileError(file, shown_place(place[:4]) + "…", problem)
        if isinstance(value, _Repeating):
            where = shown_place((*place, value.repeated))
            raise PlanFileError(file, where, "stands twice. Keep one of the two.")
        if isinstance(value, (datetime, date, time)):
            problem = "is a date or a time, which JSON does not have. Put it in quotes."
            raise PlanFileError(file, shown_place(place), problem)
        if isinstance(value, str):
            _check_text(value, place, file)
        if isinstance(value, dict):
            for key in value:
                _check_text(key, place, file)
            waiting += [((*place, key), item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            numbered = reversed(list(enumerate(value)))
            waiting += [((*place, index), item) for index, item in numbered]


def _check_text(text: str, place: Place, file: str) -> None:
    try:
        checked_text(text, "")
    except InvalidData as error:
        raise PlanFileError(file, shown_place(place), error.problem) from None
