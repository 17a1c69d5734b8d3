"""What should be undone next.

Owns: the part of `plan` that is about going back, of the whole or of a part.
Rules:
  1. What depends on a step is undone before it (invariant I3); of steps that do not depend on each
     other, what took effect last goes first.
  2. One at a time, unless the transaction says `parallel_compensation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.commands import Call, Command, Record
from aumai_transactions.core.doubts import must_be_asked, probe_of
from aumai_transactions.core.entries import (
    CompensationStarted,
    StepOutstanding,
    VerificationStarted,
)
from aumai_transactions.core.states import STEP_IN_DOUBT
from aumai_transactions.core.transitions import undo_waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.saga import Saga, SagaStep

ABANDON_AFTER_SECONDS = 60.0
"""How long an undo waits for a call that was left behind, where its action does not say."""


def next_to_undo(saga: Saga) -> SagaStep | None:
    """Return the step that is undone next; None where nothing is, or a failed undo blocks it."""
    return next(_candidates(saga), None)


def undo_due(saga: Saga, at: int) -> SagaStep | None:
    """Return the step whose undo waits until then."""
    for step in _candidates(saga):
        if at == (step.due_at if step.due_at is not None else abandon_at(step)):
            return step
    return None


def _candidates(saga: Saga) -> Iterator[SagaStep]:
    """Yield the steps whose undo nothing stands before, the next one first."""
    for index in reversed(saga.undo):
        if index in saga.blocked:
            continue
        step = saga.steps[index]
        yield step
        if not saga.plan.parallel_compensation and not saga.undo_awaits:
            return


def abandon_at(step: SagaStep) -> int | None:
    """Return until when an undo waits for calls that were left behind; None where for none."""
    if not step.left_behind or step.undo_attempt or step.abandoned:
        return None
    seconds = step.definition.policy.abandon_after_seconds
    seconds = ABANDON_AFTER_SECONDS if seconds is None else seconds
    return step.doubt_at + round(seconds * 1_000_000)


def undo_wakes_at(saga: Saga) -> int | None:
    """Return when time alone lets an undo go on; None where only a call or a person does."""
    times = []
    for step in _candidates(saga):
        if _is_busy(step):
            return None
        if undo_waits(saga, step) or (saga.undo_awaits and _awaits(saga, step)):
            continue
        at = step.due_at if step.due_at is not None else abandon_at(step)
        if at is None:
            return None
        times.append(at)
    return min(times, default=None)


def plan_undo(saga: Saga, now: int, parallel_max: int) -> Sequence[Command]:
    """Return the next undo, or the undos that can be made at the same time."""
    is_parallel = saga.plan.parallel_compensation
    if saga.undoing and not is_parallel:
        return ()
    commands: list[Command] = []
    free = parallel_max - saga.undoing
    for step in _candidates(saga):
        if _is_busy(step) or len(commands) >= free:
            if not is_parallel:
                break
            continue
        if (is_parallel or saga.undo_awaits) and undo_waits(saga, step):
            continue
        if saga.undo_awaits and _awaits(saga, step):
            continue
        command = _next_of(step, now)
        if isinstance(command, Record):
            return (command,)
        if command is not None:
            commands.append(command)
            if not is_parallel:
                break
        elif not is_parallel:
            break
    return commands


def _awaits(saga: Saga, step: SagaStep) -> bool:
    """True while something runs that depends on a step, or is of the same group that goes back."""
    groups = [] if step.scope is None else step.scope.chain()
    going_back = {s.definition.scope_id for s in groups} & saga.going_back
    for other in saga.steps:
        if not other.undo_wanted:
            continue
        if step.index in saga.edges[other.index]:
            return True
        around = [] if other.scope is None else other.scope.chain()
        if going_back & {s.definition.scope_id for s in around}:
            return True
    return False


def _is_busy(step: SagaStep) -> bool:
    return step.undo_running or step.probing or step.verifying


def _next_of(step: SagaStep, now: int) -> Command | None:
    if step.due_at is not None and now < step.due_at:
        return None
    if step.to_verify:
        intent = VerificationStarted(now, step.step_id, step.verify_attempt + 1)
        return Call("verification", step, intent)
    if step.state is STEP_IN_DOUBT and must_be_asked(step):
        return probe_of(step, now)
    if step.definition.compensating_action is None:
        return Record(StepOutstanding(now, step.step_id, "no_compensation", step.error))
    abandon = abandon_at(step)
    if abandon is not None and now < abandon:
        return None
    in_doubt = step.doubt is not None
    attempt = step.undo_attempt + 1
    undo = CompensationStarted(now, step.definition.step_id, attempt, in_doubt)
    return Call("compensation", step, undo)
