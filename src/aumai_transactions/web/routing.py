"""Which path is served by what, and who may ask for it.

Owns: `Endpoint`, and the check of scopes that stands before each.
Rules:
  1. Every endpoint says what it needs; there is no default.
  2. What changes anything is refused where the server only shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import Route

from aumai_transactions.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.web.principals import Principal, Scope
    from aumai_transactions.web.service import Service
    from aumai_transactions.web.sessions import Session

    Handle = Callable[[Request], Awaitable[Response]]


class Endpoint(NamedTuple):
    """Say what serves a path.

    Args:
        method: The HTTP method.
        path: The path, as Starlette writes it.
        handle: What serves it.
        needs: The scope that whoever asks must have; None for what is open to all that come as far
            as this.
        changes: True where it changes the store.
        is_list: True where it tells of many transactions, and may be a moment old.
    """

    method: str
    path: str
    handle: Handle
    needs: Scope | None
    changes: bool = False
    is_list: bool = False


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Return a route for each path; whatever method it does not have is answered with 405."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [Route(path, _Resource(found)) for path, found in by_path.items()]


class _Resource:
    """Serve a path; a class and no function, for to that every method comes."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = self._endpoints.get(method)
        if endpoint is None:
            allow = ", ".join(self._endpoints)
            detail = f"Use {allow} there."
            raise Problem(405, "method-not-allowed", detail, headers={"allow": allow})
        check(request, endpoint)
        response = await _answer(request, endpoint)
        await response(scope, receive, send)


async def _answer(request: Request, endpoint: Endpoint) -> Response:
    service = service_of(request)
    if endpoint.changes:
        try:
            return await endpoint.handle(request)
        finally:
            service.kept.forget()
    session: Session | None = request.scope["state"]["session"]
    has_news = session is not None and service.sessions.has_to_tell(session)
    if not endpoint.is_list or has_news:
        return await endpoint.handle(request)
    who = request.scope["state"]["principal"], session
    asked = request.scope["path"], request.scope["query_string"]
    known = request.headers.get("if-none-match")
    return await service.kept.answer((asked, who, known), lambda: endpoint.handle(request))


def check(request: Request, endpoint: Endpoint) -> None:
    """Refuse what whoever asks may not do.

    Raises:
        Problem: They lack the scope, or this server only shows.
    """
    if endpoint.needs is not None and endpoint.needs not in principal_of(request).scopes:
        detail = f"That needs the scope `{endpoint.needs}`, which this token does not have."
        raise Problem(403, "forbidden", detail)
    if endpoint.changes and not service_of(request).allows_actions:
        detail = "This server only shows. To let it act, start it with: serve --allow-actions"
        raise Problem(403, "read-only", detail)


def principal_of(request: Request) -> Principal:
    """Return who asks.

    Raises:
        Problem: Nobody that is known.
    """
    found: Principal | None = request.scope["state"]["principal"]
    if found is None:
        raise Problem(401, "unauthorized", "Log in first.")
    return found


def service_of(request: Request) -> Service:
    """Return what is served."""
    service: Service = request.scope["state"]["service"]
    return service
