"""What every request passes before anything of ours looks at it.

Owns: the one way in: host, origin, size, identity and rate are looked at in this order, and every
answer, a refusal too, leaves with the same headers. Threats W1 to W8 and W16 of the threat model.
Rules:
  1. Nobody gets by: what is open to all is named by its exact path, and everything else is closed.
  2. A page's cookie opens no API, and a token opens no page.
  3. Nothing of a request is told back but by its own method and path, escaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from aumai_transactions.web.problems import Problem, problem_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from aumai_transactions.web.principals import Principal, Tokens
    from aumai_transactions.web.rates import Rates
    from aumai_transactions.web.sessions import Session, Sessions

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    # Why not no-referrer: by it a browser says `Origin: null` of our own forms as well, and they
    # could not be told from a stranger's.
    ("referrer-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("server", "aumai-transactions"),
)
NO_STORE = ("cache-control", "no-store")
BODY_BYTES_MAX = 4 * 1024 * 1024
BODY_SECONDS_MAX = 30
LEFT_BYTES_MAX = 64 * 1024
PATH_CHARACTERS_MAX = 4_096
HEADER_NAMES_ONCE = (b"authorization", b"content-type", b"cookie", b"host", b"origin")
SAFE_METHODS = ("GET", "HEAD")
METHODS = (*SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE")
API = "/api/"
METRICS = "/metrics"
HEALTH = "/healthz"
LOGIN = "/login"

Scope = Any
Receive = Any
Send = Any


class Doors(NamedTuple):
    """Say who may come in and how.

    Args:
        hosts: What `Host` may say, exactly; None for anything, on a Unix socket.
        origins: What `Origin` may say.
        static: The exact paths that are open to all.
        cookie: The name of the page's cookie.
        is_secure: True where the page is only reached over TLS.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    static: frozenset[str]
    cookie: str
    is_secure: bool


class Gate:
    """Let in who may come in.

    Args:
        app: What is behind; it finds `principal` and `session` in the request's state.
        doors: Who may come in and how.
        tokens: Whose each token is.
        sessions: Who is logged in.
        rates: How often somebody may ask.
    """

    def __init__(
        self, app: Any, doors: Doors, tokens: Tokens, sessions: Sessions, rates: Rates
    ) -> None:
        self._app = app
        self._doors = doors
        self._tokens = tokens
        self._sessions = sessions
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, if it may be made."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        body = _Body(receive, scope)
        answer = _Answer(send, self._doors, body)
        try:
            headers = self._checked(scope)
            principal, session = self._who(scope, headers)
            self._refuse_too_often(scope, principal)
            state = scope.setdefault("state", {})
            state["principal"], state["session"] = principal, session
            await self._app(scope, body, answer)
        except Exception as error:
            problem = problem_of(error)
            if answer.has_begun:
                # Why raised: what has been sent is half an answer, and must not look whole.
                raise
            await _refuse(scope, answer, problem)

    def _checked(self, scope: Scope) -> dict[bytes, bytes]:
        """Return the headers of a request that may be looked at.

        Raises:
            Problem: It may not.
        """
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in HEADER_NAMES_ONCE:
                detail = f"{name.decode('latin-1')} is given twice."
                raise Problem(400, "bad-request", detail)
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1")
        if host not in self._doors.hosts:
            detail = (
                "This server is not reached under that name. Names it answers to are given to "
                "`serve` with --name."
            )
            raise Problem(421, "misdirected-request", detail)
        if len(scope["raw_path"]) > PATH_CHARACTERS_MAX or b"\0" in scope["raw_path"]:
            raise Problem(414, "uri-too-long", "The path is too long, or has a NUL in it.")
        if not scope["raw_path"].startswith(b"/"):
            raise Problem(400, "bad-request", "The path does not begin with a slash.")
        if scope["method"] not in METHODS:
            detail = f"Use one of {', '.join(METHODS)}."
            raise Problem(405, "method-not-allowed", detail, headers={"allow": ", ".join(METHODS)})
        self._check_origin(scope, headers)
        _check_body(headers)
        return headers

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in self._doors.origins:
            raise Problem(403, "foreign-origin", "Another site's page asks; that is refused.")
        site = headers.get(b"sec-fetch-site", b"same-origin")
        if site in (b"same-origin", b"none"):
            return
        # Why GET of a page: following a link from elsewhere changes nothing, and shows no more
        # than the cookie, which is not sent along, lets it.
        is_link = headers.get(b"sec-fetch-mode") == b"navigate" and scope["method"] == "GET"
        if not is_link:
            raise Problem(403, "foreign-origin", "Another site's page asks; that is refused.")

    def _who(
        self, scope: Scope, headers: dict[bytes, bytes]
    ) -> tuple[Principal | None, Session | None]:
        """Return who asks.

        Raises:
            Problem: Nobody that is known, and it is not open to all.
        """
        path, is_literal = scope["path"], scope["path"].encode() == scope["raw_path"]
        if is_literal and path in (HEALTH, *self._doors.static):
            return None, None
        if path.startswith(API) or path == METRICS:
            return self._bearer(scope, headers), None
        session = self._session(headers)
        if session is None and not (is_literal and path == LOGIN):
            raise _to_login(scope)
        return None if session is None else session.principal, session

    def _bearer(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        found = self._tokens.principal_of(token) if scheme.lower() == b"bearer" else None
        if found is None:
            # Why only now: a right token is never kept out by whoever tries wrong ones beside it.
            if scheme:
                self._rates.count_failure(client_of(scope))
            detail = "A token is needed: Authorization: Bearer … Make one with: tokens add NAME"
            challenge = {"www-authenticate": 'Bearer realm="aumai-transactions"'}
            raise Problem(401, "unauthorized", detail, headers=challenge)
        return found

    def _session(self, headers: dict[bytes, bytes]) -> Session | None:
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return None
        found = cookies.get(self._doors.cookie)
        return None if found is None else self._sessions.find(found.value)

    def _refuse_too_often(self, scope: Scope, principal: Principal | None) -> None:
        if principal is not None:
            self._rates.count(principal.name, is_change=scope["method"] not in SAFE_METHODS)


class _Answer:
    """Send an answer with the headers that each one has."""

    def __init__(self, send: Send, doors: Doors, body: _Body) -> None:
        self._send = send
        self._doors = doors
        self._body = body
        self.has_begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            given = message.get("headers", [])
            names = {name for name, _ in given}
            wanted = [*HEADERS, NO_STORE]
            if self._doors.is_secure:
                wanted.append(("strict-transport-security", "max-age=31536000"))
            if self._body.is_much_left:
                # Why: else it would be read to its end, and dropped.
                wanted.append(("connection", "close"))
            own = [(name.encode(), value.encode()) for name, value in wanted]
            message["headers"] = [*given, *(item for item in own if item[0] not in names)]
        await self._send(message)


class _Body:
    """Receive a request's body, of a limited size and in a limited time."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive = receive
        self._has_body = scope["method"] not in SAFE_METHODS
        self._said = dict(scope["headers"])
        self._size = 0
        self._is_read = False

    @property
    def is_much_left(self) -> bool:
        """True where more of it may come than one would read only to be polite."""
        if self._is_read:
            return False
        length = self._said.get(b"content-length", b"0")
        is_long = len(length) > 6 or int(length if length.isdigit() else b"0") > LEFT_BYTES_MAX
        return is_long or b"transfer-encoding" in self._said

    async def __call__(self) -> MutableMapping[str, Any]:
        if self._is_read or not self._has_body:
            message: MutableMapping[str, Any] = await self._receive()
            return message
        try:
            message = await asyncio.wait_for(self._receive(), BODY_SECONDS_MAX)
        except TimeoutError:
            detail = f"The body did not arrive within {BODY_SECONDS_MAX} seconds."
            raise Problem(408, "request-timeout", detail, headers=_CLOSE) from None
        self._size += len(message.get("body", b""))
        if self._size > BODY_BYTES_MAX:
            raise _too_large()
        self._is_read = not message.get("more_body", False)
        return message


_CLOSE = {"connection": "close"}


def _too_large() -> Problem:
    detail = f"The body has more than {BODY_BYTES_MAX:,} bytes."
    return Problem(413, "content-too-large", detail, headers=_CLOSE)


def _check_body(headers: dict[bytes, bytes]) -> None:
    if b"transfer-encoding" in headers and b"content-length" in headers:
        # Why: whoever stands in front may go by the other one, and see other requests in it.
        detail = "Give Content-Length or Transfer-Encoding, not both."
        raise Problem(400, "bad-request", detail, headers=_CLOSE)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        detail = "Send the body as it is, without Content-Encoding."
        raise Problem(415, "unsupported-media-type", detail, headers=_CLOSE)
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > BODY_BYTES_MAX:
        raise _too_large()


def client_of(scope: Scope) -> str:
    """Return from where somebody asks."""
    client = scope.get("client")
    return str(client[0]) if client else "local"


def _to_login(scope: Scope) -> Problem:
    detail = "Log in first: open the link that `serve` has printed."
    if scope["method"] != "GET":
        return Problem(401, "unauthorized", detail)
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    location = f"{LOGIN}?next={quote(wanted, safe='')}"
    return Problem(303, "see-other", detail, headers={"location": location})


async def _refuse(scope: Scope, send: Send, problem: Problem) -> None:
    """Answer with a problem, in the form that whoever asks can read."""
    if scope["path"].startswith(API) or scope["path"] == METRICS:
        kind, body = "application/problem+json", problem.body()
    else:
        kind, body = "text/html; charset=utf-8", refusal_page(problem).encode()
    headers = {"content-type": kind, "content-length": str(len(body)), **problem.headers}
    told = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": problem.status, "headers": told})
        await send({"type": "http.response.body", "body": body})


def refusal_page(problem: Problem) -> str:
    """Return a page that tells a problem and needs nothing else."""
    title, detail = html.escape(problem.title), html.escape(problem.detail)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} · aumai-transactions</title>"
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="/static/page.css"></head>'
        f'<body class="plain"><main><h1>{title}</h1><p>{detail}</p>'
        '<p><a href="/">All transactions</a></p></main></body></html>'
    )
