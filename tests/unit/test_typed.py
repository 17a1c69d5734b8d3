"""What a plain function's arguments and result are as JSON, and what comes back from there."""
# mypy: disable-error-code="arg-type, assignment, name-defined, prop-decorator, union-attr"

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import functools
import inspect
import json
import math
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    computed_field,
    validate_call,
)
from typing_extensions import TypedDict

from aumai_transactions.actions import Action, ActionRegistry, StepContext
from aumai_transactions.answers import NothingToUndo
from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.typed import TypedFunction, TypedUndo

T = TypeVar("T")


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


class Renamed(BaseModel):
    flight_id: str = Field(alias="flightId")
    seat: int = Field(validation_alias="seatNumber", serialization_alias="seat_no")

    @computed_field
    @property
    def label(self) -> str:
        return f"{self.flight_id}/{self.seat}"


class Caching(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    _cache: object = PrivateAttr(default_factory=object)


class Tree(BaseModel):
    left: Tree | None = None


class Login(BaseModel):
    password: SecretStr


class Box(BaseModel, Generic[T]):
    item: T


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


UserId = NewType("UserId", int)
OpenSecret = Annotated[SecretStr, PlainSerializer(lambda it: it.get_secret_value())]
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


# ------------------------------------------------------------------------------------ round trips

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (str, "a\u00e9\U0001f600"),
    (int, -5),
    (float, 1.0),
    (bool, True),
    (None, None),
    (bytes, b"\xff\x00"),
    (list[bytes], [b"\xff"]),
    (datetime, NOW),
    (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1)),
    (date, NOW.date()),
    (time, time(3, 4, 5, 6)),
    (timedelta, timedelta(days=-1, microseconds=3)),
    (Decimal, Decimal("10.50")),
    (uuid.UUID, uuid.UUID(int=7)),
    (Path, Path("a/b")),
    (Colour, Colour.RED),
    (Mood, Mood.GOOD),
    (Literal["a", 1], 1),
    (Optional[int], None),  # noqa: UP045
    (int | str, "1"),
    (int | date, date(2026, 1, 2)),
    (Annotated[int, Field(gt=0)], 3),
    (UserId, UserId(4)),
    (list[Passenger], [Passenger(name="A"), Passenger(name="B", age=3)]),
    (dict[str, Passenger], {"a": Passenger(name="A")}),
    (dict[int, date], {1: date(2026, 1, 2)}),
    (set[int], {1, 2}),
    (frozenset[str], frozenset("ab")),
    (tuple[int, ...], (1, 2)),
    (tuple[int, Decimal], (1, Decimal(2))),
    (Sequence[int], [1]),
    (Mapping[str, int], {"a": 1}),
    (collections.deque[int], collections.deque([1])),
    (Passenger | Infant, Infant(name="I", months=2)),
    (Seat, Seat(3, NOW)),
    (Fare, {"amount": Decimal("1.10"), "raw": b"\xff"}),
    (Point, Point(1, date(2026, 1, 2))),
    (Box[Seat], Box[Seat](item=Seat(1, NOW))),
    (Tree, Tree(left=Tree())),
    (Renamed, Renamed.model_validate({"flightId": "F1", "seatNumber": 3})),
    (OpenSecret, SecretStr("s3cret")),
    (T, {"a": [1, None]}),
    (Any, {"a": [1.5, {"b": None}]}),
    (object, [1]),
    (inspect.Parameter.empty, "text"),
]


@pytest.mark.parametrize("annotation,value", ROUND_TRIPS)
def test_an_argument_comes_back_from_json_as_what_it_was(annotation, value):
    back = travelled(takes(annotation), value)
    assert back == value or back.isoformat() == value.isoformat()
    assert type(back) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize("annotation,value", ROUND_TRIPS)
def test_a_result_comes_back_from_json_as_what_it_was(annotation, value):
    function = takes(annotation)
    back = function.result_of(json.loads(json.dumps(function.output_of(value))))
    assert back == value or back.isoformat() == value.isoformat()
    assert type(back) is type(value) or isinstance(value, Path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(anything=JSON, when=st.datetimes(), amount=st.decimals(allow_nan=False), raw=st.binary())
def test_whatever_is_accepted_comes_back(anything, when, amount, raw):
    def pay(when: datetime, amount: Decimal, raw: bytes, anything, *more: Decimal, **named: Any):
        return when, amount, raw, anything, more, named

    function = TypedFunction(pay)
    given_ = (when, amount, raw, anything, amount)
    try:
        data = function.data_of(given_, {"named": anything})
    except InvalidData as error:
        if "NUL" in error.problem or "surrogate" in error.problem or "Infinity" in str(amount):
            return
        raise
    assert function.call(json.loads(json.dumps(data))) == (
        *given_[:4],
        (amount,),
        {"named": anything},
    )


def test_private_and_extra_parts_of_a_model_are_no_reason_to_refuse_it():
    back = travelled(takes(Caching), Caching.model_validate({"name": "a", "more": [1]}))
    assert (back.name, back.more) == ("a", [1])


def test_an_untyped_tuple_becomes_a_list_as_json_has_it():
    assert travelled(takes(Any), (1, (2,))) == [1, [2]]
    assert travelled(takes(dict[str, Any]), {"a": (1,)}) == {"a": [1]}


def test_values_are_made_what_the_annotation_says():
    def book(count: int, when: date, passenger: Passenger):
        return count, when, passenger

    function = TypedFunction(book)
    data = function.data_of(("5", "2026-01-02"), {"passenger": {"name": "A"}})
    assert data == {"count": 5, "when": "2026-01-02", "passenger": {"name": "A", "age": 30}}
    assert function.call(data) == (5, date(2026, 1, 2), Passenger(name="A"))


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "annotation,value,path",
    [
        (int, "x", "value"),
        (
            list[Passenger],
            [{"name": "a"}, {"name": "b"}, {"name": "c", "age": "old"}],
            "value[2].age",
        ),
        (list[Passenger], [{"age": 1}], "value[0].name"),
        (int | Passenger, {"name": "a", "age": "old"}, "value.age"),
        (dict[str, list[int]], {"a": [1, "x"]}, "value.a[1]"),
        (float, math.nan, "value"),
        (list[float], [1.0, math.inf], "value[1]"),
        (Box[float], Box[float](item=math.nan), "value.item"),
        (int, 2**70, "value"),
        (str, "a\0b", "value"),
        (list[str], ["ok", "\ud800"], "value[1]"),
        (Any, object(), "value"),
        (Any, {1: 2}, "value"),
        (Any, NOW, "value"),
        (Any, {"a": [Mood.GOOD]}, "value.a[0]"),
        (dict[str, Any], {"when": NOW}, "value.when"),
        (list, [{1, 2}], "value[0]"),
        (list[Any], [Point(1, date(2026, 1, 2))], "value[0]"),
        (dict[tuple[int, int], str], {(1, 2): "a"}, "value.1,2"),
        (str | date, date(2026, 1, 2), "value"),
        (Colour, Colour.PAIR, "value"),
        (Passenger, Infant(name="i"), "value"),
        (Passenger, Passenger.model_construct(name=[1]), "value"),
        (list[Login], [Login(password="hunter2")], "value[0].password"),
        (Annotated[int, AfterValidator(lambda it: it + 1)], 1, "value"),
        (Annotated[int, AfterValidator(lambda it: {}[it])], 1, "value"),
        (type[int], int, "value"),
        (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2), "value"),
    ],
)
def test_an_argument_that_does_not_fit_or_come_back_is_refused_by_name(annotation, value, path):
    error = refused(takes(annotation), value)
    assert error.path == path
    assert "hunter2" not in str(error)


def test_what_cannot_even_be_compared_is_refused():
    class Odd(int):
        def __eq__(self, other):
            raise OSError

        __hash__ = None

    assert refused(takes(Any), Odd(1)).path == "value"


def test_a_model_that_cannot_hold_bytes_says_what_to_set():
    assert "ser_json_bytes" in refused(takes(Box[bytes]), Box[bytes](item=b"\xff")).problem


def test_a_circle_is_refused():
    circle: list[Any] = []
    circle.append(circle)
    for annotation in (Any, list[Any]):
        assert refused(takes(annotation), circle).path.startswith("value")
        with pytest.raises(InvalidData):
            takes(annotation).output_of(circle)


def test_a_refusal_shows_little_of_what_was_given():
    def no(value: str) -> str:
        raise ValueError(f"never {value}")

    for annotation in (int, Annotated[str, AfterValidator(no)]):
        problem = refused(takes(annotation), "secret-" * 1_000).problem
        assert problem.count("secret") <= 24
    hostile = type("Hostile", (), {"__repr__": lambda self: 1 / 0})()
    assert "cannot be shown" in refused(takes(int), hostile).problem


def test_all_that_a_union_wanted_is_said():
    problem = refused(takes(int | date), "x").problem
    assert "integer" in problem
    assert "date" in problem


def test_too_much_of_everything_is_refused():
    def store(one, two):
        pass

    error = refused(TypedFunction(store), "x" * 1_200_000, "y" * 1_200_000)
    assert error.path == "arguments"


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


# ---------------------------------------------------------------------------------------- context


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


# ------------------------------------------------------------------------------------------ undos


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
