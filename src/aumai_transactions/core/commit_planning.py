"""What should be done around the commit point.

Owns: the part of `plan` that is about committing.
Rules:
  1. The order: what was read is read again; the commit is decided; confirmations in the order of
     the steps; the held steps in their order; the end.
  2. After the decision nothing goes back (invariant I8). What failed for good, or too often, waits
     for a person.
  3. Where nothing waits for the commit point, the end is the decision.
  4. A held step does not begin by itself where something that it depends on was left undone there:
     a person decided that, and a person has to say what it means for this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.commands import Call, Command, Look, Record
from aumai_transactions.core.doubts import may_run_again, must_be_asked, probe_of
from aumai_transactions.core.entries import (
    CommitDecided,
    ConfirmationStarted,
    ErrorRecord,
    StepFailed,
    StepStarted,
    TransactionCommitted,
)
from aumai_transactions.core.isolation import unchecked_reads
from aumai_transactions.core.states import STEP_IN_DOUBT, STEP_RUNNING, STEP_SUCCEEDED
from aumai_transactions.core.turns import fill_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.saga import Saga, SagaStep


def plan_commit(saga: Saga, now: int) -> Sequence[Command]:
    """Return what has to be done, now that every step has ended well, to commit."""
    pivot = saga.pivot is not None and saga.steps[saga.pivot].state is STEP_SUCCEEDED
    if not pivot and not is_read_again(saga):
        return read_again(saga)
    if not pivot and (failed := impossible(saga, now)) is not None:
        return (failed,)
    if not pivot and saga.locks is not None and (names := unchecked_reads(saga)):
        return (Look(names),)
    if saga.deferred or pivot or saga.has_tries:
        return (Record(CommitDecided(now)),)
    return (Record(TransactionCommitted(now)),)


def impossible(saga: Saga, now: int) -> Record | None:
    """Return that a held step cannot be called, where an output that it needs is not there.

    Why before the commit point: behind it, such a step would stop everything.
    """
    for index in saga.deferred:
        step = saga.steps[index]
        names = {item.step_id for item in step.definition.references}
        needed = [saga.step(name) for name in names]
        # Why only then: the pivot's own output is not there yet.
        if needed and all(other.state is STEP_SUCCEEDED for other in needed):
            _data, failed = fill_in(saga, step, now)
            if failed is not None:
                return failed
    return None


def _is_known(saga: Saga, step: SagaStep) -> bool:
    """True where a step has references, and all that they point to has happened."""
    named = [item.step_id for item in step.definition.references]
    return bool(named) and all(not saga.step(name).definition.on_commit for name in named)


def is_read_again(saga: Saga) -> bool:
    """True where nothing that was read has to be looked at again."""
    if not saga.has_reads:
        return True
    return not any(_has_to_be_read_again(saga, step) for step in saga.steps)


def _has_to_be_read_again(saga: Saga, step: SagaStep) -> bool:
    return (
        step.definition.policy.has_reread
        and step.state is STEP_SUCCEEDED
        and not step.withdrawn
        and not step.simulated
        and not step.to_undo
        and step.index not in saga.rereads
    )


def read_again(saga: Saga) -> Sequence[Command]:
    """Return the calls that look again at what was read, but for those that are under way."""
    return [
        Call("reread", step, None)
        for step in saga.steps
        if _has_to_be_read_again(saga, step) and not step.rereading
    ]


def plan_committing(saga: Saga, now: int) -> Sequence[Command]:
    """Return what has to be done behind the commit point."""
    if saga.stuck:
        return ()
    if saga.to_confirm:
        return _confirm(saga, saga.steps[saga.to_confirm[0]], now)
    if saga.deferred:
        return _carry_out(saga, saga.steps[saga.deferred[0]], now)
    return (Record(TransactionCommitted(now)),)


def _confirm(saga: Saga, step: SagaStep, now: int) -> Sequence[Command]:
    if step.confirming or saga.waiting.get(step.index, now) > now:
        return ()
    intent = ConfirmationStarted(now, step.step_id, step.confirm_attempt + 1)
    return (Call("confirmation", step, intent),)


def _carry_out(saga: Saga, step: SagaStep, now: int) -> Sequence[Command]:
    if step.state is STEP_RUNNING or step.probing or saga.waiting.get(step.index, now) > now:
        return ()
    if step.state is STEP_IN_DOUBT:
        if must_be_asked(step):
            return (probe_of(step, now),)
        if not step.retry_requested and not may_run_again(step):
            return ()
        return (Call("action", step, StepStarted(now, step.step_id, step.attempt + 1, step.data)),)
    left_out = _left_out_before(saga, step) if saga.left_out else None
    if left_out is not None and not step.attempt and not step.retry_requested:
        why = f"it depends on step {left_out.step_id}, which a person has left as it was"
        problem = ErrorRecord("DependencyLeftOut", why)
        return (Record(StepFailed(now, step.step_id, 0, problem)),)
    data = None
    if step.definition.references:
        data, failed = fill_in(saga, step, now)
        if failed is not None:
            return (failed,)
    return (Call("action", step, StepStarted(now, step.step_id, step.attempt + 1, data)),)


def _left_out_before(saga: Saga, step: SagaStep) -> SagaStep | None:
    """Return what a held step depends on, directly or not, and was left undone by a person.

    Why no further than to a held step that was carried out: whoever let that one go on has
    decided about what stands before it.
    """
    waiting, seen = list(saga.edges[step.index]), set(saga.edges[step.index])
    while waiting:
        other = saga.steps[waiting.pop()]
        if other.index in saga.left_out:
            return other
        if other.definition.on_commit:
            continue
        before = [index for index in saga.edges[other.index] if index not in seen]
        waiting += before
        seen.update(before)
    return None
