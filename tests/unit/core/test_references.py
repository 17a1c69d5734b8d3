"""JSON pointers into earlier outputs."""
# mypy: disable-error-code="arg-type, attr-defined, index"

import pytest

from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.references import UnresolvedReference, resolved, shown, types_of

OUTPUT = {
    "id": 7,
    "list": [10, [20, 30]],
    "a/b": 1,
    "m~n": 2,
    "": {"": 3},
    "~1": 4,
    "null": None,
    "0": "zero",
}


def fill(at, output=OUTPUT):
    step = StepDefinition(
        "b", "agent", "act", {"into": [None]}, references=(Reference(("into", 0), "a", at),)
    )
    return resolved(step, {"a": output})["into"][0]


@pytest.mark.parametrize(
    "at,wanted",
    [
        ("", OUTPUT),
        ("/id", 7),
        ("/list/0", 10),
        ("/list/1/1", 30),
        ("/a~1b", 1),
        ("/m~0n", 2),
        ("//", 3),
        ("/~01", 4),
        ("/null", None),
        ("/0", "zero"),
    ],
)
def test_a_pointer_finds_its_place(at, wanted):
    assert fill(at) == wanted


@pytest.mark.parametrize(
    "at",
    [
        "/no",
        "/list/2",
        "/list/-1",
        "/list/x",
        "/id/x",
        "/null/x",
        "/list/²",
        "/list/" + "9" * 5_000,
    ],
    ids=lambda at: at[:12],
)
def test_a_place_that_is_not_there_is_named(at):
    with pytest.raises(UnresolvedReference, match="step 'a' has nothing at"):
        fill(at)


def test_a_step_that_returned_nothing_gives_null_as_a_whole_and_no_places():
    assert fill("", None) is None
    with pytest.raises(UnresolvedReference, match="null"):
        fill("/x", None)


def test_what_is_filled_in_is_a_copy():
    output = {"x": [1]}
    step = StepDefinition("b", "g", "act", {"y": 0}, references=(Reference(("y",), "a", "/x"),))
    data = resolved(step, {"a": output})
    data["y"].append(2)
    assert output == {"x": [1]}
    assert step.data == {"y": 0}


@pytest.mark.parametrize("into", [(), ("no", "such"), ("l", 1), ("l", "x"), ("t", "x")])
def test_data_without_the_place_to_fill_in_is_unresolved(into):
    data = {"l": [0], "t": "text"}
    step = StepDefinition("b", "g", "act", data, references=(Reference(into, "a"),))
    with pytest.raises(UnresolvedReference, match="no place"):
        resolved(step, {"a": 1})


# ----------------------------------------------------------------------------------------- types


VALUES = {
    "string": ["", "x"],
    "integer": [0, -1, 2.0, 10**15],
    "number": [0, 1.5, 2.0],
    "boolean": [True, False],
    "object": [{}, {"a": 1}],
    "array": [[], [1]],
    "null": [None],
}


def typed(value, wanted):
    reference = Reference(("x",), "a", "/v", wanted)
    step = StepDefinition("b", "g", "act", {"x": 0}, references=(reference,))
    return resolved(step, {"a": {"v": value}})["x"]


@pytest.mark.parametrize("wanted,values", VALUES.items())
def test_a_value_of_the_type_that_is_declared_is_filled_in(wanted, values):
    for value in values:
        found = typed(value, wanted)
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("wanted", VALUES)
def test_a_value_of_another_type_is_refused_with_both(wanted):
    for other, values in VALUES.items():
        for value in values:
            if wanted in types_of(value):
                continue
            with pytest.raises(UnresolvedReference) as caught:
                typed(value, wanted)
            assert f"not {wanted} as data.x needs" in str(caught.value)
            assert f"is {types_of(value)[0]} at '/v'" in str(caught.value)
        assert other in types_of(values[0])


def test_a_whole_output_of_another_type_is_refused():
    reference = Reference(("x",), "a", "", "object")
    step = StepDefinition("b", "g", "act", {"x": 0}, references=(reference,))
    with pytest.raises(UnresolvedReference, match="'a' is array as a whole, not object"):
        resolved(step, {"a": []})
    assert resolved(step, {"a": {}}) == {"x": {}}


def test_a_place_in_data_is_shown_for_people():
    assert shown(("flight", 0, "id")) == "data.flight[0].id"
    assert shown(()) == "data"
