"""A server of hotels with transactions, and a client of it."""
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent

from aumai_transactions import AsyncTransactionManager, step
from aumai_transactions.integrations import READ
from aumai_transactions.integrations.mcp_server import Transactions

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mcp.server.extension import Extension

ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])

ROOMS: list[str] = []
CALLS: list[str] = []


def cancel(city: str) -> None:
    CALLS.append(f"cancel {city}")
    if city in ROOMS:
        ROOMS.remove(city)


def book(city: str) -> str:
    """Book a room."""
    CALLS.append(f"book {city}")
    if city == "Full":
        raise ToolError("the hotel is full")
    if city == "Crash":
        raise RuntimeError("a secret of the server")
    ROOMS.append(city)
    return f"a room in {city}"


async def book_later(city: str) -> str:
    """Book a room."""
    await asyncio.sleep(0)
    return book(city)


@step(name="mcp own_book", compensating_action=cancel)
def own_book(city: str) -> str:
    """Book a room."""
    return book(city)


@step(name="mcp own_book_later", compensating_action=cancel)
async def own_book_later(city: str) -> str:
    """Book a room."""
    return await book_later(city)


def undeclared(city: str) -> str:
    """Book a room, without anybody's having said how that is undone."""
    return book(city)


def look(city: str) -> int:
    """Look how many rooms there are."""
    CALLS.append(f"look {city}")
    return ROOMS.count(city)


class Trip:
    """Be a client of a server with transactions."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = ""

    async def begin(self, **options: Any) -> str:
        self.name = (await self.tell("tx_begin", **options))["transaction_id"]
        return self.name

    async def call(self, tool: str, city: str, name: str | None = None) -> CallToolResult:
        meta = {"dev.aumai/tx": name or self.name}
        return await self.client.call_tool(tool, {"city": city}, meta=meta)

    async def tell(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        return result.structured_content

    async def end(self, how: str, **arguments: Any) -> str:
        return (await self.tell(f"tx_{how}", transaction_id=self.name, **arguments))["state"]


def text_of(result: CallToolResult) -> str:
    return "\n".join(one.text for one in result.content if isinstance(one, TextContent))


def server(
    *extensions: Extension, tools: tuple[Any, ...] = (), **options: Any
) -> tuple[MCPServer, Transactions]:
    """A server with tools that it does not know to be steps, and with others that are."""
    rules = {"book": cancel, "book_later": cancel, "look": READ}
    options.setdefault("rules", rules)
    added = Transactions(AsyncTransactionManager(), **options)
    made = MCPServer("hotels", log_level="CRITICAL", extensions=[*extensions, added])
    for one in tools or (book, book_later, own_book, own_book_later, look):
        made.add_tool(one)
    return made, added


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)
