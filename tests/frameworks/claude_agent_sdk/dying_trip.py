"""An agent that is killed inside its second tool, and another process that undoes what it did.

Its arguments: `run` or `recover`, a store, and a file for what happens in the world.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from claude_agent_sdk import tool
from conftest import connected  # type: ignore[import-not-found]  # (beside it)

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.integrations.claude_agent_sdk import ClaudeTools

WHAT, STORE, WORLD = sys.argv[1:]


def happens(what: str) -> None:
    with Path(WORLD).open("a", encoding="utf-8") as world:
        world.write(what + "\n")


def cancel(city: str, result: Any) -> None:
    happens(f"cancel {city}{'' if result else ', which may not have happened'}")


def unwrite(file_path: str) -> None:
    happens(f"remove {file_path}")


@tool("book", "Book a room.", {"city": str})
async def book(arguments: dict[str, Any]) -> dict[str, Any]:
    happens(f"book {arguments['city']}")
    if arguments["city"] == "Kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"content": [{"type": "text", "text": "room 7"}]}


TOOLS = ClaudeTools({"book": cancel, "Write": unwrite})


async def main() -> None:
    manager = AsyncTransactionManager(store=STORE)
    async with manager.transaction(), connected(TOOLS, {"trip": [book]}) as code:
        await code.use("mcp__trip__book", {"city": "Oslo"})
        await code.before("Write", {"file_path": "a.txt"}, "u1")
        await code.use("mcp__trip__book", {"city": "Kill"})


if WHAT == "run":
    asyncio.run(main())
with TransactionManager(store=STORE) as recovering:
    print(*(one.detail for one in recovering.recover()))
