"""What can be asked of a transaction over the API.

Owns: every POST but those that say what is to be done.
Rules:
  1. Whoever began a transaction ends it; what a person decides, and the rollback of anybody's, is
     for the scope `admin`.
  2. Who asked, and why, stands in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.observations import (
    ApprovalAnswered,
    CommitCalled,
    Observation,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    TrustAnswered,
)
from aumai_transactions.core.possible import possible
from aumai_transactions.errors import InvalidTransactionState, UnknownAction
from aumai_transactions.web.api import answers, bodies, telling
from aumai_transactions.web.api.beginning import REPLAYED
from aumai_transactions.web.api.begun import own, own_or_any
from aumai_transactions.web.api.replies import of_sequence, told
from aumai_transactions.web.api.requests import (
    Wanted,
    body_of,
    caller_of,
    query_of,
    wanted_by,
)
from aumai_transactions.web.problems import Problem, problem_of
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.web.transactions import is_at_rest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.integrations.open_transaction import OpenTransaction
    from aumai_transactions.web.transactions import Answered


def _stands(request: Request, look: Look, wanted: Wanted, *, is_replayed: bool) -> Response:
    """Return how a transaction stands once something was asked of it."""
    headers = {"etag": of_sequence(look.sequence), **(REPLAYED if is_replayed else {})}
    if wanted.wait_seconds is not None:
        headers["preference-applied"] = f"wait={wanted.wait_seconds}"
    found = telling.transaction(look, service_of(request).clock.now())
    return told(found, 200 if is_at_rest(look.saga) else 202, headers)


async def _ask(
    request: Request, wish: Observation, asked: list[Any], *, drives: bool = True
) -> Response:
    wanted = wanted_by(request)
    name = request.path_params["transaction_id"]
    answered: Answered = await service_of(request).transactions.request(
        principal_of(request),
        name,
        wish,
        wanted.terms(caller_of(request), [*asked, name]),
        wait_max_seconds=wanted.wait_seconds or 0,
        drives=drives,
    )
    return _stands(request, answered.look, wanted, is_replayed=answered.is_replayed)


async def commit(request: Request) -> Response:
    """Carry out a planned transaction here, or end an interactive one."""
    query_of(request, bodies.NoQuery)
    await body_of(request, bodies.EmptyBody)
    look = await own(request)
    if look.saga.is_interactive:
        await _open(request, look)
    else:
        _refuse_unknown(request, look)
    return await _ask(request, CommitCalled(principal_of(request).name), ["commit"])


def _refuse_unknown(request: Request, look: Look) -> None:
    """Refuse what nobody here could carry out.

    Raises:
        UnknownAction: An action is not known here.
    """
    steps = [step.definition for step in look.saga.steps]
    names = [name for one in steps for name in (one.action, one.compensating_action) if name]
    registry = service_of(request).transactions.manager().actions
    missing = registry.missing(names)
    if missing and not look.saga.plan.actions:
        hint = "Leave it to workers with submit, or start the server with the --app that has it."
        raise UnknownAction(missing, look.saga.transaction_id, f"{hint} Nothing was run.")


async def submit(request: Request) -> Response:
    """Leave a planned transaction to workers."""
    query_of(request, bodies.NoQuery)
    await body_of(request, bodies.EmptyBody)
    look = await own(request)
    if look.saga.is_interactive:
        detail = "An interactive transaction is ended by commit."
        raise Problem(409, "invalid-transaction-state", detail)
    wish = CommitCalled(principal_of(request).name)
    return await _ask(request, wish, ["submit"], drives=False)


async def _open(request: Request, look: Look) -> OpenTransaction | None:
    """Open an interactive transaction here again, where its process has died.

    One that has let its caller go on without it is not.
    """
    service, who = service_of(request), principal_of(request)
    saga = look.saga
    if service.opened is None or saga.state.is_final or saga.commit_requested:
        return None
    return await service.opened.find(saga.transaction_id, owner=who.name)


async def rollback(request: Request) -> Response:
    """Undo a transaction."""
    query_of(request, bodies.NoQuery)
    body, _ = await body_of(request, bodies.NoteBody)
    await own_or_any(request)
    wish = RollbackCalled(principal_of(request).name, body.note)
    return await _ask(request, wish, ["rollback", body.note])


async def make_savepoint(request: Request) -> Response:
    """Make a savepoint in an interactive transaction."""
    query_of(request, bodies.NoQuery)
    body, _ = await body_of(request, bodies.SavepointBody)
    return await _savepoint(request, body.name, is_back=False)


async def rollback_savepoint(request: Request) -> Response:
    """Undo what was executed since a savepoint."""
    query_of(request, bodies.NoQuery)
    await body_of(request, bodies.EmptyBody)
    return await _savepoint(request, request.path_params["name"], is_back=True)


async def _savepoint(request: Request, savepoint: str, *, is_back: bool) -> Response:
    look, wanted = await own(request), wanted_by(request)
    service, who = service_of(request), principal_of(request)
    name = look.saga.transaction_id
    if not look.saga.is_interactive or service.opened is None:
        detail = "Only an interactive transaction has savepoints."
        raise Problem(409, "invalid-transaction-state", detail)
    one = await service.opened.find(name, owner=who.name)
    terms = wanted.terms(caller_of(request), ["savepoint", name, savepoint, is_back])
    done = one.rollback_to if is_back else one.savepoint
    is_replayed = await done(savepoint, terms)
    look = await service.transactions.look(who, name)
    headers = {"etag": of_sequence(look.sequence), **(REPLAYED if is_replayed else {})}
    found = telling.transaction(look, service.clock.now())
    return told(found, 200 if is_back else 201, headers)


async def approve(request: Request) -> Response:
    """Allow a step that waits for a person."""
    query_of(request, bodies.NoQuery)
    body, sent = await body_of(request, bodies.ApproveBody)
    step = request.path_params["step_id"]
    by = principal_of(request).name
    wish = ApprovalAnswered(step, True, by, body.note, body.digest)  # noqa: FBT003
    return await _ask(request, wish, ["approve", step, sent])


async def deny(request: Request) -> Response:
    """Refuse a step that waits for a person; the transaction goes back."""
    query_of(request, bodies.NoQuery)
    body, sent = await body_of(request, bodies.NoteBody)
    step = request.path_params["step_id"]
    wish = ApprovalAnswered(step, False, principal_of(request).name, body.note)  # noqa: FBT003
    return await _ask(request, wish, ["deny", step, sent])


async def retry(request: Request) -> Response:
    """Try a step, or its undo, once more now."""
    query_of(request, bodies.NoQuery)
    body, sent = await body_of(request, bodies.NoteBody)
    step = request.path_params["step_id"]
    wish = RetryAsked(step, principal_of(request).name, body.note)
    return await _ask(request, wish, ["retry", step, sent])


async def resolve(request: Request) -> Response:
    """Say what happened to a step, or what was done about it."""
    query_of(request, bodies.NoQuery)
    body, sent = await body_of(request, bodies.ResolveBody)
    step = request.path_params["step_id"]
    wish = ResolutionAnswered(step, body.answer, principal_of(request).name, body.note)
    return await _ask(request, wish, ["resolve", step, sent])


async def trust(request: Request) -> Response:
    """Let a transaction go on that came out of a backup."""
    query_of(request, bodies.NoQuery)
    body, sent = await body_of(request, bodies.NoteBody)
    wish = TrustAnswered(principal_of(request).name, body.note)
    return await _ask(request, wish, ["trust", sent])


async def bulk(request: Request) -> Response:
    """Ask the same of many transactions; each has its own outcome."""
    query_of(request, bodies.NoQuery)
    wanted = wanted_by(request)
    if wanted.if_sequence is not None:
        detail = "If-Match is about one transaction, and this about many."
        raise Problem(400, "bad-request", detail)
    body, _ = await body_of(request, bodies.BulkBody)
    names = list(dict.fromkeys(body.transaction_ids))
    items = [await _one_of_many(request, body, wanted, name) for name in names]
    return told(answers.Bulk(items=items))


async def _one_of_many(
    request: Request, body: bodies.BulkBody, wanted: Wanted, name: str
) -> answers.BulkOutcome:
    service, who = service_of(request), principal_of(request)
    steps: list[str] = []
    is_replayed, problem, state = False, None, None

    def retried(saga: Saga) -> list[Observation]:
        now = service.clock.now()
        steps[:] = [one.step_id or "" for one in possible(saga, now) if one.name == "retry"]
        if not steps:
            hint = "Nothing of it can be tried again now."
            raise InvalidTransactionState(name, saga.state.value, "retry a step of", hint)
        return [RetryAsked(step, who.name, body.note) for step in steps]

    back = RollbackCalled(who.name, body.note)
    terms = wanted.terms(caller_of(request), ["bulk", body.action, body.note, name])
    try:
        wish = back if body.action == "rollback" else retried
        answered = await service.transactions.request(who, name, wish, terms)
        is_replayed, state = answered.is_replayed, answered.look.saga.state
    except Exception as error:  # noqa: BLE001 (its own outcome, and none of the others')
        problem = problem_of(error).document()
    return answers.BulkOutcome(
        transaction_id=name,
        outcome="accepted" if problem is None else "refused",
        steps=steps,
        is_replayed=is_replayed,
        state=state,
        problem=problem,
    )
