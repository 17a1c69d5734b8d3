"""What the tests of the adapter for pydantic-ai share: a scripted model, and hotels."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent, models
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

models.ALLOW_MODEL_REQUESTS = False


class World:
    """Hold what tools have done, and what the model was told."""

    def __init__(self) -> None:
        self.rooms: list[str] = []
        self.calls: list[str] = []
        self.undone: list[Any] = []
        self.told: list[list[Any]] = []
        self.instructions: list[str | None] = []

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

    def model(self, *turns: Any) -> FunctionModel:
        """Return a model that makes these calls, turn by turn, and says "done" then."""

        def answer(messages: list[ModelMessage], info: Any) -> ModelResponse:
            said = sum(isinstance(one, ModelResponse) for one in messages)
            self.told.append([getattr(part, "content", None) for part in messages[-1].parts])
            self.instructions.append(info.instructions)
            if said >= len(turns):
                return ModelResponse(parts=[TextPart("done")])
            turn = turns[said] if isinstance(turns[said], list) else [turns[said]]
            calls = [
                ToolCallPart(name, arguments, tool_call_id=f"call {said}.{at}")
                for at, (name, arguments) in enumerate(turn)
            ]
            return ModelResponse(parts=calls)

        async def stream(messages: list[ModelMessage], info: Any) -> Any:
            for at, part in enumerate(answer(messages, info).parts):
                if isinstance(part, ToolCallPart):
                    named = {"tool_call_id": part.tool_call_id}
                    yield {at: DeltaToolCall(part.tool_name, part.args_as_json_str(), **named)}
                elif isinstance(part, TextPart):
                    yield part.content

        return FunctionModel(answer, stream_function=stream)

    def agent(self, *turns: Any, **options: Any) -> Agent[Any, Any]:
        """Return an agent whose model follows a script."""
        return Agent(self.model(*turns), name="trip", **options)


@pytest.fixture
def world() -> World:
    return World()
