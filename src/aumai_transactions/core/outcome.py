"""What a saga looks like from outside: a result, a summary, the caller's own object.

Owns: every projection of a saga. A projection shows; it decides nothing.
Rules:
  1. Nothing that was swallowed, simulated, left unknown or left standing is missing here
     (invariant I12).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from aumai_transactions.core.planning import (
    may_have_decided,
    only_its_program,
    wake_at,
)
from aumai_transactions.core.poison import is_poisoned
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.times import instant
from aumai_transactions.core.undo_planning import next_to_undo
from aumai_transactions.core.values import clone
from aumai_transactions.core.waiting import asking, only_approvals, waiting_of
from aumai_transactions.models import (
    OutputReference,
    OutstandingCompensation,
    Resource,
    RetryPolicy,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Container

    from aumai_transactions.core.definition import Retry
    from aumai_transactions.core.saga import Saga, SagaStep

Attention = Literal[
    "outstanding", "in_doubt", "halted", "approval", "commit", "poisoned", "restored", "damaged"
]
"""Why a person has to look. `damaged` is a store's word: its summary cannot be read."""
ATTENTIONS: frozenset[str] = frozenset(get_args(Attention))


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
        tenant: What its metadata says under `tenant`.
        next_agent: On whose behalf the next call is made, as far as that is known.
        actions: The distinct actions of its steps, in order of appearance.
        metadata: What its author has noted about it; None for nothing.
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
    tenant: str | None = None
    next_agent: str | None = None
    actions: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None


def is_sound(summary: Summary) -> bool:
    """Tell whether a line beside a journal, as a store has it, can be what somebody wrote."""
    name: Any = summary.transaction_id
    texts: list[Any] = [summary.name, summary.tenant, summary.next_agent, summary.attention]
    numbers: list[Any] = [summary.created_at, summary.updated_at, summary.steps, summary.completed]
    seconds: Any = summary.timeout_seconds
    agents: tuple[Any, ...] = summary.agents
    return (
        all(text is None or isinstance(text, str) for text in texts)
        and all(type(number) is int for number in numbers)
        and type(seconds) in (int, float)
        and all(isinstance(agent, str) for agent in agents)
        and type(summary.due_at) in (int, type(None))
        and (summary.attention is None or summary.attention in ATTENTIONS)
        and isinstance(name, str)
        and not any("\ud800" <= letter <= "\udfff" for letter in name)
    )


def damaged_summary(transaction_id: object) -> Summary:
    """Return what a store lists where the line beside a journal cannot be read.

    Why a line at all: whoever lists transactions has to see that there is one, and the others.
    """
    name = transaction_id if isinstance(transaction_id, str) else repr(transaction_id)
    name = name.encode("utf-8", "backslashreplace").decode()
    return Summary(name, ACTIVE, 0, 0, 0, 0, 0, (), "damaged", runnable=False)


def summary_of(saga: Saga) -> Summary:
    """Return what a store keeps beside the journal of this saga."""
    definition = saga.plan
    # Why the short cut: this is made for every append, and nearly none has any trouble.
    smooth = _goes_smoothly(saga)
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
        definition.metadata.get("tenant") if definition.metadata else None,
        next_agent(saga),
        saga.actions,
        definition.metadata or None,
    )


def _goes_smoothly(saga: Saga) -> bool:
    """True where no person and no time is waited for, and a driver has something to do."""
    if saga.doubtful or saga.waiting or saga.approvals or saga.stuck:
        return False
    if saga.locks is not None or saga.crashes or saga.restored is not None:
        return False
    if saga.state is ACTIVE:
        return saga.awaiting_since is None
    if saga.state is not COMPENSATING or not saga.undo or saga.halted or saga.blocked:
        return False
    return saga.steps[saga.undo[-1]].undo_running


def attention_of(saga: Saga) -> Attention | None:
    """Return why a person has to look at this saga, if one has to."""
    if saga.restored == "held":
        return "restored"
    if saga.halted:
        return "halted"
    if is_poisoned(saga):
        return "poisoned"
    if saga.state is ACTIVE and asking(saga):
        return "in_doubt"
    if saga.state is ACTIVE and saga.approvals and saga.denied is None:
        return "approval"
    if saga.state is COMMITTING and (saga.stuck or asking(saga)):
        return "commit"
    if saga.state is COMMITTED and not saga.is_interactive and saga.decided_at is None:
        return None
    if saga.state in (ROLLED_BACK, COMMITTED) and any(
        _is_outstanding(saga, step) for step in saga.steps
    ):
        return "outstanding"
    return None


def is_runnable(saga: Saga) -> bool:
    """True where a driver that claims this saga would have something to do."""
    if saga.restored == "held" or is_poisoned(saga):
        return False
    if saga.state is PENDING:
        return saga.commit_requested or saga.rollback_requested is not None
    if saga.state is ACTIVE:
        goes_back = saga.rollback_requested and not may_have_decided(saga)
        if saga.running or goes_back or wake_at(saga) is not None:
            return True
        if only_its_program(saga):
            return False
        if saga.is_interactive and saga.awaiting_since is None and not saga.commit_requested:
            return True
        return not asking(saga) and not only_approvals(saga)
    if saga.state is COMMITTING:
        return not saga.stuck and not asking(saga)
    if saga.state is COMPENSATING and not saga.halted:
        return True
    return bool(saga.undo) and any(index not in saga.blocked for index in saga.undo)


def needed_actions(saga: Saga, agents: Container[str] | None = None) -> list[str]:
    """Return the names of the actions that finishing this saga may call, whichever way it goes.

    Undoing a simulated step calls nothing that must exist.

    Args:
        saga: The transaction.
        agents: Only what is called on behalf of these; None for all.
    """
    steps = [step for step in saga.steps if agents is None or step.definition.agent_id in agents]
    confirmed: list[SagaStep] = []
    if saga.state is ACTIVE:
        forward = [step for step in steps if _may_still_be_called(saga, step)]
        back = confirmed = [step for step in steps if not step.simulated]
    elif saga.state is PENDING and saga.rollback_requested is None:
        forward, back, confirmed = steps, steps, steps
    elif saga.state is PENDING:
        forward, back, confirmed = [], steps, steps
    elif saga.state is COMMITTING:
        forward = [step for step in steps if step.index in saga.deferred]
        back, confirmed = [], [step for step in steps if step.index in saga.to_confirm]
    else:
        forward = []
        back = [step for step in steps if step.index in saga.undo and not step.simulated]
    names = [
        *(step.definition.compensating_action for step in back),
        *(step.definition.confirming_action for step in confirmed),
    ]
    return [*(s.definition.action for s in forward), *(name for name in names if name is not None)]


def next_agent(saga: Saga) -> str | None:
    """Return on whose behalf the next call is made; None where none is to be made, or anybody's."""
    state = saga.state
    step: SagaStep | None = None
    if state is COMPENSATING or state is ROLLED_BACK:
        step = next_to_undo(saga)
    elif state is COMMITTING:
        index = next(iter((*saga.to_confirm, *saga.deferred)), None)
        step = None if index is None else saga.steps[index]
    elif saga.doubtful:
        step = saga.steps[next(iter(saga.doubtful))]
    elif saga.ready and (state is ACTIVE or state is PENDING):
        ready = min(saga.ready)
        if saga.waiting:
            ready = min(saga.ready, key=lambda index: (saga.waiting.get(index, 0), index))
        step = saga.steps[ready]
    return None if step is None else step.definition.agent_id


def _may_still_be_called(saga: Saga, step: SagaStep) -> bool:
    """True where whoever finishes an active saga may call the action of this step.

    Why fewer of a program's: once it has died, nobody waits for what has not begun, and what it
    left in doubt is called once more only where that is safe and it is not undone at once.
    """
    if step.state is STEP_PENDING:
        return not saga.is_interactive or saga.commit_requested
    if step.state is not STEP_RUNNING and step.state is not STEP_IN_DOUBT:
        return False
    if not saga.is_interactive or saga.commit_requested:
        return True
    stays = saga.plan.on_crash in ("wait", "resume") or step.definition.pivot
    return stays and (step.definition.idempotent or step.retry_requested)


def result_of(saga: Saga, *, durable: bool) -> TransactionResult:
    """Return the whole outcome so far."""
    steps = saga.steps
    completed, outputs = [], {}
    for index in saga.completed:
        step = steps[index]
        completed.append(step.definition.step_id)
        if step.output is not None and not _was_taken_back(saga, step):
            outputs[step.definition.step_id] = clone(step.output)
    error = saga.error
    failed_step = saga.failed_step
    if failed_step is None and saga.doubtful and not saga.state.is_final:
        doubtful = steps[next(iter(saga.doubtful))]
        failed_step, error = doubtful.step_id, doubtful.error
    return TransactionResult.made(
        {
            "transaction_id": saga.transaction_id,
            "state": saga.state,
            "completed_steps": completed,
            "failed_step": failed_step,
            "error": str(error) if error else None,
            "reason": saga.reason,
            "outputs": outputs,
            "compensated_steps": [steps[index].definition.step_id for index in saga.undone],
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
    return Transaction(
        transaction_id=saga.transaction_id,
        state=saga.state,
        steps=[step_of(step) for step in saga.steps],
        created_at=instant(definition.created_at),
        timeout_seconds=definition.timeout_seconds,
        timeout_scope=definition.timeout_scope,
        on_crash=definition.on_crash,
        on_compensation_failure=definition.on_compensation_failure,
        name=definition.name,
        idempotency_key=definition.key,
        actions=clone(definition.actions or {}),
        shape=definition.shape,
        parallel_compensation=definition.parallel_compensation,
        allow_irreversible_first=definition.allow_irreversible_first,
        resume_within_seconds=definition.resume_within_seconds,
        on_undo_window=definition.on_undo_window,
        isolation=definition.isolation,
        lock_timeout_seconds=definition.lock_timeout_seconds,
        release_outstanding_locks=definition.release_outstanding_locks,
        metadata=dict(definition.metadata or {}),
        crashes_max=definition.crashes_max,
    )


def scope_result(saga: Saga, scope_id: str, *, durable: bool) -> TransactionResult:
    """Return the outcome so far of a nested transaction; its root's, but for its own steps."""
    scope = saga.scopes.get(scope_id)
    inside = set() if scope is None else {saga.steps[i].step_id for i in scope.all_steps()}
    whole = result_of(saga, durable=durable)
    state, waiting = saga.state, whole.waiting
    reason = whole.reason
    if scope is not None and scope.state == "rolled_back":
        state, waiting = ROLLED_BACK, None
        reason = scope.reason
    elif not state.is_final and scope is not None and scope.state == "released":
        detail = f"it has committed into its parent, and is final with {saga.transaction_id}"
        waiting = Waiting(reason="parent", detail=detail)
    return whole.model_copy(
        update={
            "transaction_id": f"{saga.transaction_id}.{scope_id}",
            "state": state,
            "reason": reason,
            "waiting": waiting,
            "completed_steps": [name for name in whole.completed_steps if name in inside],
            "compensated_steps": [name for name in whole.compensated_steps if name in inside],
            "uncompensated": [name for name in whole.uncompensated if name in inside],
            "outputs": {name: item for name, item in whole.outputs.items() if name in inside},
            "outstanding": [item for item in whole.outstanding if item.step_id in inside],
            "failed_step": whole.failed_step if whole.failed_step in inside else None,
        }
    )


def step_of(step: SagaStep) -> TransactionStep:
    """Return a new `TransactionStep` that shows this step."""
    definition = step.definition
    return TransactionStep.made(
        {
            "step_id": step.step_id,
            "agent_id": definition.agent_id,
            "action": definition.action,
            "data": clone(step.resolved_data),
            "compensating_action": definition.compensating_action,
            "state": step.state,
            "after": None if definition.after is None else list(definition.after),
            "references": [
                OutputReference(
                    into=list(item.into), step_id=item.step_id, at=item.at, type=item.type
                )
                for item in definition.references
            ],
            "secrets": list(definition.secrets),
            "retry": _retry_policy(definition.policy.retry),
            "timeout_seconds": definition.policy.timeout_seconds,
            "pivot": definition.pivot,
            "on_commit": definition.on_commit,
            "confirming_action": definition.confirming_action,
            # Why not False: whoever saved it may not have known what its action requires.
            "requires_approval": definition.requires_approval or None,
            "approval_timeout_seconds": definition.approval_timeout_seconds,
            "undo_within_seconds": definition.undo_within_seconds,
            # Why not an empty list: whoever saved it may not have known what its action uses.
            "resources": [Resource(**use._asdict()) for use in definition.resources] or None,
            "scope_id": definition.scope_id,
        }
    )


def _was_taken_back(saga: Saga, step: SagaStep) -> bool:
    """True where a part that was undone held the step, and the rest went on."""
    return saga.is_interactive and saga.reason is None and not is_in_force(step)


def _retry_policy(retry: Retry | None) -> RetryPolicy | None:
    # Why unchecked: the journal is what was said, also where another release allowed more.
    return None if retry is None else RetryPolicy.made(retry._asdict())


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
        if index == len(steps):
            steps.append(step_of(saga.steps[index]))
            transaction.steps.append(steps[index])
        steps[index].__dict__["state"] = saga.steps[index].state
    saga.touched.clear()


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds)


def _uncompensated(saga: Saga) -> list[str]:
    left = [step.step_id for step in saga.steps if step.left_in_place]
    if not saga.ran or saga.reason is None:
        return left
    return left + [
        step.step_id
        for step in (saga.steps[index] for index in saga.completed)
        if step.state is STEP_SUCCEEDED
        and not step.simulated
        and not step.left_in_place
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
        if (step.outstanding is not None or step.to_undo) and _is_outstanding(saga, step)
    ]


def _is_outstanding(saga: Saga, step: SagaStep) -> bool:
    # Why also what is tried again after the end: until that has worked, it stands.
    return step.outstanding is not None or (step.to_undo and saga.state is ROLLED_BACK)
