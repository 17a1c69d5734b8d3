"""Every path of the API.

Owns: the list of endpoints.
"""

from __future__ import annotations

from aumai_transactions.web.routing import Endpoint

ENDPOINTS: list[Endpoint] = []
