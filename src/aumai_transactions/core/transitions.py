"""The small steps of which the meaning of entries is made.

Owns: what several kinds of entries do to a step alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.saga import IllegalEntry, Saga, SagaStep
from aumai_transactions.core.states import (
    COMMITTING,
    STEP_COMPENSATED,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RESOLVED,
    STEP_SKIPPED,
    STEP_SUCCEEDED,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aumai_transactions.core.entries import ErrorRecord


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (an assertion that -O keeps)
    """Refuse an entry where something does not hold."""
    if not holds:
        raise IllegalEntry(otherwise)


def take_effect(saga: Saga, step: SagaStep) -> None:
    """Let a step have succeeded, and let those that waited for it have their turn."""
    step.state = STEP_SUCCEEDED
    step.error = None
    if step.doubt is not None:
        no_longer_in_doubt(saga, step)
    has_effect(saga, step)
    saga.completed.append(step.index)
    definition = step.definition
    if definition.on_commit:
        saga.deferred.remove(step.index)
    else:
        saga.unsettled -= 1
    if definition.undo_within_seconds is not None:
        step.undo_until = saga.updated_at + round(definition.undo_within_seconds * 1_000_000)
        saga.windows[step.index] = step.undo_until
    if step.undo_wanted:
        to_undo(saga, [step])
        no_longer_awaited(saga, step)
    for index in step.dependents:
        dependent = saga.steps[index]
        dependent.unmet -= 1
        if dependent.unmet == 0 and not dependent.definition.on_commit:
            saga.ready.append(index)
    saga.touched.append(step.index)


def known_done(saga: Saga, step: SagaStep) -> None:
    """Let a step have succeeded because somebody else says so, whatever its own calls answer."""
    if step.attempt > 1:
        # Nobody says which of several calls did it; the others may act or answer yet.
        take_effect(saga, step)
        return
    step.accounted |= {*step.left_behind, step.attempt}
    step.left_behind = {}
    take_effect(saga, step)


def not_done(
    saga: Saga,
    step: SagaStep,
    error: ErrorRecord | None,
    again: bool,  # noqa: FBT001 (one meaning, said by the name)
) -> None:
    """Let a step have failed; or let it have its turn again."""
    step.error = error
    if step.doubt is not None:
        no_longer_in_doubt(saga, step)
    if step.definition.pivot:
        saga.rereads.clear()  # What was read is looked at again, right before the next attempt.
    if again:
        step.state = STEP_PENDING
        if not step.definition.on_commit:
            saga.ready.append(step.index)
    else:
        step.state = STEP_FAILED
        if step.definition.on_commit and saga.state is COMMITTING:
            saga.stuck[step.index] = None
        elif saga.is_interactive:
            saga.unsettled -= 1  # Its program was told, and goes on.
        else:
            saga.failed.append(step.index)
        if step.undo_wanted:
            no_longer_awaited(saga, step)
    saga.touched.append(step.index)


def has_effect(saga: Saga, step: SagaStep) -> None:
    """Take note that a step has an effect, or may have one, behind all those before it."""
    saga.effect_count += 1
    step.effect_order = saga.effect_count
    saga.effects.append(step.index)


def to_undo(saga: Saga, steps: Iterable[SagaStep]) -> None:
    """Let some steps be undone, those that took effect last first."""
    for step in steps:
        if step.to_undo:
            continue
        if step.state is STEP_IN_DOUBT and step.late_output is not None:
            # Why now: a late answer is never counted, but it tells what there is to undo.
            wanted, step.undo_wanted = step.undo_wanted, False
            (step.output,) = step.late_output
            take_effect(saga, step)
            step.undo_wanted = wanted
        if has_something_to_undo(step):
            step.to_undo = True
            saga.undo.append(step.index)
            saga.doubtful.pop(step.index, None)
            continue
        step.withdrawn = True
        if step.doubt is not None:
            # Nothing is to be undone of it, so nobody need know whether it happened.
            no_longer_in_doubt(saga, step)
            step.state = STEP_FAILED
            saga.unsettled -= 1
            saga.touched.append(step.index)
            continue
        if step.definition.effect != "none" and not step.simulated:
            step.left_in_place = True
            saga.warnings.append(
                f"step {step.step_id} was to be undone with others, and nothing undoes it: it stays"
            )
    saga.undo.sort(key=lambda index: saga.steps[index].effect_order)


def has_something_to_undo(step: SagaStep) -> bool:
    """True where the undo of a step calls something, or leaves something to a person."""
    if step.outstanding is not None or step.withdrawn:
        return False  # It is left to a person already, or was taken back.
    if step.state in _OVER:
        return False
    if step.definition.compensating_action is not None:
        return True
    return step.state is STEP_IN_DOUBT and step.definition.effect != "none"


_OVER = frozenset({STEP_COMPENSATED, STEP_RESOLVED})


def undo_waits(saga: Saga, step: SagaStep) -> bool:
    """True while something that depends on a step, directly or not, is to be undone before it."""
    steps, waiting, seen = saga.steps, step.dependents, None
    while waiting:
        further: list[int] = []
        for index in waiting:
            other = steps[index]
            if other.to_undo or other.undo_wanted:
                return True
            # Why no further: what was undone had waited for all that depends on it; what never
            # succeeded has nothing that does, but where nothing ever ran and all is undone.
            if other.state is STEP_SUCCEEDED or not saga.ran:
                seen = seen or set(step.dependents)
                further += [after for after in other.dependents if after not in seen]
                seen.update(other.dependents)
        waiting = further
    return False


def no_longer_awaited(saga: Saga, step: SagaStep) -> None:
    """Let a step have ended that is to be undone as soon as it has."""
    step.undo_wanted = False
    saga.undo_awaits -= 1
    _look_whether_all_is_undone(saga)


def _look_whether_all_is_undone(saga: Saga) -> None:
    if not saga.undo and not saga.undo_awaits:
        saga.going_back.clear()


def no_longer_in_doubt(saga: Saga, step: SagaStep) -> None:
    """Let it be known what became of a step; the entry says what."""
    step.doubt = None
    step.probing = False
    step.retry_requested = False
    saga.effects.remove(step.index)
    saga.doubtful.pop(step.index, None)
    no_longer_waiting(saga, step)


def no_longer_waiting(saga: Saga, step: SagaStep) -> None:
    """Let the wait of a step be over."""
    if step.due_at is not None:
        step.due_at = None
        del saga.waiting[step.index]


def no_longer_to_undo(saga: Saga, step: SagaStep) -> None:
    """Take a step off the stack of those that are to be undone."""
    step.undo_running = False
    step.to_undo = False
    # Why not just remove: the step is nearly always the last one, and remove() searches from
    # the first, which makes a long rollback quadratic.
    if saga.undo[-1] == step.index:
        saga.undo.pop()
    else:
        saga.undo.remove(step.index)
    no_longer_waiting(saga, step)
    _look_whether_all_is_undone(saga)
    saga.touched.append(step.index)


def skip_pending(saga: Saga) -> None:
    """Let what has never begun be skipped."""
    for step in saga.steps:
        if step.state is STEP_PENDING:
            step.state = STEP_SKIPPED
            saga.touched.append(step.index)


def skip(saga: Saga, step: SagaStep) -> None:
    """Let a step that waits for its turn be left out, and the rest go on."""
    step.state = STEP_SKIPPED
    if step.definition.on_commit:
        saga.deferred.remove(step.index)
    else:
        saga.unsettled -= 1
        if step.index in saga.approvals:
            del saga.approvals[step.index]
        elif step.unmet == 0:
            saga.ready.remove(step.index)
    no_longer_waiting(saga, step)
    saga.touched.append(step.index)
