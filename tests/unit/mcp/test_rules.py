"""Tests of what can be declared about tools."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.rules import Rule, ServerRules, ready_made, rules_of

USE = {"tool": "free", "arguments": {"name": "$args.name"}}


@pytest.mark.parametrize(
    "table, what",
    [
        ({"undo": USE, "files": ["$args.path"]}, "undo and files"),
        ({"undo": USE, "effect": "none"}, 'effect = "none", and undo'),
        ({"undo": USE, "pivot": True}, "pivot, and undo"),
        ({"effect": "none", "pivot": True}, "is the pivot"),
        ({"undo_if_absent": USE, "undo": USE}, "needs before and undo"),
        ({"undo": {"tool": "x", "arguments": {"a": "$nothing.x"}}}, "$nothing"),
        ({"before": {"tool": "x", "arguments": {"a": "$result.x"}}}, "before: "),
        ({"probe": {**USE, "done_if": "$args.x"}}, "done_if"),
        ({"files": ["$before.text"]}, "$before"),
        ({"files": [{"folder": "$args.repo", "name": "../x"}]}, "leads out"),
        ({"files": [{"folder": "$args.repo", "name": "/x"}]}, "leads out"),
        ({"moves": {"source": "$args.a", "destination": "$result.b"}}, "$result"),
        ({"undo": USE, "moves": {"source": "$args.a", "destination": "$args.b"}}, "undo and moves"),
        ({"unknown": 1}, "unknown"),
        ({"timeout_seconds": 0}, "greater than 0"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(table: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Rule.model_validate(table)
    assert what in str(raised.value)


@pytest.mark.parametrize("name", ready_made())
def test_rules_that_ship_with_the_package_are_rules(name: str) -> None:
    found = rules_of("x", ServerRules(rules=name, files=["/data/file"]))
    assert found
    assert all(one.effect == "none" or one.undoes for one in found.values())


def test_an_operators_own_rule_goes_before_a_ready_made_one() -> None:
    declared = ServerRules(rules="filesystem", tools={"write_file": Rule(approve=True)})
    assert rules_of("fs", declared)["write_file"].approve
    assert rules_of("fs", declared)["edit_file"].undoes


def test_rules_that_need_to_know_where_the_data_is_say_so() -> None:
    with pytest.raises(DefinitionError, match=r'"files": \["/absolute/path"\]'):
        rules_of("memory", ServerRules(rules="memory"))
    found = rules_of("m", ServerRules(rules="memory", files=["$odd"]))
    assert found["create_entities"].files == ["$$odd"]


def test_rules_that_are_not_there_are_named_beside_those_that_are() -> None:
    with pytest.raises(DefinitionError, match="fetch, filesystem, git, memory, sqlite"):
        rules_of("x", ServerRules(rules="excel"))
