"""Whose a transaction is, over HTTP with access tokens."""
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations.mcp_server import Transactions

ROOMS: list[str] = []


def book(city: str) -> str:
    """Book a room."""
    ROOMS.append(city)
    return "room 7"


def cancel(city: str) -> None:
    ROOMS.remove(city)


class Tokens:
    """Take each token for the name of a user of one client."""

    async def verify_token(self, token: str) -> AccessToken:
        return AccessToken(token=token, client_id="app", scopes=[], subject=token)


@contextlib.asynccontextmanager
async def served(**options: Any):
    """A server on a port of this machine, and how to become a client of it."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    auth = AuthSettings(
        issuer_url=url, resource_server_url=f"{url}/mcp", validate_token_resource=False
    )
    added = Transactions(AsyncTransactionManager(), rules={"book_http": cancel})
    made = MCPServer(
        "hotels",
        log_level="CRITICAL",
        extensions=[added],
        auth=auth,
        token_verifier=Tokens(),
    )
    made.add_tool(book, name="book_http")
    config = uvicorn.Config(made.streamable_http_app(**options), log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))

    @contextlib.asynccontextmanager
    async def client(who: str, era: str):
        headers = {"Authorization": f"Bearer {who}"}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(f"{url}/mcp", http_client=http)
            async with Client(transport, mode=era) as made:
                yield made

    try:
        yield client, added
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("era", ["auto", "legacy"])
@pytest.mark.parametrize("stateless", [False, True])
def test_a_transaction_belongs_to_the_user_who_began_it(era, stateless):
    async def test():
        ROOMS.clear()
        async with served(stateless_http=stateless) as (client, added):
            async with client("ann", era) as ann, client("bob", era) as bob:
                begun = await ann.call_tool("tx_begin", {})
                name = begun.structured_content["transaction_id"]
                meta = {"dev.aumai/tx": name}
                assert not (await ann.call_tool("book_http", {"city": "Oslo"}, meta=meta)).is_error
                calls = [("book_http", {"city": "Rome"})]
                calls += [
                    (tool, {"transaction_id": name})
                    for tool in ("tx_status", "tx_commit", "tx_rollback")
                ]
                calls.append(("tx_savepoint", {"transaction_id": name, "name": "a"}))
                for tool, arguments in calls:
                    result = await bob.call_tool(tool, arguments, meta=meta)
                    assert result.is_error
                    assert f"no transaction '{name}' in mcp" in result.content[0].text
            async with client("ann", era) as again:  # In another connection she is who she was.
                await again.call_tool("book_http", {"city": "Bern"}, meta=meta)
                committed = await again.call_tool("tx_commit", {"transaction_id": name})
                assert committed.structured_content["state"] == "committed"
            assert ROOMS == ["Oslo", "Bern"]
            (owner,) = {one.metadata["principal"] async for one in transactions(added)}
            assert "ann" in owner

    asyncio.run(test())


def transactions(added: Transactions) -> Any:
    return added.open.manager.get_all_transactions()
