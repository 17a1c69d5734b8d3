"""A trip that dies by SIGKILL inside of its second tool, and what comes after: a child process.

Argument: `die` (recovery undoes it), `die waiting`, `recover`, `resume`, `undo`; `streamed` behind
them runs the agent as a stream, `delegated` lets another agent ask it. What happens in the world
stands in `log`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations import READ, ToolRule, transaction_status
from aumai_transactions.integrations.pydantic_ai import Transactional
from aumai_transactions.integrations.pydantic_ai_durability import Durable

LIVES = "die" not in sys.argv
TURNS = ["book_flight", "book_hotel"]


def note(words: str) -> None:
    with Path("log").open("a", encoding="utf-8") as log:
        log.write(words + "\n")


def answer(messages: list[ModelMessage], _info: Any) -> ModelResponse:
    said = sum(isinstance(one, ModelResponse) for one in messages)
    note(f"model {said}")
    if said == len(TURNS):
        return ModelResponse(parts=[TextPart(f"done: {messages[-1].parts[0].content}")])
    return ModelResponse(parts=[ToolCallPart(TURNS[said], {"city": "Oslo"}, f"call {said}")])


async def stream(messages: list[ModelMessage], info: Any) -> Any:
    (part,) = answer(messages, info).parts
    if isinstance(part, TextPart):
        yield part.content
    else:
        yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id="call")}


def book_flight(city: str) -> str:
    """Book a flight."""
    note(f"flight to {city}")
    return "LH 861"


def book_hotel(city: str) -> str:
    """Book a hotel."""
    note(f"hotel in {city}")
    if not LIVES:
        os.kill(os.getpid(), signal.SIGKILL)
    return "room 7"


def cancel(city: str, result: str | None) -> None:
    note(f"cancel {city}: {result}")


RULES = {
    "book_flight": ToolRule(cancel, name="flight"),
    "book_hotel": ToolRule(cancel, name="hotel"),
}

agent = Agent(
    FunctionModel(answer, stream_function=stream),
    name="trip",
    tools=[book_flight, book_hotel],
    instructions=transaction_status,
    capabilities=[Durable(), Transactional(RULES)],
)


async def ask() -> str:
    """Ask the agent that books trips."""
    return str((await agent.run("Oslo, please.")).output)


def delegate(messages: list[ModelMessage], _info: Any) -> ModelResponse:
    said = sum(isinstance(one, ModelResponse) for one in messages)
    note(f"desk {said}")
    if said:
        return ModelResponse(parts=[TextPart(f"asked: {messages[-1].parts[0].content}")])
    return ModelResponse(parts=[ToolCallPart("ask", {}, "call")])


desk = Agent(
    FunctionModel(delegate),
    name="desk",
    tools=[ask],
    capabilities=[Durable(), Transactional({"ask": READ})],
)


async def run() -> str:
    if "delegated" in sys.argv:
        return str((await desk.run("Oslo, please.")).output)
    if "streamed" not in sys.argv:
        return str((await agent.run("Oslo, please.")).output)
    async with agent.run_stream("Oslo, please.") as streamed:
        return str(await streamed.get_output())


async def main() -> None:
    async with AsyncTransactionManager(store="sqlite:///trip.db") as manager:
        if "die" in sys.argv:
            waits: Any = {"on_crash": "wait", "resume_within_seconds": 3_600}
            async with manager.transaction(**(waits if "waiting" in sys.argv else {})):
                await run()
        (dead,) = [one async for one in manager.get_all_transactions()]
        if "recover" in sys.argv:
            await manager.recover()
        elif "undo" in sys.argv:
            print(await manager.rollback(dead))
        else:
            async with await manager.resume(dead.transaction_id) as tx:
                print(await run())
            print(tx.result)
        print((await manager.get_transaction(dead.transaction_id)).state.value)


asyncio.run(main())
