"""Tools for a Claude agent that are undone together; an MCP client plays Claude Code here."""

import asyncio

from claude_agent_sdk import ClaudeAgentOptions, tool
from mcp import Client

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations.claude_agent_sdk import ClaudeTools

rooms: list[str] = []


@tool("book", "Book a room.", {"city": str})
async def book(arguments: dict) -> dict:
    if arguments["city"] == "Rome":
        raise ValueError("every hotel in Rome is full")
    rooms.append(arguments["city"])
    return {"content": [{"type": "text", "text": f"a room in {arguments['city']}"}]}


def cancel(city: str) -> None:
    rooms.remove(city)


async def main() -> None:
    tools = ClaudeTools({"book": cancel})
    options = ClaudeAgentOptions(mcp_servers=tools.servers({"trip": [book]}), hooks=tools.hooks())
    async with AsyncTransactionManager() as manager:
        # With Claude Code: async with ClaudeSDKClient(options) as client: …
        trip = Client(options.mcp_servers["trip"]["instance"])
        async with manager.transaction(name="trip") as tx, trip as client:
            for city in ("Oslo", "Rome"):
                booked = await client.call_tool("book", {"city": city})
                print(booked.content[0].text)
            if booked.is_error:
                await tx.rollback("the trip is off")
        print(tx.result)
    assert rooms == []


asyncio.run(main())
