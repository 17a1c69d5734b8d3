"""JSON pointers into earlier outputs."""

import pytest

from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.references import UnresolvedReference, resolved

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
