"""What the results of LangChain's tools, and the answers of LangGraph's persons, mean to a step.

Owns: how a result is recorded and given again, which are failures, and which answer allows a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import (
    BaseMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from langgraph import errors
from langgraph.errors import ParentCommand
from langgraph.types import Command, Send

_COMMAND = "langgraph command"
_MESSAGE = "langchain message"
_LOST = "This was done already; what it returned could not be recorded."


def recorded(result: Any) -> Any:
    """Return what a tool returned as JSON, as plain as it can be.

    Raises:
        TypeError: It holds something that is no JSON, and no message.
    """
    if isinstance(result, ToolMessage):
        if isinstance(result.content, str) and result.artifact is None:
            return _value_of(result.content)
        return {_MESSAGE: _encoded({"content": result.content, "artifact": result.artifact})}
    if isinstance(result, ParentCommand):
        return {_COMMAND: _command(result.args[0]), "raised": True}
    if isinstance(result, Command):
        return {_COMMAND: _command(result)}
    if isinstance(result, list):
        return [recorded(one) for one in result]
    message = f"{type(result).__name__} cannot be recorded."
    raise TypeError(message)


def restored(call: Mapping[str, Any], output: Any) -> Any:
    """Return a recorded result as the answer to this call, whatever call it was the answer to."""
    about = {"name": call["name"], "tool_call_id": call["id"]}
    if isinstance(output, dict) and _MESSAGE in output:
        return ToolMessage(**_decoded(output[_MESSAGE], about), **about)
    if isinstance(output, dict) and _COMMAND in output:
        told = _decoded(output[_COMMAND], about)
        told["goto"] = [Send(*one) if isinstance(one, list) else one for one in told["goto"]]
        command = Command(**told)
        return ParentCommand(command) if output.get("raised") else command
    if isinstance(output, list) and any(
        isinstance(one, dict) and _COMMAND in one for one in output
    ):
        return [restored(call, one) for one in output]
    return ToolMessage(_LOST if output is None else _text_of(output), **about)


def _command(command: Any) -> dict[str, Any]:
    places = command.goto if isinstance(command.goto, (list, tuple)) else [command.goto]
    goto = [[one.node, one.arg] if isinstance(one, Send) else one for one in places]
    told = {"graph": command.graph, "update": command.update, "goto": goto}
    if command.resume is not None:
        told["resume"] = command.resume
    encoded: dict[str, Any] = _encoded(told)
    return encoded


def _encoded(value: Any) -> Any:
    """Return a value as JSON; messages stand in it as LangChain writes them.

    Raises:
        TypeError: It holds something else.
    """
    if isinstance(value, BaseMessage):
        return {_MESSAGE: message_to_dict(value)}
    if isinstance(value, Mapping):
        return {key: _encoded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    message = f"{type(value).__name__} cannot be recorded."
    raise TypeError(message)


def _decoded(value: Any, about: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and set(value) == {_MESSAGE}:
        [message] = messages_from_dict([value[_MESSAGE]])
        if isinstance(message, ToolMessage):
            # Why another id: it was the answer to the call that was recorded.
            return message.model_copy(update={**about, "id": None})
        return message
    if isinstance(value, dict):
        return {key: _decoded(one, about) for key, one in value.items()}
    if isinstance(value, list):
        return [_decoded(one, about) for one in value]
    return value


def _value_of(text: str) -> Any:
    """Return what a tool returned, of which LangChain has made a text."""
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _text_of(value: Any) -> str:
    """Return a value as the text that LangChain makes of it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def failure_of(result: Any) -> str | None:
    """Return why a result is a failure; None where it is none."""
    if isinstance(result, ToolMessage):
        return _text_of(result.content) if result.status == "error" else None
    if isinstance(result, list):
        return next((why for why in map(failure_of, result) if why is not None), None)
    if isinstance(result, Command) and isinstance(result.update, dict):
        return next(
            (
                why
                for messages in result.update.values()
                if isinstance(messages, list)
                for why in map(failure_of, messages)
                if why is not None
            ),
            None,
        )
    return None


def answer_of(says: Any, digest: str) -> bool | None:
    """Return whether an answer allows a step; None where it is none, or one to another question."""
    if isinstance(says, Mapping):
        says = says.get("approved") if says.get("digest", digest) == digest else None
    return says if isinstance(says, bool) else None


def calls_in(given: Any, messages_key: str) -> list[Any]:
    """Return the calls that a node of tools makes of what it is given."""
    if isinstance(given, list) and given and isinstance(given[-1], dict):
        return given  # Sent to it by themselves.
    if isinstance(given, dict) and "tool_call" in given:
        return [given["tool_call"]]
    messages = given if isinstance(given, list) else None
    if isinstance(given, dict):
        messages = given.get(messages_key)
    elif messages is None:
        messages = getattr(given, messages_key, None)
    return next((one.tool_calls for one in reversed(messages or []) if one.type == "ai"), [])


def is_invalid_resume(error: BaseException) -> bool:
    """True where a person's answer is not what a tool's own interrupt has asked for."""
    tells = getattr(errors, "is_invalid_resume", None)  # Older ones check no answers.
    return tells is not None and bool(tells(error))


def with_prompt(request: Any, prompt: str) -> Any:
    """Return a request of a model with another system prompt."""
    if hasattr(request, "system_message"):
        return request.override(system_message=SystemMessage(prompt))
    return request.override(system_prompt=prompt)
