"""How a transaction is told: from what the store has to what an answer may say.

Owns: that way, and nothing else: what is told is in `answers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.outcome import step_of
from aumai_transactions.core.possible import possible
from aumai_transactions.core.times import instant
from aumai_transactions.web.api import answers

if TYPE_CHECKING:
    from datetime import datetime

    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.models import TransactionResult
    from aumai_transactions.store import Listed

PRINCIPAL, SERVICE, REQUEST = "principal", "service", "request"
OWN_METADATA = (PRINCIPAL, SERVICE, REQUEST)
"""What the server notes in a transaction's metadata, and callers cannot."""


def line(listed: Listed) -> answers.Line:
    """Return a transaction as a list tells it."""
    return line_of(listed.summary, listed.driver_id)


def line_of(summary: Summary, driver_id: str | None) -> answers.Line:
    """Return a transaction as a list tells it."""
    return answers.Line(
        transaction_id=summary.transaction_id,
        state=summary.state,
        name=summary.name,
        created_at=instant(summary.created_at),
        updated_at=instant(summary.updated_at),
        steps=summary.steps,
        completed=summary.completed,
        agents=list(summary.agents),
        attention=summary.attention,
        is_going_on=summary.runnable,
        due_at=None if summary.due_at is None else instant(summary.due_at),
        tenant=summary.tenant,
        driver_id=driver_id,
    )


def transaction(look: Look, now: int) -> answers.Transaction:
    """Return all about a transaction."""
    saga, plan, result = look.saga, look.saga.plan, look.result
    noted = plan.metadata or {}
    return answers.Transaction(
        transaction_id=saga.transaction_id,
        mode=plan.shape,
        state=saga.state,
        sequence=saga.sequence,
        name=plan.name,
        created_at=instant(plan.created_at),
        deadline=_instant(plan.deadline),
        timeout_seconds=plan.timeout_seconds,
        timeout_scope=plan.timeout_scope,
        on_crash=plan.on_crash,
        on_compensation_failure=plan.on_compensation_failure,
        isolation=plan.isolation,
        metadata={key: text for key, text in noted.items() if key not in OWN_METADATA},
        begun_by=noted.get(PRINCIPAL),
        driver_id=look.driver_id,
        is_going_on=look.is_runnable,
        attention=look.summary.attention,
        steps=[step(one) for one in saga.steps],
        groups=groups(saga),
        result=result_of(result),
        waiting=result.waiting,
        approvals=approvals(saga),
        actions=actions(saga, now),
    )


def _instant(microseconds: float) -> datetime | None:
    """Return a time; None where it is beyond every calendar."""
    try:
        return instant(round(microseconds))
    except (OverflowError, ValueError):
        return None


def result_of(result: TransactionResult) -> answers.Result:
    """Return an outcome."""
    return answers.Result(**{name: getattr(result, name) for name in answers.Result.model_fields})


def step(one: SagaStep) -> answers.Step:
    """Return a step."""
    shown = step_of(one)
    error = one.undo_error or one.error
    return answers.Step(
        step_id=shown.step_id,
        agent_id=shown.agent_id,
        action=shown.action,
        data=shown.data,
        compensating_action=shown.compensating_action,
        confirming_action=shown.confirming_action,
        state=shown.state,
        after=shown.after,
        references=[answers.Reference(**item.model_dump()) for item in shown.references],
        pivot=shown.pivot,
        on_commit=shown.on_commit,
        requires_approval=shown.requires_approval,
        scope_id=shown.scope_id,
        attempt=one.attempt,
        output=one.output,
        error=None if error is None else str(error),
        undo_before=None if one.undo_until is None else instant(one.undo_until),
    )


def groups(saga: Saga) -> list[answers.Group]:
    """Return the savepoints and nested transactions of one."""
    return [
        answers.Group(
            scope_id=scope.definition.scope_id,
            kind=scope.definition.kind,
            name=scope.definition.name,
            parent=scope.definition.parent,
            state=scope.state,
            steps=[saga.steps[index].step_id for index in scope.steps],
        )
        for scope in saga.scopes.values()
    ]


def approvals(saga: Saga) -> list[answers.Approval]:
    """Return what a person is asked to allow."""
    found = []
    for index, until in saga.approvals.items():
        one = saga.steps[index]
        if one.approval is None:
            continue
        found.append(
            answers.Approval(
                step_id=one.step_id,
                agent_id=one.definition.agent_id,
                action=one.definition.action,
                compensating_action=one.definition.compensating_action,
                data=one.definition.data if one.approval.data is None else one.approval.data,
                digest=one.approval.digest,
                until=None if until is None else instant(until),
            )
        )
    return found


def actions(saga: Saga, now: int) -> list[answers.PossibleAction]:
    """Return what can be asked for now."""
    return [
        answers.PossibleAction(
            name=one.name,  # type: ignore[arg-type]  # (of a closed set there as well)
            step_id=one.step_id,
            answers=list(one.answers),
            needs_note=one.needs_note,
        )
        for one in possible(saga, now)
    ]


def entries(look: Look, after: int, limit: int) -> dict[str, Any]:
    """Return a part of a journal."""
    items = [
        answers.Entry(**event.model_dump(exclude={"transaction_id"}), hash=hashed.hex())
        for event, hashed in zip(
            look.events[after : after + limit], look.hashes[after : after + limit], strict=True
        )
    ]
    following = after + len(items)
    is_last = following >= len(look.events)
    return {"items": items, "next": None if is_last or not items else following}
