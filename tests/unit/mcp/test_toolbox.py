"""Tests of which tools are offered, and how."""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.config import Configuration
from aumai_transactions.mcp.toolbox import Offered, offered


def offered_of(name: str, schema: dict[str, Any]) -> dict[str, Offered]:
    configuration = Configuration.model_validate({"mcpServers": {"s": {"command": "x"}}})
    return offered(configuration, {"s": [types.Tool(name=name, input_schema=schema)]})


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"type": "object"}])
def test_a_tool_without_arguments_is_offered_with_the_transaction(schema: dict[str, Any]) -> None:
    shown = offered_of("a", schema)["s__a"].shown
    assert list(shown.input_schema["properties"]) == ["transaction_id"]


@pytest.mark.parametrize(
    "name, schema",
    [
        ("a", {"properties": []}),
        ("a", {"properties": "x"}),
        ("", {}),
        ("safe\u202ereversed", {}),
        ("a\0", {}),
        ("\ud800", {}),
    ],
)
def test_a_tool_that_is_none_is_named(name: str, schema: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"mcpServers\.s has a tool that cannot be offered"):
        offered_of(name, schema)
