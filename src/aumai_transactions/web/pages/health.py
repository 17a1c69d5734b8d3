"""Whether the store and this server are fine.

Owns: the page of facts; what to think of each is said where `doctor` says it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions import __version__
from aumai_transactions.store import Query
from aumai_transactions.web.pages.rendering import page
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.wording.verdicts import Finding, clock_of, facts_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def show(request: Request) -> Response:
    """Show them."""
    service, who = service_of(request), principal_of(request)
    info = await service.transactions.info()
    newest = await service.transactions.find(who, Query(limit=1, newest_first=True))
    mode = "looks and acts" if service.allows_actions else "only looks"
    lasting = "survives kill -9 and power loss" if info.durable else "ends with this process"
    found = [
        Finding("store", "ok" if info.durable else "note", service.place),
        Finding("what is acknowledged", "ok" if info.durable else "note", lasting),
        Finding("changes so far", "ok", f"{info.changes:,}"),
        *facts_of(info),
        clock_of(newest, service.clock.now()),
        Finding("this server", "ok", f"{mode}; for {service.person}"),
        Finding("aumai-transactions", "ok", __version__),
    ]
    values = {
        "findings": found,
        "wrong": [one for one in found if one.verdict == "wrong"],
        "tally": await service.transactions.tally(who),
        "doctor_line": service.command("doctor"),
        "verify_line": service.command("verify"),
    }
    return page(request, "health.html", values)
