"""What plays Claude Code: it speaks the control protocol, and needs no program and no network."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Transport


class ClaudeCode(Transport):
    """Ask what Claude Code asks around each use of a tool."""

    def __init__(self) -> None:
        self.asked = 0
        self.hooks: dict[str, Any] = {}
        self.answers: dict[str, asyncio.Future[Any]] = {}
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.stopped: str | None = None

    async def connect(self) -> None:
        pass

    async def write(self, data: str) -> None:
        told = json.loads(data)
        if told["type"] == "control_request" and told["request"]["subtype"] == "initialize":
            self.hooks = told["request"]["hooks"] or {}
            response = {"commands": [], "hook_on_failure_supported": True}
            answer = {
                "subtype": "success",
                "request_id": told["request_id"],
                "response": response,
            }
            await self.messages.put({"type": "control_response", "response": answer})
        elif told["type"] == "control_response":
            self.answers.pop(told["response"]["request_id"]).set_result(told["response"])

    async def read_messages(self) -> Any:
        while True:
            yield await self.messages.get()

    async def close(self) -> None:
        pass

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None:
        pass

    async def ask(self, **request: Any) -> Any:
        self.asked += 1
        name = f"r{self.asked}"
        answer = self.answers[name] = asyncio.get_running_loop().create_future()
        message = {"type": "control_request", "request_id": name, "request": request}
        await self.messages.put(message)
        told = await answer
        assert told["subtype"] == "success", told
        return told["response"]

    async def hook(self, event: str, use: str = "", **told: Any) -> dict[str, Any]:
        """What all hooks of an event say together."""
        said: dict[str, Any] = {}
        for matcher in self.hooks.get(event, []):
            assert matcher["onFailure"] == "block"
            for callback in matcher["hookCallbackIds"]:
                told = {"hook_event_name": event, "tool_use_id": use, **told}
                said |= await self.ask(
                    subtype="hook_callback", callback_id=callback, input=told, tool_use_id=use
                )
        if said.get("continue") is False:
            self.stopped = said["stopReason"]
        return said

    async def use(self, tool: str, told: dict[str, Any], *, allows: bool = True) -> dict[str, Any]:
        """Use a tool of a server as Claude Code does; return its result, or why it was not."""
        use = f"use{self.asked}"
        refusal = await self.before(tool, told, use, allows=allows)
        if refusal is not None:
            return {"refused": refusal}
        _, server, name = tool.split("__")
        result = await self.call(server, "tools/call", {"name": name, "arguments": told})
        event = "PostToolUseFailure" if result.get("isError") else "PostToolUse"
        more = {"error": str(result)} if result.get("isError") else {"tool_response": result}
        await self.hook(event, use, tool_name=tool, tool_input=told, **more)
        return result

    async def before(
        self, tool: str, told: dict[str, Any], use: str, *, allows: bool = True, **more: Any
    ) -> str | None:
        """Why a use of a tool is refused; None where it goes on."""
        said = await self.hook("PreToolUse", use, tool_name=tool, tool_input=told, **more)
        specific = said.get("hookSpecificOutput", {})
        decision = specific.get("permissionDecision")
        if decision == "deny":
            return specific["permissionDecisionReason"]
        if decision == "ask" and not allows:
            return "the user does not want it"
        return None

    async def call(self, server: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        message = {"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params}
        answer = await self.ask(subtype="mcp_message", server_name=server, message=message)
        return answer["mcp_response"]["result"]


@contextlib.asynccontextmanager
async def connected(tools: Any, servers: dict[str, Any]) -> Any:
    """What plays Claude Code, connected to a client with these servers and the tools' hooks."""
    code = ClaudeCode()
    options = ClaudeAgentOptions(mcp_servers=tools.servers(servers), hooks=tools.hooks())
    async with ClaudeSDKClient(options=options, transport=code):
        for server in servers:
            hello = {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "claude-code", "version": "0"},
            }
            await code.call(server, "initialize", hello)
        yield code


@pytest.fixture
def connect() -> Any:
    return connected
