"""LangChain and LangGraph: `TransactionMiddleware`, and `TransactionToolNode` for bare graphs.

Owns: what a call of a tool looks like there, what its results and interrupts mean, and when a run
is over.
Rules:
  1. What a tool returns stands in the journal as JSON that its undo can read; what is none is given
     to the graph all the same.
  2. An interrupt is no failure, and no end: a block is not left as committed while the graph waits.
  3. Only a yes or a no to this very question allows a step.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.drivers.unfinished import begin_run, end_run, unfinished_of
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
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import StructuredTool
    from langgraph.config import get_config
    from langgraph.errors import GraphBubbleUp, ParentCommand
    from langgraph.prebuilt import ToolNode
    from langgraph.types import interrupt

    from aumai_transactions.integrations.langchain_results import (
        answer_of,
        calls_in,
        failure_of,
        is_invalid_resume,
        recorded,
        restored,
        with_prompt,
    )
except ImportError as error:
    message = (
        "the adapter for LangChain and LangGraph needs them: "
        "pip install 'aumai-transactions[langchain]'"
    )
    raise ImportError(message) from error

if TYPE_CHECKING:
    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.errors import ApprovalPending

__all__ = ["TransactionMiddleware", "TransactionToolNode"]


class TransactionMiddleware(AgentMiddleware):
    """Let the tools of an agent be steps of the transaction around its run.

    Put it first in the list: what stands behind it, such as a retry, is then part of one step.

    Args:
        rules: What is declared about each tool, by its name: a `ToolRule`, or just what undoes it.
        others: What becomes of tools that have no rule; see `Others`.
        transaction: The block that they belong to; None for the one around the run.
        describe: True to tell the model how the transaction stands before each of its turns, and to
            give it the tools `transaction_status` and `roll_back_transaction`.

    Raises:
        DefinitionError: A rule cannot be; the message says why.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        others: Others = "journal",
        transaction: BlockBase | None = None,
        describe: bool = False,
    ) -> None:
        super().__init__()
        self._calls = _Calls(rules, others=others, transaction=transaction)
        self._transaction = transaction
        self._describes = describe
        self.tools = _offered() if describe else []

    def before_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002 (as it is called)
        """Note that a run has begun."""
        self._goes_on()

    async def abefore_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002
        """Note that a run has begun."""
        self._goes_on()

    def after_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002
        """Note that the run is over."""
        self._is_over()

    async def aafter_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002
        """Note that the run is over."""
        self._is_over()

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Tell the model how the transaction stands, where that is wanted."""
        self._goes_on()
        try:
            return handler(self._told(request))
        except Exception as error:
            self._failed(error)
            raise

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Tell the model how the transaction stands, where that is wanted."""
        self._goes_on()
        try:
            return await handler(self._told(request))
        except Exception as error:
            self._failed(error)
            raise

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Carry out a call of a tool as a step."""
        self._goes_on()
        try:
            return self._calls.made(request, handler)
        except Exception as error:
            self._failed(error)
            raise

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Carry out a call of a tool as a step."""
        self._goes_on()
        try:
            return await self._calls.made_async(request, handler)
        except Exception as error:
            self._failed(error)
            raise

    def _block(self) -> BlockBase | None:
        return self._transaction or AMBIENT.get()

    def _goes_on(self) -> None:
        block = self._block()
        if block is not None:
            key = _run_here()
            begin_run(block, key, f"a run of the agent is not over (thread {key[1]})")

    def _is_over(self) -> None:
        block = self._block()
        if block is None:
            return
        ended = _run_here()
        for key in unfinished_of(block):
            # Why those below as well: an agent that was a tool of this one was never resumed.
            is_below = isinstance(key, tuple) and key[:2] == ended[:2] and not ended[2]
            if key == ended or is_below:
                end_run(block, key)

    def _failed(self, error: Exception) -> None:
        """Note that a run has ended, where an exception ends it and not what steers the graph."""
        block = self._block()
        if block is not None and not _steers(error):
            end_run(block, _run_here())

    def _told(self, request: Any) -> Any:
        block = self._block()
        if not self._describes or block is None:
            return request
        section = f"How the transaction stands that you work in:\n{block.describe()}"
        prompt = request.system_prompt
        return with_prompt(request, f"{prompt}\n\n{section}" if prompt else section)


class TransactionToolNode(ToolNode):
    """Be a node of a graph whose tools are steps of the transaction around the graph's run.

    Args:
        tools: The tools.
        rules: What is declared about each tool, by its name: a `ToolRule`, or just what undoes it.
        others: What becomes of tools that have no rule; see `Others`.
        transaction: The block that they belong to; None for the one around the run.
        **options: `name`, `tags` and `messages_key` of a `ToolNode`.

    Raises:
        DefinitionError: A rule cannot be; the message says why.
    """

    def __init__(
        self,
        tools: Sequence[Any],
        rules: Rules | None = None,
        *,
        others: Others = "journal",
        transaction: BlockBase | None = None,
        **options: Any,
    ) -> None:
        calls = _NodeCalls(rules, others=others, transaction=transaction)
        self._key = options.get("messages_key", "messages")
        super().__init__(
            tools,
            wrap_tool_call=calls.made,
            awrap_tool_call=calls.made_async,
            handle_tool_errors=_raised,
            **options,
        )

    def invoke(self, input: Any, config: Any = None, **more: Any) -> Any:  # noqa: A002 (its name)
        """Make the calls of a message."""
        token = _TOGETHER.set(calls_in(input, self._key))
        try:
            return super().invoke(input, config, **more)
        finally:
            _TOGETHER.reset(token)

    async def ainvoke(self, input: Any, config: Any = None, **more: Any) -> Any:  # noqa: A002
        """Make the calls of a message."""
        token = _TOGETHER.set(calls_in(input, self._key))
        try:
            return await super().ainvoke(input, config, **more)
        finally:
            _TOGETHER.reset(token)


_TOGETHER: ContextVar[Sequence[Any]] = ContextVar("aumai_transactions_calls_together", default=())
"""The calls that one task of a graph makes."""


def _raised(error: Exception) -> str:
    """Raise what a node would tell the model; for what a model is told, the step has told."""
    raise error


class _Calls:
    """Make the calls of the tools of one agent, or of one node."""

    def __init__(
        self, rules: Rules | None, *, others: Others, transaction: BlockBase | None
    ) -> None:
        self.calls = ToolCalls(
            rules, others=others, transaction=transaction, control_flow=(GraphBubbleUp,)
        )

    def made(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Make a call, and return what the model is told."""
        call = request.tool_call
        block = self.calls.block(call["name"])
        try:
            if block is None or _is_left_alone(request.tool):
                made = handler(request)
            else:
                made = self.calls.run(self.call_of(block, request, partial(_make, handler)))
        except Exception as error:  # noqa: BLE001 (what is not for the model is raised again)
            self.interrupted(block, call, error)
            return _for_the_model(call, error)
        return self.ended(block, call, made)

    async def made_async(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Make a call, and return what the model is told."""
        call = request.tool_call
        block = self.calls.block(call["name"])
        try:
            if block is None or _is_left_alone(request.tool):
                made = await handler(request)
            else:
                making = self.call_of(block, request, partial(_make_async, handler))
                made = await self.calls.run_async(making)
        except Exception as error:  # noqa: BLE001 (what is not for the model is raised again)
            self.interrupted(block, call, error)
            return _for_the_model(call, error)
        return self.ended(block, call, made)

    def call_of(self, block: BlockBase, request: Any, make: Callable[[Any], Any]) -> ToolCall[Any]:
        """Return a call as the kernel is to carry it out."""
        call = request.tool_call
        return ToolCall(
            name=call["name"],
            arguments=call["args"],
            call=lambda data: make(request.override(tool_call={**call, "args": data})),
            record=recorded,
            restore=partial(restored, call),
            failure=failure_of,
            ask=partial(_ask, block, call),
            asked_by=f"LangGraph thread {_run_here()[1]}",
        )

    def interrupted(self, block: BlockBase | None, call: Any, error: Exception) -> None:
        """Take note of what left a call."""

    def ended(self, block: BlockBase | None, call: Any, made: Any) -> Any:  # noqa: ARG002
        """Take note that a call has ended; return what it returned, or go where that leads."""
        if isinstance(made, ParentCommand):
            raise made
        return made


class _NodeCalls(_Calls):
    """Make the calls of a node, of whose run nothing is known but what passes through here."""

    def call_of(self, block: BlockBase, request: Any, make: Callable[[Any], Any]) -> ToolCall[Any]:
        """Return a call, unless its question could be answered by the answer to another one.

        Raises:
            ValueError: It is for the model to read.
        """
        call = request.tool_call
        asking = [
            one["id"]
            for one in _TOGETHER.get()
            if self.calls.requires_approval(one["name"], one["args"])
        ]
        if call["id"] in asking[1:]:
            # Why: LangGraph tells answers apart by the order of their questions in a task, and
            # these come from threads. In a task of its own each call can ask.
            hint = "one call at a time may need the approval of a person; ask for this one next"
            raise ValueError(f"it was not made: {hint}")
        return super().call_of(block, request, make)

    def interrupted(self, block: BlockBase | None, call: Any, error: Exception) -> None:
        """Note that the graph waits for something before this call can be made."""
        if block is not None and _steers(error):
            key = (*_run_here(), call["id"])
            begin_run(block, key, f"a call of {call['name']} waits (thread {key[1]})")

    def ended(self, block: BlockBase | None, call: Any, made: Any) -> Any:
        """Note that this call was made."""
        if block is not None:
            end_run(block, (*_run_here(), call["id"]))
        return super().ended(block, call, made)


def _make(handler: Callable[[Any], Any], request: Any) -> Any:
    try:
        return handler(request)
    except ParentCommand as leads_on:
        return leads_on  # The tool has done its work, and says where the graph goes next.


async def _make_async(handler: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    try:
        return await handler(request)
    except ParentCommand as leads_on:
        return leads_on


def _ask(block: BlockBase, call: Mapping[str, Any], pending: ApprovalPending) -> bool:
    """Return what a person answers; or raise what makes the graph wait for that."""
    question = {
        "tool": call["name"],
        "arguments": call["args"],
        "transaction_id": block.transaction_id,
        "step_id": pending.step_id,
        "digest": pending.digest,
    }
    says = interrupt(question)
    while (is_given := answer_of(says, pending.digest)) is None:
        says = interrupt({**question, "answer": "must be True or False"})
    return is_given


def _for_the_model(call: Mapping[str, Any], error: Exception) -> Any:
    """Return an error as the framework tells a model of one.

    Raises:
        Exception: It is not for the model: that same one.
    """
    if _steers(error) or not is_for_the_model(error):
        raise error
    told = getattr(error, "message", None) or f"Error: {type(error).__name__}: {error}"
    return ToolMessage(told, name=call["name"], tool_call_id=call["id"], status="error")


def _steers(error: BaseException) -> bool:
    return isinstance(error, GraphBubbleUp) or is_invalid_resume(error)


def _run_here() -> tuple[str, Any, str]:
    """Return which run the code stands in: by its thread, and the graph that it is part of."""
    try:
        place = get_config().get("configurable", {})
    except RuntimeError:
        return ("langgraph", None, "")
    above, _, _ = str(place.get("checkpoint_ns") or "").rpartition("|")
    return ("langgraph", place.get("thread_id"), above)


def _is_left_alone(tool: Any) -> bool:
    """True where a tool is a step of its own, or is about the transaction itself."""
    for function in (getattr(tool, "func", None), getattr(tool, "coroutine", None)):
        if function is None:
            continue
        if is_step(function) or inspect.unwrap(function) in _ABOUT:
            return True
    return False


def _roll_back(reason: str) -> str:
    """Undo everything from the thread of a tool."""
    block = AMBIENT.get()
    if block is not None and inspect.iscoroutinefunction(block.rollback):
        return "It can be rolled back on its own event loop only. Run the agent with ainvoke."
    return asyncio.run(roll_back_transaction(reason))


_ABOUT = (transaction_status, roll_back_transaction, _roll_back)


def _offered() -> list[Any]:
    about = StructuredTool.from_function
    return [
        about(transaction_status),
        about(
            func=_roll_back,
            coroutine=roll_back_transaction,
            name=roll_back_transaction.__name__,
            description=str(roll_back_transaction.__doc__).partition("\n")[0],
        ),
    ]
