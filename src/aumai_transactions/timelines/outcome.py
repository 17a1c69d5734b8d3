"""What became of a transaction, in one sentence.

Owns: that sentence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aumai_transactions.models import TransactionState

if TYPE_CHECKING:
    from aumai_transactions.models import TransactionResult
    from aumai_transactions.timelines.timeline import Timeline

_REASONS = {
    "requested": "somebody asked for it",
    "step_failed": "a step failed",
    "in_doubt": "nobody knows whether a step happened",
    "deadline": "its time was over",
    "denied": "a person did not allow it",
    "conflict": "what it had read has changed",
    "deadlock": "it had to give way to another one",
    "cancelled": "its program was cancelled",
    "crash": "its process died",
}
_ADVICE = re.compile(
    r" Find out| Then: |: aumai-transactions |; see who has it|; it goes on with"
    r"|; if (?:its process|that) has died"
)
_GOING_ON = {
    TransactionState.pending: "It has not begun",
    TransactionState.active: "It is under way",
    TransactionState.committing: "It is committed, and something is left to do",
    TransactionState.compensating: "It is being undone",
}


def outcome_sentence(timeline: Timeline, result: TransactionResult) -> str:
    """Return what became of a transaction, and why, in one sentence."""
    if result.state is TransactionState.committed:
        said = f"Committed: {_counted(len(result.completed_steps))} took effect"
    elif result.state is TransactionState.failed:
        said = "Failed: its time was over before anything ran"
    elif result.state is TransactionState.rolled_back:
        said = f"Rolled back because {_why(timeline, result)}: {_undone(result)}"
    else:
        said = _GOING_ON[result.state]
        if result.state is TransactionState.compensating:
            said += f" because {_why(timeline, result)}"
        if result.waiting is not None:
            said += f"; {without_advice(result.waiting.detail)}"
    left = len(result.outstanding)
    if left:
        said += f"; {_counted(left)} {'needs' if left == 1 else 'need'} a person"
    return f"{said.rstrip('.')}."


def without_advice(detail: str) -> str:
    """Return what a transaction waits for, without what to do next: whoever shows it says that."""
    return _ADVICE.split(detail, maxsplit=1)[0].rstrip(".,;: ")


def _why(timeline: Timeline, result: TransactionResult) -> str:
    reason = result.reason or timeline.reason
    if reason == "requested" and timeline.cause:
        return f"its program raised {timeline.cause}"
    why = _REASONS.get(reason, f"of {reason.replace('_', ' ') or 'an unknown reason'}")
    return f"{why} ({timeline.cause})" if timeline.cause else why


def _undone(result: TransactionResult) -> str:
    if not result.compensated_steps:
        said = "there was nothing to undo"
    else:
        said = f"{_counted(len(result.compensated_steps))} undone"
    stays = len(result.uncompensated)
    return f"{said}, {_counted(stays)} {'stays' if stays == 1 else 'stay'}" if stays else said


def _counted(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
