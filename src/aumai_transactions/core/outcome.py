"""What a saga looks like from outside: a result, a summary, the caller's own object.

Owns: every projection of a saga. A projection shows; it decides nothing.
Rules:
  1. Nothing that was swallowed, simulated, left unknown or left standing is missing here
     (invariant I12).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from aumai_transactions.core.planning import needs_person, next_to_undo, wake_at
from aumai_transactions.core.states import (
    ACTIVE,
    COMPENSATING,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.values import clone
from aumai_transactions.models import (
    OutputReference,
    OutstandingCompensation,
    RetryPolicy,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
    Waiting,
)

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Retry
    from aumai_transactions.core.saga import Saga, SagaStep

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Attention = Literal["outstanding", "in_doubt", "halted"]


class Summary(NamedTuple):
    """Hold what a store keeps beside a journal, so that lists need not read journals.

    Args:
        transaction_id: The transaction.
        state: Its state.
        created_at: When it was begun, microseconds since 1970 UTC.
        updated_at: The time of its last entry, microseconds since 1970 UTC.
        timeout_seconds: As declared.
        steps: How many steps it has.
        completed: How many of them have completed.
        agents: The distinct agents, in order of appearance.
        attention: Why a person has to look at it, if one has to.
        runnable: True where a driver would have something to do.
        name: What people call it.
        due_at: When a driver would have something to do, where that is later: microseconds since
            1970 UTC.
    """

    transaction_id: str
    state: TransactionState
    created_at: int
    updated_at: int
    timeout_seconds: int | float
    steps: int
    completed: int
    agents: tuple[str, ...]
    attention: Attention | None
    runnable: bool
    name: str | None = None
    due_at: int | None = None


def summary_of(saga: Saga) -> Summary:
    """Return what a store keeps beside the journal of this saga."""
    definition = saga.plan
    # Why the short cut: this is made for every append, and nearly none has any trouble.
    smooth = saga.state is ACTIVE and not saga.doubtful and not saga.waiting
    return Summary(
        saga.transaction_id,
        saga.state,
        definition.created_at,
        saga.updated_at,
        definition.timeout_seconds,
        len(saga.steps),
        len(saga.completed),
        saga.agents,
        None if smooth else attention_of(saga),
        smooth or is_runnable(saga),
        definition.name,
        None if smooth else wake_at(saga),
    )


def attention_of(saga: Saga) -> Attention | None:
    """Return why a person has to look at this saga, if one has to."""
    if saga.halted:
        return "halted"
    if saga.state is ACTIVE and _asking(saga):
        return "in_doubt"
    if saga.state is ROLLED_BACK and any(_is_outstanding(saga, step) for step in saga.steps):
        return "outstanding"
    return None


def is_runnable(saga: Saga) -> bool:
    """True where a driver that claims this saga would have something to do."""
    if saga.state is PENDING:
        return saga.commit_requested or saga.rollback_requested is not None
    if saga.state is ACTIVE:
        if saga.running or saga.rollback_requested or wake_at(saga) is not None:
            return True
        return not _asking(saga)
    return any(index not in saga.blocked for index in saga.undo) or (
        saga.state is COMPENSATING and not saga.halted
    )


def needed_actions(saga: Saga) -> list[str]:
    """Return the names of the actions that finishing this saga may call, whichever way it goes.

    Undoing a simulated step calls nothing that must exist.
    """
    if saga.state is ACTIVE:
        forward = [
            step.definition.action for step in saga.steps if step.state in _MAY_STILL_BE_CALLED
        ]
        back = [step for step in saga.steps if not step.simulated]
    elif saga.state is PENDING and saga.rollback_requested is None:
        forward = [step.definition.action for step in saga.steps]
        back = saga.steps
    elif saga.state is PENDING:
        forward, back = [], saga.steps
    else:
        forward = []
        back = [saga.steps[index] for index in saga.undo if not saga.steps[index].simulated]
    undoing = [step.definition.compensating_action for step in back]
    return [*forward, *(name for name in undoing if name is not None)]


_MAY_STILL_BE_CALLED = frozenset({STEP_PENDING, STEP_RUNNING, STEP_IN_DOUBT})


def waiting_of(saga: Saga) -> Waiting | None:
    """Return what a saga waits for; None where it is pending, or where nothing is left to do.

    A finished one waits where an undo of it is tried once more.
    """
    if saga.state is PENDING or (saga.state.is_final and not saga.undo):
        return None
    if saga.halted and next_to_undo(saga) is None:
        return _halted(saga)
    asking = _asking(saga) if saga.state is ACTIVE else []
    if asking and not saga.running and not saga.rollback_requested:
        return _in_doubt(saga, asking)
    due = wake_at(saga)
    if due is not None:
        return _until(saga, due)
    if saga.driver_id is None:
        detail = "nobody carries it on now; it goes on with wait(), or: aumai-transactions recover"
    else:
        detail = "it is under way; if its process has died, run: aumai-transactions recover"
    return Waiting(reason="running", detail=detail)


def _halted(saga: Saga) -> Waiting:
    name = saga.transaction_id
    steps = [saga.steps[index].step_id for index in sorted(saga.halted)]
    retry = f"aumai-transactions retry {name} {steps[0]}, or "
    if saga.step(steps[0]).outstanding == "no_compensation":
        retry = ""
    detail = (
        f"the compensation of {', '.join(steps)} failed and the policy is halt. Then: "
        f"{retry}undo it by hand and: "
        f"aumai-transactions resolve {name} {steps[0]} --undone --note '…'"
    )
    return Waiting(reason="halted", detail=detail, step_ids=steps)


def _in_doubt(saga: Saga, asking: list[SagaStep]) -> Waiting:
    steps = [step.step_id for step in asking]
    name = saga.transaction_id
    late = [step.step_id for step in asking if step.late_output is not None]
    heard = f" ({', '.join(late)} returned late, as if it had)" if late else ""
    detail = (
        f"nobody knows whether {', '.join(steps)} happened{heard}. Find out, then: "
        f"aumai-transactions resolve {name} {steps[0]} --happened | --did-not-happen --note '…'"
    )
    return Waiting(reason="in_doubt", detail=detail, step_ids=steps)


def _until(saga: Saga, due: int) -> Waiting:
    until = instant(due)
    when = until.isoformat(timespec="seconds").replace("+00:00", "Z")
    waiting = [saga.steps[index] for index, at in saga.waiting.items() if at == due]
    if saga.state is not ACTIVE:
        following = next_to_undo(saga)
        waiting = [following] if following is not None else []
    name = saga.transaction_id
    steps = [step.step_id for step in waiting]
    if waiting and waiting[0].due_at is None:
        detail = (
            f"a call of {steps[0]} was given up and may act yet; its undo waits for it until "
            f"{when}. Then it goes on with wait(), or: aumai-transactions recover; without waiting "
            f"with: aumai-transactions retry {name} {steps[0]}"
        )
        return Waiting(reason="left_behind", detail=detail, step_ids=steps, until=until)
    detail = (
        f"the next attempt of {', '.join(steps)} is due at {when}. Then it goes on with wait(), "
        f"or: aumai-transactions recover; at once with: aumai-transactions retry {name} {steps[0]}"
    )
    return Waiting(reason="retry", detail=detail, step_ids=steps, until=until)


def result_of(saga: Saga, *, durable: bool) -> TransactionResult:
    """Return the whole outcome so far."""
    steps = saga.steps
    outputs = {
        steps[index].step_id: clone(steps[index].output)
        for index in saga.completed
        if steps[index].output is not None
    }
    error = saga.error
    failed_step = saga.failed_step
    if failed_step is None and saga.doubtful and not saga.state.is_final:
        doubtful = steps[next(iter(saga.doubtful))]
        failed_step, error = doubtful.step_id, doubtful.error
    return TransactionResult.made(
        {
            "transaction_id": saga.transaction_id,
            "state": saga.state,
            "completed_steps": [steps[index].step_id for index in saga.completed],
            "failed_step": failed_step,
            "error": str(error) if error else None,
            "reason": saga.reason,
            "outputs": outputs,
            "compensated_steps": [steps[index].step_id for index in saga.undone],
            "uncompensated": _uncompensated(saga),
            "outstanding": _outstanding(saga),
            "unverified": [] if not saga.undone else _unverified(saga),
            "simulated_steps": [step.step_id for step in steps if step.simulated],
            "warnings": list(saga.warnings),
            "durable": durable,
            "waiting": waiting_of(saga),
            "started_at": _instant(saga.started_at),
            "finished_at": _instant(saga.finished_at),
        }
    )


def transaction_of(saga: Saga) -> Transaction:
    """Return a new `Transaction` that shows this saga."""
    definition = saga.plan
    steps = [
        TransactionStep(
            step_id=step.step_id,
            agent_id=step.definition.agent_id,
            action=step.definition.action,
            data=clone(step.resolved_data),
            compensating_action=step.definition.compensating_action,
            state=step.state,
            after=None if step.definition.after is None else list(step.definition.after),
            references=[
                OutputReference(into=list(item.into), step_id=item.step_id, at=item.at)
                for item in step.definition.references
            ],
            retry=_retry_policy(step.definition.policy.retry),
            timeout_seconds=step.definition.policy.timeout_seconds,
        )
        for step in saga.steps
    ]
    return Transaction(
        transaction_id=saga.transaction_id,
        state=saga.state,
        steps=steps,
        created_at=instant(definition.created_at),
        timeout_seconds=definition.timeout_seconds,
        timeout_scope=definition.timeout_scope,
        on_crash=definition.on_crash,
        on_compensation_failure=definition.on_compensation_failure,
        name=definition.name,
        idempotency_key=definition.key,
        actions=clone(definition.actions or {}),
    )


def _retry_policy(retry: Retry | None) -> RetryPolicy | None:
    return None if retry is None else RetryPolicy(**retry._asdict())


def show(saga: Saga, transaction: Transaction, steps: list[TransactionStep]) -> None:
    """Bring a caller's own object up to date with what changed since the last time.

    Args:
        saga: The truth; its list of touched steps is emptied.
        transaction: The caller's object.
        steps: The caller's step objects, by index, as they were when the plan was frozen.
    """
    # Why not plain assignment: pydantic's takes ten times as long, and checks nothing here.
    transaction.__dict__["state"] = saga.state
    for index in saga.touched:
        steps[index].__dict__["state"] = saga.steps[index].state
    saga.touched.clear()


def instant(microseconds: int) -> datetime:
    """Return an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds)


def _asking(saga: Saga) -> list[SagaStep]:
    return [saga.steps[index] for index in saga.doubtful if needs_person(saga.steps[index])]


def _uncompensated(saga: Saga) -> list[str]:
    if not saga.ran or saga.reason is None:
        return []
    left = [step.step_id for step in saga.steps if step.left_in_place]
    return left + [
        step.step_id
        for step in (saga.steps[index] for index in saga.completed)
        if step.state is STEP_SUCCEEDED
        and not step.simulated
        and step.definition.compensating_action is None
        and step.definition.effect != "none"
    ]


def _unverified(saga: Saga) -> list[str]:
    return [saga.steps[index].step_id for index in saga.undone if saga.steps[index].unverified]


def _outstanding(saga: Saga) -> list[OutstandingCompensation]:
    return [
        OutstandingCompensation(
            step_id=step.step_id,
            agent_id=step.definition.agent_id,
            action=step.definition.action,
            compensating_action=step.definition.compensating_action,
            reason=step.outstanding or "failed",
            error=str(step.undo_error) if step.undo_error else None,
        )
        for step in saga.steps
        if _is_outstanding(saga, step)
    ]


def _is_outstanding(saga: Saga, step: SagaStep) -> bool:
    # Why also what is tried again after the end: until that has worked, it stands.
    return step.outstanding is not None or (step.to_undo and saga.state is ROLLED_BACK)
