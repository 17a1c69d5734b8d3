"""How an answer leaves: as JSON, with what lets it be asked for again cheaply.

Owns: ETags, and the answer that nothing has changed.
Rules:
  1. The ETag of a transaction is its sequence; that of a list is a digest of what it tells.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic.main import IncEx
    from starlette.requests import Request

JSON = "application/json"
CACHE = "no-cache, private"
"""Why not no-store, as for pages: an answer is asked for again with its ETag, and never shown
without that."""


def told(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that tells something."""
    return Response(model.model_dump_json(), status, headers, JSON)


def of_sequence(sequence: int) -> str:
    """Return the ETag of a transaction."""
    return f'"{sequence}"'


def unchanged(request: Request, tag: str) -> Response | None:
    """Return the answer that nothing has changed; None where something may have."""
    given = request.headers.get("if-none-match")
    if given is None:
        return None
    known = {one.strip().removeprefix("W/") for one in given.split(",")}
    if "*" not in known and tag.removeprefix("W/") not in known:
        return None
    return Response(status_code=304, headers={"etag": tag, "cache-control": CACHE})


def tagged(model: BaseModel, tag: str) -> Response:
    """Return an answer with its ETag."""
    return told(model, headers={"etag": tag, "cache-control": CACHE})


def listed(request: Request, model: BaseModel, but: IncEx | None = None) -> Response:
    """Return a list with its ETag, or that it has not changed.

    Why no change counter of the store: a counter may move before what it counts can be seen, and
    the list of then would count as the list of now.

    Args:
        request: The request.
        model: The list.
        but: What of it changes by itself.
    """
    body = model.model_dump_json()
    digested = body if but is None else model.model_dump_json(exclude=but)
    tag = f'W/"{hashlib.sha256(digested.encode()).hexdigest()[:32]}"'
    same = unchanged(request, tag)
    if same is not None:
        return same
    return Response(body, 200, {"etag": tag, "cache-control": CACHE}, JSON)
