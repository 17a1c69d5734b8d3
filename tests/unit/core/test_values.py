"""The limits of agent-supplied data."""
# mypy: disable-error-code="var-annotated"

import enum
import json
import math
from collections import OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions import TransactionStep
from aumai_transactions.core.values import (
    DEPTH_MAX,
    INTEGER_MAX,
    NAME_CHARACTERS_MAX,
    VALUE_BYTES_MAX,
    canonical_json,
    checked_copy,
    checked_name,
    checked_object,
)
from aumai_transactions.errors import InvalidData

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def refused(value, **options):
    with pytest.raises(InvalidData) as caught:
        checked_copy(value, **options)
    # Whatever it is, every store can keep what is said about it.
    str(caught.value).encode("utf-8")
    assert "\0" not in str(caught.value)
    return caught.value


@given(JSON)
def test_a_copy_is_equal_shares_nothing_and_comes_back_equal_from_its_text(value):
    copy = checked_copy(value)
    assert copy == value
    assert repr(copy) == repr(value)
    assert json.loads(canonical_json(copy)) == value
    if isinstance(value, (dict, list)) and value:
        assert copy is not value


@given(JSON)
def test_the_canonical_text_does_not_depend_on_the_order_of_keys(value):
    assert canonical_json({"a": value, "b": 1}) == canonical_json({"b": 1, "a": value})


def test_the_canonical_text_has_sorted_keys_no_spaces_and_utf_8():
    assert canonical_json({"b": [1, 2.0, None], "a": "é"}) == '{"a":"é","b":[1,2.0,null]}'.encode()


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX])
def test_data_up_to_the_greatest_depth_is_taken(depth):
    assert checked_copy(nested(depth)) == nested(depth)


def test_data_deeper_than_the_greatest_depth_is_refused():
    assert f"{DEPTH_MAX} deep" in refused(nested(DEPTH_MAX + 1)).problem
    value = {}
    for _ in range(DEPTH_MAX):
        value = {"k": value}
    assert f"{DEPTH_MAX} deep" in refused(value).problem


def test_data_in_a_circle_is_refused():
    circle = []
    circle.append(circle)
    assert "circle" in refused(circle).problem
    knot = {}
    knot["again"] = {"x": knot}
    assert "circle" in refused(knot).problem


def test_data_up_to_the_greatest_size_is_taken_and_one_byte_more_is_refused():
    quotes = 2
    for size in (VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX):
        assert len(canonical_json(checked_copy("x" * (size - quotes)))) == size
    error = refused("x" * (VALUE_BYTES_MAX + 1 - quotes))
    assert f"{VALUE_BYTES_MAX + 1:,} bytes" in error.problem
    assert "reference" in error.problem


def test_the_size_is_counted_in_bytes_and_not_in_characters():
    refused("é" * (VALUE_BYTES_MAX // 2))
    refused(['"' * (VALUE_BYTES_MAX // 2)])
    refused(["\x01" * (VALUE_BYTES_MAX // 6)])


@pytest.mark.parametrize("sign", [1, -1])
def test_whole_numbers_of_64_bits_are_taken_and_greater_ones_refused(sign):
    for number in (INTEGER_MAX - 1, INTEGER_MAX):
        assert checked_copy(sign * number) == sign * number
    assert "64 bits" in refused(sign * (INTEGER_MAX + 1)).problem
    assert "64 bits" in refused({"n": sign * 10**5_000}).problem


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_in_json_is_refused_with_advice(value):
    assert "Pass null or a text" in refused({"x": [value]}).problem


@pytest.mark.parametrize(
    "value,path",
    [
        ("a\0b", "$"),
        ({"k": ["a", "\0"]}, "$.k[1]"),
        ({"\0": 1}, "$.\\0"),
        ({"é\0": 1}, "$.é\\0"),
    ],
)
def test_nul_is_refused_and_its_place_is_printable(value, path):
    error = refused(value)
    assert error.path == path
    assert "NUL" in error.problem


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, {"k": ["x\ud800y"]}])
def test_lone_surrogates_are_refused_and_named(value):
    assert "surrogate U+D" in refused(value).problem


@pytest.mark.parametrize("inner", [math.nan, object(), {1: 2}, [2**64], nested(99)])
@pytest.mark.parametrize("key", ["\ud800", "\0", "a\ud800\0"])
def test_a_bad_key_over_a_bad_value_is_still_reported_in_text_that_can_be_kept(key, inner):
    refused({key: inner})


@pytest.mark.parametrize(
    "value,advice",
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "isoformat"),
        (date(2026, 1, 1), "isoformat"),
        ({1, 2}, "sorted"),
        (frozenset(), "sorted"),
        (b"x", "base64"),
        (bytearray(b"x"), "base64"),
        (TransactionStep(agent_id="a", action="b"), "model_dump"),
        (Decimal(1), "text, numbers"),
        (object(), "text, numbers"),
        (lambda: None, "text, numbers"),
        (range(3), "text, numbers"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused_with_its_type_and_advice(value, advice):
    error = refused({"place": value})
    assert error.path == "$.place"
    assert type(value).__name__ in error.problem
    assert advice in error.problem


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), b"k", 10**5_000], ids=type)
def test_a_key_that_is_not_text_is_refused(key):
    assert "JSON keys are text" in refused({"x": {key: 1}}).problem


def test_subclasses_of_the_json_types_become_these_types():
    class Text(str):
        __slots__ = ()

        def __str__(self):
            return "changed"

    class Whole(int):
        pass

    class Real(float):
        pass

    class Colour(enum.StrEnum):
        red = "red"

    class Level(enum.IntEnum):
        high = 3

    class Pair(NamedTuple):
        a: int
        b: int

    value = {
        Text("k"): [Text("t"), Whole(1), Real(1.5), Colour.red, Level.high],
        "p": Pair(1, 2),
        "o": OrderedDict(z=1),
    }
    copy = checked_copy(value)
    assert copy == {"k": ["t", 1, 1.5, "red", 3], "p": [1, 2], "o": {"z": 1}}
    assert [type(one) for one in copy["k"]] == [str, int, float, str, int]
    assert type(next(iter(copy))) is str
    assert (type(copy["p"]), type(copy["o"])) == (list, dict)


def test_booleans_stay_booleans():
    assert checked_copy([True, False, 1, 0, 1.0]) == [True, False, 1, 0, 1.0]
    assert [type(one) for one in checked_copy([True, 1, 1.0])] == [bool, int, float]


def test_the_root_of_a_path_has_the_name_that_was_asked_for():
    assert refused({"a": [{"b": math.nan}]}, path="data").path == "data.a[0].b"


@pytest.mark.parametrize("value", [None, [], "x", 1, [("a", 1)]])
def test_an_object_must_be_a_dict(value):
    with pytest.raises(InvalidData, match="must be a JSON object"):
        checked_object(value)


@pytest.mark.parametrize("length", [1, NAME_CHARACTERS_MAX - 1, NAME_CHARACTERS_MAX])
def test_a_name_up_to_the_greatest_length_is_taken(length):
    assert checked_name("x" * length, "action") == "x" * length


@pytest.mark.parametrize(
    "value", ["x" * (NAME_CHARACTERS_MAX + 1), "", " \t\n", None, 1, b"x", "a\0", "\ud800"]
)
def test_what_cannot_be_a_name_is_refused(value):
    with pytest.raises(InvalidData, match=r"^action: ") as caught:
        checked_name(value, "action")
    str(caught.value).encode("utf-8")
