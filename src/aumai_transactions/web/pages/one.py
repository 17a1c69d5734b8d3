"""The page of one transaction.

Owns: what it shows, and how much of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from markupsafe import Markup
from starlette.responses import Response

from aumai_transactions.pictures import svg
from aumai_transactions.timelines.outcome import without_advice
from aumai_transactions.web.pages.changes import stream
from aumai_transactions.web.pages.rendering import live_part, page
from aumai_transactions.web.pages.story import journal_lines, step_rows, story_of
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from aumai_transactions.drivers.overview import Look

STEPS_MAX = 200
ENTRIES_MAX = 200


def name_of(request: Request) -> str:
    """Return which transaction is meant."""
    return unquote(request.path_params["name"])


async def look_of(request: Request) -> Look:
    """Return all about the transaction that is meant.

    Raises:
        TransactionNotFound: There is none that this person may see.
        JournalCorrupt: Its journal is damaged.
    """
    return await service_of(request).transactions.look(principal_of(request), name_of(request))


async def show(request: Request) -> Response:
    """Show a transaction."""
    return page(request, "one.html", await values_of(request, await look_of(request)))


async def follow(request: Request) -> Response:
    """Show a transaction as it changes."""
    await look_of(request)

    async def render() -> str:
        return live_part(request, "one.html", await values_of(request, await look_of(request)))

    return await stream(request, render)


async def picture(request: Request) -> Response:
    """Answer with the picture of a transaction, as a file that stands by itself."""
    story = story_of(service_of(request), await look_of(request))
    text = svg.drawn(story["timeline"], story["result"])
    headers = {
        "content-disposition": "attachment; filename=timeline.svg",
        # Why another policy: its style stands in it, and no script runs in it.
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return Response(text, media_type="image/svg+xml", headers=headers)


async def values_of(request: Request, look: Look, conflict: Any = None) -> dict[str, Any]:
    """Return what the page of a transaction shows."""
    service = service_of(request)
    story = story_of(service, look)
    wants_all = request.query_params.get("all") == "1"
    rows, lines = step_rows(story["timeline"]), journal_lines(look)
    waiting = look.result.waiting
    drawn = svg.drawn(story["timeline"], story["result"], is_inside=True)
    is_under_way = look.is_runnable and not look.result.is_final
    unattended = await service.transactions.unattended() if is_under_way else set()
    return {
        **story,
        "steps": rows if wants_all else rows[:STEPS_MAX],
        "steps_count": len(rows),
        "lines": lines if wants_all else lines[-ENTRIES_MAX:],
        "lines_count": len(lines),
        "picture": Markup(drawn),  # noqa: S704 (escaped where it is drawn)
        "show_line": service.command("show", look.transaction.transaction_id),
        "verify_line": service.command("verify", look.transaction.transaction_id),
        "waits_for": "" if waiting is None else without_advice(waiting.detail),
        "is_alive": look.transaction.transaction_id not in unattended if is_under_way else None,
        "conflict": conflict,
        "live": f"{story['path_here']}/live" + ("?all=1" if wants_all else ""),
    }
