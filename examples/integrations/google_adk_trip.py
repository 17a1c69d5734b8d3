"""An agent of Google's ADK books a flight; the hotel is full; nothing stays booked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

from aumai_transactions import step, transaction

booked: list[str] = []


def cancel(what: str) -> None:
    booked.remove(what)


@step(name="book", compensating_action=cancel, once=True, required=True)
def book(what: str) -> str:
    """Book something."""
    if what == "hotel":
        raise ValueError("the hotel is full")
    booked.append(what)
    return f"{what}: booked"


class Script(BaseLlm):
    """Stand for a real model."""

    async def generate_content_async(self, *_: Any, **_more: Any) -> AsyncIterator[LlmResponse]:
        """Ask for a flight, then for a hotel."""
        what = "hotel" if booked else "flight"
        part = types.Part.from_function_call(name="book", args={"what": what})
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def main() -> None:
    runner = InMemoryRunner(LlmAgent(name="trip", model=Script(model="script"), tools=[book]))
    try:
        async with transaction(name="trip") as tx:
            await runner.run_debug("Book me a trip.", quiet=True)
    except ValueError:
        print(tx.result)


asyncio.run(main())
assert booked == []
