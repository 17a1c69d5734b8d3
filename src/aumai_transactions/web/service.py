"""What is served: one store, and everything that pages and API share.

Owns: `Service`, and how the application is put together from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse
from starlette.routing import Router

from aumai_transactions.web.gate import HEALTH, Doors, Gate
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.rates import Rates
from aumai_transactions.web.routing import Endpoint, routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.clock import Clock
    from aumai_transactions.integrations.open_transactions import OpenTransactions
    from aumai_transactions.store import Store
    from aumai_transactions.web.kept import Kept
    from aumai_transactions.web.live import Live
    from aumai_transactions.web.principals import Tokens
    from aumai_transactions.web.running import Running
    from aumai_transactions.web.sessions import Sessions
    from aumai_transactions.web.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Service:
    """Hold what pages and API share.

    Args:
        store: The store.
        place: How people call it; no password.
        transactions: The way to what is in it.
        opened: The transactions that the API's callers have open; None where none can be.
        tokens: Whose each token is.
        sessions: Who is logged in.
        clock: What time it is.
        allows_actions: False where it only shows.
        command: Return a command line on this store, for people.
        say: Write a line where `serve` runs.
        doors: Who may come in and how.
        person: What the journal calls whoever runs this.
        live: What changes, for whoever listens.
        kept: Answers that are kept for a moment.
        running: Steps that the API's callers have asked for; None where none can be.
    """

    store: Store
    place: str
    transactions: Transactions
    opened: OpenTransactions | None
    tokens: Tokens
    sessions: Sessions
    clock: Clock
    allows_actions: bool
    command: Callable[..., str]
    say: Callable[[str], None]
    doors: Doors
    person: str
    live: Live
    kept: Kept
    running: Running | None


async def health(_: Request) -> Response:
    """Say that the process answers, and nothing else."""
    return PlainTextResponse("ok\n")


async def _nowhere(scope: Any, _receive: Any, _send: Any) -> None:
    detail = f"There is nothing at {scope['path'][:200]}."
    raise Problem(404, "not-found", detail)


def application(service: Service, endpoints: Iterable[Endpoint]) -> Gate:
    """Return what answers requests."""
    open_to_all = Endpoint("GET", HEALTH, health, None)
    # Why no Starlette application: it answers by itself what the gate has to answer.
    router = Router(routes([open_to_all, *endpoints]), redirect_slashes=False, default=_nowhere)

    rates = Rates(service.clock)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["service"], scope["state"]["rates"] = service, rates
        await router(scope, receive, send)

    return Gate(serve, service.doors, service.tokens, service.sessions, rates)
