"""The context of a call: which parameter takes it, and that it is never data."""
# mypy: disable-error-code="arg-type, assignment, name-defined, prop-decorator, union-attr"

from __future__ import annotations

import json
from typing import Any

import pytest

from aumai_transactions.actions import StepContext
from aumai_transactions.typed import TypedFunction


def context(**fields: Any) -> StepContext:
    return StepContext("tx", "step-1", "agent", "cancel", "compensation", 1, "key", **fields)


def travelled(function: TypedFunction, *args: Any, **kwargs: Any) -> Any:
    """Call it with data that went through the journal's text."""
    return function.call(json.loads(json.dumps(function.data_of(args, kwargs))))


def by_name(flight_id: str, context):
    return flight_id, context


def by_annotation(about: StepContext, flight_id: str):
    return flight_id, about


def by_union(flight_id: str, *, about: StepContext | None = None):
    return flight_id, about


def by_checkers_name(flight_id: str, about: aumai.StepContext | None = None):  # noqa: F821
    return flight_id, about


@pytest.mark.parametrize("function", [by_name, by_annotation, by_union, by_checkers_name])
def test_the_context_is_given_and_is_no_data(function):
    typed = TypedFunction(function)
    assert typed.context_parameter in ("context", "about")
    told = context()
    data = typed.data_of((), {"flight_id": "F1", typed.context_parameter: told})
    assert data == typed.data_of(("F1",), {}) == {"flight_id": "F1"}
    assert typed.call(data, told) == ("F1", told)
    assert typed.call(data) == ("F1", None)
    assert typed.handler()("book", data, context=told)[1]["step_id"] == "step-1"


def test_a_context_given_in_its_place_is_dropped():
    for given_ in (None, context()):
        assert TypedFunction(by_name).data_of(("F1", given_), {}) == {"flight_id": "F1"}
        assert TypedFunction(by_annotation).data_of((given_, "F1"), {}) == {"flight_id": "F1"}


def test_what_stands_behind_the_context_is_not_taken_for_it():
    def f(flight_id, *rest: int | None, context=None):
        return rest

    assert travelled(TypedFunction(f), "F1", None, 2) == (None, 2)


def test_a_context_of_another_type_is_data():
    def ask(context: str):
        return context

    assert TypedFunction(ask).context_parameter is None
    assert travelled(TypedFunction(ask), "the weather") == "the weather"
