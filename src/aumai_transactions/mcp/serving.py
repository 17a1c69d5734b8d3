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
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from aumai_transactions.drivers.aio import AsyncTransactionManager
from aumai_transactions.errors import DefinitionError
from aumai_transactions.integrations.open_transactions import OpenTransactions
from aumai_transactions.mcp.calls import Calls
from aumai_transactions.mcp.gateway import LOCAL, Gateway
from aumai_transactions.mcp.guard import Guards
from aumai_transactions.mcp.rules import rules_of
from aumai_transactions.mcp.standard_input import Lines
from aumai_transactions.mcp.toolbox import Offered, fingerprint, offered
from aumai_transactions.mcp.upstreams import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from aumai_transactions.mcp.config import Configuration
    from aumai_transactions.store import Store

log = logging.getLogger("aumai_transactions.mcp")

TOKEN_VARIABLE = "AUMAI_TRANSACTIONS_MCP_TOKEN"  # noqa: S105 (the name of a variable)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SERVICE = "mcp"
GRACE_SECONDS = 10


class Address(NamedTuple):
    """Say where the gateway is reached over HTTP.

    Args:
        host: The name or address that it binds to.
        port: The port; 0 for any that is free.
        socket: The path of a Unix socket instead.
        names: Under which other names it may be asked, such as that of a proxy in front.
    """

    host: str = "127.0.0.1"
    port: int = 0
    socket: str | None = None
    names: tuple[str, ...] = ()


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
        manager = AsyncTransactionManager(store=store, actions=calls.actions(), strict=True)
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
    with _bound(address) as bound:
        async with running(configuration, store, guards, command) as (gateway, _tools):
            app: Any = gateway.server().streamable_http_app(
                transport_security=TransportSecuritySettings(
                    allowed_hosts=_hosts(address), allowed_origins=_origins(address)
                )
            )
            only = OnlyWithToken(app, tokens)
            limit = GRACE_SECONDS
            server = uvicorn.Server(
                uvicorn.Config(only, log_level="warning", timeout_graceful_shutdown=limit)
            )
            told = asyncio.create_task(_tell_when_up(server, address, bound, say))
            try:
                await _until_told(server, bound)
            finally:
                told.cancel()


async def _until_told(server: Any, bound: socket.socket) -> None:
    """Serve until this task is cancelled, and then let requests that are under way end."""
    # Why no handlers of its own: they would send the signal once more when it has ended, into the
    # middle of what is rolled back then.
    server.capture_signals = contextlib.nullcontext
    work = asyncio.ensure_future(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        server.should_exit = True
        await work
        raise


@contextlib.contextmanager
def _bound(address: Address) -> Iterator[socket.socket]:
    """Take the socket that clients connect to, and let go of it when the block is left.

    Raises:
        DefinitionError: It cannot be had.
    """
    if address.socket is not None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where: Any = address.socket
        # Why before it is bound: it is for its owner alone from its first moment on.
        before = os.umask(0o177)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        where, before = (address.host, address.port), None
    try:
        made.bind(where)
    except OSError as error:
        made.close()
        message = f"{_named(address)} cannot be had: {error.strerror or error}. Name another one."
        raise DefinitionError(message) from error
    finally:
        if before is not None:
            os.umask(before)
    try:
        yield made
    finally:
        made.close()
        if address.socket is not None:
            Path(address.socket).unlink(missing_ok=True)


def _named(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return address.socket or f"{host}:{address.port}"


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
    if address.socket is None and address.host not in LOOPBACK:
        message = (
            f"{address.host} can be reached from elsewhere, and nobody has a token. Declare "
            f"transactions.principals, or set {TOKEN_VARIABLE}."
        )
        raise DefinitionError(message)
    token = secrets.token_urlsafe(32)
    say(f"token for this run: {token}")
    return [(token, LOCAL)]


def _hosts(address: Address) -> list[str]:
    if address.socket is not None:
        return ["localhost", *address.names]
    own = [address.host] if address.host not in LOOPBACK else ["127.0.0.1", "localhost", "[::1]"]
    port = address.port
    return [*(f"{name}:{port}" if port else f"{name}:*" for name in own), *address.names]


def _origins(address: Address) -> list[str]:
    return [f"http://{host}" for host in _hosts(address)]


async def _tell_when_up(
    server: Any, address: Address, bound: socket.socket, say: Callable[[str], None]
) -> None:
    while not server.started:  # noqa: ASYNC110 (it has no event for that)
        await asyncio.sleep(0.02)
    if address.socket is not None:
        say(f"serving MCP on the socket {address.socket}")
        return
    there = address._replace(port=bound.getsockname()[1])
    say(f"serving MCP on http://{_named(there)}/mcp")
