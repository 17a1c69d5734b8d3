"""What each entry means.

Owns: `evolve`, the only thing that changes a saga.
Rules:
  1. `evolve` refuses an entry that cannot follow what came before (`IllegalEntry`): invariants
     are checked where a journal is read as well as where it is written.
  2. An entry costs the same whatever stands before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    Entry,
    ErrorRecord,
    OutstandingReason,
    PlanRecorded,
    ResolutionGiven,
    RetryRequested,
    RollbackRequested,
    RollbackStarted,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
    TransactionExpired,
    TransactionImported,
    TransactionRolledBack,
)
from aumai_transactions.core.graph import ancestors, dependencies, topological_order
from aumai_transactions.core.saga import IllegalEntry, Saga, SagaStep
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMPENSATING,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_COMPENSATED,
    STEP_COMPENSATING,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_OUTSTANDING,
    STEP_PENDING,
    STEP_RESOLVED,
    STEP_RUNNING,
    STEP_SKIPPED,
    STEP_SUCCEEDED,
)

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.models import TransactionState


STATE_WITH: dict[type[Entry], TransactionState] = {
    TransactionActivated: ACTIVE,
    RollbackStarted: COMPENSATING,
    TransactionCommitted: COMMITTED,
    TransactionRolledBack: ROLLED_BACK,
    TransactionExpired: FAILED,
}
"""The state that a transaction is in from an entry of this kind on; other kinds change none."""

_ATTEMPTS = "its attempt does not follow the one before"


def evolve(saga: Saga, entry: Entry) -> None:
    """Let a saga say what this entry adds.

    Raises:
        IllegalEntry: The entry cannot follow what came before; the saga is not usable then.
    """
    # Order matters only for speed: what every transaction has stands first.
    match entry:
        case StepStarted():
            _step_started(saga, entry)
        case StepSucceeded():
            _step_succeeded(saga, entry)
        case TransactionActivated():
            _require(saga.state is PENDING, "it is not pending any more")
            saga.started_at = entry.at
        case TransactionCommitted():
            _committed(saga, entry)
        case Claimed():
            _claimed(saga, entry)
        case CommitRequested():
            saga.commit_requested = True
        case PlanRecorded():
            _require(saga.state is PENDING, "it is not pending any more")
            _plan_recorded(saga, entry.definition)
        case StepFailed():
            _step_failed(saga, entry)
        case StepInDoubt():
            _step_in_doubt(saga, entry)
        case CompensationStarted():
            _compensation_started(saga, entry)
        case CompensationSucceeded():
            _compensation_succeeded(saga, entry)
        case CompensationFailed():
            _compensation_failed(saga, entry)
        case StepOutstanding():
            _step_outstanding(saga, entry)
        case RollbackStarted():
            _rollback_started(saga, entry)
        case TransactionRolledBack():
            _rolled_back(saga, entry)
        case TransactionExpired():
            _expired(saga, entry)
        case TransactionImported():
            _imported(saga, entry)
        case RollbackRequested():
            saga.rollback_requested = saga.rollback_requested or entry.reason
        case RetryRequested():
            _retry_requested(saga, entry)
        case ResolutionGiven():
            _resolution_given(saga, entry)
        case _:
            assert_never(entry)
    saga.state = STATE_WITH.get(type(entry), saga.state)
    saga.sequence += 1
    saga.updated_at = entry.at


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (an assertion that -O keeps)
    if not holds:
        raise IllegalEntry(otherwise)


def _plan_recorded(saga: Saga, definition: Definition) -> None:
    edges = dependencies(definition.steps, saga.transaction_id)
    saga.definition = definition
    saga.edges = edges
    saga.steps = [
        SagaStep(index, step, len(edges[index])) for index, step in enumerate(definition.steps)
    ]
    saga.agents = tuple(dict.fromkeys(step.agent_id for step in definition.steps))
    saga.by_id = {step.definition.step_id: step for step in saga.steps}
    saga.ready = []
    for index, befores in enumerate(edges):
        if not befores:
            saga.ready.append(index)
        for before in befores:
            saga.steps[before].dependents.append(index)


def _imported(saga: Saga, entry: TransactionImported) -> None:
    _require(saga.sequence == 0, "an import must be the first entry")
    _require(entry.state.is_final, "an imported transaction must be finished")
    _plan_recorded(saga, entry.definition)
    saga.ready = []
    saga.state = entry.state
    saga.finished_at = entry.at
    saga.warnings.append(f"imported from {entry.source} as {entry.state.value}; nothing was run")


def _claimed(saga: Saga, entry: Claimed) -> None:
    _require(entry.token == saga.token + 1, "its token does not follow the one in force")
    saga.token = entry.token
    saga.driver_id = entry.driver_id
    if entry.takeover and saga.state is ACTIVE:
        saga.taken_over_at = entry.at
    if saga.undo:
        for step in saga.steps:
            step.undo_running = False


def _step_started(saga: Saga, entry: StepStarted) -> None:
    # Invariant: I4, no action intent follows the journaled rollback.
    if saga.state is not ACTIVE:
        message = f"an action starts while it is {saga.state.value}"
        raise IllegalEntry(message)
    step = saga.step(entry.step_id)
    if entry.attempt != step.attempt + 1:
        raise IllegalEntry(_ATTEMPTS)
    if step.state is STEP_IN_DOUBT:
        # Invariant: I5, an unknown outcome runs again only where that is safe or was decided.
        _require(step.definition.idempotent or step.retry_requested, "a step in doubt runs again")
        saga.doubtful.pop(step.index)
        step.retry_requested = False
    else:
        if step.state is not STEP_PENDING or step.unmet:
            message = "the step cannot start"
            raise IllegalEntry(message)
        saga.ready.remove(step.index)
    step.state = STEP_RUNNING
    step.attempt = entry.attempt
    if entry.data is not None:
        step.data = entry.data
    saga.running += 1
    saga.touched.append(step.index)


def _step_succeeded(saga: Saga, entry: StepSucceeded) -> None:
    step = saga.step(entry.step_id)
    if step.state is not STEP_RUNNING:
        message = "a step that does not run succeeds"
        raise IllegalEntry(message)
    saga.running -= 1
    step.output = entry.output
    step.simulated = entry.simulated
    if entry.warning:
        saga.warnings.append(entry.warning)
    _take_effect(saga, step)


def _take_effect(saga: Saga, step: SagaStep) -> None:
    step.state = STEP_SUCCEEDED
    step.error = None
    if step.doubt is not None:
        step.doubt = None
        saga.effects.remove(step.index)
    saga.effects.append(step.index)
    saga.completed.append(step.index)
    saga.succeeded += 1
    for index in step.dependents:
        dependent = saga.steps[index]
        dependent.unmet -= 1
        if dependent.unmet == 0:
            saga.ready.append(index)
    saga.touched.append(step.index)


def _step_failed(saga: Saga, entry: StepFailed) -> None:
    step = saga.step(entry.step_id)
    if entry.attempt == 0:
        turn = saga.state is ACTIVE and step.state is STEP_PENDING and step.unmet == 0
        _require(turn, "a step that was never called fails out of its turn")
        saga.ready.remove(step.index)
    else:
        _require(step.state is STEP_RUNNING, "a step that does not run fails")
        saga.running -= 1
    _not_done(saga, step, entry.error)


def _not_done(saga: Saga, step: SagaStep, error: ErrorRecord | None) -> None:
    step.state = STEP_FAILED
    step.error = error
    if step.doubt is not None:
        step.doubt = None
        saga.effects.remove(step.index)
    saga.failed.append(step.index)
    saga.touched.append(step.index)


def _step_in_doubt(saga: Saga, entry: StepInDoubt) -> None:
    step = saga.step(entry.step_id)
    _require(step.state is STEP_RUNNING, "a step that does not run comes into doubt")
    saga.running -= 1
    if step.doubt is None:
        saga.effects.append(step.index)
    step.state = STEP_IN_DOUBT
    step.doubt = entry.cause
    step.error = entry.error
    saga.doubtful[step.index] = None
    saga.touched.append(step.index)


def _rollback_started(saga: Saga, entry: RollbackStarted) -> None:
    pending = saga.state is PENDING
    _require(pending or saga.state is ACTIVE, "it cannot go back any more")
    _require(saga.running == 0, "a rollback starts while a step runs")
    saga.reason = entry.reason
    saga.failed_step = entry.step_id
    saga.error = entry.error
    saga.ran = not pending
    if saga.started_at is None:
        saga.started_at = entry.at
    if pending:
        names = [step.step_id for step in saga.steps]
        order = topological_order(saga.edges, names, saga.transaction_id)
        saga.undo = [i for i in order if saga.steps[i].definition.compensating_action]
    else:
        saga.undo = [i for i in saga.effects if _has_something_to_undo(saga.steps[i])]
    for index in saga.undo:
        saga.steps[index].to_undo = True


def _has_something_to_undo(step: SagaStep) -> bool:
    if step.definition.compensating_action is not None:
        return True
    return step.state is STEP_IN_DOUBT and step.definition.effect != "none"


def _compensation_started(saga: Saga, entry: CompensationStarted) -> None:
    step = saga.step(entry.step_id)
    _require(step.to_undo and not step.undo_running, "nothing is to be undone there")
    # Invariant: I3, what depends on this step has been dealt with before.
    for index in step.dependents:
        _require(not saga.steps[index].to_undo, "a step that depends on it is not undone yet")
    _require(step.index not in saga.blocked, "a step that depends on it could not be undone")
    _require(entry.attempt == step.undo_attempt + 1, _ATTEMPTS)
    step.undo_attempt = entry.attempt
    step.undo_running = True
    step.state = STEP_COMPENSATING
    saga.touched.append(step.index)


def _compensation_succeeded(saga: Saga, entry: CompensationSucceeded) -> None:
    step = _end_undo(saga, entry.step_id)
    step.state = STEP_COMPENSATED
    step.simulated = step.simulated or entry.simulated
    step.undo_error = None
    saga.undone.append(step.index)


def _end_undo(saga: Saga, step_id: str) -> SagaStep:
    step = saga.step(step_id)
    _require(step.undo_running, "a compensation that does not run ends")
    _no_longer_to_undo(saga, step)
    return step


def _no_longer_to_undo(saga: Saga, step: SagaStep) -> None:
    step.undo_running = False
    step.to_undo = False
    # Why not just remove: the step is nearly always the last one, and remove() searches from
    # the first, which makes a long rollback quadratic.
    if saga.undo[-1] == step.index:
        saga.undo.pop()
    else:
        saga.undo.remove(step.index)
    saga.touched.append(step.index)


def _compensation_failed(saga: Saga, entry: CompensationFailed) -> None:
    if entry.will_retry:
        step = saga.step(entry.step_id)
        _require(step.undo_running, "a compensation that does not run ends")
        step.undo_running = False
        step.undo_error = entry.error
        return
    step = _end_undo(saga, entry.step_id)
    step.undo_error = entry.error
    if saga.ran:
        _leave_outstanding(saga, step, "failed")
    else:
        step.state = STEP_FAILED
        saga.warnings.append(
            f"compensating action {step.definition.compensating_action!r} of step "
            f"{step.step_id}, which had never run, raised {entry.error}"
        )


def _step_outstanding(saga: Saga, entry: StepOutstanding) -> None:
    step = saga.step(entry.step_id)
    _require(step.to_undo, "nothing is to be undone there")
    _no_longer_to_undo(saga, step)
    step.undo_error = entry.error or step.error
    _leave_outstanding(saga, step, entry.reason)


def _leave_outstanding(saga: Saga, step: SagaStep, reason: OutstandingReason) -> None:
    step.state = STEP_OUTSTANDING
    step.outstanding = reason
    saga.touched.append(step.index)
    if saga.plan.on_compensation_failure == "halt" and not saga.state.is_final:
        saga.halted.add(step.index)
        saga.blocked = ancestors(saga.edges, saga.halted)


def _retry_requested(saga: Saga, entry: RetryRequested) -> None:
    step = saga.step(entry.step_id)
    if step.state is STEP_IN_DOUBT:
        step.retry_requested = True
        return
    _require(step.state is STEP_OUTSTANDING, "there is nothing to try again")
    _no_longer_outstanding(saga, step)
    step.state = STEP_COMPENSATING
    step.to_undo = True
    # Order matters: what took effect last is undone first, whichever was asked for first.
    saga.undo.append(step.index)
    saga.undo.sort(key=saga.effects.index)


def _no_longer_outstanding(saga: Saga, step: SagaStep) -> None:
    step.outstanding = None
    saga.halted.discard(step.index)
    saga.blocked = ancestors(saga.edges, saga.halted)
    saga.touched.append(step.index)


def _resolution_given(saga: Saga, entry: ResolutionGiven) -> None:
    step = saga.step(entry.step_id)
    said = f"{entry.by} decided for step {step.step_id}: {entry.answer.replace('_', ' ')}"
    saga.warnings.append(f"{said} ({entry.note})")
    if entry.answer in ("happened", "did_not_happen"):
        _require(step.state is STEP_IN_DOUBT, "the step is not in doubt")
        saga.doubtful.pop(step.index)
        if entry.answer == "happened":
            _take_effect(saga, step)
        else:
            _not_done(saga, step, step.error)
        return
    _require(step.state is STEP_OUTSTANDING, "the step is not outstanding")
    _no_longer_outstanding(saga, step)
    step.state = STEP_RESOLVED
    if entry.answer == "undone":
        saga.undone.append(step.index)


def _committed(saga: Saga, entry: TransactionCommitted) -> None:
    # Invariant: I2, nothing is committed over a step that did not succeed.
    _require(saga.state is ACTIVE, "it commits while it is not active")
    _require(saga.succeeded == len(saga.steps), "it commits before every step succeeded")
    saga.finished_at = entry.at


def _rolled_back(saga: Saga, entry: TransactionRolledBack) -> None:
    # Invariant: I2, everything that may have had an effect is undone or outstanding.
    _require(saga.state is COMPENSATING, "it is not going back")
    _require(not saga.undo and not saga.halted, "something is still to be undone")
    saga.finished_at = entry.at
    _skip_pending(saga)


def _expired(saga: Saga, entry: TransactionExpired) -> None:
    _require(saga.state is PENDING, "it expires after it began")
    saga.reason = "deadline"
    saga.error = entry.error
    saga.finished_at = entry.at
    _skip_pending(saga)


def _skip_pending(saga: Saga) -> None:
    for step in saga.steps:
        if step.state is STEP_PENDING:
            step.state = STEP_SKIPPED
            saga.touched.append(step.index)
