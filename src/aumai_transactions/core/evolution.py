"""What each entry means.

Owns: `evolve`, the only thing that changes a saga.
Rules:
  1. `evolve` refuses an entry that cannot follow what came before (`IllegalEntry`): invariants
     are checked where a journal is read as well as where it is written.
  2. An entry costs the same whatever stands before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core import (
    approvals,
    claims,
    committing,
    isolation,
    late_returns,
    persons,
    poison,
    probing,
    restoring,
    scopes,
    undoing,
)
from aumai_transactions.core.entries import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    CallReturnedLate,
    Claimed,
    CommitDecided,
    CommitRequested,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    ConfirmationFailed,
    ConfirmationStarted,
    ConfirmationSucceeded,
    Entry,
    LocksAwaited,
    LocksGranted,
    PartialRollbackStarted,
    PlanRecorded,
    ProbeAnswered,
    ProbeStarted,
    RereadAnswered,
    ResolutionGiven,
    RestoredFromBackup,
    RetryRequested,
    RetryScheduled,
    RollbackRequested,
    RollbackRevoked,
    RollbackStarted,
    ScopeOpened,
    ScopeReleased,
    StepAdded,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepRefused,
    StepRequested,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
    TransactionExpired,
    TransactionImported,
    TransactionRolledBack,
    TrustGiven,
    UndoRequestRefused,
    UndoWindowClosing,
    VerificationAnswered,
    VerificationStarted,
    VersionsRead,
)
from aumai_transactions.core.graph import dependencies, topological_order
from aumai_transactions.core.saga import IllegalEntry, Saga, SagaStep
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
)
from aumai_transactions.core.tracing import note_attempt
from aumai_transactions.core.transitions import (
    has_effect,
    no_longer_awaited,
    no_longer_waiting,
    not_done,
    require,
    skip_pending,
    take_effect,
    to_undo,
)

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.models import TransactionState


STATE_WITH: dict[type[Entry], TransactionState] = {
    TransactionActivated: ACTIVE,
    RollbackStarted: COMPENSATING,
    RollbackRevoked: ACTIVE,
    CommitDecided: COMMITTING,
    TransactionCommitted: COMMITTED,
    TransactionRolledBack: ROLLED_BACK,
    TransactionExpired: FAILED,
}
"""The state that a transaction is in from an entry of this kind on; other kinds change none."""


_OfShape = (
    StepRequested
    | StepRefused
    | ScopeOpened
    | ScopeReleased
    | PartialRollbackStarted
    | ApprovalRequested
    | ApprovalGiven
    | ApprovalDenied
    | UndoRequestRefused
    | UndoWindowClosing
    | RereadAnswered
    | CommitDecided
    | ConfirmationStarted
    | ConfirmationSucceeded
    | ConfirmationFailed
    | LocksAwaited
    | LocksGranted
    | VersionsRead
)
"""What is about interactive transactions, approvals, the commit point and resources."""


def evolve(saga: Saga, entry: Entry) -> None:
    """Let a saga say what this entry adds.

    Raises:
        IllegalEntry: The entry cannot follow what came before; the saga is not usable then.
    """
    saga.updated_at = entry.at
    # Order matters only for speed: what every transaction has stands first.
    match entry:
        case StepStarted():
            _step_started(saga, entry)
        case StepSucceeded():
            _step_succeeded(saga, entry)
        case CompensationStarted():
            undoing.compensation_started(saga, entry)
        case CompensationSucceeded():
            undoing.compensation_succeeded(saga, entry)
        case TransactionActivated():
            require(saga.state is PENDING, "it is not pending any more")
            saga.started_at = entry.at
        case TransactionCommitted():
            _committed(saga, entry)
        case Claimed():
            claims.claimed(saga, entry)
        case CommitRequested():
            saga.commit_requested = True
        case StepAdded():
            scopes.step_added(saga, entry)
        case PlanRecorded():
            require(saga.state is PENDING, "it is not pending any more")
            _plan_recorded(saga, entry.definition)
        case StepFailed():
            _step_failed(saga, entry)
        case StepInDoubt():
            _step_in_doubt(saga, entry)
        case CompensationFailed():
            undoing.compensation_failed(saga, entry)
        case StepOutstanding():
            undoing.step_outstanding(saga, entry)
        case RollbackStarted():
            undoing.rollback_started(saga, entry)
        case TransactionRolledBack():
            undoing.rolled_back(saga, entry)
        case _:
            _evolve_rare(saga, entry)
    if type(entry) in STATE_WITH:
        saga.state = STATE_WITH[type(entry)]
    if saga.crashes:
        poison.begin_again(saga, entry)
    if saga.locks is not None and saga.state.is_final:
        isolation.let_go(saga, saga.locks)
    saga.sequence += 1


def _evolve_rare(
    saga: Saga,
    entry: RetryScheduled
    | ProbeStarted
    | ProbeAnswered
    | VerificationStarted
    | VerificationAnswered
    | RollbackRevoked
    | CallReturnedLate
    | TransactionExpired
    | TransactionImported
    | RollbackRequested
    | RetryRequested
    | ResolutionGiven
    | RestoredFromBackup
    | TrustGiven
    | _OfShape,
) -> None:
    match entry:
        case RetryScheduled():
            _retry_scheduled(saga, entry)
        case ProbeStarted():
            probing.probe_started(saga, entry)
        case ProbeAnswered():
            probing.probe_answered(saga, entry)
        case VerificationStarted():
            undoing.verification_started(saga, entry)
        case VerificationAnswered():
            undoing.verification_answered(saga, entry)
        case RollbackRevoked():
            undoing.rollback_revoked(saga, entry)
        case CallReturnedLate():
            late_returns.call_returned_late(saga, entry)
        case TransactionExpired():
            _expired(saga, entry)
        case TransactionImported():
            _imported(saga, entry)
        case RollbackRequested():
            if entry.scope_id is not None:
                saga.undo_requests[entry.scope_id] = entry.note
            elif saga.rollback_requested is None:
                saga.rollback_requested = entry.reason
                saga.rollback_error = entry.error
                restoring.wanted_back(saga)
        case RetryRequested():
            persons.retry_requested(saga, entry)
        case ResolutionGiven():
            persons.resolution_given(saga, entry)
        case RestoredFromBackup():
            restoring.restored_from_backup(saga, entry)
        case TrustGiven():
            restoring.trust_given(saga, entry)
        case _:
            _evolve_shape(saga, entry)


def _evolve_shape(saga: Saga, entry: _OfShape) -> None:
    match entry:
        case StepRequested():
            saga.step_requests[entry.request_id] = entry
        case StepRefused():
            scopes.step_refused(saga, entry)
        case ScopeOpened():
            scopes.scope_opened(saga, entry)
        case ScopeReleased():
            scopes.scope_released(saga, entry)
        case PartialRollbackStarted():
            scopes.partial_rollback_started(saga, entry)
        case ApprovalRequested():
            approvals.approval_requested(saga, entry)
        case ApprovalGiven():
            approvals.approval_given(saga, entry)
        case ApprovalDenied():
            approvals.approval_denied(saga, entry)
        case UndoRequestRefused():
            scopes.undo_request_refused(saga, entry)
        case UndoWindowClosing():
            scopes.undo_window_closing(saga, entry)
        case RereadAnswered():
            committing.reread_answered(saga, entry)
        case CommitDecided():
            committing.commit_decided(saga, entry)
        case ConfirmationStarted():
            committing.confirmation_started(saga, entry)
        case ConfirmationSucceeded():
            committing.confirmation_succeeded(saga, entry)
        case ConfirmationFailed():
            committing.confirmation_failed(saga, entry)
        case LocksAwaited():
            isolation.locks_awaited(saga, entry)
        case LocksGranted():
            isolation.locks_granted(saga, entry)
        case VersionsRead():
            isolation.versions_read(saga, entry)
        case _:
            assert_never(entry)


_OTHER_ATTEMPT = "what it says is about another attempt than the one that runs"


def _plan_recorded(saga: Saga, definition: Definition) -> None:
    edges = dependencies(definition.steps, saga.transaction_id)
    saga.definition = definition
    saga.edges = edges
    saga.steps, saga.by_id, saga.ready, saga.deferred = [], {}, [], []
    # Why as well: a plan that was saved before it was committed is recorded twice, and the second
    # one need not have what the first one had.
    saga.pivot = saga.locks = None
    saga.is_interactive = definition.shape == "interactive"
    saga.has_reads = saga.has_tries = has_late = uses_resources = False
    agents: dict[str, None] = {}
    actions: dict[str, None] = {}
    for index, declared in enumerate(definition.steps):
        step = SagaStep(index, declared, len(edges[index]))
        saga.steps.append(step)
        saga.by_id[declared.step_id] = step
        agents[declared.agent_id] = None
        actions[declared.action] = None
        if declared.on_commit or declared.pivot or declared.confirming_action:
            has_late = True
        if declared.policy.has_reread:
            saga.has_reads = True
        if declared.resources:
            uses_resources = True
    saga.agents, saga.actions = tuple(agents), tuple(actions)
    if has_late:
        _late_steps(saga)
    if uses_resources and definition.isolation != "none":
        saga.locks = isolation.Locks()
    saga.unsettled = len(saga.steps) - len(saga.deferred)
    for index, befores in enumerate(edges):
        if not befores and not saga.steps[index].definition.on_commit:
            saga.ready.append(index)
        for before in befores:
            saga.steps[before].dependents.append(index)


def _late_steps(saga: Saga) -> None:
    saga.has_tries = any(step.definition.confirming_action is not None for step in saga.steps)
    names = [step.step_id for step in saga.steps]
    order = topological_order(saga.edges, names, saga.transaction_id)
    saga.deferred = [index for index in order if saga.steps[index].definition.on_commit]
    saga.pivot = next((step.index for step in saga.steps if step.definition.pivot), None)


def _imported(saga: Saga, entry: TransactionImported) -> None:
    require(saga.sequence == 0, "an import must be the first entry")
    require(entry.state.is_final, "an imported transaction must be finished")
    _plan_recorded(saga, entry.definition)
    saga.ready = []
    saga.state = entry.state
    saga.finished_at = entry.at
    saga.warnings.append(f"imported from {entry.source} as {entry.state.value}; nothing was run")


def _step_started(saga: Saga, entry: StepStarted) -> None:
    step = saga.step(entry.step_id)
    on_commit = step.definition.on_commit
    # Invariant: I4, no action intent follows the journaled rollback; I8, none but those that were
    # held follows the commit decision.
    if saga.state is not (COMMITTING if on_commit else ACTIVE):
        message = f"an action starts while it is {saga.state.value}"
        raise IllegalEntry(message)
    if entry.attempt != step.attempt + 1:
        raise IllegalEntry(undoing.ATTEMPTS)
    if step.definition.resources:
        # Invariant: I10, a step runs only while its transaction holds what it uses.
        require(not isolation.missing(saga, step), "a step starts without what it uses")
        isolation.begins_to_read(saga, step)
    if step.state is STEP_IN_DOUBT:
        # Invariant: I5, an unknown outcome runs again only where that is safe or was decided, and
        # only after the participant was asked, where it can be.
        require(step.definition.idempotent or step.retry_requested, "a step in doubt runs again")
        require(not step.to_undo, "a step runs again that is to be undone")
        require(_was_asked(step), "a step in doubt runs again before its probe was asked")
        saga.doubtful.pop(step.index)
        step.retry_requested = False
    elif on_commit:
        committing.held_step_starts(saga, step)
    else:
        if step.state is not STEP_PENDING or step.unmet:
            message = "the step cannot start"
            raise IllegalEntry(message)
        if step.definition.requires_approval:
            require(step.approved, "a step starts that nobody has allowed")
        saga.ready.remove(step.index)
    if entry.attempt == 1:
        step.first_at = entry.at
    elif step.due_at is not None:
        no_longer_waiting(saga, step)
    step.state = STEP_RUNNING
    step.attempt = entry.attempt
    if entry.data is not None:
        step.data = entry.data
    if entry.traceparent is not None or step.traceparent is not None:
        note_attempt(step, entry)
    saga.running += 1
    saga.touched.append(step.index)


def _was_asked(step: SagaStep) -> bool:
    return step.probe_spent or not step.definition.policy.has_probe


def _step_succeeded(saga: Saga, entry: StepSucceeded) -> None:
    step = saga.step(entry.step_id)
    if step.state is not STEP_RUNNING:
        message = "a step that does not run succeeds"
        raise IllegalEntry(message)
    require(entry.attempt == step.attempt, _OTHER_ATTEMPT)
    saga.running -= 1
    step.output = entry.output
    step.unrecorded = entry.warning is not None
    step.simulated = entry.simulated
    if entry.warning:
        saga.warnings.append(entry.warning)
    take_effect(saga, step)


def _step_failed(saga: Saga, entry: StepFailed) -> None:
    step = saga.step(entry.step_id)
    if entry.attempt == 0:
        if step.definition.on_commit:
            committing.held_step_fails(saga, step, entry.error)
            return
        turn = saga.state is ACTIVE and step.state is STEP_PENDING and step.unmet == 0
        require(turn, "a step that was never called fails out of its turn")
        require(step.index in saga.ready, "a step that was never called fails out of its turn")
        saga.ready.remove(step.index)
    else:
        require(step.state is STEP_RUNNING, "a step that does not run fails")
        require(entry.attempt == step.attempt, _OTHER_ATTEMPT)
        saga.running -= 1
        step.refused |= {entry.attempt}
        if step.definition.pivot:
            saga.rereads = {}  # Whatever commits instead, it is looked at again before that.
    not_done(saga, step, entry.error, entry.will_retry)


def _step_in_doubt(saga: Saga, entry: StepInDoubt) -> None:
    step = saga.step(entry.step_id)
    require(step.state is STEP_RUNNING, "a step that does not run comes into doubt")
    require(entry.attempt == step.attempt, _OTHER_ATTEMPT)
    saga.running -= 1
    if step.doubt is None:
        has_effect(saga, step)
    step.state = STEP_IN_DOUBT
    step.doubt = entry.cause
    step.doubt_at = entry.at
    step.error = entry.error
    step.probe_spent = False
    step.probe_base = step.probe_attempt
    if entry.left_behind and entry.attempt not in step.late_attempts:
        step.left_behind = {**step.left_behind, entry.attempt: saga.driver_id}
    saga.doubtful[step.index] = None
    saga.touched.append(step.index)
    if step.undo_wanted:
        to_undo(saga, [step])
        no_longer_awaited(saga, step)


def _retry_scheduled(saga: Saga, entry: RetryScheduled) -> None:
    step = saga.step(entry.step_id)
    busy = step.state is STEP_RUNNING or step.undo_running or step.probing or step.verifying
    busy = busy or step.confirming
    require(not busy, "another attempt is scheduled while one runs")
    step.due_at = entry.due_at
    saga.waiting[step.index] = entry.due_at


def _committed(saga: Saga, entry: TransactionCommitted) -> None:
    # Invariant: I2, nothing is committed over a step that did not succeed, and was not dealt with.
    open_ends = saga.unsettled or saga.undo or saga.running or saga.doubtful or saga.stuck
    require(not open_ends, "it commits before every step has ended well")
    require(saga.commit_requested or saga.decided_at is not None, "nobody asked for its commit")
    require(saga.state in (ACTIVE, COMMITTING), "it commits while it is not active")
    undecided = saga.has_tries and saga.decided_at is None
    waits = saga.deferred or saga.to_confirm or undecided
    require(not waits, "it commits before all is carried out")
    saga.finished_at = entry.at


def _expired(saga: Saga, entry: TransactionExpired) -> None:
    require(saga.state is PENDING, "it expires after it began")
    saga.reason = "deadline"
    saga.error = entry.error
    saga.finished_at = entry.at
    skip_pending(saga)
