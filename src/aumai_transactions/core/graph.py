"""Which step waits for which.

Owns: the dependency graph of a transaction. A plain sequence is its simplest case.
Rules:
  1. A step depends on what `after` names and on every step whose output it refers to.
  2. `after` omitted means: after all steps added before it. Only the steps that nothing
     waits for yet are taken as predecessors then; the rest follows. So a sequence of n
     steps has n-1 edges, not n²/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    UnknownStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aumai_transactions.core.definition import StepDefinition


def dependencies(
    steps: Sequence[StepDefinition], transaction_id: str = ""
) -> list[tuple[int, ...]]:
    """Return for each step the indexes of the steps that must succeed before it starts.

    Raises:
        DuplicateStep: Two steps share an id.
        UnknownStep: A step names one that does not exist.
        DependencyCycle: Steps wait for each other.
        DefinitionError: A step stands behind the pivot, or waits for one that is held.
    """
    index = {step.step_id: position for position, step in enumerate(steps)}
    if len(index) != len(steps):
        raise DuplicateStep(_first_duplicate(steps), transaction_id)
    if not [s for s in steps if s.after is not None or s.references or s.on_commit or s.pivot]:
        return [(position - 1,) if position else () for position in range(len(steps))]
    edges: list[tuple[int, ...]] = []
    sinks: dict[int, None] = {}
    pivot: str | None = None
    for position, step in enumerate(steps):
        before: dict[int, None] = {}
        if step.pivot or (step.after is None and not step.on_commit):
            before.update(sinks)
        if pivot is not None and not step.on_commit:
            raise DefinitionError(_behind_pivot(step.step_id, pivot, transaction_id))
        named = [*(step.after or ()), *(reference.step_id for reference in step.references)]
        for name in named:
            if name not in index:
                raise UnknownStep(name, f"step {step.step_id!r}", transaction_id)
            if steps[index[name]].on_commit and not step.on_commit:
                raise DefinitionError(_waits_for_held(step.step_id, name, transaction_id))
            before[index[name]] = None
        if not step.on_commit:
            for predecessor in before:
                sinks.pop(predecessor, None)
            sinks[position] = None
        pivot = step.step_id if step.pivot else pivot
        edges.append(tuple(before))
    topological_order(edges, [step.step_id for step in steps], transaction_id)
    return edges


def topological_order(
    edges: Sequence[tuple[int, ...]], names: Sequence[str], transaction_id: str
) -> list[int]:
    """Return the steps so that each stands behind what it depends on; stable otherwise.

    Raises:
        DependencyCycle: There is no such order; names the steps of one circle.
    """
    if all(before < position for position, befores in enumerate(edges) for before in befores):
        return list(range(len(edges)))
    followers: list[list[int]] = [[] for _ in edges]
    unmet = [len(befores) for befores in edges]
    for position, befores in enumerate(edges):
        for before in befores:
            followers[before].append(position)
    order = [position for position, count in enumerate(unmet) if count == 0]
    for position in order:
        for follower in followers[position]:
            unmet[follower] -= 1
            if unmet[follower] == 0:
                order.append(follower)
    if len(order) != len(edges):
        raise DependencyCycle(_cycle(edges, unmet, names), transaction_id)
    return order


def descendants(dependents: Sequence[Sequence[int]], of: Iterable[int]) -> set[int]:
    """Return every step that depends on one of these, directly or not; not they themselves.

    Args:
        dependents: For each step the indexes of those that depend on it.
        of: The steps.
    """
    found: set[int] = set()
    waiting = list(of)
    while waiting:
        for after in dependents[waiting.pop()]:
            if after not in found:
                found.add(after)
                waiting.append(after)
    return found


def ancestors(edges: Sequence[tuple[int, ...]], of: Iterable[int]) -> set[int]:
    """Return every step that one of these depends on, directly or not."""
    found: set[int] = set()
    waiting = list(of)
    while waiting:
        for before in edges[waiting.pop()]:
            if before not in found:
                found.add(before)
                waiting.append(before)
    return found


def _behind_pivot(step_id: str, pivot: str, transaction_id: str) -> str:
    return (
        f"step {step_id!r} of transaction {transaction_id} stands behind its pivot {pivot!r}, and "
        "nothing can be undone any more there. Put it in front, or declare it with on_commit=True."
    )


def _waits_for_held(step_id: str, held: str, transaction_id: str) -> str:
    return (
        f"step {step_id!r} of transaction {transaction_id} waits for {held!r}, which is held until "
        "everything else has succeeded (on_commit). Declare it with on_commit=True as well."
    )


def _first_duplicate(steps: Sequence[StepDefinition]) -> str:
    seen: set[str] = set()
    for step in steps:
        if step.step_id in seen:
            return step.step_id
        seen.add(step.step_id)
    return ""


def _cycle(
    edges: Sequence[tuple[int, ...]], unmet: Sequence[int], names: Sequence[str]
) -> list[str]:
    path: list[int] = [next(position for position, count in enumerate(unmet) if count)]
    while True:
        following = next(before for before in edges[path[-1]] if unmet[before])
        if following in path:
            return [names[position] for position in reversed(path[path.index(following) :])]
        path.append(following)
