"""The gateway as a process: begun, served over a transport, and ended.

Owns: the order in which its parts come and go, and who may reach it.
Rules:
  1. Before anything is undone or gone on with, no server of a gateway that died lives any more.
  2. Over HTTP nobody gets in without a token, and no name but its own is answered to.
  3. A gateway that ends in order rolls back what nobody has committed, and only then stops the
     servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
from typing import TYPE_CHECKING, Any

from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from aumai_transactions.drivers.aio import AsyncTransactionManager
from aumai_transactions.errors import DefinitionError
from aumai_transactions.integrations.open_transactions import OpenTransactions
from aumai_transactions.listening import Address, bound, until_told
from aumai_transactions.mcp.calls import Calls
from aumai_transactions.mcp.gateway import LOCAL, Gateway
from aumai_transactions.mcp.guard import Guards
from aumai_transactions.mcp.rules import rules_of
from aumai_transactions.mcp.standard_input import Lines
from aumai_transactions.mcp.toolbox import Offered, fingerprint, offered
from aumai_transactions.mcp.upstreams import Upstream
from aumai_transactions.telemetry.here import telemetry_here
from aumai_transactions.telemetry.logs import wanted_log_event

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from aumai_transactions.mcp.config import Configuration
    from aumai_transactions.store import Store

log = logging.getLogger("aumai_transactions.mcp")

TOKEN_VARIABLE = "AUMAI_TRANSACTIONS_MCP_TOKEN"  # noqa: S105 (the name of a variable)
SERVICE = "mcp"
GRACE_SECONDS = 10


@contextlib.asynccontextmanager
async def running(
    configuration: Configuration, store: Store, guards: Path, command: Callable[..., str]
) -> AsyncIterator[tuple[Gateway, dict[str, Offered]]]:
    """Start the servers, and hold a gateway in front of them until the block is left.

    Args:
        configuration: What the operator declares.
        store: Where journals are kept.
        guards: Where the locks of gateways and their servers are.
        command: Return a command line on this store, for people.

    Raises:
        DefinitionError: A server cannot be started, or has other tools than it should.
    """
    guard = Guards(guards)
    servers = {
        name: Upstream(name, server, guard.file)
        for name, server in configuration.servers.items()
        if not server.disabled
    }
    try:
        for note in await asyncio.to_thread(guard.settle):
            log.warning("%s", note)
        tools = await _tools(configuration, servers)
        folders = {name: _folders(configuration, name) for name in servers}
        calls = Calls(tools, servers, folders)
        settings = configuration.transactions
        manager = AsyncTransactionManager(
            store=store,
            actions=calls.actions(),
            strict=True,
            on_event=wanted_log_event(),
            telemetry=telemetry_here(os.environ),
        )
        async with (
            manager,
            OpenTransactions(
                manager,
                service=SERVICE,
                open_max=10_000,
                open_max_each=settings.open_max,
                timeout_seconds=settings.timeout_seconds,
                resume_within_seconds=settings.resume_within_seconds,
            ) as opened,
        ):
            opened.look()
            gateway = Gateway(tools, calls, opened, settings, command)
            try:
                yield gateway, tools
            finally:
                await gateway.close()
    finally:
        await asyncio.gather(*(one.close() for one in servers.values()), return_exceptions=True)
        guard.close()


async def fingerprint_of(configuration: Configuration) -> str:
    """Return the fingerprint of the tools as they are now; no store is needed for that.

    Raises:
        DefinitionError: A server cannot be started.
    """
    servers = {
        name: Upstream(name, server, None)
        for name, server in configuration.servers.items()
        if not server.disabled
    }
    try:
        found = await _listed(servers)
        return fingerprint(offered(configuration, found))
    finally:
        await asyncio.gather(*(one.close() for one in servers.values()), return_exceptions=True)


async def serve_stdio(
    configuration: Configuration, store: Store, guards: Path, command: Callable[..., str]
) -> None:
    """Serve one client over standard input and output, until it ends."""
    async with running(configuration, store, guards, command) as (gateway, _tools):
        server = gateway.server()
        lines: Any = Lines()
        async with stdio_server(stdin=lines) as (reads, writes):
            await server.run(reads, writes, server.create_initialization_options())


async def serve_http(
    configuration: Configuration,
    store: Store,
    guards: Path,
    command: Callable[..., str],
    *,
    address: Address,
    say: Callable[[str], None],
) -> None:
    """Serve many clients over HTTP, until the process is told to end.

    Raises:
        DefinitionError: It would be reached from elsewhere without a token of its own.
    """
    import uvicorn

    tokens = _tokens(configuration, address, say)
    with bound(address) as listener:
        async with running(configuration, store, guards, command) as (gateway, _tools):
            app: Any = gateway.server().streamable_http_app(
                transport_security=TransportSecuritySettings(
                    allowed_hosts=address.hosts(), allowed_origins=address.origins()
                )
            )
            only = OnlyWithToken(app, tokens)
            limit = GRACE_SECONDS
            server = uvicorn.Server(
                uvicorn.Config(only, log_level="warning", timeout_graceful_shutdown=limit)
            )
            told = asyncio.create_task(_tell_when_up(server, address, listener, say))
            try:
                await until_told(server, listener)
            finally:
                told.cancel()


class OnlyWithToken:
    """Let nobody in without a token, and say whose it is.

    Args:
        app: What is behind.
        tokens: Whose each token is.
    """

    def __init__(self, app: Any, tokens: Sequence[tuple[str, str]]) -> None:
        self._app = app
        self._tokens = [(token.encode(), whose) for token, whose in tokens]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request, if it may be made."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        whose = self._whose(scope)
        if whose is None:
            await _refuse(send)
            return
        await self._app({**scope, "aumai_principal": whose}, receive, send)

    def _whose(self, scope: Any) -> str | None:
        given = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        if len(given) != 1:
            return None
        scheme, _, token = given[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        # Why all of them: how long it takes must not tell which one was nearly right.
        found = [
            whose for known, whose in self._tokens if hmac.compare_digest(known, token.strip())
        ]
        return found[0] if found else None


async def _refuse(send: Any) -> None:
    body = json.dumps({"error": "a token is needed: Authorization: Bearer …"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"www-authenticate", b"Bearer"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _tools(configuration: Configuration, servers: dict[str, Upstream]) -> dict[str, Offered]:
    """Return the tools, as they must be."""
    tools = offered(configuration, await _listed(servers))
    wanted = configuration.transactions.fingerprint
    is_now = fingerprint(tools)
    if wanted is not None and wanted != is_now:
        message = (
            f"the servers' tools are not those that transactions.fingerprint allows: they are "
            f"{is_now} now. Look at what has changed, and write down the new one if it may be so."
        )
        raise DefinitionError(message)
    return tools


async def _listed(servers: dict[str, Upstream]) -> dict[str, Any]:
    found = await asyncio.gather(*(one.tools() for one in servers.values()))
    return dict(zip(servers, found, strict=True))


def _folders(configuration: Configuration, name: str) -> list[str]:
    declared = configuration.servers[name].transactions
    rules = rules_of(name, declared).values()
    beside = {one for rule in rules for one in rule.unless_there if not one.startswith("$")}
    return [*declared.folders, *declared.files, *sorted(beside)]


def _tokens(
    configuration: Configuration, address: Address, say: Callable[[str], None]
) -> list[tuple[str, str]]:
    """Return whose each token is; make one where nobody has any."""
    principals = configuration.transactions.principals
    found = []
    for whose, principal in principals.items():
        token = os.environ.get(principal.token_env, "")
        if len(token) < 16:
            what = "is not set" if not token else "holds a token of less than 16 characters"
            message = f"transactions.principals.{whose}: {principal.token_env} {what}."
            raise DefinitionError(message)
        found.append((token, whose))
    if found:
        return found
    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return [(given, LOCAL)]
    if not address.is_local:
        message = (
            f"{address.host} can be reached from elsewhere, and nobody has a token. Declare "
            f"transactions.principals, or set {TOKEN_VARIABLE}."
        )
        raise DefinitionError(message)
    token = secrets.token_urlsafe(32)
    say(f"token for this run: {token}")
    return [(token, LOCAL)]


async def _tell_when_up(
    server: Any, address: Address, listener: socket.socket, say: Callable[[str], None]
) -> None:
    while not server.started:  # noqa: ASYNC110 (it has no event for that)
        await asyncio.sleep(0.02)
    if address.socket is not None:
        say(f"serving MCP on the socket {address.socket}")
        return
    there = address._replace(port=listener.getsockname()[1])
    say(f"serving MCP on http://{there.named}/mcp")
