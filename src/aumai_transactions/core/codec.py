"""How an entry becomes bytes, and bytes an entry again.

Owns: the format of a journal entry's body: one canonical JSON object with the format
version `v`, the entry id `id`, the `kind`, and the entry's fields where they differ from
their defaults.
Rules:
  1. The body that was hashed is the body that is stored; it is never encoded a second time.
  2. What a newer release may have written (a version, a kind, a field) is refused by name and
     never skipped.
  3. Reading runs no code that the data names.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from aumai_transactions.core.definition import (
    Definition,
    Policy,
    Reference,
    ResourceUse,
    Retry,
    ScopeDefinition,
    StepDefinition,
)
from aumai_transactions.core.entries import (
    Entry,
    ErrorRecord,
    Grant,
    PlanRecorded,
    ReadVersion,
)
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.core.nesting import is_nested_deeper
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import JournalCorrupt, JournalTooNew

FORMAT_VERSION = 1
DEPTH_MAX = 128
"""How deep a body may be nested: agents' data is at most 64 deep, and stands inside of a plan."""

_KIND_OF = {cls: kind for kind, cls in KINDS.items()}


def encode(entry: Entry, entry_id: str) -> bytes:
    """Return the body of an entry: the bytes to hash and to store."""
    body = _object(entry)
    body["v"] = FORMAT_VERSION
    body["id"] = entry_id
    body["kind"] = _KIND_OF[type(entry)]
    return canonical_json(body)


def same_definition(one: Definition, other: Definition) -> bool:
    """Tell whether two definitions would be journaled alike, whoever wrote them down.

    Why not `==`: to Python 1 == True == 1.0, and an edit of one into the other is an edit.
    """
    return one == other and encode(PlanRecorded(0, one), "") == encode(PlanRecorded(0, other), "")


def describe(entry: Entry) -> tuple[str, dict[str, Any]]:
    """Return an entry's kind and its fields as JSON, for people and hooks."""
    return _KIND_OF[type(entry)], _object(entry)


def decode(body: bytes, transaction_id: str, sequence: int) -> tuple[str, Entry]:
    """Return the id and the entry that a body holds.

    Args:
        body: The stored bytes.
        transaction_id: Whose entry it is, for an error.
        sequence: Its place in the journal, for an error.

    Raises:
        JournalTooNew: A newer release wrote it.
        JournalCorrupt: It is not an entry.
    """
    found = _parsed(body, transaction_id, sequence)
    version, entry_id, kind = found.pop("v"), found.pop("id"), found.pop("kind")
    if version != FORMAT_VERSION:
        raise JournalTooNew(transaction_id, sequence, f"format version {version!r:.40}")
    cls = KINDS.get(kind)
    if cls is None:
        raise JournalTooNew(transaction_id, sequence, f"entry kind {kind!r:.80}")
    unknown = _unknown_field(found, cls)
    if unknown:
        raise JournalTooNew(transaction_id, sequence, f"field {unknown!r:.80} of {kind}")
    try:
        entry: Entry = _adapter(cls).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise JournalCorrupt(transaction_id, sequence, f"{place}: {first['msg']}") from error
    return entry_id, entry


def _parsed(body: bytes, transaction_id: str, sequence: int) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        if is_nested_deeper(text, DEPTH_MAX):
            message = f"nested more than {DEPTH_MAX} deep"
            raise ValueError(message)  # noqa: TRY301 (one refusal for all that is not JSON)
        found = _READER.decode(text)
        # Why so: an escape that may be a surrogate's is rare.
        if "\\u" in text:
            canonical_json(found).decode("utf-8")
    except (ValueError, RecursionError) as error:
        raise JournalCorrupt(transaction_id, sequence, f"not JSON ({error})") from error
    if not isinstance(found, dict) or not {"v", "id", "kind"} <= found.keys():
        raise JournalCorrupt(transaction_id, sequence, "not an object with v, id and kind")
    if not isinstance(found["id"], str) or not isinstance(found["kind"], str):
        raise JournalCorrupt(transaction_id, sequence, "id and kind must be text")
    return found


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        message = f"{text:.40} is too large for a number"
        raise ValueError(message)
    return value


# Why not `json.loads`: it takes NaN, Infinity and UTF-16, which no store of ours ever wrote.
_READER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


_NESTED: dict[str, type | None] = {
    "definition": Definition,
    "steps": StepDefinition,
    "step": StepDefinition,
    "scope": ScopeDefinition,
    "scopes": ScopeDefinition,
    "references": Reference,
    "error": ErrorRecord,
    "policy": Policy,
    "retry": Retry,
    "probe_retry": Retry,
    "verify_retry": Retry,
    "undo_retry": Retry,
    "confirm_retry": Retry,
    "resources": ResourceUse,
    "grants": Grant,
    "versions": ReadVersion,
    "into": None,
    "secrets": None,
    "behind": None,
    "after": None,
    "step_ids": None,
}
"""The fields that hold records, or sequences, and what kind of record."""
_NO_DEFAULT = object()
_DEFAULTS: dict[type, tuple[tuple[str, object, bool], ...]] = {}
_FIELDS: dict[type, frozenset[str]] = {}
_ADAPTERS: dict[type[Entry], TypeAdapter[Entry]] = {}


def _defaults(cls: type[Any]) -> tuple[tuple[str, object, bool], ...]:
    """Return name, default and whether it is nested, for each field of a record class."""
    known = _DEFAULTS.get(cls)
    if known is not None:
        return known
    defaults = cls._field_defaults
    found = [(name, defaults.get(name, _NO_DEFAULT), name in _NESTED) for name in cls._fields]
    return _DEFAULTS.setdefault(cls, tuple(found))


def _object(record: object) -> dict[str, Any]:
    body = {}
    fields: Any = record
    for (name, default, nested), value in zip(_defaults(type(record)), fields, strict=True):
        # Why the types as well: 0 == False and 1 == 1.0, and a default that is left out must
        # come back as what it was.
        if value is default or (type(value) is type(default) and value == default):
            continue
        body[name] = _plain(value) if nested else value
    return body


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        # Why first a record: a record is a tuple, too, with names for its places.
        if hasattr(value, "_fields"):
            return _object(value)
        return [_plain(item) for item in value]
    return value


def _adapter(cls: type[Entry]) -> TypeAdapter[Entry]:
    adapter = _ADAPTERS.get(cls)
    if adapter is None:
        adapter = _ADAPTERS.setdefault(cls, TypeAdapter(cls))
    return adapter


def _unknown_field(found: dict[str, Any], cls: type) -> str | None:
    """Return the first field that this release does not know, nested records included."""
    known = _FIELDS.get(cls) or _FIELDS.setdefault(cls, frozenset(cls._fields))  # type: ignore[attr-defined]
    if not known.issuperset(found):
        return next(name for name in found if name not in known)
    for name, value in found.items():
        inner_cls = _NESTED.get(name)
        if inner_cls is None:
            continue
        inner = None
        if isinstance(value, dict):
            inner = _unknown_field(value, inner_cls)
        elif isinstance(value, list):
            inner = _unknown_in(value, inner_cls)
        if inner:
            return f"{name}.{inner}"
    return None


def _unknown_in(items: list[Any], cls: type) -> str | None:
    for item in items:
        if isinstance(item, dict):
            unknown = _unknown_field(item, cls)
            if unknown:
                return unknown
    return None
