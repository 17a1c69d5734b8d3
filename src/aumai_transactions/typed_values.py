"""How one annotated value becomes JSON, and comes back.

Owns: what an annotation lets through, by pydantic, and whether it survives JSON; what JSON is, is
said in `core/values.py`.
Rules:
  1. An argument that would come back as something else is refused, with its path. Only a tuple
     of which no annotation speaks comes back as a list, as JSON has it.
  2. A result is recorded as well as its type allows; only a secret is not, for its mask is worse
     than nothing.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections import abc
from collections.abc import Callable, Iterable
from datetime import datetime, time
from enum import Enum
from typing import TYPE_CHECKING, Any

import pydantic
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from aumai_transactions.core.values import canonical_json, checked_copy, clone
from aumai_transactions.errors import DefinitionError, InvalidData

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN_CHARACTERS_MAX = 80
PROBLEM_CHARACTERS_MAX = 300

_Kind = inspect.Parameter
LEFT_OUT: Any = object()
# Why these: bytes need not be UTF-8, and NaN is to be refused by name, not to become null.
_CONFIG = pydantic.ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
)
_UNTYPED = (_Kind.empty, Any, object, typing.NoReturn, typing.Never)
_ONCE = "it can be gone through only once; annotate list[…] or Sequence[…]"
_MASKED = "pydantic masks it in JSON; pass the secret's name, and look it up in the function"
_SECRETS = (pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret)
_UNFIT: tuple[tuple[object, str], ...] = (
    (abc.Callable, "JSON cannot carry a function; pass its name"),
    *((kind, _ONCE) for kind in (abc.Iterable, abc.Iterator, abc.Generator)),
    *((kind, _MASKED) for kind in _SECRETS),
)


class Place:
    """Turn what stands at one annotated place, a parameter or the result, into JSON and back."""

    def __init__(self, name: str, kind: Any, annotation: Any, default: Any = _Kind.empty) -> None:
        many: dict[Any, Any] = {_Kind.VAR_POSITIONAL: (), _Kind.VAR_KEYWORD: {}}
        self.name = name
        self.kind = kind
        self.default: Any = many.get(kind, default)
        self.plain: type | None = None
        self.is_untyped = False
        self._annotation = annotation
        self._is_ready = False
        self._adapter: TypeAdapter[Any] | None = None

    def prepare(self, owner: str, meaning_of: Callable[[object], Any], *, at_last: bool) -> bool:
        """Find out what the annotation means; tell whether every name in it is there.

        Raises:
            DefinitionError: Nothing of it can go through JSON; or, at last, a name is missing.
        """
        if self._is_ready:
            return True
        try:
            meaning = meaning_of(self._annotation)
            self.is_untyped = any(meaning is nothing for nothing in _UNTYPED)
            meaning = _gathered(Any if self.is_untyped else meaning, self.kind)
            self.plain = meaning if meaning in (str, int, float, bool) else None
            self._adapter = None if meaning is Any else _adapter_of(meaning)
            self._is_ready = True
        except Exception as error:
            if isinstance(error, NameError) and not at_last:
                return False
            reason = str(error).partition("\n")[0].partition(" Set `arbitrary")[0].rstrip(".")
            if isinstance(error, NameError):
                reason += "; import it at run time, not for the type checker alone"
            place, bind = "result", ""
            if self.kind is not None:
                place, bind = f"parameter {self.name!r}", ", or bind it by functools.partial"
            message = (
                f"the {place} of {owner} is annotated {shown(self._annotation)}, which cannot go "
                f"through JSON: {reason}. Annotate what can, such as str, datetime, a dataclass or "
                f"a pydantic model{bind}."
            )
            raise DefinitionError(message) from error
        return True

    def default_data(self) -> Any:
        """Return the default as JSON; `LEFT_OUT` where there is none or JSON cannot carry it."""
        if type(self.default) is self.plain:
            return self.default
        try:
            return LEFT_OUT if self.default is _Kind.empty else self.argument(self.default)
        except InvalidData:
            return LEFT_OUT

    def argument(self, value: Any) -> Any:
        """Return a value as JSON, if it comes back from there as what it is.

        Raises:
            InvalidData: It does not fit the annotation, or does not come back so.
        """
        if self._adapter is None:
            typed, written = value, checked_copy(value, self.name)
            back = written
        else:
            typed = self._validated(value, self._adapter.validate_python)
            written = self._written(typed, self._adapter)
            back = self.read(written)
        changed = _changed(typed, back, self.name)
        if changed is None:
            return written
        path, was, becomes = changed
        if isinstance(was, _SECRETS):
            raise InvalidData(path, f"is a secret: {_MASKED}.")
        raise InvalidData(
            path,
            f"{shown(was)} would come back from JSON as {shown(becomes)}. Annotate the one type "
            "that it has, or pass what JSON can carry.",
        )

    def read(self, value: Any) -> Any:
        """Return the typed value that this JSON stands for.

        Raises:
            InvalidData: It does not fit the annotation.
        """
        if type(value) is self.plain:
            return value
        if self._adapter is None:
            return clone(value)
        # Why by name: so a model is read back whatever aliases it has.
        validate = functools.partial(self._adapter.validate_json, by_alias=False, by_name=True)
        return self._validated(value, lambda it: validate(canonical_json(it)))

    def output(self, value: Any) -> Any:
        """Return a result as JSON: as it is, or else as what the annotation makes of it.

        Raises:
            InvalidData: JSON cannot carry it, or it could not be read back.
        """
        if self._adapter is None:
            try:
                return checked_copy(_loosely(value), self.name)
            except RecursionError:
                raise InvalidData(self.name, "is nested too deep, or in a circle.") from None
        if type(value) is self.plain:
            return checked_copy(value, self.name)
        try:
            written = self._written(value, self._adapter)
        except InvalidData:
            value = self._validated(value, self._adapter.validate_python)
            written = self._written(value, self._adapter)
        is_changed = _changed(value, self.read(written), self.name) is not None
        # Why only secrets: of what else is changed, most is there, and better than nothing.
        if is_changed and _holds_secret(self._adapter.dump_python(value, warnings=False)):
            raise InvalidData(self.name, f"holds a secret: {_MASKED}.")
        return written

    def _written(self, typed: Any, adapter: TypeAdapter[Any]) -> Any:
        try:
            written = adapter.dump_python(
                typed, mode="json", by_alias=False, round_trip=True, warnings="error"
            )
        except Exception as error:
            told = " ".join(str(error).split())[:PROBLEM_CHARACTERS_MAX].rstrip(".")
            if isinstance(error, UnicodeDecodeError):
                told += ". Set ser_json_bytes and val_json_bytes to 'base64' in the model's config"
            raise InvalidData(self.name, f"cannot be written as JSON: {told}.") from error
        return checked_copy(written, self.name)

    def _validated(self, value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise _refused(self.name, error, value) from error
        except Exception as error:
            raise InvalidData(self.name, f"cannot be read: {shown(error)}.") from error


def shown(value: object) -> str:
    """Return a value for people: bounded, and whatever it does when it is shown."""
    try:
        return f"{value!r:.{SHOWN_CHARACTERS_MAX}}"
    except Exception:  # noqa: BLE001 (a hostile __repr__ must not hide what is wrong)
        return f"a {type(value).__qualname__} that cannot be shown"


def _gathered(meaning: Any, kind: Any) -> Any:
    """Return the type of all that a parameter takes, or of a result that was awaited."""
    origin, parts = typing.get_origin(meaning), typing.get_args(meaning)
    if kind is None and origin in (abc.Awaitable, abc.Coroutine):
        return parts[-1]
    if kind is not None and origin is typing.Unpack:
        return parts[0]
    if kind is _Kind.VAR_POSITIONAL:
        return tuple[meaning, ...]
    return dict[str, meaning] if kind is _Kind.VAR_KEYWORD else meaning


def _adapter_of(meaning: Any) -> TypeAdapter[Any]:
    _refuse_unfit(meaning)
    try:
        adapter = TypeAdapter(meaning, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        # Why a new type: a TypedDict takes a configuration only as a part of something.
        new_type: Any = typing.NewType
        adapter = TypeAdapter(new_type("Value", meaning), config=_CONFIG)
    if not adapter.pydantic_complete:
        adapter.rebuild(force=True, raise_errors=True)
    return adapter


def _refuse_unfit(annotation: Any) -> None:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    for kind, reason in _UNFIT:
        if kind in (origin, annotation):
            raise TypeError(reason)
    if origin is typing.Literal:
        return
    if origin is typing.Annotated:
        serializers = (pydantic.PlainSerializer, pydantic.WrapSerializer)
        parts = () if any(isinstance(mark, serializers) for mark in parts) else parts[:1]
    for part in parts:
        _refuse_unfit(part)


@functools.lru_cache(maxsize=1_000)
def _leaf(kind: abc.Hashable) -> Place:
    place = Place("result", None, kind)
    place.prepare("a step", lambda annotation: annotation, at_last=True)
    return place


def _loosely(value: Any) -> Any:
    """Return a value of which no annotation speaks as JSON, each part by its own type."""
    if isinstance(value, dict):
        return {key: _loosely(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_loosely(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    kind: Any = type(value)
    try:
        leaf = _leaf(kind)
    except DefinitionError:
        raise InvalidData("result", f"holds {shown(value)}, which JSON cannot carry.") from None
    return leaf.output(value)


def _refused(name: str, error: ValidationError, value: Any) -> InvalidData:
    details = [(_path_of(name, detail, value), detail) for detail in error.errors()]
    # Why the longest: of the branches of a union, it got furthest with the one that was meant.
    path, first = max(details, key=lambda found: len(found[0]))
    told = " or: ".join(dict.fromkeys(detail["msg"] for where, detail in details if where == path))
    given = first["input"]
    if isinstance(given, str) and len(given) > SHOWN_CHARACTERS_MAX:
        told = told.replace(given, given[:SHOWN_CHARACTERS_MAX])
    told = told[:PROBLEM_CHARACTERS_MAX].rstrip(".")
    but = "" if first["type"] == "missing" else f", not {shown(given)}"
    return InvalidData(path, f"{told}{but}.")


def _path_of(name: str, detail: ErrorDetails, value: Any) -> str:
    path, parts = name, detail["loc"]
    for index, part in enumerate(parts):
        try:
            is_many = isinstance(value, (dict, list, tuple))
            value = value[part] if is_many else getattr(value, str(part))
        except (LookupError, TypeError, AttributeError):
            # Why: pydantic also names the branch of a union that it tried, which is no place.
            if index < len(parts) - 1 or detail["type"] not in ("missing", "extra_forbidden"):
                continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _changed(given: Any, back: Any, path: str) -> tuple[str, Any, Any] | None:
    """Return where, from what and to what JSON changes a value; None where it does not."""
    parts: Iterable[tuple[Any, Any, str]]
    if isinstance(given, BaseModel) and type(given) is type(back):
        names = type(given).model_fields
        parts = [(getattr(given, name), getattr(back, name), f"{path}.{name}") for name in names]
        parts.append((given.__pydantic_extra__, back.__pydantic_extra__, path))
    elif type(back) is dict and isinstance(given, dict) and given.keys() == back.keys():
        parts = [(given[key], back[key], f"{path}.{key}") for key in given]
    elif type(back) in (list, tuple) and type(given) in (type(back), tuple):
        if len(given) != len(back):
            return path, given, back
        pairs = enumerate(zip(given, back, strict=True))
        parts = [(one, other, f"{path}[{index}]") for index, (one, other) in pairs]
    else:
        return None if _is_same(given, back) else (path, given, back)
    return next((found for part in parts if (found := _changed(*part)) is not None), None)


def _is_same(given: Any, back: Any) -> bool:
    is_other = isinstance(given, Enum) and type(given) is not type(back)
    if is_other or not isinstance(given, type(back)):
        return False
    if isinstance(given, (datetime, time)):
        # Why by text: JSON carries the offset of a time zone, but not its name.
        return bool(given.isoformat() == back.isoformat())
    try:
        compare: Any = type(given).__eq__
        # Why: what cannot be compared is trusted to its own serializer.
        return compare is object.__eq__ or bool(given == back)
    except Exception:  # noqa: BLE001 (whatever a hostile __eq__ raises, it does not say "the same")
        return False


def _holds_secret(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    is_many = isinstance(value, (dict, list, tuple, set, frozenset))
    return any(map(_holds_secret, parts)) if is_many else isinstance(value, _SECRETS)
