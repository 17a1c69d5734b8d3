"""Every page, and the static files.

Owns: the list of endpoints that are for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.web.gate import LOGIN
from aumai_transactions.web.pages import (
    asking,
    attention,
    bulk,
    health,
    listing,
    login,
    one,
    static_files,
    workers,
)
from aumai_transactions.web.routing import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

TRANSACTION = "/transactions/{name}"


def static_paths() -> Iterable[str]:
    """Return the exact paths of the static files, which are open to all."""
    return static_files.paths()


def endpoints() -> list[Endpoint]:
    """Return what serves each page."""
    return [
        *(Endpoint("GET", path, static_files.serve, None) for path in static_files.paths()),
        Endpoint("GET", LOGIN, login.show, None),
        Endpoint("POST", LOGIN, login.log_in, None),
        Endpoint("POST", "/logout", login.log_out, None),
        Endpoint("GET", "/", listing.show, "read", is_list=True),
        Endpoint("GET", "/live", listing.follow, "read"),
        Endpoint("POST", "/bulk", bulk.act, "admin", changes=True),
        Endpoint("GET", TRANSACTION, one.show, "read"),
        Endpoint("GET", f"{TRANSACTION}/live", one.follow, "read"),
        Endpoint("GET", f"{TRANSACTION}/timeline.svg", one.picture, "read"),
        Endpoint("POST", f"{TRANSACTION}/ask", asking.act, "admin", changes=True),
        Endpoint("GET", "/attention", attention.show, "read", is_list=True),
        Endpoint("GET", "/attention/live", attention.follow, "read"),
        Endpoint("GET", "/workers", workers.show, "read", is_list=True),
        Endpoint("GET", "/workers/live", workers.follow, "read"),
        Endpoint("GET", "/health", health.show, "read", is_list=True),
    ]
