"""The rules: what must be recorded, and what should be done next.

    decide(saga, observation, now)  -> entries     what must be recorded about what was seen
    evolve(saga, entry)             -> None        what a record means (in `evolution.py`)
    plan(saga, now)                 -> commands    what should be done next

Owns: every decision about a transaction, and there is no other place for one.
Rules:
  1. Journal before act: `plan` hands out a call together with its intent; `advance` returns
     both, and the driver makes the intent durable before it makes the call.
  2. A decision that needs no new observation (commit, go back, done) is a `Record` command.
  3. Time decides only when something is tried or given up, never what is true.

Source of the shape: the decider pattern (Jérémie Chassaing); sans-IO as in h11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core.commands import Command, Record, RunCompensation, RunStep
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    Entry,
    ErrorRecord,
    InDoubtCause,
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
    TransactionRolledBack,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    Observation,
    PlanGiven,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
)
from aumai_transactions.core.references import UnresolvedReference, resolved
from aumai_transactions.core.saga import Saga, SagaStep
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
    STEP_RUNNING,
)
from aumai_transactions.core.values import checked_note
from aumai_transactions.errors import InvalidTransactionState, UnknownStep
from aumai_transactions.models import RollbackReason, TransactionState

if TYPE_CHECKING:
    from collections.abc import Sequence

# Why two: one call and, where the action is idempotent, one more with the same key to ask
# the participant what became of it. More is a retry policy, which an action must declare.
UNKNOWN_ATTEMPTS_MAX = 2

_CRASH = ErrorRecord("ProcessDied", "the process that ran this step died before it could tell")


def advance(
    saga: Saga, observations: Sequence[Observation], now: int, parallel_max: int = 1
) -> tuple[list[Entry], list[RunStep | RunCompensation]]:
    """Decide, evolve and plan until something has to be done outside, or nothing is left.

    Args:
        saga: The transaction; evolved by every entry that is returned.
        observations: What was seen, in order.
        now: Microseconds since 1970 UTC.
        parallel_max: How many steps may run at once.

    Returns:
        The entries to make durable, and then the calls to make.
    """
    entries: list[Entry] = []
    for observation in observations:
        for entry in decide(saga, observation, now):
            evolve(saga, entry)
            entries.append(entry)
    calls: list[RunStep | RunCompensation] = []
    while not calls:
        commands = plan(saga, now, parallel_max)
        if not commands:
            break
        for command in commands:
            if isinstance(command, Record):
                entry = command.entry
            else:
                entry = command.intent
                calls.append(command)
            evolve(saga, entry)
            entries.append(entry)
    return entries, calls


def decide(saga: Saga, observation: Observation, now: int) -> list[Entry]:
    """Return what must be recorded about what was seen.

    Raises:
        InvalidTransactionState: What was asked for does not fit the state.
        UnknownStep: A person named a step that does not exist.
    """
    # Order matters only for speed: what every transaction has stands first.
    match observation:
        case HandlerReturned():
            return [_returned(saga, observation, now)]
        case CommitCalled():
            _require_pending(saga, "commit")
            return [CommitRequested(now, checked_note(observation.by, "by"))]
        case DriverArrived():
            return _driver_arrived(saga, observation, now)
        case PlanGiven():
            # Why their texts too: 1 == True == 1.0, and an edit of one into the other is an edit.
            known, new = saga.definition, observation.definition
            same = known is not None and known == new and repr(known) == repr(new)
            return [] if same else [PlanRecorded(now, observation.definition)]
        case HandlerRaised():
            return [_raised(saga, observation, now)]
        case HandlerMissing():
            return [_missing(saga, observation, now)]
        case RollbackCalled():
            return _rollback_called(saga, observation, now)
        case RetryAsked():
            return _retry_asked(saga, observation, now)
        case ResolutionAnswered():
            return _resolution_answered(saga, observation, now)
        case _:
            assert_never(observation)


def plan(saga: Saga, now: int, parallel_max: int = 1) -> Sequence[Command]:
    """Return what should be done next: one decision to record, or calls to make, or nothing.

    Nothing means that the transaction is finished, or waits for a person or for a call that is
    under way.

    Args:
        saga: The transaction.
        now: Microseconds since 1970 UTC.
        parallel_max: How many steps may run at once.
    """
    state = saga.state
    if state is ACTIVE:
        return _plan_forward(saga, now, parallel_max)
    if state is PENDING:
        return _plan_start(saga, now)
    if state is COMPENSATING:
        return _plan_undo(saga, now) or _plan_end_of_undo(saga, now)
    if state is ROLLED_BACK:
        return _plan_undo(saga, now)
    if state is COMMITTED or state is FAILED or state is COMMITTING:
        return ()
    assert_never(state)


def _plan_start(saga: Saga, now: int) -> Sequence[Command]:
    if saga.rollback_requested:
        return (Record(RollbackStarted(now, saga.rollback_requested)),)
    if not saga.commit_requested:
        return ()
    if now > saga.plan.deadline:
        return (Record(TransactionExpired(now, _deadline_error(saga, now))),)
    return (Record(TransactionActivated(now)),)


def _plan_forward(saga: Saga, now: int, parallel_max: int) -> Sequence[Command]:
    back = _reason_to_go_back(saga, now)
    if back is not None:
        return () if saga.running else (Record(back),)
    if saga.doubtful:
        return _plan_doubtful(saga, now)
    if not saga.ready:
        if saga.succeeded == len(saga.steps):
            return (Record(TransactionCommitted(now)),)
        return ()
    free = parallel_max - saga.running
    if free <= 0:
        return ()
    if saga.plan.timeout_scope == "transaction" and now > saga.plan.deadline:
        if saga.running:
            return ()
        return (Record(RollbackStarted(now, "deadline", None, _deadline_error(saga, now))),)
    return _plan_ready(saga, now, free)


def _plan_ready(saga: Saga, now: int, free: int) -> Sequence[Command]:
    if len(saga.ready) > 1:
        saga.ready.sort()
    commands: list[Command] = []
    for index in saga.ready[:free]:
        step = saga.steps[index]
        data = None
        if step.definition.references:
            outputs = {r.step_id: saga.step(r.step_id).output for r in step.definition.references}
            try:
                data = resolved(step.definition, outputs)
            except UnresolvedReference as error:
                problem = ErrorRecord("UnresolvedReference", str(error))
                return (Record(StepFailed(now, step.step_id, 0, problem)),)
        intent = StepStarted(now, step.definition.step_id, step.attempt + 1, data)
        commands.append(RunStep(step, intent))
    return commands


def _reason_to_go_back(saga: Saga, now: int) -> RollbackStarted | None:
    if saga.failed:
        step = saga.steps[saga.failed[0]]
        return RollbackStarted(now, "step_failed", step.step_id, step.error)
    if saga.rollback_requested:
        return RollbackStarted(now, saga.rollback_requested)
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.doubt == "cancelled":
            return RollbackStarted(now, "cancelled", step.step_id, step.error)
    if saga.taken_over_at is not None:
        return _back_after_crash(saga, saga.taken_over_at, now)
    return None


def _back_after_crash(saga: Saga, taken_over_at: int, now: int) -> RollbackStarted | None:
    reason: RollbackReason
    if saga.plan.on_crash == "roll_back":
        reason, error = "crash", _CRASH
    elif saga.plan.on_crash is None and taken_over_at > saga.plan.deadline:
        reason, error = "deadline", _deadline_error(saga, taken_over_at)
    else:
        return None
    first = next((saga.steps[index].step_id for index in saga.doubtful), None)
    return RollbackStarted(now, reason, first, error)


def _plan_doubtful(saga: Saga, now: int) -> Sequence[Command]:
    """Settle what is in doubt: re-run where that is safe, else go back or ask a person."""
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.retry_requested or _may_run_again(step):
            return (RunStep(step, StepStarted(now, step.step_id, step.attempt + 1, step.data)),)
        if not asks(step) and not saga.running:
            return (Record(RollbackStarted(now, "in_doubt", step.step_id, step.error)),)
    return ()


def _may_run_again(step: SagaStep) -> bool:
    if not step.definition.idempotent:
        return False
    return step.doubt == "crash" or step.attempt < UNKNOWN_ATTEMPTS_MAX


def asks(step: SagaStep) -> bool:
    """True where a person must say what became of this step once it stays in doubt."""
    policy = step.definition.on_unknown
    if policy is None:
        return step.definition.compensating_action is None and step.definition.effect != "none"
    return policy == "ask"


def _plan_undo(saga: Saga, now: int) -> Sequence[Command]:
    for index in reversed(saga.undo):
        if index in saga.blocked:
            continue
        step = saga.steps[index]
        if step.undo_running:
            return ()
        if step.definition.compensating_action is None:
            return (Record(StepOutstanding(now, step.step_id, "no_compensation", step.error)),)
        in_doubt = step.doubt is not None
        attempt = step.undo_attempt + 1
        intent = CompensationStarted(now, step.definition.step_id, attempt, in_doubt)
        return (RunCompensation(step, intent),)
    return ()


def _plan_end_of_undo(saga: Saga, now: int) -> Sequence[Command]:
    if saga.undo or saga.halted:
        return ()
    return (Record(TransactionRolledBack(now)),)


def _returned(saga: Saga, seen: HandlerReturned, now: int) -> Entry:
    step = saga.step(seen.step_id)
    if seen.operation == "action":
        return StepSucceeded(now, seen.step_id, step.attempt, seen.output, False, seen.warning)  # noqa: FBT003
    return CompensationSucceeded(now, seen.step_id, step.undo_attempt)


def _raised(saga: Saga, seen: HandlerRaised, now: int) -> Entry:
    step = saga.step(seen.step_id)
    if seen.operation == "compensation":
        # Why once more after a cancellation: like a crash, it says nothing about the undo.
        again = seen.outcome == "cancelled" and step.undo_attempt == 1
        return CompensationFailed(now, seen.step_id, step.undo_attempt, seen.error, again)
    if seen.outcome == "not_done":
        # Why not always: a later "no" does not take back an earlier call that may have arrived.
        if step.attempt == 1 or step.definition.idempotent:
            return StepFailed(now, seen.step_id, step.attempt, seen.error)
        return StepInDoubt(now, seen.step_id, step.attempt, "unknown", seen.error)
    cause: InDoubtCause = "cancelled" if seen.outcome == "cancelled" else "unknown"
    return StepInDoubt(now, seen.step_id, step.attempt, cause, seen.error)


def _missing(saga: Saga, seen: HandlerMissing, now: int) -> Entry:
    step = saga.step(seen.step_id)
    if seen.operation == "action":
        return StepSucceeded(now, seen.step_id, step.attempt, simulated=True)
    if step.simulated or not saga.ran:
        return CompensationSucceeded(now, seen.step_id, step.undo_attempt, simulated=True)
    name = step.definition.compensating_action
    error = ErrorRecord("UnknownAction", f"no handler for compensating action {name!r}")
    return StepOutstanding(now, seen.step_id, "no_handler", error)


def _driver_arrived(saga: Saga, seen: DriverArrived, now: int) -> list[Entry]:
    entries: list[Entry] = [Claimed(now, saga.token + 1, seen.driver_id, seen.takeover)]
    if saga.running:
        entries.extend(
            StepInDoubt(now, step.step_id, step.attempt, "crash", _CRASH)
            for step in saga.steps
            if step.state is STEP_RUNNING
        )
    return entries


def _require_pending(saga: Saga, call: str) -> None:
    if saga.state is not PENDING or saga.commit_requested:
        raise InvalidTransactionState(
            saga.transaction_id, saga.state.value, call, next_after(saga.state)
        )


def next_after(state: TransactionState) -> str:
    """Return what a caller can do whose wish came too late."""
    if state.is_final:
        return "It is finished; begin a new transaction."
    return "It is under way; look at it with `show`, or call rollback."


def _rollback_called(saga: Saga, seen: RollbackCalled, now: int) -> list[Entry]:
    if saga.state.is_final:
        raise InvalidTransactionState(
            saga.transaction_id, saga.state.value, "roll back", next_after(saga.state)
        )
    if saga.state is COMPENSATING or saga.rollback_requested:
        return []
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    return [RollbackRequested(now, by, note, seen.reason)]


def _known_step(saga: Saga, step_id: str, named_by: str) -> SagaStep:
    if step_id not in saga.by_id:
        raise UnknownStep(step_id, named_by, saga.transaction_id)
    return saga.by_id[step_id]


def _retry_asked(saga: Saga, seen: RetryAsked, now: int) -> list[Entry]:
    step = _known_step(saga, seen.step_id, "the retry")
    doubtful = step.state is STEP_IN_DOUBT and saga.state is ACTIVE
    if not doubtful and step.outstanding is None:
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"retry step {step.step_id} of",
            f"The step is {step.state.value}; only a step in doubt or an outstanding "
            "compensation can be tried again.",
        )
    if step.outstanding == "no_compensation":
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"retry step {step.step_id} of",
            "No compensating action is declared for it. Undo it by hand, then resolve it as "
            "undone or left in place.",
        )
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    return [RetryRequested(now, step.step_id, by, note)]


def _resolution_answered(saga: Saga, seen: ResolutionAnswered, now: int) -> list[Entry]:
    step = _known_step(saga, seen.step_id, "the resolution")
    doubtful = step.state is STEP_IN_DOUBT and saga.state is ACTIVE
    if doubtful:
        fitting: tuple[str, ...] = ("happened", "did_not_happen")
    elif step.outstanding is not None:
        fitting = ("undone", "left_in_place")
    else:
        fitting = ()
    if seen.answer not in fitting:
        names = " or ".join(name.replace("_", "-") for name in fitting)
        hint = f"Answer {names} instead." if fitting else "Nothing is to be resolved there."
        answer = seen.answer.replace("_", "-")
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"resolve step {step.step_id} as {answer} in",
            f"The step is {step.state.value.replace('_', ' ')}. {hint}",
        )
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    return [ResolutionGiven(now, step.step_id, seen.answer, by, note)]


def _deadline_error(saga: Saga, now: int) -> ErrorRecord:
    late = (now - saga.plan.deadline) / 1_000_000
    return ErrorRecord(
        "DeadlineExceeded",
        f"the timeout of {saga.plan.timeout_seconds:g} s was over {late:.3f} s ago",
    )
