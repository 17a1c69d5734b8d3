"""What a form says, and the way back from it.

Owns: how a form is read, and what is told on the page that comes next.
Rules:
  1. Only a form of this very login is heard.
  2. What is told next is kept here, under the session: nothing of it comes from an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.responses import RedirectResponse

from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import service_of

if TYPE_CHECKING:
    from starlette.requests import Request

FIELDS_MAX = 1_000
FORM = "application/x-www-form-urlencoded"


class Form:
    """Hold the fields of a form."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def one(self, name: str) -> str:
        """Return a field; empty where there is none.

        Raises:
            Problem: It is there twice.
        """
        found = self.several(name)
        if len(found) > 1:
            raise Problem(400, "bad-request", f"The form says {name} twice.")
        return found[0] if found else ""

    def name(self, name: str) -> str:
        """Return a name that a hidden field holds."""
        return unquote(self.one(name))

    def several(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [text for key, text in self._fields if key == name]


async def read_form(request: Request) -> Form:
    """Return what a form says.

    Raises:
        Problem: It is none, or has too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise Problem(415, "unsupported-media-type", f"Send the form as {FORM}.")
    body = await request.body()
    try:
        text = body.decode("ascii")
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        message = f"This is no form, or has more than {FIELDS_MAX} fields."
        raise Problem(400, "bad-request", message) from None
    return Form(fields)


async def own_form(request: Request) -> Form:
    """Return what a form of this very login says.

    Raises:
        Problem: It is none, or another login's.
    """
    form = await read_form(request)
    session = request.scope["state"]["session"]
    if session is None or not session.has_csrf(form.one("csrf")):
        detail = "This form is from another login. Open the page again, and then press the button."
        raise Problem(403, "foreign-form", detail)
    return form


def tell(request: Request, text: str, *, is_bad: bool = False) -> None:
    """Have something told on the next page."""
    session = request.scope["state"]["session"]
    service_of(request).sessions.tell(session, text, is_bad=is_bad)


def back(path: str) -> RedirectResponse:
    """Return the way back after a form: whoever reloads the page asks for nothing twice."""
    return RedirectResponse(path, 303)


def local_path(text: str) -> str:
    """Return a path of this server that somebody wants to go on to; the list otherwise."""
    parts = urlsplit(text) if text.isascii() and text.isprintable() and "\\" not in text else None
    if parts is None or parts.scheme or parts.netloc or not text.startswith("/"):
        return "/"
    return "/" if text.startswith("//") else text
