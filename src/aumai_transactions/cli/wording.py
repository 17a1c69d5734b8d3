"""The words and tones for what happened.

Owns: how states, outcomes, durations and instants read. One concept, one word.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aumai_transactions.cli.screen import Tone, shown
from aumai_transactions.cli.settings import Settings
from aumai_transactions.cli.tables import Cell
from aumai_transactions.cli.timeline import Call
from aumai_transactions.core.outcome import Attention
from aumai_transactions.models import Transaction, TransactionResult, TransactionState

STATE_TONES: dict[TransactionState, Tone] = {
    TransactionState.pending: "dim",
    TransactionState.active: "busy",
    TransactionState.committing: "busy",
    TransactionState.compensating: "warn",
    TransactionState.committed: "good",
    TransactionState.rolled_back: "warn",
    TransactionState.failed: "bad",
}
_OUTCOME_TONES: dict[str, Tone] = {
    "pending": "dim",
    "running": "busy",
    "done": "good",
    "simulated": "dim",
    "failed": "bad",
    "never called": "bad",
    "in doubt": "bad",
    "undone": "warn",
    "undo failed": "bad",
    "not undone": "bad",
    "decided done": "good",
    "decided not done": "warn",
    "undone by hand": "warn",
    "left in place": "warn",
}
ATTENTION: dict[Attention, str] = {
    "outstanding": "not undone",
    "in_doubt": "in doubt",
    "halted": "undo halted",
}


def state_cell(state: TransactionState) -> Cell:
    """Return a transaction's state; the word is the one that JSON and options use."""
    return Cell(state.value, STATE_TONES[state])


def call_cell(call: Call, *, is_declared: bool = True) -> Cell:
    """Return how a call stands, how long it took, and which attempt it was."""
    if call.outcome == "pending":
        return Cell("", "dim") if not is_declared else Cell("-", "dim")
    text: str = call.outcome
    if call.seconds is not None:
        text += f" {duration(call.seconds)}"
    if call.attempt > 1:
        text += f", attempt {call.attempt}"
    return Cell(text, _OUTCOME_TONES[call.outcome])


def duration(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 0.9995:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def when(at: datetime | None) -> str:
    """Return an instant, UTC, to the second."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def reason_text(reason: str) -> str:
    """Return why a transaction went back."""
    return reason.replace("_", " ")


def needs_app(transaction: Transaction) -> bool:
    """Tell whether a transaction has actions that its journal does not define."""
    names = {name for step in transaction.steps for name in (step.action, step.compensating_action)}
    return bool(names - {None} - set(transaction.actions))


def next_commands(
    settings: Settings, result: TransactionResult, *, app: bool
) -> list[tuple[str, list[str]]]:
    """Return what a person has to look at, and for each the commands that go on from there.

    Args:
        settings: What this command was told.
        result: The outcome so far.
        app: True where handlers in Python are needed to go on.
    """
    name = result.transaction_id
    found = []
    for item in result.outstanding:
        step, undo = shown(item.step_id), shown(item.compensating_action or "")
        why = f": {shown(item.error)}" if item.error else ""
        commands = [settings.command("retry", name, item.step_id, app=app)]
        if item.reason == "no_compensation":
            what = f"{step}: {shown(item.action)} may have happened, and nothing undoes it{why}"
            commands = []
        elif item.reason == "no_handler":
            what = f"{step}: not undone, for {undo} had no handler"
        else:
            what = f"{step}: {undo} could not undo {shown(item.action)}{why}"
        commands += [_resolving(settings, name, item.step_id, way) for way in _LEFT]
        found.append((what, commands))
    waiting = result.waiting
    if waiting is None or waiting.reason != "in_doubt":
        return found
    for step_id in waiting.step_ids:
        commands = [_resolving(settings, name, step_id, way, app=app) for way in _DOUBTED]
        found.append((f"{shown(step_id)}: nobody knows whether it happened", commands))
    return found


_LEFT = ("--undone", "--left-in-place")
_DOUBTED = ("--happened", "--did-not-happen")


def _resolving(
    settings: Settings, name: str, step_id: str, answer: str, *, app: bool = False
) -> str:
    return settings.command("resolve", name, step_id, answer, "--note", "how you know", app=app)
