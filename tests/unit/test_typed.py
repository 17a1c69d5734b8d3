"""How a plain function is called from JSON, and what its call and its result are as JSON."""
# mypy: disable-error-code="arg-type, assignment, name-defined, prop-decorator, union-attr"

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import inspect
import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    validate_call,
)
from typing_extensions import TypedDict

from aumai_transactions.actions import Action, ActionRegistry, StepContext
from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.typed import TypedFunction


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Mood(enum.StrEnum):
    GOOD = "good"


class Passenger(BaseModel):
    name: str
    age: int = 30


class Infant(Passenger):
    months: int = 0


class Login(BaseModel):
    password: SecretStr


@dataclasses.dataclass
class Seat:
    row: int
    booked_at: datetime


class Fare(TypedDict):
    amount: Decimal
    raw: bytes


class Point(NamedTuple):
    x: int
    on: date


NOW = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


def context(**fields: Any) -> StepContext:
    return StepContext("tx", "step-1", "agent", "cancel", "compensation", 1, "key", **fields)


def takes(annotation: Any) -> TypedFunction:
    """Return a function with one parameter of this annotation, that returns it."""

    def echo(value):
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    return TypedFunction(echo)


def travelled(function: TypedFunction, *args: Any, **kwargs: Any) -> Any:
    """Call it with data that went through the journal's text."""
    return function.call(json.loads(json.dumps(function.data_of(args, kwargs))))


def refused(function: TypedFunction, *args: Any, **kwargs: Any) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        function.data_of(args, kwargs)
    return caught.value


# --------------------------------------------------------------------------- binding and defaults


def test_arguments_are_bound_as_python_binds_them():
    def f(a: int, /, b: int, *rest: int, c: int = 3, **more: int):
        return a, b, rest, c, more

    function = TypedFunction(f)
    data = function.data_of((1, 2, 4, "5"), {"x": 6, "a": 7})
    assert data == {"a": 1, "b": 2, "rest": [4, 5], "c": 3, "more": {"x": 6, "a": 7}}
    assert function.call(data) == (1, 2, (4, 5), 3, {"x": 6, "a": 7})
    assert function.data_of((1, 2), {}) == {"a": 1, "b": 2, "rest": [], "c": 3, "more": {}}
    assert refused(function, 1, 2, 3, "x").path == "rest[1]"
    assert refused(function, 1, 2, y="x").path == "more.y"


@pytest.mark.parametrize(
    "args,kwargs", [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"c": 1}), ((), {"b": 1})]
)
def test_a_wrong_call_is_the_callers_type_error(args, kwargs):
    def book(a, b=2):
        pass

    with pytest.raises(TypeError, match=r"book\(\)"):
        TypedFunction(book).data_of(args, kwargs)


def test_keywords_of_a_typed_dict_are_named_each():
    def f(**fare: typing.Unpack[Fare]):
        return fare

    assert travelled(TypedFunction(f), amount="1.1", raw=b"a") == {
        "amount": Decimal("1.1"),
        "raw": b"a",
    }
    assert refused(TypedFunction(f), amount="x", raw=b"").path == "fare.amount"


def test_a_mutable_default_is_never_shared():
    def f(tags: list[str] = [], more=[]):  # noqa: B006
        tags.append("x")
        more.append("y")
        return tags, more

    function = TypedFunction(f)
    data = function.data_of((), {})
    for used in (data, data, {}, {}):
        assert function.call(used) == (["x"], ["y"])
    assert data == {"tags": [], "more": []}
    assert function.data_of((), {}) == data


def test_a_default_that_json_cannot_carry_is_left_to_the_function():
    unset = object()

    def f(a: int = None, *rest: int, b: str = unset, c=unset, d: date = date(2026, 1, 2)):  # noqa: RUF013
        return a, rest, b is unset, c is unset, d

    function = TypedFunction(f)
    for args in ((), (None,)):
        assert function.data_of(args, {}) == {"rest": [], "d": "2026-01-02"}
    assert travelled(function) == (None, (), True, True, date(2026, 1, 2))
    assert function.call({"rest": [4]}) == (None, (4,), True, True, date(2026, 1, 2))
    assert refused(function, b=None).path == "b"


def test_data_of_another_release_is_used_as_far_as_it_fits():
    def f(a: int, b: int = 2):
        return a, b

    function = TypedFunction(f)
    assert function.call({"a": 1}) == (1, 2)
    for data, path in (({"b": 1}, "a"), ({"a": 1, "gone": 1}, "gone"), ({"a": "x"}, "a")):
        with pytest.raises(InvalidData) as caught:
            function.call(data)
        assert caught.value.path == path


def test_a_call_changes_nothing_of_its_data():
    def f(anything):
        anything["a"].append(1)

    data: dict[str, Any] = {"anything": {"a": []}}
    TypedFunction(f).call(data)
    assert data == {"anything": {"a": []}}


# ------------------------------------------------------------------- definitions and annotations


class Trip:
    def book(self, flight_id: str) -> Trip:
        return self

    @classmethod
    def cancel(cls, flight_id: str):
        return flight_id

    async def __call__(self, flight_id: str):
        return flight_id

    @staticmethod
    def look(flight_id: str):
        return flight_id


def rows():
    yield 1


@pytest.mark.parametrize(
    "function,hint",
    [
        (3, "cannot be called"),
        (vars(Trip)["cancel"], "below @classmethod"),
        (Trip.book, "'self'"),
        (min, "signature"),
        (rows, "generator"),
        (Trip().book, "result of Trip.book"),
    ],
)
def test_what_cannot_be_called_from_json_is_refused_with_what_to_do(function, hint):
    with pytest.raises(DefinitionError, match=hint):
        TypedFunction(function)


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            slice,
            Exception,
            Trip,
            list[Trip],
            Callable[[], int],
            Iterator[int],
            Iterable[int] | None,
        ),
        *(SecretStr, dict[str, SecretStr | None], typing.Self, 5, "no type", "[", TypedFunction),
    ],
)
def test_an_annotation_that_cannot_go_through_json_is_refused_at_once(annotation):
    def function(flight_id: str, value):
        pass

    function.__annotations__["value"] = annotation
    try:
        with pytest.raises(DefinitionError, match=r"parameter 'value' of .*function .*Annotate"):
            TypedFunction(function)
    except SyntaxError:
        raise AssertionError(annotation) from None


@pytest.mark.parametrize("function", [Trip.cancel, Trip().look, vars(Trip)["look"], Trip.look])
def test_whatever_is_bound_can_be_called(function):
    assert travelled(TypedFunction(function), "F1") == "F1"


def test_what_partial_has_bound_is_no_data():
    def book(client: Trip, flight_id: str, *, other: Trip, seats: int = 1):
        return client, flight_id, other, seats

    trip = Trip()
    function = TypedFunction(functools.partial(book, trip, other=trip, seats=3))
    assert function.data_of(("F1",), {}) == {"flight_id": "F1"}
    assert travelled(function, "F1") == (trip, "F1", trip, 3)
    with pytest.raises(TypeError):
        function.data_of(("F1",), {"seats": 4})


def test_a_wrapped_function_is_seen_through():
    def book(count: Annotated[int, Field(gt=0)], when: date):
        return count, when

    @functools.wraps(book)
    def wrapper(*args, **kwargs):
        return book(*args, **kwargs)

    for function in (wrapper, validate_call(book)):
        assert travelled(TypedFunction(function), 1, "2026-01-02") == (1, date(2026, 1, 2))


def test_local_types_are_found_when_they_come_later_and_when_their_frame_is_gone():
    def book(seat: Local, near: list[Local] | None = None) -> Local:
        return seat

    function = TypedFunction(book)

    class Local(BaseModel):
        row: int

    assert travelled(function, Local(row=1)) == Local(row=1)
    assert function.result_of({"row": 2}) == Local(row=2)

    def made() -> Any:
        class Hidden(BaseModel):
            row: int

        def hide(seat: Hidden) -> Hidden:
            return Hidden(row=seat.row)

        return TypedFunction(hide) if seat_first else hide

    for seat_first in (True, False):
        made_one = made()
        function = made_one if seat_first else TypedFunction(made_one)
        assert function.call({"seat": {"row": 3}}).row == 3


def test_a_model_that_is_complete_only_later_is_waited_for():
    class Row(BaseModel):
        seat: Chair

    def book(row: Row):
        return row

    function = TypedFunction(book)

    class Chair(BaseModel):
        number: int

    Row.model_rebuild()
    data = {"row": {"seat": {"number": 1}}}
    assert function.data_of((data["row"],), {}) == data
    assert function.call(data).seat == Chair(number=1)


def test_a_builtin_can_be_a_step():
    assert travelled(TypedFunction(len), [1, 2]) == 2


def test_a_name_that_never_comes_is_refused_at_the_first_call():
    def book(seat: Nowhere):  # noqa: F821
        pass

    function = TypedFunction(book)
    for call in (lambda: function.data_of((1,), {}), lambda: function.call({"seat": 1})):
        with pytest.raises(DefinitionError, match=r"'Nowhere' is not defined; import it at run"):
            call()


def by_name(flight_id: str, context):
    return flight_id, context


def test_the_function_stays_as_it_is():
    function = TypedFunction(by_name)
    assert function.function is by_name
    assert function.signature == inspect.signature(by_name)


# ------------------------------------------------------------------------- results and handlers


async def book_later(when: date) -> date:
    return when


def test_an_async_function_is_known_whatever_it_is_wrapped_in():
    for function in (book_later, functools.partial(book_later), Trip(), functools.partial(Trip())):
        typed = TypedFunction(function)
        assert typed.is_async
        assert inspect.iscoroutinefunction(typed.handler())
    handler = TypedFunction(book_later).handler()
    assert asyncio.run(handler("book", {"when": "2026-01-02"})) == "2026-01-02"


def test_what_turns_out_to_be_awaitable_is_awaited():
    def soon(when: date) -> typing.Awaitable[date]:
        return book_later(when)

    function = TypedFunction(soon)
    assert not function.is_async
    assert asyncio.run(function.handler()("book", {"when": "2026-01-02"})) == "2026-01-02"
    assert function.result_of("2026-01-02") == date(2026, 1, 2)


def test_what_waits_for_a_coroutine_function_itself_is_not_async():
    @functools.wraps(book_later)
    def wait(when):
        return asyncio.run(book_later(when))

    function = TypedFunction(wait)
    assert not function.is_async
    assert function.handler()("book", {"when": "2026-01-02"}) == "2026-01-02"


def test_a_class_is_called_as_a_function_is():
    function = TypedFunction(Seat)
    data = function.data_of((1, NOW), {})
    assert function.call(data) == Seat(1, NOW)
    assert function.handler()("seat", data) == data


@pytest.mark.parametrize(
    "value,output",
    [
        (NOW, "2026-03-01T12:30:15.000250Z"),
        (
            {"a": (Passenger(name="A"), {Decimal("1.5")})},
            {"a": [{"name": "A", "age": 30}, ["1.5"]]},
        ),
        (
            [Mood.GOOD, Colour.RED, b"\xff", Point(1, date(2026, 1, 2))],
            ["good", "red", "_w==", [1, "2026-01-02"]],
        ),
    ],
)
def test_an_untyped_result_is_what_its_parts_are(value, output):
    function = TypedFunction(lambda: value)
    assert function.output_of(value) == output
    assert function.handler()("look", {}) == output
    assert function.result_of(output) == output


@pytest.mark.parametrize(
    "annotation,value",
    [
        *((Any, value) for value in (object(), rows(), print, ValueError("x"), {1: 2}, math.nan)),
        *((Any, value) for value in ([Login(password="x")], Trip(), {"a": object}, 2**70)),
        (Login, Login(password="x")),
        (Colour, Colour.PAIR),
        (int, "five"),
        (Annotated[int, Field(gt=0)], -1),
        (None, 1),
    ],
)
def test_a_result_that_cannot_be_recorded_is_refused_and_handed_on_as_it_is(annotation, value):
    function = takes(annotation)
    with pytest.raises(InvalidData) as caught:
        function.output_of(value)
    assert caught.value.path.startswith("result")
    assert TypedFunction(_returning(value, annotation)).handler()("look", {}) is value


def _returning(value: Any, annotation: Any) -> Callable[..., Any]:
    def look():
        return value

    look.__annotations__ = {"return": annotation}
    return look


def test_a_result_is_recorded_as_the_type_that_was_promised():
    function = takes(Passenger)
    assert function.output_of(Infant(name="i", months=2)) == {"name": "i", "age": 30}
    assert function.output_of({"name": "i"}) == {"name": "i", "age": 30}
    assert takes(str | date).output_of(date(2026, 1, 2)) == "2026-01-02"


def test_a_recorded_result_that_does_not_fit_comes_back_as_it_is():
    function = takes(Passenger)
    assert function.result_of(None) is None
    recorded = {"of": ["another release"]}
    assert function.result_of(recorded) == recorded
    assert function.result_of(recorded) is not recorded


def test_a_handler_is_one_that_the_registry_takes_and_asks_for_no_more_than_it_needs():
    registry = ActionRegistry()
    for name, function in (("plain", lambda x: x), ("asking", by_name), ("late", book_later)):
        registry.add(Action(name, TypedFunction(function).handler()))
    found = {action.name: registry.get(action.name) for action in registry}
    assert [one.context_parameter for one in found.values()] == [None, "context", None]
    assert [one.is_async for one in found.values()] == [False, False, True]
    assert found["plain"].handler("plain", {"x": 1}) == 1
