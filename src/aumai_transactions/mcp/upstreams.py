"""The servers behind the gateway: started or reached, called, and found again when they are gone.

Owns: their connections, and what the end of a call says about its effect.
Rules:
  1. A call that the server has answered has ended, well or not. One that could not be handed over
     was not made. Of every other it is unknown.
  2. What tools a server has is asked once, when the gateway begins; after that a tool that has
     become another one is not called any more.
  3. No credential of a client is ever passed on: a server gets what its own table says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from aumai_transactions import __version__
from aumai_transactions.errors import DefinitionError, NotDelivered, OutcomeUnknown, StepRejected
from aumai_transactions.mcp import guard

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from aumai_transactions.mcp.config import Server

log = logging.getLogger("aumai_transactions.mcp")

START_SECONDS_MAX = 60.0
PAGES_MAX = 100
_GONE = frozenset({types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT})


class ToolReported(Exception):
    """Say that a tool answered with an error.

    Args:
        result: Its answer.
    """

    def __init__(self, result: types.CallToolResult) -> None:
        super().__init__(text_of(result)[:2_000] or "it answered with an error, and no text")
        self.result = result


def text_of(result: types.CallToolResult) -> str:
    """Return the text of an answer."""
    return "\n".join(one.text for one in result.content if isinstance(one, types.TextContent))


class Upstream:
    """Be one server behind the gateway.

    Args:
        name: What the configuration calls it.
        server: What it says about it.
        guard: The file that every process of it keeps a lock on while it lives; see `guard.py`.
    """

    def __init__(self, name: str, server: Server, guard: Path | None) -> None:
        self.name = name
        self._server = server
        self._guard = guard
        self._client: Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._turn = asyncio.Lock()
        self._known: dict[str, str] | None = None
        self._changed: set[str] = set()

    async def tools(self) -> list[types.Tool]:
        """Return all its tools; what they are now they have to be for as long as this lives.

        Raises:
            DefinitionError: It cannot be started or reached, or does not come to an end.
        """
        try:
            found = await _listed(await self._connected(), self.name)
        except (NotDelivered, MCPError, OSError, TimeoutError) as error:
            why = str(error) or f"it did not list its tools within {START_SECONDS_MAX:g} s"
            message = f"mcpServers.{self.name} does not work: {why}."
            raise DefinitionError(message) from error
        self._known = {tool.name: _dumped(tool) for tool in found}
        return found

    async def call(
        self, tool: str, arguments: dict[str, Any], *, key: str | None, seconds: float | None
    ) -> types.CallToolResult:
        """Call a tool, and return its answer, which may be an error.

        Args:
            tool: Its own name.
            arguments: Its arguments.
            key: The idempotency key, for servers that look at it; None where nothing is undone.
            seconds: How long to wait; None for what the configuration says.

        Raises:
            NotDelivered: It could not be handed over.
            StepRejected: The server refused it without carrying it out.
            OutcomeUnknown: No answer came.
        """
        client = await self._connected()
        if tool in self._changed:
            message = (
                f"{self.name} has another tool called {tool} now than when the gateway began, and "
                "it was not called; whoever runs the gateway has to look, and to start it anew"
            )
            raise StepRejected(message)
        meta: Any = None if key is None else {"dev.aumai/idempotency-key": key}
        limit = self._server.timeout_seconds if seconds is None else seconds
        try:
            result = await client.session.call_tool(
                tool, arguments, read_timeout_seconds=limit, meta=meta, allow_input_required=True
            )
        except MCPError as error:
            if error.code in _GONE:
                await self._let_go(client)
                raise OutcomeUnknown(f"{self.name} gave no answer: {error}") from error
            if error.code in (types.INVALID_PARAMS, types.METHOD_NOT_FOUND, types.INVALID_REQUEST):
                raise StepRejected(f"{self.name} refused it: {error}") from error
            raise OutcomeUnknown(f"{self.name} failed: {error}") from error
        except (
            TimeoutError,
            OSError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ) as error:
            await self._let_go(client)
            raise OutcomeUnknown(f"{self.name} gave no answer: {error!r}") from error
        except asyncio.CancelledError:
            if key is not None:
                # Why ended: what is undone now must not be done by it later.
                await _to_the_end(self._let_go(client))
            raise
        except ValueError as error:
            raise OutcomeUnknown(f"{self.name} gave an answer that is none: {error}") from error
        if isinstance(result, types.InputRequiredResult):
            message = (
                f"{self.name} asks for more before it does anything, which the gateway cannot "
                "pass on; nothing was done"
            )
            raise StepRejected(message)
        return result

    async def close(self) -> None:
        """Stop it, or leave it; return once it has ended, whoever has stopped it."""
        is_up, self._client = self._client is not None, None
        if self._keeper is not None:
            self._gone.set()
            if not is_up:
                self._keeper.cancel()  # It may never begin.
            self._leaving, self._keeper = self._keeper, None
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def _connected(self) -> Client:
        async with self._turn:
            if self._client is not None and self._keeper is not None and not self._keeper.done():
                return self._client
            # Why also where somebody else stops it: there are never two of one server.
            await self.close()
            self._gone = asyncio.Event()
            ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(ready, self._gone))
            try:
                async with asyncio.timeout(START_SECONDS_MAX):
                    self._client = await ready
            except TimeoutError:
                await self.close()
                message = f"{self.name} did not begin within {START_SECONDS_MAX:g} s"
                raise NotDelivered(message) from None
            if self._known is not None:
                await self._compare(self._client, self._known)
            return self._client

    async def _compare(self, client: Client, known: dict[str, str]) -> None:
        """Find out which tools have become others, since the server has been started anew."""
        try:
            now = {tool.name: _dumped(tool) for tool in await _listed(client, self.name)}
        except (MCPError, OSError, TimeoutError, DefinitionError) as error:
            await self.close()
            raise NotDelivered(f"{self.name} does not list its tools: {error}") from error
        self._changed = {name for name, told in known.items() if now.get(name) != told}

    async def _let_go(self, client: Client) -> None:
        """Give a connection up; the next call makes another one.

        Why it waits also where somebody else gives it up: a call that was broken off with it may be
        undone once its server has ended, and not before.
        """
        if self._client is client:
            await self.close()
        elif self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def _keep(self, ready: asyncio.Future[Client], gone: asyncio.Event) -> None:
        """Hold a connection open until it is not wanted any more.

        Why a task: what enters a connection has to leave it, in one and the same task.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                transport = await self._transport(stack)
                info = types.Implementation(name="aumai-transactions", version=__version__)
                client = Client(transport, client_info=info)
                await stack.enter_async_context(client)
                if not ready.done():
                    ready.set_result(client)
                await gone.wait()
        except BaseException as error:
            if not ready.done():
                told = NotDelivered(f"{self.name} cannot be reached: {_cause(error)}")
                ready.set_exception(told)
                if isinstance(error, Exception):
                    return
            if not isinstance(error, Exception):
                raise
            log.warning("%s ended: %s", self.name, _cause(error))

    async def _transport(self, stack: contextlib.AsyncExitStack) -> Any:
        server = self._server
        if server.url is not None:
            # Why so long for reading: a server may hold a stream open; a call has its own end.
            times = httpx2.Timeout(30.0, read=300.0)
            http = httpx2.AsyncClient(headers=server.headers, timeout=times)
            await stack.enter_async_context(http)
            return streamable_http_client(server.url, http_client=http)
        command, arguments = str(server.command), list(server.args)
        if self._guard is not None:
            # Why isolated: nothing that stands in the server's folder is imported.
            arguments = ["-I", guard.__file__, str(self._guard), command, *arguments]
            command = sys.executable
        parameters = StdioServerParameters(
            command=command, args=arguments, env=server.env, cwd=server.cwd
        )
        return stdio_client(parameters)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for something that is not given up, however often this task is cancelled."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)


async def _listed(client: Client, name: str) -> list[types.Tool]:
    """Return all tools of a server.

    Raises:
        DefinitionError: There is no end to them.
        TimeoutError: They did not come in time.
    """
    found: list[types.Tool] = []
    cursor: str | None = None
    async with asyncio.timeout(START_SECONDS_MAX):
        for _ in range(PAGES_MAX):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found
    raise DefinitionError(f"mcpServers.{name} lists more than {PAGES_MAX} pages of tools.")


def _dumped(tool: types.Tool) -> str:
    return tool.model_dump_json(by_alias=True, exclude_none=True)


def _cause(error: BaseException) -> str:
    """Return the first error in a group of them, as text."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
