"""A flight is booked on somebody's MCP server; their hotel is full; the flight is given back."""

import asyncio

from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError

from aumai_transactions import step, transaction

booked: list[str] = []
server: FastMCP = FastMCP("theirs")


@server.tool
def reserve(what: str) -> str:
    """Reserve something."""
    if what == "hotel":
        raise ToolError("the hotel is full")
    booked.append(what)
    return f"{what}: reserved"


@server.tool
def release(what: str) -> None:
    """Release what was reserved."""
    booked.remove(what)


async def call(tool: str, what: str) -> str:
    async with Client(server) as client:
        return str((await client.call_tool(tool, {"what": what})).data)


@step(name="book", compensating_action=lambda what: call("release", what), required=True)
async def book(what: str) -> str:
    return await call("reserve", what)


async def main() -> None:
    try:
        async with transaction(name="trip") as tx:
            await book("flight")
            await book("hotel")
    except ToolError:
        print(tx.result)


asyncio.run(main())
assert booked == []
