"""OpenAI Agents SDK: tools as steps: `transactional_agent`, `transactional_tools`.

Owns: how a function tool and a tool of an MCP server are called, how their failures are told apart
from results, and how the SDK's approvals answer those of a rule.
Rules:
  1. The SDK turns an exception of a tool into a text for the model, and the run goes on. The
     journal hears of the exception first; the text is the SDK's, by the tool's own policy.
  2. What no model can do anything about ends the run: it is raised whatever the policy is, also out
     of an agent that is a tool. A run whose transaction has ended does not look like a success.
  3. Nothing is left out in silence: what runs at the provider, or by other ways than a function, is
     named by a `NotProtected` warning, or refused with `others="deny"`.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import TypeAdapter

from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.errors import DefinitionError, TransactionError
from aumai_transactions.integrations.offered import roll_back_transaction, transaction_status
from aumai_transactions.integrations.tool_calls import (
    Others,
    Rules,
    ToolCall,
    ToolCalls,
    is_for_the_model,
    is_step,
)

try:
    from agents import Agent, FunctionTool, RunContextWrapper, Tool, default_tool_error_function
    from agents.mcp import MCPServer
    from agents.tool import maybe_invoke_function_tool_failure_error_function
    from agents.tool_context import ToolContext
except ImportError as error:  # pragma: no cover
    message = (
        "the adapter for the OpenAI Agents SDK needs openai-agents 0.21 or newer: "
        "pip install 'aumai-transactions[openai-agents]'"
    )
    raise ImportError(message) from error

AskedBy = str | Callable[[RunContextWrapper[Any]], str]
"""Who is recorded as having answered approvals: a name, or what tells it from the run's context."""

Failed = Callable[[Any], str | None]
"""What tells why a tool's result is a failure; None where it is none."""

_ANYTHING = TypeAdapter(Any)
_OFFERED = (transaction_status, roll_back_transaction)
_RAISES = {"_failure_error_function": None, "_use_default_failure_error_function": False}


class NotProtected(UserWarning):
    """Say that tools of an agent are no part of its transactions."""


class _PutOff(Exception):
    """Say that a call waits for the SDK's answer."""


@dataclass
class _Options:
    """Hold how the tools of one agent, or of several, are carried out."""

    calls: ToolCalls
    rules: Rules
    denies: bool
    asked_by: AskedBy
    failed: Failed
    waiting: dict[tuple[str, str], ToolCall[Any]] = field(default_factory=dict)

    def by(self, context: RunContextWrapper[Any]) -> str:
        """Return who has answered."""
        return self.asked_by(context) if callable(self.asked_by) else self.asked_by


def transactional_agent(
    agent: Agent[Any],
    rules: Rules | None = None,
    *,
    others: Others = "journal",
    required: bool = True,
    asked_by: AskedBy = "person",
    failed: Failed = lambda _result: None,
) -> Agent[Any]:
    """Return an agent whose tools are steps of the transaction around the run.

    So are those of its MCP servers, and those of the agents that it hands over to, where they are
    given as agents. A `handoff(…)` leads to the agent that it was made of: make that one
    transactional first.

    Args:
        agent: The agent; it stays as it is.
        rules: What is declared about each tool, by its name: a `ToolRule`, or just what undoes it.
            A tool whose function is a `@step` needs none.
        others: What becomes of tools that have no rule; see `Others`.
        required: True to refuse calls outside a transaction.
        asked_by: Who is recorded as having answered an approval; see `AskedBy`.
        failed: Why a result of a tool is a failure; see `Failed`.

    Raises:
        DefinitionError: A rule cannot be, or a tool cannot be protected and `others` is "deny".
    """
    options = _options(rules, others, required=required, asked_by=asked_by, failed=failed)
    return _agent(agent, options, {})


def transactional_tools(
    tools: Sequence[Tool],
    rules: Rules | None = None,
    *,
    others: Others = "journal",
    required: bool = True,
    asked_by: AskedBy = "person",
    failed: Failed = lambda _result: None,
) -> list[Tool]:
    """Return tools that are steps of the transaction around the run; see `transactional_agent`."""
    options = _options(rules, others, required=required, asked_by=asked_by, failed=failed)
    return _tools(tools, options)


async def tool_error(context: RunContextWrapper[Any], error: Exception) -> str:
    """Be a `failure_error_function` that raises what no model can do anything about.

    Args:
        context: The run's.
        error: What was raised.

    Raises:
        Exception: It ends the run.
    """
    ends = _what_ends(error)
    if ends is not None:
        raise ends
    if isinstance(error, TransactionError):
        return str(error)
    told = default_tool_error_function(context, error)
    return str(await told if inspect.isawaitable(told) else told)


def with_status(instructions: str) -> Callable[[RunContextWrapper[Any], Agent[Any]], str]:
    """Return instructions that end with how the transaction stands.

    Args:
        instructions: What stands before.
    """

    def told(_context: RunContextWrapper[Any], _agent: Agent[Any]) -> str:
        return f"{instructions}\n\n{transaction_status()}"

    return told


def _options(
    rules: Rules | None, others: Others, *, required: bool, asked_by: AskedBy, failed: Failed
) -> _Options:
    calls = ToolCalls(rules, others=others, required=required, control_flow=(_PutOff,))
    return _Options(calls, rules or {}, others == "deny", asked_by, failed)


def _agent(agent: Agent[Any], options: _Options, made: dict[int, Agent[Any]]) -> Agent[Any]:
    known = made.get(id(agent))
    if known is not None:
        return known
    copy = made[id(agent)] = agent.clone(tools=_tools(agent.tools, options))
    copy.handoffs = [
        _agent(one, options, made) if isinstance(one, Agent) else one for one in agent.handoffs
    ]
    for one in agent.handoffs:
        refers = getattr(one, "_agent_ref", None)
        if callable(refers):
            _look_into(refers(), options)
    if agent.mcp_servers:
        copy.mcp_servers = [
            one if type(one) is _Server else cast("MCPServer", _Server(one, options))
            for one in agent.mcp_servers
        ]
        copy.mcp_config = cast("Any", {"failure_error_function": tool_error, **agent.mcp_config})
    return copy


def _tools(tools: Sequence[Tool], options: _Options) -> list[Tool]:
    left = [one.name for one in tools if not isinstance(one, FunctionTool)]
    _name_left_out(left, "for they are no function tools", options)
    for one in tools:
        if getattr(one, "_is_agent_tool", False) and one.name not in options.rules:
            _look_into(getattr(one, "_agent_instance", None), options)
    return [
        _Function(one, options).tool()
        if isinstance(one, FunctionTool) and not _is_wrapped(one)
        else one
        for one in tools
    ]


def _look_into(agent: Any, options: _Options) -> None:
    """Name what is left out of an agent that others call, or hand over to."""
    left = [one.name for one in getattr(agent, "tools", ()) if not _is_protected(one)]
    left += [one.name for one in getattr(agent, "mcp_servers", ()) if type(one) is not _Server]
    why = f"for the agent {getattr(agent, 'name', '')!r} was not made transactional first"
    _name_left_out(left, why, options)


def _is_wrapped(tool: Tool) -> bool:
    owner = getattr(getattr(tool, "on_invoke_tool", None), "__self__", None)
    return isinstance(owner, _Function)


def _is_protected(tool: Tool) -> bool:
    function = getattr(tool, "__wrapped__", None)
    return _is_wrapped(tool) or is_step(function) or function in _OFFERED


def _name_left_out(names: list[str], why: str, options: _Options) -> None:
    """Say loudly what is no part of the transaction.

    Raises:
        DefinitionError: Nothing may be left out.
    """
    if not names:
        return
    words = (
        f"not protected by the transaction, {why}: {', '.join(names)}. "
        "What they do is not journaled, and nothing undoes it."
    )
    if options.denies:
        raise DefinitionError(words)
    warnings.warn(words, NotProtected, stacklevel=5)


class _Function:
    """Carry out the calls of one function tool."""

    def __init__(self, tool: FunctionTool, options: _Options) -> None:
        self._tool = tool
        self._options = options
        # The same tool with the policy that failures are raised.
        self._bare = replace(tool, **_RAISES)
        function = getattr(tool, "__wrapped__", None)
        is_agent = bool(getattr(tool, "_is_agent_tool", False)) and tool.name not in options.rules
        self._is_step = is_step(function)
        self._is_own = self._is_step or is_agent or function in _OFFERED

    def tool(self) -> FunctionTool:
        """Return the tool whose calls these are."""
        made: dict[str, Any] = {"on_invoke_tool": self._invoke}
        if not self._is_own:
            made |= {"needs_approval": self._needs_approval, "is_enabled": self._is_enabled}
        return replace(self._tool, **made)

    async def _invoke(self, context: ToolContext[Any], raw: str) -> Any:
        try:
            if self._is_step:
                self._options.calls.block(self._tool.name)
            arguments = None if self._is_own else _parsed(raw)
            if arguments is None:  # The tool says itself what is wrong with them.
                return await self._bare.on_invoke_tool(context, raw)
            return await self._options.calls.run_async(self._call(context, arguments, raw))
        except Exception as error:  # noqa: BLE001 (what ends the run is raised again)
            return await self._told(context, error)

    def _call(
        self, context: ToolContext[Any], arguments: dict[str, Any], raw: str
    ) -> ToolCall[Any]:
        async def make(data: dict[str, Any]) -> Any:
            given = raw if data == arguments else json.dumps(data)
            return await self._bare.on_invoke_tool(context, given)

        is_allowed = context.is_tool_approved(self._tool.name, context.tool_call_id)
        return ToolCall(
            name=self._tool.name,
            arguments=arguments,
            call=make,
            record=_recorded,
            failure=self._options.failed,
            ask=(lambda _pending: True) if is_allowed else None,
            asked_by=self._options.by(context),
        )

    async def _told(self, context: ToolContext[Any], error: Exception) -> Any:
        """Return what the model is told of an error; raise what ends the run."""
        ends = _what_ends(error)
        if ends is not None:
            raise ends
        if isinstance(error, TransactionError):
            return str(error)
        told = await maybe_invoke_function_tool_failure_error_function(
            function_tool=self._tool, context=context, error=error
        )
        if told is None:
            raise error
        return told

    async def _needs_approval(
        self, context: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str
    ) -> bool:
        """Tell whether the SDK is to ask; the step waits in the journal meanwhile."""
        own: Any = self._tool.needs_approval
        if callable(own):
            own = await own(context, arguments, call_id)
        calls, name = self._options.calls, self._tool.name
        if not calls.requires_approval(name, arguments):
            return bool(own)

        def put_off(_what: Any) -> Any:
            raise _PutOff

        call: ToolCall[Any] = ToolCall(name=name, arguments=arguments, call=put_off, ask=put_off)
        try:
            await calls.run_async(call)
        except _PutOff:
            block = calls.block(name)
            if block is not None:
                self._options.waiting[block.transaction_id, call_id] = call
            return True
        return bool(own)

    async def _is_enabled(self, context: RunContextWrapper[Any], agent: Any) -> bool:
        """Hear, before each turn, what the SDK's person has refused."""
        await self._hear(context)
        own: Any = self._tool.is_enabled
        if callable(own):
            own = own(context, agent)
        return bool(await own if inspect.isawaitable(own) else own)

    async def _hear(self, context: RunContextWrapper[Any]) -> None:
        block = AMBIENT.get()
        if block is None:
            return
        for (transaction_id, call_id), call in list(self._options.waiting.items()):
            if call.name != self._tool.name or transaction_id != block.transaction_id:
                continue
            answer = context.is_tool_approved(call.name, call_id)
            if answer is not None:
                del self._options.waiting[transaction_id, call_id]
            if answer is False:
                by = self._options.by(context)
                refused = replace(call, ask=lambda _pending: False, asked_by=by)
                await self._options.calls.run_async(refused)


class _Server(MCPServer):
    """Call the tools of an MCP server as steps; be that server in all else."""

    def __init__(self, server: MCPServer, options: _Options) -> None:
        self._aumai = (server, options)

    def __getattribute__(self, name: str) -> Any:
        if name in {"_aumai", "call_tool", "__class__"}:
            return object.__getattribute__(self, name)
        return getattr(self._aumai[0], name)

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, *more: Any, **named: Any
    ) -> Any:
        """Call a tool as a step."""
        server, options = self._aumai

        async def make(data: dict[str, Any]) -> Any:
            given = arguments if data == (arguments or {}) else data
            return await server.call_tool(tool_name, given, *more, **named)

        call: ToolCall[Any] = ToolCall(
            name=tool_name,
            arguments=arguments or {},
            call=make,
            record=lambda result: result.model_dump(mode="json", by_alias=True),
            restore=_mcp_result,
            failure=_mcp_failure,
        )
        return await options.calls.run_async(call)


_Server.__abstractmethods__ = frozenset()  # The server has them.


def _mcp_result(output: Any) -> Any:
    from mcp.types import CallToolResult

    return CallToolResult.model_validate(output)


def _mcp_failure(result: Any) -> str | None:
    is_error = getattr(result, "isError", None) or getattr(result, "is_error", None)
    if not is_error:
        return None
    texts = [getattr(one, "text", "") for one in result.content]
    return " ".join(texts) or "the server says that it failed"


def _what_ends(error: BaseException) -> BaseException | None:
    """Return what ends the run of an error and its causes; None where a model is to read it."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, TransactionError) and not is_for_the_model(one):
            return one
        one = one.__cause__
    return None


def _parsed(raw: str) -> dict[str, Any] | None:
    try:
        found = json.loads(raw or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _recorded(result: Any) -> Any:
    return _ANYTHING.dump_python(result, mode="json")
