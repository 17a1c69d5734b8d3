"""Whose a transaction is that was begun over the API.

Owns: what the server notes in a transaction's metadata, and who may carry it on.
Rules:
  1. Who carries on a transaction has begun it; of all others' they are told that there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors import TransactionNotFound
from aumai_transactions.web.api.telling import OWN_METADATA, PRINCIPAL, REQUEST, SERVICE
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.web.transactions import PLACE

if TYPE_CHECKING:
    from starlette.requests import Request

    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.drivers.terms import Request as Named
    from aumai_transactions.web.principals import Principal

THIS = "api"
"""What the metadata call this service: what another one has begun is not carried on here."""

TENANT = "tenant"


def noted(who: Principal, given: dict[str, str], named: Named | None) -> dict[str, str]:
    """Return the metadata of a new transaction.

    Args:
        who: Who begins it.
        given: What they note.
        named: Which request it is.

    Raises:
        Problem: They note what only the server does, or begin another tenant's.
    """
    for name in OWN_METADATA:
        if name in given:
            raise _refused(name, "That name is the server's own.")
    if who.tenant is not None and given.get(TENANT, who.tenant) != who.tenant:
        raise _refused(TENANT, "This token begins transactions of its own tenant only.")
    found = {**given, PRINCIPAL: who.name, SERVICE: THIS}
    if who.tenant is not None:
        found[TENANT] = who.tenant
    if named is not None:
        found[REQUEST] = named.append_id
    return found


def _refused(name: str, detail: str) -> Problem:
    pointer = f"/metadata/{name}"
    more = {"errors": [{"pointer": pointer, "detail": detail}]}
    return Problem(422, "invalid-request", f"{pointer}: {detail}", more=more)


def is_theirs(who: Principal, saga: Saga) -> bool:
    """Tell whether somebody has begun a transaction here."""
    found = saga.plan.metadata or {}
    return (found.get(PRINCIPAL), found.get(SERVICE)) == (who.name, THIS)


async def own(request: Request) -> Look:
    """Return the transaction that a request is about, and that its caller has begun.

    Raises:
        TransactionNotFound: There is none, or somebody else has.
    """
    who, name = principal_of(request), request.path_params["transaction_id"]
    look = await service_of(request).transactions.look(who, name)
    if not is_theirs(who, look.saga):
        raise TransactionNotFound(name, PLACE)
    return look


async def own_or_any(request: Request) -> Look:
    """Return the transaction that a request is about: an admin's may be anybody's.

    Raises:
        TransactionNotFound: There is none, or it is not theirs.
    """
    who, name = principal_of(request), request.path_params["transaction_id"]
    if "admin" in who.scopes:
        return await service_of(request).transactions.look(who, name)
    return await own(request)
