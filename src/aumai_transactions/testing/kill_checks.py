"""What must hold after processes were killed and everything was recovered.

Owns: the comparison of journals with the effect file, as a list of sentences; none means sound.
Rules:
  1. Nothing is checked against what the product says about itself alone: the effect file is
     written by the handlers, the outcomes by the callers.
  2. A check names the transaction and the step, so that a failure can be looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aumai_transactions.core.entries import CompensationStarted, StepStarted
from aumai_transactions.core.journal import entries
from aumai_transactions.models import TransactionState
from aumai_transactions.testing.kill_windows import boundaries_are_single

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.testing.kill_effects import Effect


def by_transaction(effects: Iterable[Effect]) -> dict[str, list[Effect]]:
    """Return the effects (not the returns) of each transaction, in order."""
    found: dict[str, list[Effect]] = {}
    for effect in effects:
        if effect.mark == "effect":
            found.setdefault(effect.transaction_id, []).append(effect)
    return found


def without_intent(found: Iterable[tuple[str, Entry]], effects: Sequence[Effect]) -> list[str]:
    """Name each effect for which a journal holds no intent (invariant I1).

    Args:
        found: Entry ids and entries of one journal; before any recovery, it says the most.
        effects: Of this transaction.
    """
    intents = set()
    for _, entry in found:
        if isinstance(entry, StepStarted):
            intents.add((entry.step_id, "action", entry.attempt))
        elif isinstance(entry, CompensationStarted):
            intents.add((entry.step_id, "compensation", entry.attempt))
    return [
        f"{effect.transaction_id}: {effect.operation} {effect.step_id}, attempt "
        f"{effect.attempt}, took effect without a durable intent"
        for effect in effects
        if (effect.step_id, effect.operation, effect.attempt) not in intents
    ]


def problems_of(journal: Journal, saga: Saga, effects: Sequence[Effect]) -> list[str]:
    """Return what is wrong with one transaction that should be finished.

    Args:
        journal: Its journal.
        saga: What `load` made of it.
        effects: Its effects, in order.
    """
    written = list(entries(journal))
    found = [
        *_finished(saga),
        *_keys(effects),
        *_attempts(effects),
        *_runs(saga, effects),
        *_order(saga, effects),
        *_undone(saga, effects),
    ]
    if not boundaries_are_single(written):
        found.append("an append ends between a result and the next intent")
    named = [f"{journal.transaction_id}: {text}" for text in found]
    return named + without_intent(written, effects)


def lost(
    outcomes: Mapping[str, str], sagas: Mapping[str, Saga], effects: Iterable[Effect]
) -> list[str]:
    """Name what was acknowledged, or took effect, and is not in the store.

    Args:
        outcomes: What `commit()` returned to its callers, by transaction id.
        sagas: What `load` made of every journal of the store.
        effects: The whole effect file.
    """
    found = []
    for name, state in outcomes.items():
        saga = sagas.get(name)
        if saga is None:
            found.append(f"{name}: acknowledged as {state}, and gone")
        elif saga.state != state:
            found.append(f"{name}: acknowledged as {state}, is {saga.state.value}")
    strays = {effect.transaction_id for effect in effects} - set(sagas)
    found += [f"{name}: has effects, and no journal" for name in sorted(strays)]
    return found


def continues(before: Journal, after: Journal | None) -> bool:
    """Tell whether a journal holds, unchanged, everything that it held before."""
    return after is not None and after.entries[: len(before.entries)] == before.entries


def _finished(saga: Saga) -> Iterator[str]:
    if not saga.state.is_final:
        yield f"is {saga.state.value}, not final"
    if saga.undo:
        yield f"finished with steps still to be undone: {saga.undo}"
    for step in saga.steps:
        if step.outstanding is not None:
            yield f"{step.step_id} is outstanding ({step.outstanding})"


def _keys(effects: Sequence[Effect]) -> Iterator[str]:
    keys: dict[tuple[str, str], set[str]] = {}
    for effect in effects:
        keys.setdefault((effect.step_id, effect.operation), set()).add(effect.key)
    for (step, operation), used in keys.items():
        if len(used) > 1:
            yield f"{operation} {step} carried several keys: {sorted(used)}"
    if len({key for used in keys.values() for key in used}) < len(keys):
        yield "two different calls carried one key"


def _attempts(effects: Sequence[Effect]) -> Iterator[str]:
    calls = Counter((e.step_id, e.operation, e.attempt) for e in effects)
    for (step, operation, attempt), times in calls.items():
        if times > 1:
            yield f"{operation} {step}, attempt {attempt}, took effect {times} times"


def _runs(saga: Saga, effects: Sequence[Effect]) -> Iterator[str]:
    times = Counter(e.step_id for e in effects if e.operation == "action")
    for step in saga.steps:
        ran = times[step.step_id]
        if ran > 1 and not step.definition.idempotent:
            yield f"{step.step_id} is not idempotent and ran {ran} times"
        if ran == 0 and saga.state is TransactionState.committed:
            yield f"is committed, and {step.step_id} never took effect"


def _order(saga: Saga, effects: Sequence[Effect]) -> Iterator[str]:
    place = {step.step_id: step.index for step in saga.steps}
    forward = [place[e.step_id] for e in effects if e.operation == "action"]
    back = [place[e.step_id] for e in effects if e.operation == "compensation"]
    if forward != sorted(forward):
        yield f"its actions ran in the order {forward}"
    if back != sorted(back, reverse=True):
        yield f"its compensations ran in the order {back}"
    operations = [e.operation for e in effects]
    if "compensation" in operations and "action" in operations[operations.index("compensation") :]:
        yield "an action took effect after a compensation"


def _undone(saga: Saga, effects: Sequence[Effect]) -> Iterator[str]:
    standing = set()
    for effect in effects:
        if effect.operation == "action":
            standing.add(effect.step_id)
        else:
            standing.discard(effect.step_id)
            if saga.state is TransactionState.committed:
                yield f"is committed, and {effect.step_id} was undone"
    if saga.state is TransactionState.rolled_back:
        for step_id in sorted(standing):
            yield f"is rolled back, and the effect of {step_id} stands"
