"""A server over stdio that is killed inside a tool, and another process that undoes what it did.

Its arguments: `serve` or `recover`, a store, a file for what happens in the world, and for how many
seconds a transaction may be resumed (0 for not at all).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcp.server import MCPServer

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.mcp_server import Transactions

WHAT, STORE, WORLD, SECONDS = sys.argv[1:]


def happens(what: str) -> None:
    with Path(WORLD).open("a", encoding="utf-8") as world:
        world.write(what + "\n")


def cancel(city: str, result: dict | None) -> None:
    happens(f"cancel {city}" + ("" if result is None else f" {result['content'][0]['text']}"))


RULES = {"book": ToolRule(cancel)}


def book(city: str) -> str:
    """Book a room."""
    happens(f"book {city}")
    if city == "Kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return "room 7"


if __name__ == "__main__":
    if WHAT == "recover":
        manager = AsyncTransactionManager(store=STORE)
        Transactions(manager, rules=RULES)
        with TransactionManager(store=STORE) as recovering:
            for one in recovering.recover():
                print(one.transaction_id, one.detail)
    else:
        added = Transactions(
            AsyncTransactionManager(store=STORE),
            rules=RULES,
            resume_within_seconds=float(SECONDS) or None,
        )
        server = MCPServer("hotels", log_level="CRITICAL", extensions=[added])
        server.add_tool(book)
        server.run()
