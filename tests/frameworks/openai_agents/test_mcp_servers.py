"""Tests of MCP servers of an agent, whose tools are no function tools of its own."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Runner, UserError
from agents.mcp import MCPServer
from mcp.types import CallToolResult, TextContent, Tool

from aumai_transactions import AsyncTransactionManager, TransactionNotActive
from aumai_transactions.integrations.openai_agents import transactional_agent

RITZ = ("book", {"hotel": "Ritz"})
ASTORIA = ("book", {"hotel": "Astoria"})
SCHEMA = {
    "type": "object",
    "properties": {"hotel": {"type": "string"}},
    "required": ["hotel"],
    "additionalProperties": False,
}


class Hotels(MCPServer):
    """Be a server of hotels in this process."""

    def __init__(self, world: Any) -> None:
        super().__init__()
        self.world = world

    name = "hotels"

    async def connect(self) -> None:
        """Be there."""

    async def cleanup(self) -> None:
        """Be gone."""

    async def list_tools(self, *_: Any, **__: Any) -> list[Tool]:
        """Tell what there is."""
        return [Tool.model_validate({"name": "book", "inputSchema": SCHEMA})]

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> CallToolResult:
        """Book a room."""
        try:
            text, is_error = self.world.book(**arguments), False
        except ValueError as error:
            text, is_error = str(error), True
        content = [TextContent(type="text", text=text)]
        return CallToolResult.model_validate({"content": content, "isError": is_error})

    async def list_prompts(self) -> Any:
        """Have none."""

    async def get_prompt(self, name: str, arguments: Any = None) -> Any:
        """Have none."""


def run(agent: Any, *, before: Any = None) -> Any:
    async def main() -> Any:
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            if before is not None:
                await before(tx)
            return await Runner.run(agent, "go"), tx

    return asyncio.run(main())


def test_tools_of_a_server_are_steps_and_a_result_that_is_an_error_is_none(world):
    undone: list[Any] = []

    def cancel(hotel: str, result: dict[str, Any]) -> None:
        undone.append((hotel, result["content"][0]["text"]))

    server = Hotels(world)
    agent = world.agent(ASTORIA, RITZ, RITZ, mcp_servers=[server])
    made = transactional_agent(agent, {"book": cancel})
    assert isinstance(made.mcp_servers[0], MCPServer)
    assert made.mcp_servers[0].name == "hotels"
    assert agent.mcp_servers == [server]

    async def main() -> Any:
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction() as tx:
                    await Runner.run(made, "go")
                    raise KeyError
            return tx

    tx = asyncio.run(main())
    assert world.calls == ["Astoria", "Ritz"]
    assert [one.state.value for one in tx.steps] == ["failed", "compensated"]
    assert undone == [("Ritz", "Ritz 7")]
    told = [str(one) for one in world.model.told[3]]
    assert "the Astoria is full" in told[0]
    assert told[1] == told[2]


def test_a_call_after_the_end_ends_the_run(world):
    made = transactional_agent(world.agent(RITZ, mcp_servers=[Hotels(world)]))

    async def end(tx: Any) -> None:
        await tx.rollback("enough")

    with pytest.raises((TransactionNotActive, UserError), match="it is rolled_back"):
        run(made, before=end)
    assert world.calls == []
