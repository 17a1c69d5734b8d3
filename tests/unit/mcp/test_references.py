"""Tests of templates of arguments."""

from __future__ import annotations

from typing import Any

import pytest

from aumai_transactions.mcp.references import MissingReference, fill, problems

ABOUT = {
    "args": {"path": "/a", "list": [{"name": "x"}, {"name": "y"}], "n": 0, "empty": None},
    "before": {"text": "was", "structured": None},
}


@pytest.mark.parametrize(
    "template, filled",
    [
        ("$args.path", "/a"),
        ({"deep": ["$args.list[1].name", 7, None, True]}, {"deep": ["y", 7, None, True]}),
        ("$args.list[*].name", ["x", "y"]),
        ("$args.list[*]", [{"name": "x"}, {"name": "y"}]),
        ("$args.n", 0),
        ("$before.text", "was"),
        ("$before", {"text": "was", "structured": None}),
        ("just a $args.path", "just a $args.path"),
        ("$$args.path", "$args.path"),
        ("", ""),
    ],
)
def test_a_template_is_filled_in(template: Any, filled: Any) -> None:
    assert list(problems(template)) == []
    assert fill(template, ABOUT) == filled


@pytest.mark.parametrize(
    "template",
    [
        "$args.other",
        "$args.path.deeper",
        "$args.list[2]",
        "$args.list.name",
        "$args.path[*]",
        "$args.path[0]",
        "$args.empty",
        "$before.structured",
        "$result.text",
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_made_up(template: str) -> None:
    with pytest.raises(MissingReference) as raised:
        fill({"a": [template]}, ABOUT)
    assert raised.value.reference == template


@pytest.mark.parametrize(
    "template", ["$", "$ARGS.x", "$args.", "$args[x]", "$args.a b$", "$args..x"]
)
def test_what_is_no_reference_is_refused(template: str) -> None:
    assert list(problems({"deep": [template]}))


def test_a_reference_to_what_is_not_known_there_is_refused() -> None:
    (problem,) = problems("$result.text", ("args", "before"))
    assert "$args, $before are" in problem


def test_what_an_agent_says_never_becomes_a_reference() -> None:
    about = {"args": {"path": "$before.text", "more": ["$args.path"]}, "before": {"text": "secret"}}
    assert fill({"a": "$args.path", "b": "$args.more"}, about) == {
        "a": "$before.text",
        "b": ["$args.path"],
    }
