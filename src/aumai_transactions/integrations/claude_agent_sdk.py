"""Tools of the Claude Agent SDK as steps of a transaction: `ClaudeTools`.

Owns: how tools of one's own are called, and what the hooks around all others do.
Rules:
  1. A tool of one's own runs in this process, and each call of it is a step like any other.
  2. Any other tool runs in the process of Claude Code, which tells of a call before it and after
     it. The step is durable before the call is let go on; it can be refused then, and not replayed.
  3. A hook that cannot do its work blocks the call: nothing runs that is not journaled.
  4. Once the transaction has ended, the next call is refused and the run is stopped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

try:
    from claude_agent_sdk import HookMatcher, SdkMcpTool, create_sdk_mcp_server
except ImportError as error:
    message = "This needs the Claude Agent SDK: pip install 'aumai-transactions[claude]'"
    raise ImportError(message) from error

from aumai_transactions.core.states import ACTIVE, COMMITTED, COMMITTING, PENDING
from aumai_transactions.core.values import shown
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.errors import (
    DefinitionError,
    NoActiveTransaction,
    OutcomeUnknown,
    TransactionError,
    UnknownAction,
)
from aumai_transactions.integrations.offered import roll_back_transaction, transaction_status
from aumai_transactions.integrations.tool_calls import (
    Others,
    Rules,
    ToolCall,
    ToolCalls,
    is_for_the_model,
    is_step,
)
from aumai_transactions.integrations.tool_rules import ToolRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.errors import ApprovalPending

READING = frozenset(
    [
        *("Glob", "Grep", "LS", "NotebookRead", "Read", "WebFetch", "WebSearch"),
        *("Agent", "AskUserQuestion", "BashOutput", "EnterPlanMode", "ExitPlanMode", "Task"),
        *("TaskOutput", "TodoRead", "TodoWrite", "ToolSearch"),
    ]
)
"""Tools of Claude Code that change nothing themselves; they are let through without a step."""

HOOK_SECONDS_MAX = 600.0
POLL_SECONDS = 0.1
"""How often it is looked, while a tool runs elsewhere, whether its transaction ends meanwhile."""

_UNHEARD = "it was not allowed, or was given up: nothing was heard of it by the end of the turn"

Hook = dict[str, Any]


class ClaudeTools:
    """Let the tools of a Claude agent be steps of a transaction.

    Args:
        rules: What is declared about tools: those of one's own by their names, those of Claude Code
            by theirs (`Bash`), those of other servers as Claude Code calls them (`mcp__git__push`).
        others: What becomes of tools that have no rule; see `Others`. Those of `READING` are let
            through.
        required: True to refuse calls outside a transaction.
        transaction: The block that they belong to; None for the one around each call. It can be
            set later, and is needed where the client was connected before the block was entered.

    Raises:
        DefinitionError: A rule cannot be; the message says why.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        others: Others = "journal",
        required: bool = True,
        transaction: BlockBase | None = None,
    ) -> None:
        self._calls = ToolCalls(rules, others=others, required=required)
        self._rules = {
            name: rule if isinstance(rule, ToolRule) else ToolRule(rule)
            for name, rule in (rules or {}).items()
        }
        self._others = others
        self._required = required
        self.transaction = transaction
        self._own: dict[str, str] = {}
        self._free: set[object] = set()
        self._offered: set[str] = set()
        self._allowed: set[str] = set()
        self._elsewhere: dict[str, ToolCalls] = {}
        self._running: dict[str, _Running] = {}

    def servers(self, tools: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Return `mcp_servers` of the options: each server's name, and its tools as steps.

        Args:
            tools: By the names of servers, what `@tool` returned.

        Raises:
            DefinitionError: Something in it is no such tool.
        """
        made = {}
        for server, those in tools.items():
            for one in those:
                if not isinstance(one, SdkMcpTool):
                    message = f"a tool must be what @tool returned, not {shown(one)}."
                    raise DefinitionError(message)
                self._own[_called(server, one.name)] = one.name
                if one.handler in self._free:
                    self._offered.add(_called(server, one.name))
            made[server] = create_sdk_mcp_server(
                server, tools=[self._wrapped(one) for one in those]
            )
        return made

    def offered(self) -> list[Any]:
        """Return two tools for a model: how things stand, and to give everything up."""

        async def status(_arguments: dict[str, Any]) -> Hook:
            return _told(transaction_status())

        async def roll_back(arguments: dict[str, Any]) -> Hook:
            return _told(await roll_back_transaction(arguments["reason"]))

        self._free |= {status, roll_back}
        return [
            SdkMcpTool(function.__name__, _summary(function), schema, handler)
            for function, schema, handler in (
                (transaction_status, {}, status),
                (roll_back_transaction, {"reason": str}, roll_back),
            )
        ]

    def hooks(self, more: Mapping[str, Sequence[Any]] | None = None) -> dict[str, list[Any]]:
        """Return `hooks` of the options.

        Args:
            more: Hooks of one's own, which come after them.
        """
        mine = {
            "PreToolUse": self._before,
            "PostToolUse": self._after,
            "PostToolUseFailure": self._failed,
            "UserPromptSubmit": self._asked,
            "Stop": self._stopped,
            "SubagentStop": self._stopped,
        }
        found = {
            event: [HookMatcher(hooks=[hook], timeout=HOOK_SECONDS_MAX, on_failure="block")]
            for event, hook in mine.items()
        }
        for event, matchers in (more or {}).items():
            found.setdefault(event, []).extend(matchers)
        return found

    # ------------------------------------------------------------------------ tools of one's own

    def _wrapped(self, one: Any) -> Any:
        async def handler(arguments: dict[str, Any]) -> Hook:
            try:
                with self._inside():
                    return await self._called_here(one, arguments)
            except TransactionError as error:
                return {**_told(str(error)), "is_error": True}

        return dataclasses.replace(one, handler=handler)

    async def _called_here(self, one: Any, arguments: dict[str, Any]) -> Hook:
        if one.handler in self._free:
            return await one.handler(arguments)  # type: ignore[no-any-return]
        if is_step(one.handler):
            self._calls.block(one.name)
            return await one.handler(arguments)  # type: ignore[no-any-return]
        key = _key(one.name, arguments)

        def ask(_pending: ApprovalPending) -> bool:
            # Why at all: Claude Code has asked its user before it called.
            self._allowed.discard(key)
            return True

        call: ToolCall[Hook] = ToolCall(
            name=one.name,
            arguments=arguments,
            call=one.handler,
            failure=_failure_of,
            ask=ask if key in self._allowed else None,
            asked_by="the user of Claude Code",
        )
        result = await self._calls.run_async(call)
        # Why: the SDK itself knows one spelling only, and takes the other for a success.
        return {**result, "is_error": True} if _failure_of(result) is not None else result

    # ------------------------------------------------------------------------------------- hooks

    async def _before(self, told: Hook, tool_use_id: str | None, _context: object) -> Hook:
        """Let a call go on once its step is durable; or refuse it."""
        try:
            with self._inside():
                return await self._let_go_on(told, tool_use_id)
        except TransactionError as error:
            return _refused(str(error), stops=not is_for_the_model(error))
        except Exception as error:  # noqa: BLE001 (whatever it is: what is not journaled does not run)
            return _refused(f"{type(error).__name__}: {error}")

    async def _let_go_on(self, told: Hook, tool_use_id: str | None) -> Hook:
        name, arguments = told["tool_name"], dict(told["tool_input"])
        block: BlockBase | None = AMBIENT.get()
        own = self._own.get(name)
        rule = self._rules.get(own or name)
        is_step = name not in self._offered and self._is_step(own or name, rule)
        if (ended := _ended(block, is_step=is_step)) is not None:
            return _refused(ended, stops=True)
        asks = self._calls.requires_approval(own or name, arguments)
        if own is None and is_step:
            if block is None:
                if self._required:
                    raise NoActiveTransaction(f"tool {name!r}")
                return {}
            if rule is None and self._others == "deny":
                known = ", ".join(self._rules) or "none"
                hint = f"Nothing is declared about this tool; it was not called. Declared: {known}."
                raise UnknownAction([name], block.transaction_id, hint)
            refusal = await self._begin(block, told, tool_use_id or told["tool_use_id"])
            if refusal:
                return refusal
        if not asks:
            return {}
        if own is not None:
            self._allowed.add(_key(own, arguments))
        return _decision("ask", f"{own or name} needs to be allowed.")

    def _is_step(self, name: str, rule: ToolRule | None) -> bool:
        if rule is None:
            return name not in READING and self._others != "pass"
        return rule.declaration.get("effect") != "none"

    async def _begin(self, block: BlockBase, told: Hook, tool_use_id: str) -> Hook:
        """Begin the step of a call that is made elsewhere; return why it is refused, if it is."""
        name = told["tool_name"]
        running = _Running(block, told.get("agent_id"))
        calls = self._elsewhere.get(name)
        if calls is None:
            calls = self._elsewhere[name] = ToolCalls({name: _unasked(self._rules.get(name))})
        call: ToolCall[Any] = ToolCall(
            name=name,
            arguments=told["tool_input"],
            call=running.call,
            failure=lambda result: result.why if isinstance(result, _Failure) else None,
        )
        task = asyncio.create_task(calls.run_async(call))
        task.add_done_callback(lambda _task: running.begun.set())
        running.task = task
        self._running[tool_use_id] = running
        await running.begun.wait()
        if not task.done():
            return {}
        del self._running[tool_use_id]
        recorded = json.dumps(task.result(), ensure_ascii=False)
        return _refused(
            f"This was done before in this transaction, and was not done again. It gave: {recorded}"
        )

    async def _after(self, told: Hook, tool_use_id: str | None, _context: object) -> Hook:
        """Record what a call has returned."""
        name = tool_use_id or told["tool_use_id"]
        return await self._ended(told, told.get("tool_response"), name)

    async def _failed(self, told: Hook, tool_use_id: str | None, _context: object) -> Hook:
        """Record that a call has failed."""
        failure = _Failure(str(told.get("error") or "it failed"))
        return await self._ended(told, failure, tool_use_id or told["tool_use_id"])

    async def _ended(self, told: Hook, result: Any, tool_use_id: str) -> Hook:
        running = self._running.pop(tool_use_id, None)
        with self._inside():
            block: BlockBase | None = AMBIENT.get()
        if running is not None:
            block = running.block
            try:
                await running.end(result)
            except TransactionError as error:
                if not is_for_the_model(error):
                    return _stop(str(error))
                return _shown(told, str(error))
        return {} if (ended := _ended(block, is_step=False)) is None else _stop(ended)

    async def _stopped(self, told: Hook, _tool_use_id: str | None, _context: object) -> Hook:
        """Record that the calls did not happen of which nothing was heard in this turn."""
        agent = told.get("agent_id") if told.get("hook_event_name") == "SubagentStop" else None
        if agent is None:
            self._allowed.clear()
        for name, running in list(self._running.items()):
            if running.agent_id == agent:
                del self._running[name]
                try:
                    await running.end(_Failure(_UNHEARD))
                except TransactionError as error:
                    return {"systemMessage": str(error)}
        return {}

    async def _asked(self, _told: Hook, _tool_use_id: str | None, _context: object) -> Hook:
        """Tell a model how its transaction stands, with each prompt."""
        with self._inside():
            if AMBIENT.get() is None:
                return {}
            text = transaction_status()
        return {
            "hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": text}
        }

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Let the code of this block stand in the transaction, whoever calls it from where."""
        if self.transaction is None:
            yield
            return
        token = AMBIENT.set(self.transaction)
        try:
            yield
        finally:
            AMBIENT.reset(token)


class _Failure:
    """Say that a call has failed.

    Args:
        why: What was told of it.
    """

    def __init__(self, why: str) -> None:
        self.why = why


class _Running:
    """Be a call that is made in another process, from the hook before it to the one after it."""

    def __init__(self, block: BlockBase, agent_id: str | None) -> None:
        self.block = block
        self.agent_id = agent_id
        self.begun = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        self._result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def call(self, _arguments: dict[str, Any]) -> Any:
        """Say that the step is durable, and wait until the call has ended."""
        self.begun.set()
        while not self._result.done():
            await asyncio.wait([self._result], timeout=POLL_SECONDS)
            saga = self.block._shared.saga  # noqa: SLF001 (one package)
            is_ending = saga.rollback_requested or saga.commit_requested
            if not self._result.done() and (is_ending or saga.state is not ACTIVE):
                what = "the transaction has ended before anybody told how the call ended"
                raise OutcomeUnknown(what)
        return self._result.result()

    async def end(self, result: Any) -> None:
        """Let the call have ended, and wait until that is recorded."""
        if not self._result.done():
            self._result.set_result(result)
        if self.task is not None:
            try:
                await asyncio.shield(self.task)
            except OutcomeUnknown:
                return  # It ends already, and knows of this call.


def _unasked(rule: ToolRule | None) -> ToolRule:
    """Return the rule of a tool of Claude Code, whose user is asked by Claude Code itself."""
    if rule is None:
        # Why not once: a command that is run again is meant to be.
        return ToolRule(once=False)
    declared = {key: value for key, value in rule.declaration.items() if key != "requires_approval"}
    return ToolRule(
        rule.compensating_action,
        agent_id=rule.agent_id,
        name=rule.name,
        **declared,  # type: ignore[arg-type]
    )


def _called(server: str, name: str) -> str:
    """Return how Claude Code calls a tool of a server."""
    return "__".join(["mcp", *(re.sub(r"[^a-zA-Z0-9_-]", "_", one) for one in (server, name))])


def _key(name: str, arguments: Mapping[str, Any]) -> str:
    return json.dumps([name, arguments], sort_keys=True, default=str)


def _ended(block: BlockBase | None, *, is_step: bool) -> str | None:
    """Return what is to be said where a transaction has ended; None where a call may go on.

    Args:
        block: The transaction.
        is_step: False for a call that changes nothing. What was committed can be talked about, as
            behind a pivot.
    """
    fine = (PENDING, ACTIVE) if is_step else (PENDING, ACTIVE, COMMITTING, COMMITTED)
    if block is None or block.state in fine:
        return None
    return f"The transaction has ended: it is {block.state.value.replace('_', ' ')}."


def _summary(function: Any) -> str:
    return str(function.__doc__).partition("\n")[0]


def _told(text: str) -> Hook:
    return {"content": [{"type": "text", "text": text}]}


def _failure_of(result: Any) -> str | None:
    """Return what a result says where it is a failure."""
    if not isinstance(result, dict) or not (result.get("is_error") or result.get("isError")):
        return None
    content = result.get("content") or []
    texts = [str(one.get("text", "")) for one in content if isinstance(one, dict)]
    return "\n".join(texts) or "it returned an error"


def _decision(decision: str, reason: str) -> Hook:
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": decision,
            "permissionDecisionReason": reason,
        }
    }


def _refused(reason: str, *, stops: bool = False) -> Hook:
    return {**_decision("deny", reason), **(_stop(reason) if stops else {})}


def _shown(told: Hook, text: str) -> Hook:
    """Return how a model is told something after a call."""
    event = told.get("hook_event_name", "PostToolUse")
    return {"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}


def _stop(reason: str) -> Hook:
    return {"continue_": False, "stopReason": reason}
