"""How a call of a tool that a framework owns becomes a step: `ToolCalls`.

Owns: the way of one call through the transaction around it, for every adapter. What a framework's
results look like, and by what it steers itself, its adapter says.
Rules:
  1. A tool's failure goes back to whoever called it, and aborts nothing. One that is a return value
     is a failure all the same.
  2. What steers a framework (an interrupt, a question that is put off) is no failure: the call did
     not happen, and is made again later.
  3. Who asks for the same thing again in one transaction is answered with what was recorded,
     whatever call id the framework gave it (SEMANTICS E4).
  4. Nothing runs unprotected in silence: a call outside a transaction is refused, unless the
     adapter was told otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from aumai_transactions.core.observations import ApprovalAnswered
from aumai_transactions.core.values import checked_name, is_one_of, shown
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX, ask
from aumai_transactions.drivers.steps import step_of
from aumai_transactions.drivers.sync_block import TransactionBlock
from aumai_transactions.errors import (
    ApprovalPending,
    DefinitionError,
    InvalidData,
    LockTimeout,
    NoActiveTransaction,
    NotDelivered,
    StepFailed,
    StepInDoubt,
    StepRejected,
    StepUndone,
    TransactionError,
    UndoRefused,
    UnknownAction,
)
from aumai_transactions.integrations.tool_rules import Tool, ToolRule

if TYPE_CHECKING:
    from aumai_transactions.drivers.blocks import BlockBase
    from aumai_transactions.drivers.operations import Procedure
    from aumai_transactions.drivers.telling import Executed
    from aumai_transactions.models import TransactionResult

R = TypeVar("R")

Rules = Mapping[str, ToolRule | str | Callable[..., Any]]
"""What is declared about tools, by name: a rule, or just what undoes it."""

Others = Literal["journal", "deny", "pass"]
"""What becomes of tools that have no rule: each call is a step that nothing undoes; it is refused;
it is made as if there were no transaction."""

_FOR_THE_MODEL = (
    ApprovalPending,
    InvalidData,
    LockTimeout,
    StepFailed,
    StepInDoubt,
    StepUndone,
    UndoRefused,
    UnknownAction,
)


class ToolFailed(Exception):
    """Say that a tool returned a failure; it did not happen.

    Args:
        result: What it returned.
        why: What that says.
    """

    def __init__(self, result: Any, why: str) -> None:
        super().__init__(why)
        self.result = result


class Suspended(StepRejected, NotDelivered):
    """Say that a tool did not happen, for its framework wants something else first.

    Args:
        error: What the framework raised to steer itself.
    """

    def __init__(self, error: BaseException) -> None:
        name = type(error).__name__
        super().__init__(f"{name}: it did not happen, and will be asked for again")
        self.error = error


@dataclass(frozen=True, kw_only=True)
class ToolCall(Generic[R]):
    """Hold one call of a tool, as its framework is about to make it.

    Args:
        name: The tool.
        arguments: What it is called with: a JSON object.
        call: Make it, with the arguments as they were recorded; sync, or async.
        record: Return a result as JSON.
        restore: Return a recorded result as the framework's.
        failure: Return why a result is a failure; None where it is none.
        ask: Ask the framework's person about a call that needs an approval: return True or False;
            or raise what makes the framework ask. None to wait for an answer from elsewhere.
        asked_by: Who is recorded as having answered.
    """

    name: str
    arguments: Mapping[str, Any]
    call: Callable[[dict[str, Any]], R | Awaitable[R]]
    record: Callable[[R], Any] = lambda result: result
    restore: Callable[[Any], R] = lambda output: cast("R", output)
    failure: Callable[[R], str | None] = lambda _result: None
    ask: Callable[[ApprovalPending], Any] | None = None
    asked_by: str = "person"


class ToolCalls:
    """Carry out the tools of a framework as steps of the transaction around them.

    Args:
        rules: What is declared about each tool, by its name: a `ToolRule`, or just what undoes it.
        others: What becomes of tools that have no rule; see `Others`.
        required: True to refuse calls outside a transaction.
        transaction: The block that they belong to; None for the one around each call.
        control_flow: Exceptions by which the framework steers itself.

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
        control_flow: tuple[type[BaseException], ...] = (),
    ) -> None:
        if not is_one_of(others, ("journal", "deny", "pass")):
            message = f'others must be "journal", "deny" or "pass", not {shown(others)}.'
            raise DefinitionError(message)
        if rules is not None and not isinstance(rules, Mapping):
            message = f"rules must be a dict of rules by the tools' names, not {shown(rules)}."
            raise DefinitionError(message)
        self._others = others
        self._required = required
        self._transaction = transaction
        self._control_flow = control_flow
        self._tools: dict[str, Tool] = {}
        for name, given in (rules or {}).items():
            rule = given if isinstance(given, ToolRule) else ToolRule(given)
            self._tools[name] = Tool(checked_name(name, "the name of a tool"), rule, _HANDLERS)

    def block(self, tool: str) -> BlockBase | None:
        """Return the transaction that a call of a tool belongs to; None where it is just made.

        Raises:
            NoActiveTransaction: There is none, and the tools need one.
        """
        if self._others == "pass" and tool not in self._tools:
            return None
        block: BlockBase | None = self._transaction or AMBIENT.get()
        if block is None and self._required:
            raise NoActiveTransaction(f"tool {tool!r}")
        return block

    def requires_approval(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Tell whether a call needs the word of a person, by what is declared."""
        found = self._tools.get(tool)
        wanted: Any = found is not None and found.approval
        return bool(wanted(dict(arguments)) if callable(wanted) else wanted)

    def run(self, call: ToolCall[R]) -> R:
        """Carry out a call as a step, and return what the tool returned.

        Raises:
            Exception: Whatever the tool or its framework raised; the transaction goes on.
            TransactionError: What became of it instead; `is_for_the_model` tells whether a model
                can do something about it.
        """
        block = self.block(call.name)
        if block is None:
            return cast("R", call.call(dict(call.arguments)))
        tool, wait = self._tool(call.name, block), _patience(call)
        with _Living(call, self._control_flow) as live:
            while True:
                asked = tool.asked_in(block, call.arguments, is_async=False)
                try:
                    executed = TransactionBlock.execute_in(block, asked, once=tool.once, wait=wait)
                except ApprovalPending as pending:
                    if call.ask is None or wait:
                        raise
                    wait = WAIT_SECONDS_MAX
                    answering = _answer(block, pending, call, is_given=bool(call.ask(pending)))
                    block._manager._threads.run(answering)  # noqa: SLF001 (as its blocks do)
                else:
                    return cast("R", live.outcome(executed))
        return cast("R", live.failed)

    async def run_async(self, call: ToolCall[R]) -> R:
        """Carry out a call as a step; see `run`."""
        # Why here: asyncio costs 40 ms to import.
        from aumai_transactions.drivers.async_block import AsyncTransactionBlock

        block = self.block(call.name)
        if block is None:
            made = call.call(dict(call.arguments))
            return cast("R", await made if inspect.isawaitable(made) else made)
        tool, wait = self._tool(call.name, block), _patience(call)
        with _Living(call, self._control_flow) as live:
            while True:
                asked = tool.asked_in(block, call.arguments, is_async=True)
                doing = AsyncTransactionBlock.execute_in(block, asked, once=tool.once, wait=wait)
                try:
                    executed = await doing
                except ApprovalPending as pending:
                    if call.ask is None or wait:
                        raise
                    wait = WAIT_SECONDS_MAX
                    says = call.ask(pending)
                    is_given = bool(await says if inspect.isawaitable(says) else says)
                    answering = _answer(block, pending, call, is_given=is_given)
                    await block._manager._tasks.run(answering)  # noqa: SLF001 (as its blocks do)
                else:
                    return cast("R", live.outcome(executed))
        return cast("R", live.failed)

    def _tool(self, name: str, block: BlockBase) -> Tool:
        found = self._tools.get(name)
        if found is None:
            if self._others == "deny":
                known = ", ".join(self._tools) or "none"
                hint = f"Nothing is declared about this tool; it was not called. Declared: {known}."
                raise UnknownAction([name], block.transaction_id, hint)
            rule = ToolRule()
            found = self._tools[name] = Tool(checked_name(name, "tool"), rule, _HANDLERS)
        return found


def is_for_the_model(error: BaseException) -> bool:
    """Tell whether an error of a call is for the model to read, and to try something else.

    The others say that the transaction has ended, or that the program is wrong: they end the run.
    """
    if isinstance(error, TransactionError):
        return isinstance(error, _FOR_THE_MODEL)
    return isinstance(error, Exception)


def is_step(function: object) -> bool:
    """Tell whether a function is a step of its own, which an adapter leaves as it is."""
    return step_of(function) is not None


class _Live:
    """Make one call for its step, and keep what it returned for its caller."""

    def __init__(self, call: ToolCall[Any], control_flow: tuple[type[BaseException], ...]) -> None:
        self._call = call
        self._control_flow = control_flow
        self._results: list[Any] = []
        self.failed: Any = None

    def serve(self, data: dict[str, Any]) -> Any:
        """Make the call; return its result as JSON, or what gives that when it is awaited."""
        try:
            result = self._call.call(data)
        except self._control_flow as error:
            raise Suspended(error) from error
        return self._awaited(result) if inspect.isawaitable(result) else self._ended(result)

    async def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        try:
            result = await awaitable
        except self._control_flow as error:
            raise Suspended(error) from error
        return self._ended(result)

    def _ended(self, result: Any) -> Any:
        why = self._call.failure(result)
        if why is not None:
            raise ToolFailed(result, why)
        self._results.append(result)
        try:
            return self._call.record(result)
        except Exception:  # noqa: BLE001 (the tool has succeeded, whatever its result is like)
            return result  # Whoever records it says that it cannot be.

    def outcome(self, executed: Executed) -> Any:
        """Return what the tool returned, itself or as it was recorded."""
        if self._results and not executed.is_replayed:
            return self._results[-1]
        return self._call.restore(executed.output)


class _Living:
    """Let the handlers of a context find the call that they are to make.

    What a framework raised to steer itself leaves it as that; a returned failure is kept.
    """

    def __init__(self, call: ToolCall[Any], control_flow: tuple[type[BaseException], ...]) -> None:
        self._live = _Live(call, control_flow)

    def __enter__(self) -> _Live:
        """Return what makes the call."""
        self._token = _LIVE.set(self._live)
        return self._live

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> bool:
        """Tell the caller what a step that did not succeed means to it."""
        _LIVE.reset(self._token)
        if isinstance(error, Suspended):
            raise error.error from None
        if isinstance(error, ToolFailed):
            self._live.failed = error.result
            return True
        return False


_LIVE: ContextVar[_Live | None] = ContextVar("aumai_transactions_live_tool_call", default=None)


def _live(action: str) -> _Live:
    live = _LIVE.get()
    if live is None:
        # Why NotDelivered: it says nothing about an earlier attempt.
        message = f"{action} is a tool that only its framework can call, and that has ended"
        raise NotDelivered(message)
    return live


def _serve(action: str, data: dict[str, Any]) -> Any:
    return _live(action).serve(data)


async def _serve_async(action: str, data: dict[str, Any]) -> Any:
    result = _live(action).serve(data)
    return await result if inspect.isawaitable(result) else result


_HANDLERS = (_serve, _serve_async)


def _patience(call: ToolCall[Any]) -> float:
    return WAIT_SECONDS_MAX if call.ask is None else 0


def _answer(
    block: BlockBase, pending: ApprovalPending, call: ToolCall[Any], *, is_given: bool
) -> Procedure[TransactionResult]:
    by = checked_name(call.asked_by, "asked_by")
    answered = ApprovalAnswered(pending.step_id, is_given, by, digest=pending.digest)
    desk = block._desk  # noqa: SLF001 (as its manager does)
    return ask(desk, pending.transaction_id, answered, wait_max_seconds=0)
