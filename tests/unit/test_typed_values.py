"""What one annotated value is as JSON, what comes back from there, and what is refused."""
# mypy: disable-error-code="arg-type, assignment, name-defined, prop-decorator, union-attr"

from __future__ import annotations

import collections
import dataclasses
import enum
import inspect
import json
import math
import uuid
from collections.abc import Mapping, Sequence
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
)
from typing_extensions import TypedDict

from aumai_transactions.errors import InvalidData
from aumai_transactions.typed import TypedFunction

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
