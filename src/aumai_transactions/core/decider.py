"""The rules: what must be recorded about what was seen.

    decide(saga, observation, now)  -> entries     what must be recorded about what was seen
    evolve(saga, entry)             -> None        what a record means (in `evolution.py`)
    plan(saga, now)                 -> commands    what should be done next (in `planning.py`)

Owns: the way through these three, and what is recorded about requests; what is recorded about
calls is in `settling.py`. There is no other place for a decision about a transaction.
Rules:
  1. Journal before act: `plan` hands out a call together with its intent; `advance` returns
     both, and the driver makes the intent durable before it makes the call.

Source of the shape: the decider pattern (Jérémie Chassaing); sans-IO as in h11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core import isolation, programs, restoring, settling
from aumai_transactions.core.codec import same_definition
from aumai_transactions.core.commands import Call, Look
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    Entry,
    PlanRecorded,
    ResolutionGiven,
    RetryRequested,
    RollbackRequested,
    StepInDoubt,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    ApprovalAnswered,
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    LateReturn,
    LocksSeen,
    Observation,
    PlanGiven,
    ProbeReturned,
    RereadReturned,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    ScopeEnded,
    StepAsked,
    StepWanted,
    TrustAnswered,
    UndoAsked,
    VerificationReturned,
)
from aumai_transactions.core.planning import CRASH, plan
from aumai_transactions.core.poison import is_poisoned
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    PENDING,
    STEP_IN_DOUBT,
    STEP_RUNNING,
)
from aumai_transactions.core.undo_planning import abandon_at
from aumai_transactions.core.undoing import REVOCABLE
from aumai_transactions.core.values import checked_note
from aumai_transactions.errors import CommitPointPassed, InvalidTransactionState, UnknownStep

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.models import TransactionState


def advance(
    saga: Saga,
    observations: Sequence[Observation],
    now: int,
    parallel_max: int = 1,
    serves: Container[str] | None = None,
) -> tuple[list[Entry], list[Call]]:
    """Decide, evolve and plan until something has to be done outside, or nothing is left.

    Args:
        saga: The transaction; evolved by every entry that is returned.
        observations: What was seen, in order.
        now: Microseconds since 1970 UTC.
        parallel_max: How many steps may run at once.
        serves: The agents on whose behalf calls are made here; None for all.

    Returns:
        The entries to make durable, and then the calls to make.
    """
    entries: list[Entry] = []
    for observation in observations:
        for entry in decide(saga, observation, now):
            evolve(saga, entry)
            entries.append(entry)
        if isinstance(observation, LocksSeen):
            isolation.look(saga, observation.table)
    calls: list[Call] = []
    while not calls and (commands := plan(saga, now, parallel_max)):
        left = 0
        for command in commands:
            if isinstance(command, Call):
                if serves is not None and command.step.definition.agent_id not in serves:
                    left += 1  # Somebody else makes it.
                    continue
                calls.append(command)
                if command.intent is None:
                    command.step.rereading = True
                    continue
                entry = command.intent
            elif isinstance(command, Look):
                left += 1
                if saga.locks is not None:
                    saga.locks.look.update(dict.fromkeys(command.names))
                continue
            else:
                entry = command.entry
            evolve(saga, entry)
            entries.append(entry)
        if left == len(commands):
            break
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
            return settling.returned(saga, observation, now)
        case CommitCalled():
            return _commit_called(saga, observation, now)
        case DriverArrived():
            return _driver_arrived(saga, observation, now)
        case PlanGiven():
            known, new = saga.definition, observation.definition
            if known is not None and same_definition(known, new):
                return []
            if saga.commit_requested:
                raise _submitted(saga, "change")
            return [PlanRecorded(now, new)]
        case HandlerRaised():
            return settling.raised(saga, observation, now)
        case HandlerMissing():
            return settling.missing(saga, observation, now)
        case ProbeReturned():
            return settling.probed(saga, observation, now)
        case VerificationReturned():
            return settling.verified(saga, observation, now)
        case LateReturn():
            return settling.returned_late(saga, observation, now)
        case RollbackCalled():
            return _rollback_called(saga, observation, now)
        case RetryAsked():
            return _retry_asked(saga, observation, now)
        case ResolutionAnswered():
            return _resolution_answered(saga, observation, now)
        case TrustAnswered():
            return restoring.trusted(saga, observation, now)
        case LocksSeen():
            return isolation.seen(saga, observation, now)
        case RereadReturned():
            return settling.reread(saga, observation, now)
        case StepAsked():
            return programs.asked(saga, observation, now)
        case StepWanted():
            return programs.wanted(saga, observation, now)
        case UndoAsked():
            return programs.undo_asked(saga, observation, now)
        case ScopeEnded():
            return programs.scope_ended(saga, observation, now)
        case ApprovalAnswered():
            return programs.approval_answered(saga, observation, now)
        case _:
            assert_never(observation)


def _driver_arrived(saga: Saga, seen: DriverArrived, now: int) -> list[Entry]:
    restoring.refuse_held(saga, "resume" if seen.resumes else "take")
    if seen.resumes:
        _require_resumable(saga)
    claim = Claimed(now, saga.token + 1, seen.driver_id, seen.takeover, seen.resumes)
    entries: list[Entry] = [claim]
    if saga.running:
        entries.extend(
            StepInDoubt(now, step.step_id, step.attempt, "crash", CRASH)
            for step in saga.steps
            if step.state is STEP_RUNNING
        )
    return entries


def _require_resumable(saga: Saga) -> None:
    if not saga.is_interactive:
        hint = "Only an interactive transaction is resumed; recover() finishes a planned one."
        raise InvalidTransactionState(saga.transaction_id, saga.state.value, "resume", hint)
    if saga.state is not ACTIVE or saga.rollback_requested is not None:
        raise InvalidTransactionState(
            saga.transaction_id, saga.state.value, "resume", next_after(saga.state)
        )


def _commit_called(saga: Saga, seen: CommitCalled, now: int) -> list[Entry]:
    restoring.refuse_held(saga, "commit")
    if saga.is_interactive:
        if saga.commit_requested or saga.state is COMMITTING:
            return []
        if saga.state not in (PENDING, ACTIVE):
            _require_pending(saga, "commit")
    else:
        _require_pending(saga, "commit")
    return [CommitRequested(now, checked_note(seen.by, "by"))]


def _require_pending(saga: Saga, call: str) -> None:
    if saga.state is PENDING and not saga.commit_requested:
        return
    if saga.state is PENDING:
        raise _submitted(saga, call)
    raise InvalidTransactionState(
        saga.transaction_id, saga.state.value, call, next_after(saga.state)
    )


def _submitted(saga: Saga, call: str) -> InvalidTransactionState:
    hint = "Workers carry it out; wait for it, or roll it back."
    return InvalidTransactionState(saga.transaction_id, "submitted", call, hint)


def next_after(state: TransactionState) -> str:
    """Return what a caller can do whose wish came too late."""
    if state.is_final:
        return "It is finished; begin a new transaction."
    return "It is under way; look at it with `show`, wait for it with wait(), or call rollback."


def _rollback_called(saga: Saga, seen: RollbackCalled, now: int) -> list[Entry]:
    if seen.scope_id is not None:
        return programs.scope_rollback_called(saga, seen, now)
    if saga.state is COMMITTING or (saga.state is COMMITTED and saga.decided_at is not None):
        raise CommitPointPassed(saga.transaction_id, saga.state.value, "roll back")
    if saga.state.is_final:
        raise InvalidTransactionState(
            saga.transaction_id, saga.state.value, "roll back", next_after(saga.state)
        )
    # Why also while it goes back: an undo could revoke what nobody asked for.
    revocable = saga.state is not COMPENSATING or (saga.ran and saga.reason in REVOCABLE)
    if saga.rollback_requested or not revocable:
        return []
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    return [RollbackRequested(now, by, note, seen.reason, seen.error)]


def _known_step(saga: Saga, step_id: str, named_by: str) -> SagaStep:
    if step_id not in saga.by_id:
        raise UnknownStep(step_id, named_by, saga.transaction_id)
    return saga.by_id[step_id]


def _retry_asked(saga: Saga, seen: RetryAsked, now: int) -> list[Entry]:
    restoring.refuse_held(saga, f"retry step {seen.step_id} of")
    step = _known_step(saga, seen.step_id, "the retry")
    doubtful = step.state is STEP_IN_DOUBT and saga.state in (ACTIVE, COMMITTING)
    doubtful = doubtful or step.index in saga.stuck
    waits = step.due_at is not None or (step.to_undo and abandon_at(step) is not None)
    if not doubtful and step.outstanding is None and not waits and not is_poisoned(saga):
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"retry step {step.step_id} of",
            f"The step is {step.state.value}; only a step in doubt, one that waits for its next "
            "attempt, or an outstanding compensation can be tried again.",
        )
    if step.outstanding is not None and step.definition.compensating_action is None:
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
    doubtful = step.state is STEP_IN_DOUBT and not saga.state.is_final
    if doubtful:
        fitting: tuple[str, ...] = ("happened", "did_not_happen")
    elif step.index in saga.stuck and saga.state is COMMITTING:
        fitting = ("happened", "left_in_place")
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
