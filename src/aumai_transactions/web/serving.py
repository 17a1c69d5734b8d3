"""`serve` as a process: begun, reached, and ended.

Owns: the order in which its parts come and go, and under which conditions it begins at all.
Rules:
  1. What other machines can reach is reached over TLS only, and by nobody without a token.
  2. Who ends it waits a few seconds at most for answers that are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn

from aumai_transactions.clock import SystemClock
from aumai_transactions.drivers.aio import AsyncTransactionManager
from aumai_transactions.errors import DefinitionError
from aumai_transactions.integrations.open_transactions import OpenTransactions
from aumai_transactions.listening import Address, bound, until_told
from aumai_transactions.outbox import Outbox
from aumai_transactions.web import metrics
from aumai_transactions.web.api import endpoints as api
from aumai_transactions.web.connections import Connection
from aumai_transactions.web.gate import Doors
from aumai_transactions.web.kept import Kept
from aumai_transactions.web.live import Live
from aumai_transactions.web.pages import endpoints as pages
from aumai_transactions.web.pages.login import login_link
from aumai_transactions.web.principals import Tokens
from aumai_transactions.web.running import Running
from aumai_transactions.web.service import Service, application
from aumai_transactions.web.sessions import Sessions
from aumai_transactions.web.transactions import Transactions
from aumai_transactions.webhooks.sender import WebhookSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aumai_transactions.store import Store

SERVICE = "api"
GRACE_SECONDS = 5
HEAD_BYTES_MAX = 32 * 1024


class Plan(NamedTuple):
    """Say what is to be served, where, and for whom.

    Args:
        store: The store.
        place: How people call it; no password.
        acting: A manager with the actions that can be called here; None where nothing is.
        address: Where it is reached.
        certificate: The files of a certificate chain and of its key, for TLS.
        is_behind_tls: True where a proxy in front ends TLS.
        tokens: The file of tokens.
        allows_actions: False where it only shows.
        person: What the journal calls whoever uses the page.
        command: Return a command line on this store, for people.
        say: Write a line where `serve` runs.
    """

    store: Store
    place: str
    acting: AsyncTransactionManager | None
    address: Address
    certificate: tuple[Path, Path] | None
    is_behind_tls: bool
    tokens: Tokens
    allows_actions: bool
    person: str
    command: Callable[..., str]
    say: Callable[[str], None]

    @property
    def scheme(self) -> str:
        """How its address begins."""
        return "https" if self.certificate is not None or self.is_behind_tls else "http"


def check(plan: Plan) -> None:
    """Refuse what would be open to the world.

    Raises:
        DefinitionError: It can be reached from elsewhere, and not over TLS; or the tokens or the
            certificate cannot be used.
    """
    if not plan.address.is_local and plan.scheme != "https":
        message = (
            f"{plan.address.host} can be reached from other machines, and without TLS everybody on "
            "the way reads the tokens. Give --certificate and --key; or --behind-tls-proxy, where "
            "a proxy in front of it does TLS; or bind 127.0.0.1, and reach it by ssh -L."
        )
        raise DefinitionError(message)
    plan.tokens.read()
    if plan.certificate is not None:
        chain, key = plan.certificate
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(chain, key)
        except (OSError, ssl.SSLError) as error:
            message = f"the certificate {chain} with the key {key} cannot be used: {error}."
            raise DefinitionError(message) from error


async def serve(plan: Plan) -> None:
    """Serve page, API and metrics until this task is cancelled.

    Raises:
        DefinitionError: See `check`; or the address cannot be had.
    """
    check(plan)
    with bound(plan.address) as listener:
        address = plan.address
        if address.socket is None:
            address = address._replace(port=listener.getsockname()[1])
        async with _service(plan, address) as service:
            app: Any = application(
                service, [*api.ENDPOINTS, *pages.endpoints(), *metrics.ENDPOINTS]
            )
            server = uvicorn.Server(_configuration(plan, app))
            told = asyncio.create_task(_tell_when_up(server, plan, address, service))
            try:

                def ending() -> None:
                    service.live.close()
                    service.transactions.end()

                await until_told(server, listener, ending)
            finally:
                told.cancel()


@contextlib.asynccontextmanager
async def _service(plan: Plan, address: Address) -> AsyncIterator[Service]:
    """Hold what is served until the block is left."""
    clock = SystemClock()
    reader = AsyncTransactionManager(store=plan.store, strict=True)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(reader)
        if plan.acting is not None:
            await stack.enter_async_context(plan.acting)
        opened = None
        if plan.allows_actions and plan.acting is not None:
            opened = OpenTransactions(plan.acting, service=SERVICE)
            await stack.enter_async_context(opened)
            # Order matters: where its manager is closed first, what is open is not rolled back, and
            # whoever has begun it goes on with it at the next server.
            stack.push_async_callback(plan.acting.close)
            opened.look()
        transactions = Transactions(reader, plan.acting, opened)
        stack.push_async_callback(transactions.close)
        if plan.allows_actions and isinstance(plan.store, Outbox):
            sender = WebhookSender(plan.store)
            stack.push_async_callback(_stopped, sender, asyncio.create_task(sender.run_async()))
        running = None
        if opened is not None:
            running = Running(transactions, opened)
        stack.push_async_callback(_until_quiet, transactions, running, plan)
        yield Service(
            plan.store,
            plan.place,
            transactions,
            opened,
            plan.tokens,
            Sessions(clock),
            clock,
            plan.allows_actions,
            plan.command,
            plan.say,
            doors(address, plan.scheme),
            plan.person,
            Live(plan.store),
            Kept(clock),
            running,
        )


async def _stopped(sender: WebhookSender, sending: asyncio.Task[None]) -> None:
    """Let what is being sent be recorded, and send nothing more."""
    sender.stop()
    await sending


async def _until_quiet(transactions: Transactions, running: Running | None, plan: Plan) -> None:
    """Let calls end that are under way, for a few seconds; then let them be cut off.

    Why cut off, and nothing let go of: a call that runs yet may act, and whoever goes on with its
    transaction must not do so beside it. With this process both end, as by a kill.
    """
    tasks: list[asyncio.Task[Any]] = [*transactions.under_way]
    tasks += [] if running is None else running.under_way
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    if left:
        plan.say(f"{len(left)} calls were cut off; settle them with: {plan.command('recover')}")
        sys.stderr.flush()
        os._exit(0)


def doors(address: Address, scheme: str) -> Doors:
    """Return who may come in and how."""
    is_secure = scheme == "https"
    # Why the port: cookies know none, and two servers of one machine would log each other out.
    name = f"aumai-transactions-{address.port}"
    return Doors(
        frozenset(address.hosts()),
        frozenset(address.origins(scheme)),
        frozenset(pages.static_paths()),
        f"__Host-{name}" if is_secure else name,
        is_secure,
    )


def _configuration(plan: Plan, app: Any) -> uvicorn.Config:
    chain, key = plan.certificate or (None, None)
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=chain,
        ssl_keyfile=key,
    )


async def _tell_when_up(
    server: uvicorn.Server, plan: Plan, address: Address, service: Service
) -> None:
    while not server.started:  # noqa: ASYNC110 (it has no event for that)
        await asyncio.sleep(0.01)
    mode = "looks and acts" if plan.allows_actions else "only looks; --allow-actions lets it act"
    where = f"{plan.scheme}://{address.named}"
    if address.socket is not None:
        where = f"the socket {address.socket}"
    plan.say(f"serving {plan.place} at {where}  ({mode})")
    plan.say(f"log in once, within 15 minutes: {login_link(service)}")
    plan.say(f"tokens for programs: {plan.command('tokens', 'add', 'NAME')}")
