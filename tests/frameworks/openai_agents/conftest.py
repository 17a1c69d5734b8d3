"""What the tests of the adapter for the OpenAI Agents SDK share: a scripted model, and hotels."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, Usage, set_tracing_disabled
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

set_tracing_disabled(disabled=True)


class Scripted(Model):
    """Make calls turn by turn, and say "done" then. It remembers what it was told."""

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)
        self.instructions: list[str | None] = []
        self.told: list[list[Any]] = []
        self.made = 0

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:  # noqa: A002 (as the SDK calls it)
        self.instructions.append(system_instructions)
        outputs = [one for one in input if isinstance(one, dict) and "output" in one]
        self.told.append([one["output"] for one in outputs])
        return ModelResponse(output=self._turn(), usage=Usage(), response_id=None)

    async def stream_response(self, *arguments: Any, **named: Any) -> Any:
        answer = await self.get_response(*arguments, **named)
        response = Response(
            id="response",
            created_at=0,
            model="scripted",
            object="response",
            output=answer.output,
            tool_choice="none",
            tools=[],
            parallel_tool_calls=True,
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=0
        )

    def _turn(self) -> list[Any]:
        if not self.turns:
            text = ResponseOutputText(text="done", type="output_text", annotations=[])
            message = ResponseOutputMessage(
                id="message", content=[text], role="assistant", status="completed", type="message"
            )
            return [message]
        turn = self.turns.pop(0)
        return [self._call(*one) for one in (turn if isinstance(turn, list) else [turn])]

    def _call(self, name: str, arguments: dict[str, Any]) -> ResponseFunctionToolCall:
        self.made += 1
        return ResponseFunctionToolCall(
            arguments=json.dumps(arguments),
            call_id=f"call {self.made}",
            name=name,
            type="function_call",
        )


class World:
    """Hold what tools have done, and the model that calls them."""

    def __init__(self) -> None:
        self.rooms: list[str] = []
        self.calls: list[str] = []
        self.undone: list[Any] = []
        self.model = Scripted()

    def book(self, hotel: str) -> str:
        """Book a room."""
        self.calls.append(hotel)
        if hotel == "Astoria":
            raise ValueError("the Astoria is full")
        self.rooms.append(hotel)
        return f"{hotel} 7"

    async def book_async(self, hotel: str) -> str:
        """Book a room."""
        return self.book(hotel)

    def cancel(self, hotel: str, result: str | None) -> None:
        self.undone.append((hotel, result))
        self.rooms.remove(hotel)

    def agent(self, *turns: Any, name: str = "trip", **options: Any) -> Agent[Any]:
        """Return an agent whose model follows a script."""
        self.model = Scripted(*turns)
        return Agent(name, model=self.model, **options)


@pytest.fixture
def world() -> World:
    return World()
