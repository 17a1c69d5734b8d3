"""What a function that undoes another is given."""
# mypy: disable-error-code="arg-type, assignment, name-defined, prop-decorator, union-attr"

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NewType

import pytest
from pydantic import (
    BaseModel,
)

from aumai_transactions.actions import StepContext
from aumai_transactions.answers import NothingToUndo
from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.typed import TypedFunction, TypedUndo

NOW = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


class Trip:
    def book(self, flight_id: str):
        return flight_id


def context(**fields: Any) -> StepContext:
    return StepContext("tx", "step-1", "agent", "cancel", "compensation", 1, "key", **fields)


class Booking(BaseModel):
    ref: uuid.UUID
    at: datetime


REF = uuid.UUID(int=5)
BOOKING = {"ref": str(REF), "at": "2026-03-01T12:30:15.000250Z"}


def book(
    flight_id: str, seats: tuple[int, ...] = (), *, price: Decimal = Decimal(1), **options: date
) -> Booking:
    raise AssertionError


def undone(undo: Callable[..., Any], forward: Callable[..., Any] = book, *args: Any, **told: Any):
    """Return what an undo is given after this call, and after a restart."""
    function = TypedFunction(forward)
    data = json.loads(json.dumps(function.data_of(args or ("F1", (1, 2)), {})))
    handler = TypedUndo(undo, function).handler()
    if "context" in inspect.signature(handler).parameters:
        return handler("undo_it", data, context=context(**told))
    return handler("undo_it", data)


def test_an_undo_gets_what_it_names_in_any_order():
    def cancel(result, price, seats, flight_id):
        return result, price, seats, flight_id

    given_ = undone(cancel, output=BOOKING)
    assert given_ == (Booking(ref=REF, at=NOW), Decimal(1), (1, 2), "F1")


def test_an_undo_reads_what_it_gets_by_its_own_annotations():
    def hold(token: str, amount: Decimal) -> Booking:
        raise AssertionError

    def release(amount: float, token: uuid.UUID, result: dict[str, Any] | None, context):
        return token, amount, result, context.step_id

    assert undone(release, hold, str(REF), 2, output=BOOKING) == (REF, 2.0, BOOKING, "step-1")
    with pytest.raises(InvalidData, match="token: "):
        undone(release, hold, "no uuid", 2)


@pytest.mark.parametrize("told", [{}, {"output": BOOKING, "in_doubt": True}])
def test_a_result_that_is_in_doubt_or_was_not_recorded_is_none(told):
    def cancel(result: Booking, about: StepContext):
        return result

    assert undone(cancel, **told) is None
    assert undone(lambda result: result, **told) is None


def test_keywords_of_an_undo_take_all_that_it_does_not_name():
    def cancel(flight_id, /, **more):
        return flight_id, more

    def mirror(flight_id, seats=(), *, price, **options):
        return options

    function = TypedFunction(book)
    options = {"from_day": date(2026, 1, 2), "to_day": date(2026, 1, 3)}
    data = function.data_of(("F1", [1]), options)
    assert TypedUndo(cancel, function).handler()("undo_it", data) == (
        "F1",
        {"seats": (1,), "price": Decimal(1), **options},
    )
    assert TypedUndo(mirror, function).handler()("undo_it", data) == options
    assert TypedUndo(lambda options: options, function).handler()("undo_it", data) == options


def test_an_undo_may_repeat_the_signature_of_what_it_undoes():
    def add(a: int, /, b: int = 2, *rest: Decimal, c: date | None = None):
        raise AssertionError

    def subtract(a, /, b, *rest, c):
        return a, b, rest, c

    assert undone(subtract, add, 1, 2, "3.5") == (1, 2, (Decimal("3.5"),), None)
    assert undone(lambda rest: rest, add, 1, 2, "3.5") == (Decimal("3.5"),)
    assert undone(lambda *other: other, add, 1, 2, "3.5") == ()


def test_a_default_that_json_cannot_carry_reaches_the_undo_too():
    unset = object()

    def start(job: str, mode=unset, limit: int = None):  # noqa: RUF013
        raise AssertionError

    def stop(mode, limit: int, job):
        return mode is unset, limit, job

    assert undone(stop, start, "j") == (True, None, "j")
    assert undone(lambda job, limit=7: limit, start, "j") == 7
    assert undone(lambda **more: more, start, "j") == {"job": "j", "mode": unset, "limit": None}


def test_a_plain_handler_is_an_undo():
    def cancel(action: str, data: dict[str, Any]):
        return action, data

    def cancel_with_context(action, data, context):
        return action, data, context.step_id

    data = {"flight_id": "F1", "seats": [1, 2], "price": "1", "options": {}}
    assert undone(cancel) == ("undo_it", data)
    assert undone(cancel_with_context) == ("undo_it", data, "step-1")


def test_a_name_that_the_forward_function_has_is_its_argument():
    def store(data: dict[str, int], result: str, context: int):
        raise AssertionError

    def drop(result, data, context, about: StepContext):
        return result, data, context, about.output

    assert undone(drop, store, {"a": 1}, "r", 3, output="o") == ("r", {"a": 1}, 3, "o")
    with pytest.raises(DefinitionError, match=r"'action' .*: data, result, context, context\."):
        TypedUndo(lambda action, data: None, TypedFunction(store))


@pytest.mark.parametrize("undo", [lambda _action, payload: None, lambda flight_id, *, why: None])
def test_an_undo_that_needs_what_there_is_not_is_refused_and_told_what_there_is(undo):
    there = "flight_id, seats, price, options, action, data, result, context"
    with pytest.raises(DefinitionError, match=f"(_action|why)' .*: {there}"):
        TypedUndo(undo, TypedFunction(book))


def test_an_undo_keeps_what_is_its_own():
    def cancel(flight_id, *, client: Trip, retries: Trip | None = None):
        return flight_id, client, retries

    trip = Trip()
    assert undone(functools.partial(cancel, client=trip)) == ("F1", trip, None)


def test_an_unfit_annotation_of_an_undo_is_refused_by_name():
    def cancel(flight_id: Trip):
        pass

    with pytest.raises(DefinitionError, match=r"parameter 'flight_id' of .*cancel"):
        TypedUndo(cancel, TypedFunction(book))
    with pytest.raises(DefinitionError, match="'self'"):
        TypedUndo(Trip.book, TypedFunction(book))


def test_an_undo_finds_local_types_that_come_later():
    def cancel(flight_id: Later):
        return flight_id

    undo = TypedUndo(cancel, TypedFunction(book))
    Later = NewType("Later", str)
    assert undo.handler()("undo_it", {"flight_id": "F1"}) == "F1"


def test_what_an_undo_returns_passes_through_untouched():
    answer = NothingToUndo("never booked")

    async def later(flight_id):
        return answer

    assert undone(lambda flight_id: answer) is answer
    undo = TypedUndo(later, TypedFunction(book))
    assert undo.is_async
    assert inspect.iscoroutinefunction(undo.handler())
    assert asyncio.run(undo.handler()("undo_it", {"flight_id": "F1"})) is answer
