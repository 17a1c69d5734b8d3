"""What a scrape of the store's metrics is answered with.

Owns: `/metrics`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from aumai_transactions.telemetry.prometheus import CONTENT_TYPE, prometheus_text
from aumai_transactions.web.gate import METRICS
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import Endpoint, principal_of, service_of

if TYPE_CHECKING:
    from starlette.requests import Request


async def metrics(request: Request) -> Response:
    """Return the metrics of the whole store.

    Raises:
        Problem: Whoever asks may see one tenant's transactions only.
    """
    if principal_of(request).tenant is not None:
        detail = "The metrics tell of all tenants, and this token is one tenant's."
        raise Problem(403, "forbidden", detail)
    store = service_of(request).store
    text = await asyncio.to_thread(prometheus_text, store)
    return Response(text, media_type=CONTENT_TYPE)


ENDPOINTS = [Endpoint("GET", METRICS, metrics, "read")]
