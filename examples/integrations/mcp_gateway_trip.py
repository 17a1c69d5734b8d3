"""An agent books through the MCP gateway; the hotel fails, and the flight is undone.

The server knows nothing of transactions: what undoes its tools stands in the configuration.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError


def serve(bookings: Path) -> None:
    app = MCPServer("trips", log_level="ERROR")

    @app.tool()
    def book(what: str) -> str:
        """Book something."""
        if what == "hotel":
            raise ToolError("the hotel is full")
        bookings.write_text(what)
        return "booked"

    app.run("stdio")


async def main(folder: Path) -> None:
    bookings = folder / "bookings"
    rule = {"folders": [str(folder)], "tools": {"book": {"files": [str(bookings)]}}}
    trips = {"command": sys.executable, "args": [__file__, str(bookings)], "transactions": rule}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"trips": trips}}))
    words = ["-m", "aumai_transactions", "mcp", "--config", str(folder / "mcp.json"), "--quiet"]
    words += ["--store", str(folder / "trips.db")]
    async with Client(StdioServerParameters(command=sys.executable, args=words)) as agent:
        tx = (await agent.call_tool("tx_begin", {})).structured_content
        for what in ("flight", "hotel"):
            await agent.call_tool("trips__book", {"what": what, **tx})
        print((await agent.call_tool("tx_rollback", tx)).content[0].text, bookings.exists())


if len(sys.argv) > 1:
    serve(Path(sys.argv[1]))
else:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
