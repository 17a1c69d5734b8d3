"""pydantic-ai: tools as steps, and a transaction around each run: `Transactional`.

Owns: how a tool of pydantic-ai is called, by what its runs steer themselves, and what the end of a
run means.
Rules:
  1. A call is recorded where the tool itself is called, inside of every hook of other capabilities:
     what those make of a result or an error changes nothing about what has happened.
  2. `ModelRetry`, `CallDeferred`, `ApprovalRequired` and `SkipToolExecution` are no failures: the
     call did not happen. A timeout of the framework says nothing about that: it is in doubt.
  3. A tool's error goes back to the model as `ToolFailed`. Errors of the framework, and those that
     no model can do anything about, end the run.
  4. A run that ends with `DeferredToolRequests` is not over.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.drivers.async_block import AsyncTransactionBlock
from aumai_transactions.errors import ApprovalPending, InvalidTransactionState, OutcomeUnknown
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
    from pydantic_ai import (
        AgentRunError,
        ApprovalRequired,
        CallDeferred,
        DeferredToolRequests,
        ModelRetry,
        RunContext,
        ToolDenied,
        ToolReturn,
        UserError,
    )
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.exceptions import SkipToolExecution, ToolFailed
    from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
except ImportError as error:  # pragma: no cover
    message = (
        "the adapter for pydantic-ai needs pydantic-ai-slim 2.37 or newer: "
        "pip install 'aumai-transactions[pydantic-ai]'"
    )
    raise ImportError(message) from error

if TYPE_CHECKING:
    from pydantic_ai.run import AgentRunResult

    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.drivers.sync import TransactionManager

_CONTROL_FLOW = (ModelRetry, CallDeferred, ApprovalRequired, SkipToolExecution)
_OF_THE_FRAMEWORK = (AgentRunError, UserError)
_ANYTHING = TypeAdapter(Any)
_UNDER_WAY: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar(
    "aumai_transactions_pydantic_ai_under_way", default=None
)
"""The calls of the run whose transaction was begun here."""


@dataclass(frozen=True)
class _Waiting:
    """Hold a call whose approval was put off, until the framework brings the answer."""

    call: ToolCall[Any]
    step_id: str


class Transactional(AbstractCapability[Any]):
    """Let the tools of an agent be steps of the transaction around the run.

    Args:
        rules: What is declared about each tool, by its name: a `ToolRule`, or just what undoes it.
            A tool whose function is a `@step` needs none.
        manager: Who begins a transaction around a run that stands in none. It commits when the run
            ends, and is undone when an exception or a cancellation leaves the run. None to take
            part in the block around the run only.
        name: What such a transaction is called; default the agent's name.
        others: What becomes of tools that have no rule; see `Others`.
        required: True to refuse calls outside a transaction.
        asked_by: Who is recorded as having answered an approval, where the framework does not know.

    Raises:
        DefinitionError: A rule cannot be; the message says why.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        manager: AsyncTransactionManager | TransactionManager | None = None,
        name: str | None = None,
        others: Others = "journal",
        required: bool = True,
        asked_by: str = "person",
    ) -> None:
        self._calls = ToolCalls(rules, others=others, required=required, control_flow=_CONTROL_FLOW)
        self._manager = manager
        self._name = name
        self._asked_by = checked_name(asked_by, "asked_by")
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._answered_by: dict[tuple[str, str], str] = {}

    async def wrap_run(
        self, ctx: RunContext[Any], *, handler: Callable[[], Awaitable[AgentRunResult[Any]]]
    ) -> AgentRunResult[Any]:
        """Carry out a run in a transaction of its own, where it stands in none.

        Raises:
            TransactionRolledBack: It could not commit, or was rolled back by the model.
            InvalidTransactionState: The run waits for somebody, and nobody could go on with it.
        """
        if self._manager is None or AMBIENT.get() is not None:
            return await handler()
        name = self._name or getattr(ctx.agent, "name", None) or "agent"
        async with _entered(self._manager.transaction(name=name)) as block, _watched():
            result = await handler()
            if isinstance(result.output, DeferredToolRequests):
                hint = (
                    "It goes on in another run; put one block around both: "
                    "async with manager.transaction()."
                )
                raise InvalidTransactionState(
                    block.transaction_id, "waiting for somebody outside of the run", "commit", hint
                )
        if block.result is not None:
            block.result.raise_for_state()
        return result

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the tools of a run as steps."""
        return _Steps(toolset, self)

    async def on_tool_execute_error(
        self, ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any, error: Exception
    ) -> Any:
        """Tell the model what has failed, where it can do something about it.

        Raises:
            ToolFailed: The model is to read it.
            Exception: It ends the run.
        """
        del ctx, call, tool_def, args
        if isinstance(error, _OF_THE_FRAMEWORK) or not is_for_the_model(error):
            raise error
        raise ToolFailed(f"{type(error).__name__}: {error}") from error

    async def before_node_run(self, ctx: RunContext[Any], *, node: Any) -> Any:
        """Hear what was answered to calls that an earlier run has put off.

        Raises:
            TransactionRolledBack: One was denied, and everything is undone.
        """
        del ctx
        answers, block = getattr(node, "deferred_tool_results", None), AMBIENT.get()
        if answers is None or block is None:
            return node
        name = block.transaction_id
        for call_id, by in getattr(answers, "answered_by", {}).items():
            self._answered_by[name, call_id] = by
        for call_id, answer in answers.approvals.items():
            if answer is False or isinstance(answer, ToolDenied):
                await self._deny(name, call_id)
            elif getattr(answer, "override_args", None) is not None:
                await self._withdraw(block, call_id)
        return node

    async def before_model_request(self, ctx: RunContext[Any], request_context: Any) -> Any:
        """Hear what was denied inside of the run.

        Raises:
            TransactionRolledBack: A call was denied, and everything is undone.
        """
        del ctx
        block = AMBIENT.get()
        if block is not None and self._waiting and request_context.messages:
            for part in request_context.messages[-1].parts:
                if getattr(part, "outcome", None) == "denied":
                    await self._deny(block.transaction_id, part.tool_call_id)
        return request_context

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        ctx: RunContext[Any],
        tool: ToolsetTool[Any],
        made: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> Any:
        """Carry out a call of a tool as a step, unless it is one of its own."""
        function = _function_of(tool)
        if function in {transaction_status, roll_back_transaction}:
            return await made(arguments)
        if is_step(function):
            self._calls.block(name)
            return await made(arguments)
        recorded = _as_json(arguments)

        async def make(data: dict[str, Any]) -> Any:
            # Why checked again: what was recorded is what counts, and it may have been cleaned.
            given = arguments if data == recorded else tool.args_validator.validate_python(data)
            try:
                return await made(given)
            except ModelRetry as retry:
                if isinstance(retry.__context__, TimeoutError):
                    raise OutcomeUnknown(str(retry)) from retry
                raise

        call_id = ctx.tool_call_id or ""
        call: ToolCall[Any] = ToolCall(
            name=name,
            arguments=recorded,
            call=make,
            record=_recorded,
            ask=lambda pending: self._ask(call, pending, ctx),
            asked_by=self._by(call_id, ctx.tool_call_metadata),
        )
        with _under_way():
            return await self._calls.run_async(call)

    def _ask(self, call: ToolCall[Any], pending: ApprovalPending, ctx: RunContext[Any]) -> bool:
        if ctx.tool_call_approved:
            self._waiting.pop((pending.transaction_id, ctx.tool_call_id or ""), None)
            return True
        self._waiting[pending.transaction_id, ctx.tool_call_id or ""] = _Waiting(
            call, pending.step_id
        )
        told = {"transaction_id": pending.transaction_id, "step_id": pending.step_id}
        raise ApprovalRequired(metadata=told)

    def _by(self, call_id: str, metadata: Any) -> str:
        block = AMBIENT.get()
        name = "" if block is None else block.transaction_id
        said = metadata.get("by") if isinstance(metadata, dict) else None
        return str(self._answered_by.pop((name, call_id), None) or said or self._asked_by)

    async def _deny(self, transaction_id: str, call_id: str) -> None:
        waiting = self._waiting.pop((transaction_id, call_id), None)
        if waiting is not None:
            by = self._by(call_id, None)
            refused = replace(waiting.call, ask=lambda _pending: False, asked_by=by)
            await self._calls.run_async(refused)

    async def _withdraw(self, block: BlockBase, call_id: str) -> None:
        """Take back what was asked about; it is to be done with other arguments."""
        waiting = self._waiting.pop((block.transaction_id, call_id), None)
        undo: Any = getattr(block, "undo")  # noqa: B009 (each kind of block has its own)
        if waiting is None:
            return
        if inspect.iscoroutinefunction(undo):
            await undo(waiting.step_id)
        else:
            await asyncio.to_thread(undo, waiting.step_id)


@dataclass
class _Steps(WrapperToolset[Any]):
    """Call the tools of a toolset as steps."""

    owner: Transactional

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        async def made(arguments: dict[str, Any]) -> Any:
            return await self.wrapped.call_tool(name, arguments, ctx, tool)

        return await self.owner.call(name, tool_args, ctx, tool, made)


@asynccontextmanager
async def _entered(block: Any) -> AsyncIterator[BlockBase]:
    if isinstance(block, AsyncTransactionBlock):
        async with block:
            yield block
    else:
        with block:
            yield block


@asynccontextmanager
async def _watched() -> AsyncIterator[None]:
    """Cancel the calls of a run that an exception leaves.

    Why: the framework does so later, when the hook around the run has ended; and an undo waits for
    what still runs.
    """
    calls: set[asyncio.Task[Any]] = set()
    token = _UNDER_WAY.set(calls)
    try:
        yield
    except BaseException:
        for task in calls - {asyncio.current_task()}:
            task.cancel()
        raise
    finally:
        _UNDER_WAY.reset(token)


@contextmanager
def _under_way() -> Iterator[None]:
    calls, task = _UNDER_WAY.get(), asyncio.current_task()
    if calls is None or task is None:
        yield
        return
    calls.add(task)
    try:
        yield
    finally:
        calls.discard(task)


def _function_of(tool: ToolsetTool[Any]) -> Any:
    """Return the function that a tool calls; None where there is none in this process."""
    inner: Any = tool
    while hasattr(inner, "source_tool"):  # Of toolsets that were put together.
        inner = inner.source_tool
    schema = getattr(getattr(inner, "call_func", None), "__self__", None)
    return getattr(schema, "function", None)


def _as_json(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        dumped: dict[str, Any] = _ANYTHING.dump_python(arguments, mode="json")
    except ValueError:
        return arguments  # Whoever records them says that they cannot be.
    return dumped


def _recorded(result: Any) -> Any:
    """Return what a tool returned as JSON, without what it adds for the model and the program."""
    value = result.return_value if isinstance(result, ToolReturn) else result
    return _ANYTHING.dump_python(value, mode="json")
