"""In which window of its life a transaction was when its process was killed.

Owns: the names of the windows, and how they are told from a journal and the effect file.

One call of a handler passes four moments: its intent is durable; the effect stands; the handler
has returned; the result is durable. The result and the next intent travel in one append, so
nothing lies between *these* two that a kill could hit: `boundaries_are_single` checks that. What
a kill can hit is:

  intent_to_effect        the intent is durable, and the effect does not stand. This includes the
                          moment right after the append that carried the result of the step
                          before: the next call is promised, and not made yet.
  effect_to_result        the effect stands, and the handler has not returned.
  result_to_next_intent   the handler has returned (or raised); the append that carries its result
                          and the next step's intent is not durable. In the journal this looks
                          like effect_to_result; the handler's last line in the effect file tells.
  result_to_undo          likewise, where the handler raised: the append would have carried the
                          failure, the decision to go back, and the first undo's intent.
  result_to_outcome       likewise, after the last step: the append would have carried the
                          outcome, and the caller has not been answered.
  undo_intent_to_effect   like intent_to_effect, of a compensating action.
  undo_effect_to_result   like effect_to_result, of a compensating action.
  undo_result_to_next     like result_to_next_intent, of a compensating action; the append would
                          have carried the next undo's intent, or the outcome.

Each of these can be hit while a transaction is carried out for the first time, and while it is
recovered; the latter counts as `inside_recovery` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.entries import (
    Claimed,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepStarted,
    StepSucceeded,
    TransactionCommitted,
    TransactionExpired,
    TransactionRolledBack,
)
from aumai_transactions.core.journal import entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.testing.kill_effects import Effect, Mark

FORWARD_WINDOWS = ("intent_to_effect", "effect_to_result", "result_to_next_intent")
END_WINDOWS = ("result_to_undo", "result_to_outcome")
UNDO_WINDOWS = ("undo_intent_to_effect", "undo_effect_to_result", "undo_result_to_next")
WINDOWS = (*FORWARD_WINDOWS, *END_WINDOWS, *UNDO_WINDOWS)
INSIDE_RECOVERY = "inside_recovery"

_RESULTS = (StepSucceeded, StepFailed, StepInDoubt, StepOutstanding)
_UNDO_RESULTS = (CompensationSucceeded, CompensationFailed)
_FINAL = (TransactionCommitted, TransactionRolledBack, TransactionExpired)


class OpenCall(NamedTuple):
    """Hold the call that a journal announces and knows no result of.

    Args:
        transaction_id: In which transaction.
        step_id: Of which step.
        operation: Its action or its compensating action.
        attempt: Which call of it.
        is_last: True where no step follows.
        is_recovery: True where the driver had taken the transaction over.
    """

    transaction_id: str
    step_id: str
    operation: Operation
    attempt: int
    is_last: bool
    is_recovery: bool


Marks = dict[tuple[str, str, str, int], "set[Mark]"]


def marks_of(effects: Iterable[Effect]) -> Marks:
    """Return which lines each call has left."""
    marks: Marks = {}
    for effect in effects:
        call = (effect.transaction_id, effect.step_id, effect.operation, effect.attempt)
        marks.setdefault(call, set()).add(effect.mark)
    return marks


def open_call(journal: Journal) -> OpenCall | None:
    """Return the call that was under way when a journal ends; None where none was."""
    found = [entry for _, entry in entries(journal)]
    started: StepStarted | CompensationStarted | None = None
    is_recovery = False
    for entry in found:
        if isinstance(entry, StepStarted | CompensationStarted):
            started = entry
        elif isinstance(entry, _RESULTS + _UNDO_RESULTS + _FINAL):
            started = None
        elif isinstance(entry, Claimed):
            is_recovery = entry.takeover
            # Why: whoever takes over begins every unfinished call anew, or journals its doubt.
            started = None
    if started is None:
        return None
    operation: Operation = "action" if isinstance(started, StepStarted) else "compensation"
    return OpenCall(
        journal.transaction_id,
        started.step_id,
        operation,
        started.attempt,
        started.step_id == _last_step(found),
        is_recovery,
    )


def window_of(call: OpenCall, marks: Mapping[tuple[str, str, str, int], set[Mark]]) -> str:
    """Return the window in which a call was interrupted."""
    left = marks.get((call.transaction_id, call.step_id, call.operation, call.attempt), set())
    undoing = call.operation == "compensation"
    if "return" not in left:
        window = "effect_to_result" if "effect" in left else "intent_to_effect"
        return f"undo_{window}" if undoing else window
    if undoing:
        return "undo_result_to_next"
    if "effect" not in left:
        return "result_to_undo"
    return "result_to_outcome" if call.is_last else "result_to_next_intent"


def boundaries_are_single(found: Iterable[tuple[str, Entry]]) -> bool:
    """Tell whether no append of a planned transaction ends between a result and what follows.

    Entry ids carry the name of their append, so a journal shows which entries were one durable
    write: a result must stand in one with the next intent or with the outcome.

    Args:
        found: Entry ids and entries, in order.
    """
    appends: dict[str, list[Entry]] = {}
    for entry_id, entry in found:
        appends.setdefault(entry_id.rpartition(".")[0], []).append(entry)
    return all(_is_single(append) for append in appends.values())


def _is_single(append: list[Entry]) -> bool:
    if not any(isinstance(entry, _RESULTS + _UNDO_RESULTS) for entry in append):
        return True
    return isinstance(append[-1], (StepStarted, CompensationStarted, *_FINAL))


def _last_step(found: Sequence[Entry]) -> str | None:
    for entry in reversed(found):
        definition = getattr(entry, "definition", None)
        if definition is not None and definition.steps:
            name: str = definition.steps[-1].step_id
            return name
    return None
