"""What it means that a program adds steps, groups them, and takes some of them back.

Owns: the part of `evolve` that is about interactive transactions.
Rules:
  1. A partial rollback is a bounded episode: it undoes the steps that it names, holds back new
     ones of the same group for as long, and touches nothing else.
  2. What is undone so is dealt with: it stays in the journal, and does not hinder the commit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aumai_transactions.core.entries import PartialRollbackStarted, UndoRequestRefused
from aumai_transactions.core.graph import descendants
from aumai_transactions.core.isolation import Locks
from aumai_transactions.core.saga import SagaStep, Scope
from aumai_transactions.core.states import (
    ACTIVE,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.transitions import (
    no_longer_waiting,
    require,
    skip,
    take_effect,
    to_undo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.core.entries import (
        ErrorRecord,
        ScopeOpened,
        ScopeReleased,
        StepAdded,
        StepRefused,
        UndoWindowClosing,
    )
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.models import RollbackReason

IN_FORCE = frozenset({STEP_PENDING, STEP_RUNNING, STEP_SUCCEEDED, STEP_IN_DOUBT})


def is_in_force(step: SagaStep) -> bool:
    """True where a step is to have an effect, has one or may have one, and nobody undoes it."""
    return (
        step.state in IN_FORCE and not step.to_undo and not step.undo_wanted and not step.withdrawn
    )


def scope_opened(saga: Saga, entry: ScopeOpened) -> None:
    """Let a group begin."""
    definition = entry.scope
    require(saga.is_interactive, "a group begins in a transaction that was planned")
    require(definition.scope_id not in saga.scopes, "a group begins twice")
    parent = None
    if definition.parent is not None:
        require(definition.parent in saga.scopes, "a group begins in one that is not there")
        parent = saga.scopes[definition.parent]
        require(parent.state == "open", "a group begins in one that is over")
    saga.scopes[definition.scope_id] = Scope(definition, parent)


def scope_released(saga: Saga, entry: ScopeReleased) -> None:
    """Let a nested transaction have committed into what it stands in."""
    require(entry.scope_id in saga.scopes, "a group ends that is not there")
    scope = saga.scopes[entry.scope_id]
    require(scope.state == "open", "a group ends that is over")
    scope.state = "released"


def step_added(saga: Saga, entry: StepAdded) -> None:
    """Let there be one step more, which may begin at once."""
    definition = entry.step
    require(saga.is_interactive, "a step is added to a transaction that was planned")
    require(saga.state is ACTIVE, "a step is added while it is not active")
    require(not saga.commit_requested, "a step is added behind the commit")
    require(definition.step_id not in saga.by_id, "two steps have one id")
    before: dict[int, None] = {}
    if definition.after or definition.references:
        for name in (*(definition.after or ()), *(r.step_id for r in definition.references)):
            before[saga.step(name).index] = None
    index = len(saga.steps)
    for position in before:
        succeeded = saga.steps[position].state is STEP_SUCCEEDED
        require(succeeded, "a step is added that waits for one that has not succeeded")
    step = SagaStep(index, definition, 0)
    step.fork = entry.fork
    step.request_id = entry.request_id
    if entry.request_id is not None:
        require(entry.request_id in saga.step_requests, "a step answers a wish that nobody had")
        del saga.step_requests[entry.request_id]
    if definition.resources and saga.locks is None and saga.plan.isolation != "none":
        saga.locks = Locks()
    saga.steps.append(step)
    saga.by_id[definition.step_id] = step
    if definition.intent is not None:
        saga.by_intent.setdefault(definition.intent, []).append(step)
    if entry.name is not None:
        saga.named[entry.name] = definition.step_id
    saga.edges.append(tuple(before))
    for position in before:
        saga.steps[position].dependents.append(index)
    _name(saga, definition)
    if definition.scope_id is not None:
        require(definition.scope_id in saga.scopes, "a step is added to a group that is not there")
        step.scope = saga.scopes[definition.scope_id]
        require(
            all(scope.state == "open" for scope in step.scope.chain()),
            "a step is added to a group that is over",
        )
        step.scope.steps.append(index)
    if definition.on_commit:
        saga.deferred.append(index)
    else:
        saga.unsettled += 1
        saga.ready.append(index)
        if definition.effect == "irreversible" and not definition.pivot:
            saga.irreversible.append(index)
    saga.has_reads = saga.has_reads or definition.policy.has_reread
    saga.has_tries = saga.has_tries or definition.confirming_action is not None
    if definition.pivot:
        pivot = None if saga.pivot is None else saga.steps[saga.pivot]
        require(pivot is None or not is_in_force(pivot), "there is a pivot already")
        saga.pivot = index
    saga.touched.append(index)


def _name(saga: Saga, definition: StepDefinition) -> None:
    """Note who takes part, and what is done."""
    if definition.agent_id not in saga.agents:
        saga.agents = (*saga.agents, definition.agent_id)
    if definition.action not in saga.actions:
        saga.actions = (*saga.actions, definition.action)


def step_refused(saga: Saga, entry: StepRefused) -> None:
    """Let a step that somebody wanted not be."""
    require(entry.request_id in saga.step_requests, "a wish is refused that nobody had")
    del saga.step_requests[entry.request_id]
    saga.refused[entry.request_id] = entry.error


def partial_rollback_started(saga: Saga, entry: PartialRollbackStarted) -> None:
    """Take back the steps that are named; what runs is taken back once it has ended."""
    require(saga.is_interactive, "a part is undone of a transaction that was planned")
    require(saga.state is ACTIVE, "a part is undone while it is not active")
    steps = [saga.step(name) for name in entry.step_ids]
    named = {step.index for step in steps}
    for step in steps:
        require(is_in_force(step), "a step is undone that is not in force")
        # Invariant: I3, nothing that is in force depends on what is undone.
        for index in step.dependents:
            other = saga.steps[index]
            require(index in named or not is_in_force(other), "a live dependant is orphaned")
    if entry.scope_id is not None:
        require(entry.scope_id in saga.scopes, "a group is undone that is not there")
        saga.undo_requests.pop(entry.scope_id, None)
        _end(saga.scopes[entry.scope_id], entry.reason)
    done = []
    for step in steps:
        if step.late_output is not None and step.state is STEP_PENDING:
            # Something said that it was not done, and its own call says that it was.
            saga.ready.remove(step.index)
            no_longer_waiting(saga, step)
            (step.output,) = step.late_output
            take_effect(saga, step)
        if step.state is STEP_RUNNING:
            step.undo_wanted = True
            saga.undo_awaits += 1
        elif step.state is STEP_PENDING:
            skip(saga, step)
        else:
            done.append(step)
        saga.touched.append(step.index)
    to_undo(saga, done)
    if entry.scope_id is not None and (saga.undo or saga.undo_awaits):
        saga.going_back.add(entry.scope_id)
    if entry.error is not None and entry.step_id is not None:
        saga.warnings.append(f"step {entry.step_id} was undone: {entry.error}")


def _end(scope: Scope, reason: RollbackReason) -> None:
    """Let a nested transaction, and those that stand in a group, be over."""
    if scope.definition.kind == "child":
        scope.state = "rolled_back"
        scope.reason = reason
    for child in scope.children:
        _end(child, reason)


def undo_request_refused(saga: Saga, entry: UndoRequestRefused) -> None:
    """Let a nested transaction be left as it is."""
    require(entry.scope_id in saga.undo_requests, "nobody asked for it")
    del saga.undo_requests[entry.scope_id]
    saga.warnings.append(
        f"the nested transaction {entry.scope_id} was to be undone, and was not: "
        f"{', '.join(entry.step_ids)} depends on it"
    )


def live_dependants(saga: Saga, of: Iterable[int]) -> list[int]:
    """Return every step in force that depends on one of these, directly or not, in order."""
    dependents = [step.dependents for step in saga.steps]
    found = descendants(dependents, of)
    return sorted(index for index in found if is_in_force(saga.steps[index]))


def undo_of(
    saga: Saga, scope: Scope, now: int, reason: RollbackReason, error: ErrorRecord | None
) -> PartialRollbackStarted | UndoRequestRefused:
    """Return what to record so that a group is undone; or that it cannot be, alone."""
    inside = [index for index in sorted(scope.all_steps()) if is_in_force(saga.steps[index])]
    within = set(inside)
    outside = [index for index in live_dependants(saga, inside) if index not in within]
    name = scope.definition.scope_id
    if outside:
        return UndoRequestRefused(now, name, names_of(saga, outside))
    return PartialRollbackStarted(now, names_of(saga, inside), reason, name, None, error)


def names_of(saga: Saga, indexes: Iterable[int]) -> tuple[str, ...]:
    """Return the ids of some steps."""
    return tuple(saga.steps[index].step_id for index in indexes)


def is_held_back(saga: Saga, step: SagaStep) -> bool:
    """True while a group that a step stands in is being undone."""
    return step.scope is not None and any(
        scope.definition.scope_id in saga.going_back for scope in step.scope.chain()
    )


def undo_window_closing(saga: Saga, entry: UndoWindowClosing) -> None:
    """Take note that a step can soon not be undone any more."""
    step = saga.step(entry.step_id)
    require(step.index in saga.windows, "a window closes that is not open")
    saga.closing[step.index] = saga.windows.pop(step.index)
    until = datetime.fromtimestamp(entry.until / 1_000_000, UTC).isoformat(timespec="seconds")
    saga.warnings.append(f"step {step.step_id} can be undone only until {until}")
