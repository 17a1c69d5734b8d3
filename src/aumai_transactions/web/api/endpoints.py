"""Every path of the API.

Owns: the list of endpoints, made of the table of operations.
"""

from __future__ import annotations

from aumai_transactions.web.api.openapi import everything
from aumai_transactions.web.api.operations import OF_STORE, PREFIX
from aumai_transactions.web.routing import Endpoint

ENDPOINTS: list[Endpoint] = [
    Endpoint(
        one.method, PREFIX + one.path, one.handle, one.needs, one.is_change, one.tag == OF_STORE
    )
    for one in everything()
]
