"""What the API shows.

Owns: every GET but the stream. None of them changes anything.
Rules:
  1. What is about the whole store is not shown to who may see one tenant only.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from aumai_transactions.core.possible import preview
from aumai_transactions.core.times import instant
from aumai_transactions.errors import InvalidTransactionState, JournalCorrupt, JournalTooNew
from aumai_transactions.store import Query
from aumai_transactions.web.api import answers, bodies, pages, telling
from aumai_transactions.web.api.replies import listed, of_sequence, tagged, unchanged
from aumai_transactions.web.api.requests import query_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from aumai_transactions.core.outcome import Attention
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.store import Listed
    from aumai_transactions.web.principals import Principal
    from aumai_transactions.web.service import Service

METADATA = "metadata."
LOOKS_MAX = 200_000
"""How many lines one search looks at; a search that finds little goes on from its `next`."""


async def list_transactions(request: Request) -> Response:
    """List transactions."""
    service, who = service_of(request), principal_of(request)
    wanted = query_of(request, bodies.ListQuery, METADATA)
    metadata = _metadata(request)
    filters = wanted.model_dump(mode="json", exclude={"cursor", "limit"}, exclude_defaults=True)
    filters[METADATA] = [list(one) for one in metadata]
    attention: bool | tuple[Attention, ...] = wanted.attention is not None
    if wanted.attention is not None and wanted.attention != "true":
        attention = (wanted.attention,)
    found, following = await _page(
        service,
        who,
        Query(
            states=tuple(wanted.state),
            attention=attention,
            after=pages.read(wanted.cursor, filters),
            limit=wanted.limit,
            newest_first=wanted.order == "newest",
            agents=_one(wanted.agent),
            actions=_one(wanted.action),
            metadata=metadata,
            tenant=wanted.tenant,
            text=wanted.q or "",
            created_from=_time("created_from", wanted.created_from),
            created_before=_time("created_before", wanted.created_before),
            updated_before=_changed_before(service, wanted.older_than),
        ),
    )
    cursor = None if following is None else pages.written(following, filters)
    lines = [telling.line(one) for one in found]
    return listed(request, answers.Lines(items=lines, next=cursor))


async def _page(service: Service, who: Principal, query: Query) -> tuple[list[Listed], int | None]:
    """Return one page of those that somebody may see, and behind which place the next begins."""
    if who.tenant is not None:
        if query.tenant not in (None, who.tenant):
            return [], None
        query = query._replace(tenant=who.tenant)
    return await service.transactions.page(query._replace(looks_max=LOOKS_MAX))


def _one(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)


def _metadata(request: Request) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.removeprefix(METADATA), text)
        for name, text in request.query_params.multi_items()
        if name.startswith(METADATA)
    )


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return (at - instant(0)) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        pass
    detail = "It is no time with a zone, such as 2026-02-27T12:00:00Z."
    more = {"errors": [{"pointer": f"/{name}", "detail": detail}]}
    raise Problem(422, "invalid-request", f"/{name}: {detail}", more=more)


def _changed_before(service: Service, seconds: float | None) -> int | None:
    return None if seconds is None else service.clock.now() - round(seconds * 1_000_000)


async def _look(request: Request) -> Look:
    name = request.path_params["transaction_id"]
    return await service_of(request).transactions.look(principal_of(request), name)


async def get_transaction(request: Request) -> Response:
    """Show all about one transaction."""
    query_of(request, bodies.NoQuery)
    look = await _look(request)
    tag = of_sequence(look.sequence)
    same = unchanged(request, tag)
    if same is not None:
        return same
    return tagged(telling.transaction(look, service_of(request).clock.now()), tag)


async def get_events(request: Request) -> Response:
    """Show the journal of a transaction."""
    wanted = query_of(request, bodies.EventsQuery)
    look = await _look(request)
    tag = of_sequence(look.sequence)
    same = unchanged(request, tag)
    if same is not None:
        return same
    part = telling.entries(look, wanted.after, wanted.limit)
    return tagged(answers.Entries.model_validate(part), tag)


async def get_preview(request: Request) -> Response:
    """Show what a rollback would do."""
    query_of(request, bodies.NoQuery)
    look = await _look(request)
    tag = of_sequence(look.sequence)
    same = unchanged(request, tag)
    if same is not None:
        return same
    undos: list[Any] = []
    left: list[str] = []
    why = None
    try:
        found = preview(look.saga, service_of(request).clock.now())
        left = found.left
        undos = [answers.UndoCall(**one._asdict()) for one in found.undos]
    except InvalidTransactionState as error:
        why = str(error)
    told = answers.Preview(is_possible=why is None, why_not=why, undos=undos, left=left)
    return tagged(told, tag)


async def list_attention(request: Request) -> Response:
    """List what needs a person, with what can be answered."""
    service, who = service_of(request), principal_of(request)
    wanted = query_of(request, bodies.AttentionQuery)
    filters = {"attention": list(wanted.kind)}
    after = pages.read(wanted.cursor, filters)
    query = Query(attention=tuple(wanted.kind) or True, after=after, limit=wanted.limit)
    found, following = await _page(service, who, query)
    items = [await _need(service, who, one) for one in found]
    cursor = None if following is None else pages.written(following, filters)
    return listed(request, answers.Needs(items=items, next=cursor), _AGE)


_AGE: Any = {"items": {"__all__": {"age_seconds"}}}


async def _need(service: Service, who: Principal, one: Listed) -> answers.Need:
    now = service.clock.now()
    line = telling.line(one)
    age = max(0, now - one.summary.updated_at) / 1_000_000
    try:
        look = await service.transactions.look(who, one.summary.transaction_id)
    except (JournalCorrupt, JournalTooNew) as error:
        return answers.Need(
            transaction=line,
            age_seconds=age,
            waiting=None,
            outstanding=[],
            approvals=[],
            actions=[],
            problem=str(error),
        )
    return answers.Need(
        transaction=line,
        age_seconds=age,
        waiting=look.result.waiting,
        outstanding=look.result.outstanding,
        approvals=telling.approvals(look.saga),
        actions=telling.actions(look.saga, now),
        problem=None,
    )


async def list_actions(request: Request) -> Response:
    """List the actions that this server can call."""
    query_of(request, bodies.NoQuery)
    items = [
        answers.Callable(
            name=action.name,
            compensating_action=action.compensating_action,
            confirming_action=action.confirming_action,
            idempotent=action.idempotent,
            effect=action.effect,
            requires_approval=None
            if callable(action.requires_approval)
            else action.requires_approval,
            timeout_seconds=action.timeout_seconds,
            undo_within_seconds=action.undo_within_seconds,
            has_probe=action.probe is not None,
            has_verify=action.verify is not None,
            is_once=action.once,
        )
        for action in service_of(request).transactions.actions()
    ]
    return listed(request, answers.Callables(items=sorted(items, key=lambda one: one.name)))


def _refuse_tenant(request: Request) -> Service:
    """Refuse what is about the whole store to who may see one tenant only.

    Raises:
        Problem: They may.
    """
    if principal_of(request).tenant is not None:
        detail = "That is about the whole store, and this token sees one tenant only."
        raise Problem(403, "forbidden", detail)
    return service_of(request)


async def list_locks(request: Request) -> Response:
    """List who holds which resource, and who waits for it."""
    service = _refuse_tenant(request)
    wanted = query_of(request, bodies.LocksQuery)
    return listed(request, answers.Locks(items=await service.transactions.locks(wanted.resource)))


async def list_workers(request: Request) -> Response:
    """List every driver that the store knows."""
    service = _refuse_tenant(request)
    query_of(request, bodies.NoQuery)
    found = await asyncio.to_thread(service.store.drivers)
    items = [
        answers.Worker(
            driver_id=one.driver_id,
            is_alive=one.is_alive,
            last_sign_at=None if one.last_sign_at is None else instant(one.last_sign_at),
            host=one.host,
            pid=one.pid,
            holds=list(one.holds),
        )
        for one in found
    ]
    return listed(request, answers.Workers(items=items))


async def get_health(request: Request) -> Response:
    """Show how the server and its store are."""
    service = _refuse_tenant(request)
    query_of(request, bodies.NoQuery)
    info = await asyncio.to_thread(service.store.info)
    tally = await asyncio.to_thread(service.store.tally)
    found = answers.Health(
        status="ok",
        version=version("aumai-transactions"),
        allows_actions=service.allows_actions,
        store=service.place,
        durable=info.durable,
        schema_version=info.schema_version,
        changes=info.changes,
        checks=info.checks,
        states={state.value: count for state, count in tally.states.items()},
        needing_a_person=sum(tally.attention.values()),
        streams=service.live.streams,
    )
    return listed(request, found)
