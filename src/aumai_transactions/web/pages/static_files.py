"""The page's style, its scripts and nothing else, from a fixed list.

Owns: which static files there are, and how long a browser keeps them.
Rules:
  1. No name in a request leads to a file: a path is one of these, or there is nothing.
  2. A file's address holds a part of its digest, so it may be kept for a year and is still never
     the wrong one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response

from aumai_transactions.pictures import svg
from aumai_transactions.web.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

FOLDER = "/static/"
KINDS = {
    "page.css": "text/css; charset=utf-8",
    "timeline.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "hx-sse.min.js": "text/javascript; charset=utf-8",
}
KEPT = "public, max-age=31536000, immutable"
ASKED_AGAIN = "public, no-cache"


class _File(NamedTuple):
    content: bytes
    digest: str


@cache
def _file(name: str) -> _File:
    if name == "timeline.css":
        # Why: the same colours as in a picture that stands by itself, and written once.
        content = svg.STYLE.encode()
    else:
        content = (files("aumai_transactions.web.pages") / "static" / name).read_bytes()
    return _File(content, hashlib.sha256(content).hexdigest()[:20])


def paths() -> list[str]:
    """Return the paths of all static files."""
    return [FOLDER + name for name in KINDS]


def address(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    return f"{FOLDER}{name}?v={_file(name).digest}"


async def serve(request: Request) -> Response:
    """Answer with a static file."""
    name = request.url.path.removeprefix(FOLDER)
    if name not in KINDS:
        raise Problem(404, "not-found", "There is no such file.")
    content, digest = _file(name)
    is_exact = request.query_params.get("v") == digest
    headers = {"etag": f'"{digest}"', "cache-control": KEPT if is_exact else ASKED_AGAIN}
    if request.headers.get("if-none-match") == f'"{digest}"':
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": KINDS[name]})
