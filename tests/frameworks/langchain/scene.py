"""A travel agent whose model follows a script, and the world that its tools change."""
# mypy: disable-error-code="union-attr, misc"

from __future__ import annotations

from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class Script(BaseChatModel):
    """Answer by a script: the turn is told by how many answers the conversation holds."""

    turns: list[Any]
    seen: list[list[BaseMessage]] = []  # noqa: RUF012 (pydantic copies it)

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any):
        self.seen.append(messages)
        said = sum(isinstance(one, AIMessage) for one in messages)
        turn = self.turns[said] if said < len(self.turns) else "done"
        calls = [] if isinstance(turn, str) else turn
        message = AIMessage(turn if isinstance(turn, str) else "", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def call(name: str, number: int = 0, /, **arguments: Any) -> dict[str, Any]:
    """A call that the model asks for."""
    return {"name": name, "args": arguments, "id": f"{name}-{number}-{sorted(arguments.items())}"}


class World:
    """What is booked."""

    def __init__(self) -> None:
        self.booked: list[str] = []
        self.calls: list[str] = []
        self.undone: list[Any] = []

    def book(self, what: str) -> str:
        self.calls.append(what)
        if what.startswith("full"):
            raise ValueError(f"{what} is not to be had")
        self.booked.append(what)
        return f"{what} 7"

    def cancel(self, what: str, result: Any) -> None:
        self.undone.append(result)
        self.booked.remove(what)


def told(answer: Any) -> list[tuple[str, str]]:
    """What the model was told of its calls."""
    return [(one.status, one.text) for one in answer["messages"] if one.type == "tool"]
