"""From values to HTML.

Owns: how a page is put together, and how text from outside is shown in it.
Rules:
  1. Everything that stands in a template is escaped, and every character that does not print is
     made visible, unless it is markup that was made here.
  2. A page has no script, no style and no handler of its own: the policy would stop them.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from aumai_transactions.core.masking import masked
from aumai_transactions.core.times import instant
from aumai_transactions.web.pages import static_files
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.wording.characters import runs_of, shown
from aumai_transactions.wording.words import age, when

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from starlette.requests import Request

TEXT_MAX = 300
CELL_MAX = 80
LINES_MAX = 12


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("aumai_transactions.web.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "visible": visible,
        "cut": cut,
        "short": short,
        "field": field,
        "long": long_text,
        "json": json_block,
        "at": time_element,
        "micros": lambda value, now: time_element(instant(value), now),
        "words": lambda value: str(value).replace("_", " "),
    }
    made.globals |= {"static": static_files.address, "path_of": path_of}
    # Why here: a part of a page is rendered by itself too, and knows nothing of its imports.
    made.globals["parts"] = made.get_template("parts.html").module
    return made


def _finalized(value: object) -> object:
    """Make visible what a template shows without a filter."""
    if type(value) in (Markup, int):
        return value
    return shown("" if value is None else value)


def visible(value: object) -> Markup:
    """Return a text in which each character that does not print is told and marked."""
    text = str(value)
    if text.isprintable():  # As nearly every text is.
        return escape(text)
    return Markup("").join(
        run
        if is_plain
        else Markup('<span class="unseen" title="does not print">{}</span>').format(run)
        for run, is_plain in runs_of(text)
    )


def cut(value: object, characters_max: int = CELL_MAX) -> Markup:
    """Return as much of a text as a cell has room for."""
    text = str(value)
    if len(text) <= characters_max:
        return visible(text)
    return visible(text[: characters_max - 1]) + "…"


def short(value: object) -> str:
    """Return a text as it may stand in an attribute or a title."""
    text = shown(value)
    return text if len(text) <= CELL_MAX else text[: CELL_MAX - 1] + "…"


def field(value: str) -> str:
    """Return a name as a hidden field holds it; `forms.Form.name` reads it.

    Why not as it is: a browser changes line ends, and what does not print is not sent as it was.
    """
    return quote(value, safe="")


def long_text(value: object, characters_max: int = TEXT_MAX) -> Markup:
    """Return the beginning of a text, and the rest behind something to open."""
    text = str(value)
    if len(text) <= characters_max:
        return visible(text)
    template = Markup(
        '{}… <details class="more"><summary>all {:,} characters</summary>{}</details>'
    )
    return template.format(visible(text[:characters_max]), len(text), visible(text))


def json_block(value: object) -> Markup:
    """Return a JSON value, laid out; a long one behind something to open.

    What looks like a secret is painted over.
    """
    text = json.dumps(masked(value), indent=2, ensure_ascii=False)
    lines = Markup("\n").join(visible(line) for line in text.split("\n"))
    block = Markup('<pre class="json">{}</pre>').format(lines)
    if text.count("\n") <= LINES_MAX and len(text) <= 4 * TEXT_MAX:
        return block
    first = " ".join(text[: CELL_MAX + 40].split())
    head = Markup("<code>{}…</code>").format(visible(first[:CELL_MAX]))
    return Markup('<details class="data"><summary>{}</summary>{}</details>').format(head, block)


def time_element(at: datetime | None, now: int) -> Markup:
    """Return an instant for people: how long ago it was, and when that is, UTC."""
    if at is None:
        return Markup("")
    template = Markup('<time data-age datetime="{}" title="{}">{}</time>')
    return template.format(at.isoformat(), when(at), age(at, now))


def path_of(transaction_id: str, *more: str) -> str:
    """Return the path of a transaction's page, whatever its id holds."""
    # Why twice: the server decodes once before it looks for slashes and dots in it.
    name = quote(transaction_id, safe="").replace(".", "%2E")
    return "/".join(("/transactions", quote(name, safe=""), *more))


def html(request: Request, name: str, values: Mapping[str, Any]) -> str:
    """Return a page as text."""
    return _environment().get_template(name).render(**_around(request), **values)


def page(request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return a page as an answer."""
    return HTMLResponse(html(request, name, values), status)


def live_part(request: Request, name: str, values: Mapping[str, Any]) -> str:
    """Return the part of a page that changes while somebody looks at it."""
    template = _environment().get_template(name)
    context = template.new_context({**_around(request, tells=False), **values})
    return "".join(template.blocks["live"](context))


def _around(request: Request, *, tells: bool = True) -> dict[str, Any]:
    """Return what each page shows around what it is about.

    Args:
        request: The request.
        tells: True where what is to be told to its session is told there.
    """
    service = service_of(request)
    session = request.scope["state"]["session"]
    values: dict[str, Any] = {
        "path": request.url.path,
        "place": service.place,
        "session": session,
        "csrf": "" if session is None else session.csrf,
        "now": service.clock.now(),
        "why_not": None,
        "flashes": [],
    }
    if session is not None:
        values["who"] = principal_of(request).name
        values["why_not"] = why_not(request)
        if tells:
            values["flashes"] = service.sessions.told(session)
    return values


def why_not(request: Request) -> str | None:
    """Return why somebody cannot act here; None where they can."""
    if not service_of(request).allows_actions:
        return "This server only shows. Start it with --allow-actions to act here."
    if "admin" not in principal_of(request).scopes:
        return "Your token may look, and not decide. Log in with one that has the scope admin."
    return None
