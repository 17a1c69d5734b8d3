"""How an answer leaves: as JSON, with what lets it be asked for again cheaply.

Owns: ETags, and the answer that nothing has changed.
Rules:
  1. The ETag of a transaction is its sequence, and is strong; that of a list is the store's change
     counter, and is weak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from starlette.requests import Request

JSON = "application/json"
CACHE = "no-cache, private"
"""Why not no-store, as for pages: an answer is asked for again with its ETag, and never shown
without that."""


def told(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer that tells something."""
    return Response(model.model_dump_json(), status, headers, JSON)


def of_sequence(sequence: int) -> str:
    """Return the ETag of a transaction."""
    return f'"{sequence}"'


def of_changes(changes: int) -> str:
    """Return the ETag of a list."""
    return f'W/"{changes}"'


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
