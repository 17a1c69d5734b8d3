"""A server of the MCP SDK in a process of its own, which is killed inside its second tool."""
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

PROGRAM = Path(__file__).with_name("hotel_server.py")
KILL_MAX_SECONDS = 60


class Hotels:
    """Start servers on one store, one after the other."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self.world = folder / "world"
        self.arguments = [f"sqlite:///{folder / 'trips.db'}", str(self.world), str(seconds)]

    def client(self) -> Client:
        command = [str(PROGRAM), "serve", *self.arguments]
        parameters = StdioServerParameters(command=sys.executable, args=command)
        return Client(stdio_client(parameters))

    def recover(self) -> str:
        command = [sys.executable, str(PROGRAM), "recover", *self.arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    async def killed(self) -> str:
        """The transaction of a client whose server is killed in its second call."""
        name = ""
        with pytest.raises(BaseException):  # noqa: B017, PT011, PT012 (whatever a dead pipe raises)
            async with self.client() as client:
                name = (await tell(client, "tx_begin"))["transaction_id"]
                meta = {"dev.aumai/tx": name}
                await client.call_tool("book", {"city": "Oslo"}, meta=meta)
                dying = client.call_tool("book", {"city": "Kill"}, meta=meta)
                await asyncio.wait_for(dying, KILL_MAX_SECONDS)
        assert self.happened() == ["book Oslo", "book Kill"]
        return name

    def happened(self) -> list[str]:
        return self.world.read_text("utf-8").splitlines()


async def tell(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


def test_what_a_killed_server_did_is_undone_by_recovery_in_another_process(tmp_path):
    hotels = Hotels(tmp_path, 0)
    name = asyncio.run(hotels.killed())
    told = hotels.recover()
    assert f"{name} rolled back" in told
    assert hotels.happened() == ["book Oslo", "book Kill", "cancel Kill", "cancel Oslo room 7"]


def test_the_next_server_undoes_it_before_it_begins_anything_else(tmp_path):
    async def test():
        hotels = Hotels(tmp_path, 0)
        name = await hotels.killed()
        async with hotels.client() as client:
            await tell(client, "tx_begin")
            assert (await tell(client, "tx_status", transaction_id=name))["state"] == "rolled_back"
            meta = {"dev.aumai/tx": name}
            result = await client.call_tool("book", {"city": "Rome"}, meta=meta)
            assert result.is_error
        assert hotels.happened()[2:] == ["cancel Kill", "cancel Oslo room 7"]

    asyncio.run(test())


def test_its_client_goes_on_with_it_where_its_server_comes_back(tmp_path):
    async def test():
        hotels = Hotels(tmp_path, 3_600)
        name = await hotels.killed()
        meta = {"dev.aumai/tx": name}
        async with hotels.client() as client:
            again = await client.call_tool("book", {"city": "Oslo"}, meta=meta)
            assert not again.is_error  # Recorded: it was not booked a second time.
            await client.call_tool("book", {"city": "Rome"}, meta=meta)
            # Nobody knew whether the call happened in which the server died.
            assert hotels.happened()[2:] == ["cancel Kill", "book Rome"]
            state = (await tell(client, "tx_commit", transaction_id=name))["state"]
            assert state == "committed"
        assert hotels.happened()[2:] == ["cancel Kill", "book Rome"]

    asyncio.run(test())


def test_a_server_whose_client_leaves_undoes_what_is_open(tmp_path):
    async def test():
        hotels = Hotels(tmp_path, 3_600)
        async with hotels.client() as client:
            name = (await tell(client, "tx_begin"))["transaction_id"]
            meta = {"dev.aumai/tx": name}
            await client.call_tool("book", {"city": "Oslo"}, meta=meta)
        assert hotels.happened() == ["book Oslo", "cancel Oslo room 7"]

    asyncio.run(test())
