"""How a transaction is begun over the API, and how it gets its steps.

Owns: the two POSTs that say what is to be done.
Rules:
  1. A request names actions, and defines none (threat W12).
  2. A planned transaction is durable when its caller is told its id, and so is each of its steps.
     An interactive one is durable with its first step; before that there is nothing to undo.
  3. A step that is posted to an interactive one goes on when its caller does not wait any more.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.times import instant
from aumai_transactions.drivers.drafts import add_to_draft, begin_draft
from aumai_transactions.drivers.freezing import checked_timeout
from aumai_transactions.drivers.terms import Terms
from aumai_transactions.errors import TransactionNotFound
from aumai_transactions.models import DEFAULT_TIMEOUT_SECONDS, Output, Resource
from aumai_transactions.models import Transaction as Plan
from aumai_transactions.web import running
from aumai_transactions.web.api import answers, bodies, telling
from aumai_transactions.web.api.begun import noted, own
from aumai_transactions.web.api.replies import of_sequence, told
from aumai_transactions.web.api.requests import body_of, caller_of, query_of, wanted_by
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.core.definition import Definition
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.drivers.terms import Request as Named
    from aumai_transactions.models import TransactionStep
    from aumai_transactions.web.api.requests import Wanted

_PLANNED_ONLY = ("timeout_scope",)
_INTERACTIVE_ONLY = ("resume_within_seconds",)
_OF_BOTH = (
    "name",
    "on_crash",
    "on_compensation_failure",
    "parallel_compensation",
    "allow_irreversible_first",
    "on_undo_window",
    "isolation",
    "lock_timeout_seconds",
    "release_outstanding_locks",
    "crashes_max",
)
_STEP_OPTIONS = (
    "timeout_seconds",
    "after",
    "pivot",
    "on_commit",
    "confirming_action",
    "requires_approval",
    "approval_timeout_seconds",
    "undo_within_seconds",
)
REPLAYED = {"idempotent-replayed": "true"}
_beginning = asyncio.Lock()


async def begin(request: Request) -> Response:
    """Begin a transaction."""
    query_of(request, bodies.NoQuery)
    wanted = wanted_by(request)
    body, sent = await body_of(request, bodies.TransactionBody)
    if wanted.if_sequence is not None:
        raise Problem(412, "sequence-moved", "There is no transaction yet that If-Match can fit.")
    who = principal_of(request)
    named = None if wanted.key is None else wanted.named(caller_of(request), ["begin", sent])
    metadata = noted(who, body.metadata, named)
    options = {name: getattr(body, name) for name in _OF_BOTH if name in body.model_fields_set}
    options = {name: value for name, value in options.items() if value is not None}
    options["metadata"] = metadata
    if body.mode == "planned":
        look, is_replayed = await _begin_planned(request, body, named, options)
    else:
        look, is_replayed = await _begin_interactive(request, body, named, options)
    headers = {
        "location": f"/api/v1/transactions/{look.transaction.transaction_id}",
        "etag": of_sequence(look.sequence),
        **(REPLAYED if is_replayed else {}),
    }
    found = telling.transaction(look, service_of(request).clock.now())
    return told(found, 201, headers)


def _refuse(body: bodies.TransactionBody, fields: Sequence[str], mode: str) -> None:
    for name in fields:
        if name in body.model_fields_set and getattr(body, name) is not None:
            detail = f"It is for {mode} transactions only."
            more = {"errors": [{"pointer": f"/{name}", "detail": detail}]}
            raise Problem(422, "invalid-request", f"/{name}: {detail}", more=more)


async def _begin_planned(
    request: Request,
    body: bodies.TransactionBody,
    named: Named | None,
    options: dict[str, Any],
) -> tuple[Look, bool]:
    _refuse(body, _INTERACTIVE_ONLY, "interactive")
    if body.on_crash == "wait":
        detail = "`wait` is for interactive transactions only."
        more = {"errors": [{"pointer": "/on_crash", "detail": detail}]}
        raise Problem(422, "invalid-request", f"/on_crash: {detail}", more=more)
    service, who = service_of(request), principal_of(request)
    manager = service.transactions.manager()
    name = str(uuid.uuid4()) if named is None else await _id_under(request, named)
    plan = Plan(
        transaction_id=name,
        created_at=instant(service.clock.now()),
        timeout_seconds=checked_timeout(body.timeout_seconds or DEFAULT_TIMEOUT_SECONDS),
        timeout_scope=body.timeout_scope or "start",
        **options,
    )
    for step in body.steps:
        plan.steps.append(_step(manager, step, who.name, [one.step_id for one in plan.steps]))
    desk = await manager._desk()  # noqa: SLF001 (one package)
    drafted = await manager._run(begin_draft(desk, plan, Terms(named)))  # noqa: SLF001
    return await service.transactions.look(who, name), drafted.is_replayed


async def _begin_interactive(
    request: Request,
    body: bodies.TransactionBody,
    named: Named | None,
    options: dict[str, Any],
) -> tuple[Look, bool]:
    _refuse(body, [*_PLANNED_ONLY, *(["steps"] if body.steps else [])], "planned")
    service, who = service_of(request), principal_of(request)
    opened = service.opened
    if opened is None:
        raise _opens_none()
    if body.resume_within_seconds is not None:
        options["resume_within_seconds"] = body.resume_within_seconds
    seconds = body.timeout_seconds
    if seconds is not None and seconds > opened.timeout_seconds:
        detail = f"It is at most {opened.timeout_seconds:g} here."
        more = {"errors": [{"pointer": "/timeout_seconds", "detail": detail}]}
        raise Problem(422, "invalid-request", f"/timeout_seconds: {detail}", more=more)
    if named is None:
        one = await opened.begin(owner=who.name, timeout_seconds=seconds, **options)
        return await service.transactions.look(who, one.transaction_id), False
    name = await _id_under(request, named)
    # Why one at a time: the same request may come twice at once.
    async with _beginning:
        try:
            look = await service.transactions.look(who, name)
        except TransactionNotFound:
            await opened.begin(
                owner=who.name, timeout_seconds=seconds, transaction_id=name, **options
            )
            return await service.transactions.look(who, name), False
    known = (look.saga.plan.metadata or {}).get(telling.REQUEST, "")
    named.check(known.partition(".")[2], name)
    return look, True


def _opens_none() -> Problem:
    return Problem(403, "read-only", "This server opens no transactions.")


async def _id_under(request: Request, named: Named) -> str:
    """Return the id that a transaction has for its key: the same in every process."""
    info = await asyncio.to_thread(service_of(request).store.info)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{info.store_id}/{named.request_id}"))


async def add_step(request: Request) -> Response:
    """Add a step to a planned transaction, or carry one out in an interactive one."""
    query_of(request, bodies.NoQuery)
    wanted = wanted_by(request)
    body, sent = await body_of(request, bodies.StepBody)
    look = await own(request)
    if look.saga.is_interactive:
        return await _execute(request, body, sent, wanted)
    service, who = service_of(request), principal_of(request)
    manager = service.transactions.manager()
    name = look.transaction.transaction_id

    def make(plan: Definition) -> list[TransactionStep]:
        return [_step(manager, body, who.name, [one.step_id for one in plan.steps])]

    terms = wanted.terms(caller_of(request), ["step", name, sent])
    desk = await manager._desk()  # noqa: SLF001 (one package)
    drafted = await manager._run(add_to_draft(desk, name, make, terms))  # noqa: SLF001
    look = await service.transactions.look(who, name)
    headers = {"etag": of_sequence(look.sequence), **(REPLAYED if drafted.is_replayed else {})}
    found = telling.transaction(look, service.clock.now())
    added = answers.Added(steps=drafted.steps, transaction=found)
    return told(added, 201, headers)


def _step(manager: Any, body: bodies.StepBody, agent: str, taken: list[str]) -> TransactionStep:
    """Return a step of a planned transaction."""
    name = body.step_id or _free(taken)
    made: TransactionStep = manager._step(  # noqa: SLF001 (one package)
        name,
        body.agent_id or agent,
        body.action,
        _data(body),
        body.compensating_action,
        _options(body),
    )
    return made


def _free(taken: list[str]) -> str:
    known, number = set(taken), len(taken) + 1
    while f"s{number}" in known:
        number += 1
    return f"s{number}"


def _options(body: bodies.StepBody) -> dict[str, Any]:
    options = {name: getattr(body, name) for name in _STEP_OPTIONS}
    found = {name: value for name, value in options.items() if value not in (None, False)}
    if body.requires_approval is False:
        found["requires_approval"] = False
    if body.after is not None:
        found["after"] = body.after
    if body.retry is not None:
        found["retry"] = body.retry
    if body.resources is not None:
        found["resources"] = [Resource(name=use.name, mode=use.mode) for use in body.resources]
    return found


def _data(body: bodies.StepBody) -> dict[str, Any]:
    """Return the data of a step, with what is filled in later in its places."""
    if not body.references:
        return body.data
    data = copy.deepcopy(body.data)
    for number, one in enumerate(body.references):
        into: Any = data
        try:
            for part in one.into[:-1]:
                into = into[part]
            if isinstance(into, list) and one.into[-1] == len(into):
                into.append(None)
            into[one.into[-1]] = Output(one.step_id, one.at, one.type)
        except (KeyError, IndexError, TypeError):
            pointer = f"/references/{number}/into"
            detail = "There is no such place in the data."
            more = {"errors": [{"pointer": pointer, "detail": detail}]}
            raise Problem(422, "invalid-request", f"{pointer}: {detail}", more=more) from None
    return data


async def _execute(
    request: Request, body: bodies.StepBody, sent: dict[str, Any], wanted: Wanted
) -> Response:
    """Carry out a step of an interactive transaction."""
    service, who = service_of(request), principal_of(request)
    if service.running is None:
        raise _opens_none()
    name = request.path_params["transaction_id"]
    step = running.Wanted(
        body.agent_id or who.name,
        body.action,
        _data(body),
        body.compensating_action,
        body.step_id,
        _options(body),
    )
    terms = Terms(wanted.named(caller_of(request), ["step", name, sent]), wanted.if_sequence)
    found = await service.running.execute(who, name, step, terms, wanted.wait_seconds)
    look = found.look
    answer = answers.Executed(
        step=telling.step(look.saga.by_id[found.step_id]),
        transaction_id=name,
        state=look.saga.state,
        sequence=look.sequence,
        waiting=look.result.waiting,
    )
    headers = {"etag": of_sequence(look.sequence), **(REPLAYED if found.is_replayed else {})}
    return told(answer, 200 if found.is_over else 202, headers)
