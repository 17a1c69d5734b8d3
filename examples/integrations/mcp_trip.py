"""A server of the MCP Python SDK with transactions; its client books, fails and goes back."""

import asyncio

from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations.mcp_server import Transactions

rooms: list[str] = []


def cancel(city: str) -> None:
    rooms.remove(city)


transactions = Transactions(AsyncTransactionManager(), rules={"book": cancel})
server = MCPServer("hotels", log_level="ERROR", extensions=[transactions])


@server.tool()
def book(city: str) -> str:
    """Book a room."""
    if city == "Rome":
        raise ToolError("every hotel in Rome is full")
    rooms.append(city)
    return f"a room in {city}"


async def main() -> None:
    async with Client(server) as client:
        begun = await client.call_tool("tx_begin", {"name": "trip"})
        trip = begun.structured_content["transaction_id"]
        for city in ("Oslo", "Rome"):
            booked = await client.call_tool("book", {"city": city}, meta={"dev.aumai/tx": trip})
            print(booked.content[0].text)
        if booked.is_error:
            ended = await client.call_tool("tx_rollback", {"transaction_id": trip})
            print(ended.structured_content["text"])
    assert rooms == []


asyncio.run(main())
