"""What is wrong in a plan file, in words.

Owns: the translation of pydantic's errors into one that names file, table and key.
Rules:
  1. A value is not quoted: it may be a secret. Its kind, and the allowed values, are.
  2. An unknown key comes first: it usually explains the missing one.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from aumai_transactions.errors import PlanFileError
from aumai_transactions.participants.definition import EnvironmentValue, RetryTable
from aumai_transactions.plans.document import kind_of, quoted, shown_place
from aumai_transactions.plans.tables import KINDS, PlanTable, StepTable

_EXPECTED = {
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_QUESTIONS = {"probe": "a probe", "verify": "a verification"}
_SETTINGS = ("headers", "env")
_PATTERNS = {
    "call": 'must be "module:function"; both are names, with dots in the module only.',
    "env": "must be the name of an environment variable: letters, digits and _.",
}


def plan_file_error(
    error: ValidationError, document: Mapping[str, Any], file: str
) -> PlanFileError:
    """Return the most telling of pydantic's errors, as an error about a plan file."""
    details = error.errors(include_url=False, include_context=True)
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    place = _place_of(first["loc"])
    problem = _problem(first, place, _value_at(document, place))
    if place[:1] == ("steps",) and len(place) > 1:
        problem = f"{problem}{_of_step(document, place)}"
    if len(details) > 1:
        more = len(details) - 1
        problem = f"{problem} ({more} more problem{'s' if more > 1 else ''} in this file)"
    return PlanFileError(file, shown_place(place), problem)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest known name, to put behind a sentence; maybe empty."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {quoted(near[0])}?" if near else ""


def listed(names: Collection[str]) -> str:
    """Return names for people, bounded."""
    shown = ", ".join(quoted(name) for name in list(names)[:20])
    return f"{shown}, …" if len(names) > 20 else shown


def _of_step(document: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
    steps, index = document["steps"], place[1]
    step = steps[index] if isinstance(steps, list) and isinstance(index, int) else None
    name = step.get("name") if isinstance(step, dict) else None
    return f" (step {quoted(name)})" if isinstance(name, str) and name.strip() else ""


def _place_of(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return where in the document an error is: without pydantic's own words for choices."""
    if location[:1] != ("actions",):
        return location
    # The third part is the kind that was chosen.
    place = [*location[:2], *location[3:]]
    for index, part in enumerate(place):
        if index > 1 and part in _SETTINGS:
            # Behind a setting's name stands the form of it that was chosen.
            del place[index + 2 : index + 3]
            break
    return tuple(place)


def _value_at(document: Mapping[str, Any], place: tuple[str | int, ...]) -> object:
    value: Any = document
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _table_at(location: tuple[str | int, ...]) -> tuple[type[BaseModel], str]:
    """Return the model of the table in which the last part of a location stands."""
    if location[0] == "steps" and len(location) > 1:
        is_retry = "retry" in location[2:-1]
        return (RetryTable, "a retry policy") if is_retry else (StepTable, "a step")
    if location[0] != "actions" or len(location) < 4:
        return PlanTable, "a plan"
    kind, inside = str(location[2]), location[3:-1]
    if not inside:
        return KINDS[kind], f"an action of kind {quoted(kind)}"
    if inside[-1] == "retry":
        return RetryTable, "a retry policy"
    if len(inside) == 1 and inside[0] in _QUESTIONS:
        key = str(inside[0])
        question = get_args(KINDS[kind].model_fields[key].annotation)[0]
        return question, f"{_QUESTIONS[key]} of kind {quoted(kind)}"
    return EnvironmentValue, "a value from the environment"


def _problem(detail: Mapping[str, Any], place: tuple[str | int, ...], value: object) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"])
    if kind == "missing":
        return "is missing."
    if kind == "union_tag_not_found":
        if "kind" in str(context.get("discriminator")):
            return f"has no kind. Add kind = one of {listed(KINDS)}."
        return f'must be text, or {{ env = "NAME" }}, not {kind_of(value)}.'
    if kind == "union_tag_invalid":
        tag = str(context.get("tag"))
        return f"has the unknown kind {quoted(tag)}; known are {listed(KINDS)}." + did_you_mean(
            tag, KINDS
        )
    if place == ("steps",) and kind in ("list_type", "too_short"):
        return "must be a list of at least one step; in TOML, each begins with [[steps]]."
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {kind_of(value)}."
    if kind == "literal_error":
        allowed = str(context.get("expected", "")).replace("'", '"')
        return f"must be {allowed}."
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(place[-1]), "must not be blank.")
    if kind in ("string_too_short", "too_short"):
        return "must not be empty."
    if kind == "value_error":
        return f"{context.get('error', detail['msg'])}."
    text = str(detail["msg"]).replace("Input should", "must").replace("String should", "must")
    return f"{text[:1].lower()}{text[1:]}."


def _unknown_key(location: tuple[str | int, ...]) -> str:
    model, table = _table_at(location)
    known = [field.alias or name for name, field in model.model_fields.items()]
    hint = did_you_mean(str(location[-1]), known)
    if hint:
        return f"is not a key of {table}.{hint}"
    return f"is not a key of {table}. Known are: {', '.join(known)}."
