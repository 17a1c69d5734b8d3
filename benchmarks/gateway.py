"""What a call through the MCP gateway costs beside the same call of the server itself.

    python benchmarks/gateway.py [--calls 200] [--rounds 5]

Owns: the command line; nothing asserts here. The server keeps files in a folder and does nothing
else. Entrants take turns, round by round, so that a machine that becomes slower does so for all.
It needs the extra `mcp`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

Call = Callable[[int], Awaitable[Any]]


def serve(folder: Path) -> None:
    """Be the server."""
    from mcp.server import MCPServer

    app = MCPServer("files", log_level="ERROR")

    @app.tool()
    def read_file(path: str) -> str:
        """Read a file."""
        return Path(path).read_text()

    @app.tool()
    def write_file(path: str, content: str) -> str:
        """Write a file."""
        Path(path).write_text(content)
        return "written"

    (folder / "file").write_text("first")
    app.run("stdio")


async def entrants(stack: contextlib.AsyncExitStack, folder: Path) -> dict[str, Call]:
    """Return what takes part: a title, and a call with a number in it."""
    words = [__file__, "--serve", str(folder)]
    server = StdioServerParameters(command=sys.executable, args=words)
    bare = await stack.enter_async_context(Client(server))
    rules = {
        "read_file": {"effect": "none"},
        "write_file": {"files": ["$args.path"], "once": False},
    }
    table = {"command": sys.executable, "args": words}
    table["transactions"] = {"folders": [str(folder)], "tools": rules}
    config = folder / "mcp.json"
    most = {"calls_per_minute_max": 1_000_000}
    config.write_text(json.dumps({"mcpServers": {"files": table}, "transactions": most}))
    options = ["--quiet", "--config", str(config), "--store", str(folder / "journal.db")]
    gateway = StdioServerParameters(
        command=sys.executable,
        args=["-m", "aumai_transactions", "mcp", *options],
        env={**os.environ, "HOME": str(folder)},
    )
    through = await stack.enter_async_context(Client(gateway))
    began = await through.call_tool("tx_begin", {})
    within = {"transaction_id": began.structured_content["transaction_id"]}
    path = {"path": str(folder / "file")}

    async def checked(made: Awaitable[Any]) -> None:
        result = await made
        if result.is_error:
            sys.exit(f"a call failed: {result.content}")

    def write(client: Client, name: str, more: dict[str, str]) -> Call:
        return lambda n: checked(client.call_tool(name, {**path, "content": str(n), **more}))

    def read(client: Client, name: str, more: dict[str, str]) -> Call:
        return lambda _n: checked(client.call_tool(name, {**path, **more}))

    return {
        "the server itself: read": read(bare, "read_file", {}),
        "through the gateway: read": read(through, "files__read_file", {}),
        "in a transaction: read": read(through, "files__read_file", within),
        "the server itself: write": write(bare, "write_file", {}),
        "through the gateway: write": write(through, "files__write_file", {}),
        "in a transaction: write, kept before": write(through, "files__write_file", within),
    }


async def measured(calls: int, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of a call, round by round, for each entrant."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        async with contextlib.AsyncExitStack() as stack:
            taking_part = await entrants(stack, Path(name))
            for title, call in taking_part.items():
                for n in range(10):
                    await call(n)
                found[title] = []
            for _ in range(rounds):
                for title, call in taking_part.items():
                    began = time.perf_counter()
                    for n in range(calls):
                        await call(n)
                    found[title].append((time.perf_counter() - began) / calls * 1_000)
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return
    found = asyncio.run(measured(options.calls, options.rounds))
    bare = [times for title, times in found.items() if title.startswith("the server itself")]
    for number, (title, times) in enumerate(found.items()):
        over = [one - other for one, other in zip(times, bare[number >= 3], strict=True)]
        told = f"{statistics.median(times):7.2f} ms ({min(times):.2f}-{max(times):.2f})"
        more = "" if times in bare else f"  {statistics.median(over):+.2f} ms over the bare call"
        print(f"{title:40}{told}{more}")


if __name__ == "__main__":
    main()
