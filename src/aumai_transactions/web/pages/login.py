"""Logging in and out.

Owns: the page before all others, and the cookie.
Rules:
  1. Looking uses nothing up: a code is spent by the button, not by the link.
  2. Where to go on to is a path of this server, or the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from aumai_transactions.web.gate import LOGIN, client_of
from aumai_transactions.web.pages.forms import back, local_path, own_form, read_form
from aumai_transactions.web.pages.rendering import page
from aumai_transactions.web.principals import SCOPES, Principal
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import service_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.web.pages.forms import Form
    from aumai_transactions.web.service import Service
    from aumai_transactions.web.sessions import Session

NOTHING_WORKS = (
    "This link works no more: it was used, or is older than 15 minutes. Have a new one printed, "
    "below."
)
WRONG_TOKEN = "This is nobody's token. See which there are: aumai-transactions tokens list"  # noqa: S105


def login_link(service: Service) -> str:
    """Return a link that logs the person who runs this in once."""
    code = service.sessions.new_code(Principal(service.person, frozenset(SCOPES), is_person=True))
    return f"{min(service.doors.origins)}{LOGIN}?code={code}"


async def show(request: Request) -> Response:
    """Show how to log in."""
    return _page(
        request, request.query_params.get("code", ""), request.query_params.get("next", "")
    )


async def log_in(request: Request) -> Response:
    """Log somebody in, or print a new link where this runs."""
    form = await read_form(request)
    if form.one("do") == "link":
        return _print_link(request, form)
    service = service_of(request)
    if form.one("do") == "token":
        found = service.tokens.principal_of(form.one("token").strip().encode())
        session = None if found is None else service.sessions.open(found)
        message = WRONG_TOKEN
    else:
        session = service.sessions.redeem(form.one("code"))
        message = NOTHING_WORKS
    if session is None:
        request.scope["state"]["rates"].count_failure(client_of(request.scope))
        return _page(request, "", form.one("next"), message, status=403)
    return _entered(request, session, form)


async def log_out(request: Request) -> Response:
    """Log somebody out."""
    await own_form(request)
    service = service_of(request)
    service.sessions.close(request.scope["state"]["session"])
    answer = back(LOGIN)
    answer.delete_cookie(
        service.doors.cookie, path="/", secure=service.doors.is_secure, httponly=True,
        samesite="strict",
    )  # fmt: skip
    return answer


def _entered(request: Request, session: Session, form: Form) -> Response:
    service = service_of(request)
    answer = back(local_path(form.one("next") or "/"))
    answer.set_cookie(
        service.doors.cookie, session.name, path="/", secure=service.doors.is_secure,
        httponly=True, samesite="strict",
    )  # fmt: skip
    return answer


def _print_link(request: Request, form: Form) -> Response:
    try:
        request.scope["state"]["rates"].count_link()
    except Problem as problem:
        return _page(request, "", form.one("next"), problem.detail, status=problem.status)
    service = service_of(request)
    link = login_link(service)
    wanted = local_path(form.one("next") or "/")
    more = "" if wanted == "/" else f"&next={quote(wanted, safe='')}"
    service.say(f"log in once, within 15 minutes: {link}{more}")
    return _page(request, "", form.one("next"), "A new link stands in the terminal now.")


def _page(
    request: Request, code: str, wanted: str, message: str = "", *, status: int = 200
) -> Response:
    values = {
        "code": code,
        "next": local_path(wanted or "/"),
        "message": message,
        "is_bad": status != 200,
    }
    return page(request, "login.html", values, status)
