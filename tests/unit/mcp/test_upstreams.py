"""Tests of servers that do not do what a server should."""

from __future__ import annotations

import asyncio
import sys

import pytest

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp import upstreams
from aumai_transactions.mcp.config import Server
from aumai_transactions.mcp.upstreams import Upstream

MUTE = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("method") == "initialize":
        told = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "mute", "version": "0"},
        }
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": told}
    elif "id" in asked and asked["method"] != "tools/list":
        error = {"code": -32601, "message": "no"}
        answer = {"jsonrpc": "2.0", "id": asked["id"], "error": error}
    else:
        continue
    print(json.dumps(answer), flush=True)
"""


@pytest.mark.parametrize(
    "program, why",
    [
        ("import time; time.sleep(1_000)", "did not begin within"),
        (MUTE, "did not list its tools within"),
    ],
    ids=["that never answers", "that never lists its tools"],
)
def test_a_server_is_given_up(program: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "START_SECONDS_MAX", 3.0)
    server = Server(command=sys.executable, args=["-c", program])

    async def main() -> None:
        upstream = Upstream("mute", server, None)
        async with asyncio.timeout(60):
            with pytest.raises(DefinitionError, match=why):
                await upstream.tools()
            await upstream.close()

    asyncio.run(main())
