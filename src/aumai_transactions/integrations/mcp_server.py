"""Transactions of an MCP server that is written with the MCP Python SDK: `Transactions`.

Owns: the extension `dev.aumai/transactions`: which tools a server has by it, and what becomes of a
call that names a transaction, by `_meta["dev.aumai/tx"]`.
Rules:
  1. A tool's failure is a result with `isError`, and is a failure of its step. A call that asks for
     something first (`InputRequiredResult`) did not happen, and is made again.
  2. What keeps a call from being made is told to the model in such a result: no transaction of this
     id, or one that has ended.
  3. A transaction belongs to whom the server knows as the one who began it; over a transport that
     knows nobody, to everybody who is there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

try:
    from mcp.server.extension import Extension, ToolBinding
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.request_state import authenticated_principal
    from mcp_types import (
        CallToolResult,
        ClientCapabilities,
        ElicitationCapability,
        ElicitRequest,
        ElicitRequestFormParams,
        InputRequiredResult,
        TextContent,
        ToolAnnotations,
    )
except ImportError as error:
    message = "This needs the MCP Python SDK: pip install 'aumai-transactions[mcp]'"
    raise ImportError(message) from error

from pydantic import BaseModel

from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.errors import DefinitionError, TransactionError
from aumai_transactions.integrations.open_transaction import OpenTransaction
from aumai_transactions.integrations.open_transactions import OpenTransactions
from aumai_transactions.integrations.tool_calls import Others, Rules, ToolCall, ToolCalls, is_step

if TYPE_CHECKING:
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.errors import ApprovalPending

F = TypeVar("F", bound=Callable[..., Any])

IDENTIFIER = "dev.aumai/transactions"
"""By which name the extension is advertised."""

TRANSACTION = "dev.aumai/tx"
"""Under which key of a call's `_meta` its transaction is named."""

_MULTI_ROUND = "2026-07-28"
"""From which version of the protocol on a server asks by its result, and not by a request."""

_QUESTION = "dev.aumai/approve"
_FORM = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Allow it"}},
    "required": ["approve"],
}


class Told(BaseModel):
    """Hold what a client is told of its transaction.

    Args:
        transaction_id: Which; later calls name it.
        state: Where it stands.
        text: How it stands, in words.
    """

    transaction_id: str
    state: str
    text: str


class _Asks(Exception):
    """Say that a call did not happen, for its client is asked something first."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("its client is asked for something first")
        self.result = result


class Transactions(Extension):
    """Give an MCP server transactions: `MCPServer(…, extensions=[Transactions(manager)])`.

    It adds the tools `tx_begin`, `tx_savepoint`, `tx_rollback`, `tx_commit` and `tx_status`, and
    makes a call that names a transaction a step of it. A tool whose function is decorated with
    `@step` is left to that.

    Args:
        manager: Whose transactions they are.
        rules: What is declared about tools, by their names; see `ToolCalls`.
        others: What becomes of tools that have no rule and are no steps; see `Others`.
        required: True to refuse calls that name no transaction.
        asks_client: True to have a client's user asked to allow what needs an approval; False to
            leave that to others, who answer by `approve` and `deny`.
        principal: Who makes a request; None where nobody is known. Default: client, issuer and
            subject of its access token.
        service: What the server is called in the journal; another one on the same store does not
            find its transactions.
        **options: As for `OpenTransactions`: how many, and for how long.

    Raises:
        DefinitionError: A rule cannot be; the message says why.
    """

    identifier = IDENTIFIER

    def __init__(
        self,
        manager: AsyncTransactionManager,
        *,
        rules: Rules | None = None,
        others: Others = "journal",
        required: bool = False,
        asks_client: bool = True,
        principal: Callable[[Any], str | None] = authenticated_principal,
        service: str = "mcp",
        **options: Any,
    ) -> None:
        self._bindings = [
            _tool(self._begin, "tx_begin"),
            _tool(self._savepoint, "tx_savepoint"),
            _tool(self._rollback, "tx_rollback", ToolAnnotations(destructive_hint=True)),
            _tool(self._commit, "tx_commit"),
            _tool(self._status, "tx_status", ToolAnnotations(read_only_hint=True)),
        ]
        self._own = {one.kwargs["name"] for one in self._bindings}
        if clash := self._own & {*(rules or {})}:
            raise DefinitionError(f"{', '.join(sorted(clash))} can have no rule: it is no step.")
        self.open = OpenTransactions(manager, service=service, **options)
        self._calls = ToolCalls(rules, others=others, required=required, control_flow=(_Asks,))
        self._required = required
        self._asks_client = asks_client
        self._principal = principal
        self._server: MCPServer | None = None

    def settings(self) -> dict[str, Any]:
        """Return what is advertised: how a call names its transaction."""
        return {"version": "1", "meta": TRANSACTION, "savepoints": True}

    def tools(self) -> list[ToolBinding]:
        """Return the tools that begin and end transactions."""
        return self._bindings

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
        """Make a call that names a transaction a step of it."""
        named = (params.meta or {}).get(TRANSACTION)
        if params.name in self._own or (
            named is None and AMBIENT.get() is None and not self._required
        ):
            return await call_next(ctx)
        try:
            if named is None:
                return await self._step(params, ctx, call_next)
            one = await self._found(named, ctx)
            with one.inside():
                return await self._step(params, ctx, call_next)
        except _Asks as asking:
            return asking.result
        except TransactionError as error:
            return _failure(str(error))

    async def _step(self, params: Any, ctx: Any, call_next: Any) -> Any:
        """Make a call as a step of the transaction around it."""
        if self._is_step(params.name, call_next):
            if AMBIENT.get() is None:
                self._calls.block(params.name)
            return await call_next(ctx)

        async def call(_arguments: dict[str, Any]) -> Any:
            result = await call_next(ctx)
            if isinstance(result, InputRequiredResult):
                raise _Asks(result)
            return result

        return await self._calls.run_async(
            ToolCall(
                name=params.name,
                arguments=params.arguments or {},
                call=call,
                record=_recorded,
                restore=_restored,
                failure=_failure_of,
                ask=self._ask(params, ctx),
                asked_by=self._owner(ctx) or "the client's user",
            )
        )

    def _is_step(self, name: str, call_next: Any) -> bool:
        """Tell whether a tool's function is a step of its own."""
        if self._server is None:
            self._server = _server_behind(call_next)
        tool = None if self._server is None else self._server._tool_manager.get_tool(name)  # noqa: SLF001 (nothing public tells a tool's function)
        return tool is not None and is_step(inspect.unwrap(tool.fn, stop=is_step))

    def _ask(self, params: Any, ctx: Any) -> Callable[[ApprovalPending], Any] | None:
        """Return how the client's user is asked to allow a call; None where they cannot be."""
        asks_form = ClientCapabilities(elicitation=ElicitationCapability())
        if not self._asks_client or not ctx.session.check_client_capability(asks_form):
            return None

        async def ask(pending: ApprovalPending) -> bool:
            text = f"May {params.name} be called with {params.arguments or {}!r:.2000}?"
            if ctx.protocol_version < _MULTI_ROUND:
                answer = await ctx.session.elicit_form(text, _FORM, ctx.request_id)
            else:
                answer = (params.input_responses or {}).get(_QUESTION)
                # Why compared: what was allowed is what is to be done now, and nothing else.
                if answer is None or params.request_state != pending.digest:
                    form = ElicitRequestFormParams(message=text, requested_schema=_FORM)
                    question = ElicitRequest(params=form)
                    raise _Asks(
                        InputRequiredResult(
                            input_requests={_QUESTION: question}, request_state=pending.digest
                        )
                    )
            content = getattr(answer, "content", None) or {}
            return getattr(answer, "action", "") == "accept" and content.get("approve") is True

        return ask

    def _owner(self, ctx: Any) -> str:
        return self._principal(ctx) or ""

    async def _found(self, name: object, ctx: Any) -> OpenTransaction:
        return await self.open.find(name if isinstance(name, str) else "", owner=self._owner(ctx))

    async def _begin(
        self, ctx: Context, name: str = "", timeout_seconds: float | None = None
    ) -> Told:
        """Begin a transaction: all of its calls take effect, or are undone together.

        Pass the returned transaction_id as _meta["dev.aumai/tx"] of each call that belongs to it,
        and end it with tx_commit or tx_rollback. It is undone if that does not come in time.

        Args:
            ctx: The request.
            name: What people call it.
            timeout_seconds: How long it may take; left out, the most that it may.
        """
        with _Telling():
            one = await self.open.begin(
                owner=self._owner(ctx.request_context),
                timeout_seconds=timeout_seconds,
                name=name or None,
            )
        return _told(one)

    async def _savepoint(self, ctx: Context, transaction_id: str, name: str) -> Told:
        """Make a savepoint, to which tx_rollback can go back without giving up what was before."""
        with _Telling():
            one = await self._found(transaction_id, ctx.request_context)
            await one.savepoint(name)
        return _told(one)

    async def _rollback(
        self, ctx: Context, transaction_id: str, savepoint: str = "", reason: str = ""
    ) -> Told:
        """Undo a transaction and end it; or, with a savepoint, only what came after that."""
        with _Telling():
            one = await self._found(transaction_id, ctx.request_context)
            if savepoint:
                await one.rollback_to(savepoint)
                return _told(one)
            result = await one.rollback(reason)
        return Told(transaction_id=transaction_id, state=result.state.value, text=str(result))

    async def _commit(self, ctx: Context, transaction_id: str) -> Told:
        """Commit a transaction: what was done in it stays. Look at the state that is returned."""
        with _Telling():
            one = await self._found(transaction_id, ctx.request_context)
            result = await one.commit()
        return Told(transaction_id=transaction_id, state=result.state.value, text=str(result))

    async def _status(self, ctx: Context, transaction_id: str) -> Told:
        """Tell what a transaction has done, what is held, and what can still be undone."""
        owner = self._owner(ctx.request_context)
        with _Telling():
            for one in self.open.of(owner):
                if one.transaction_id == transaction_id:
                    return _told(one)
            result = await self.open.result(transaction_id, owner=owner)
        return Told(transaction_id=transaction_id, state=result.state.value, text=str(result))


def told_to_model(function: F) -> F:
    """Let a model read what a step of one's own says of its transaction; between tool and step.

    The SDK shows the text of a `ToolError` only: without this, a model that is refused is told
    no more than that there was an error. What the function itself raises is not changed.
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def telling_async(*args: Any, **kwargs: Any) -> Any:
            with _Telling():
                return await function(*args, **kwargs)

        return cast("F", telling_async)

    @functools.wraps(function)
    def telling(*args: Any, **kwargs: Any) -> Any:
        with _Telling():
            return function(*args, **kwargs)

    return cast("F", telling)


class _Telling:
    """Let a model read why a transaction could not do what was asked of it."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise what the SDK shows; it hides the text of any other exception."""
        if isinstance(error, TransactionError):
            raise ToolError(str(error)) from error


def _tool(
    function: Callable[..., Any], name: str, hints: ToolAnnotations | None = None
) -> ToolBinding:
    return ToolBinding(function, kwargs={"name": name, "annotations": hints})


def _told(one: OpenTransaction) -> Told:
    block = one.block
    return Told(
        transaction_id=one.transaction_id, state=block.state.value, text=str(block.describe())
    )


def _server_behind(call_next: Any) -> MCPServer | None:
    """Return the server whose handler is behind an interceptor; None where it is not found.

    Why so: an extension is never given its server, and only that knows the functions of its tools.
    Where it is not found, a tool that is a step is journaled twice, and undone once.
    """
    todo: list[Any] = [call_next]
    for _ in range(100):
        if not todo:
            break
        one = todo.pop()
        if isinstance(owner := getattr(one, "__self__", None), MCPServer):
            return owner
        cells = getattr(one, "__closure__", None) or ()
        todo += [cell.cell_contents for cell in cells if callable(cell.cell_contents)]
    return None


def _failure(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _failure_of(result: Any) -> str | None:
    """Return what a result says where it is a failure."""
    told = _restored(_recorded(result))
    if not told.is_error:
        return None
    texts = [one.text for one in told.content if isinstance(one, TextContent)]
    return "\n".join(texts) or "it returned an error"


def _recorded(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result


def _restored(output: Any) -> CallToolResult:
    if output is None:
        text = "It was done before; what it returned then was not recorded."
        return CallToolResult(content=[TextContent(type="text", text=text)])
    return CallToolResult.model_validate(output)
