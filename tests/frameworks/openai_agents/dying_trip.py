"""A trip that dies by SIGKILL inside of its second tool, and what comes after: a child process.

Argument: `die` or `recover`. What happens in the world stands in `log`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
from pathlib import Path

from agents import Runner, function_tool

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.openai_agents import transactional_agent

spec = importlib.util.spec_from_file_location("shared", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)


def note(words: str) -> None:
    with Path("log").open("a", encoding="utf-8") as log:
        log.write(words + "\n")


@function_tool
def book_flight(city: str) -> str:
    """Book a flight."""
    note(f"flight to {city}")
    return "LH 861"


@function_tool
def book_hotel(city: str) -> str:
    """Book a hotel."""
    note(f"hotel in {city}")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def cancel(city: str, result: str | None) -> None:
    note(f"cancel {city}: {result}")


TURNS = [("book_flight", {"city": "Oslo"}), ("book_hotel", {"city": "Oslo"})]
RULES = {
    "book_flight": ToolRule(cancel, name="flight"),
    "book_hotel": ToolRule(cancel, name="hotel"),
}
agent = transactional_agent(shared.World().agent(*TURNS, tools=[book_flight, book_hotel]), RULES)


async def main() -> None:
    async with AsyncTransactionManager(store="sqlite:///trip.db") as manager:
        if "die" in sys.argv:
            async with manager.transaction():
                await Runner.run(agent, "Oslo, please.")
        await manager.recover()
        print([one.state.value async for one in manager.get_all_transactions()])


asyncio.run(main())
