"""The words and tones for what happened.

Owns: how states, outcomes, durations and instants read. One concept, one word.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from aumai_transactions.cli.screen import Tone, shown
from aumai_transactions.cli.settings import Settings
from aumai_transactions.cli.tables import Cell
from aumai_transactions.core.outcome import Attention
from aumai_transactions.models import (
    OutstandingCompensation,
    Transaction,
    TransactionResult,
    TransactionState,
)
from aumai_transactions.timelines.lines import Call, Next, StepLine

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
    "waiting": "warn",
    "done": "good",
    "simulated": "dim",
    "failed": "bad",
    "never called": "bad",
    "in doubt": "bad",
    "given up": "bad",
    "probing": "busy",
    "undone": "warn",
    "nothing to undo": "warn",
    "verifying": "busy",
    "not verified": "warn",
    "left something": "bad",
    "may still act": "bad",
    "acted late": "bad",
    "went on instead": "good",
    "undo failed": "bad",
    "not undone": "bad",
    "decided done": "good",
    "decided not done": "warn",
    "undone by hand": "warn",
    "left in place": "warn",
    "held": "dim",
    "asked": "warn",
    "allowed": "good",
    "denied": "bad",
    "left out": "warn",
    "decided left out": "warn",
    "confirmed": "good",
    "not confirmed": "bad",
    "confirmed by hand": "good",
    "left unconfirmed": "warn",
}
ATTENTION: dict[Attention, str] = {
    "outstanding": "effect may stand",
    "in_doubt": "in doubt",
    "halted": "undo halted",
    "approval": "approval",
    "commit": "commit stuck",
    "poisoned": "kills its driver",
    "restored": "from a backup",
    "damaged": "damaged",
}


def state_cell(state: TransactionState) -> Cell:
    """Return a transaction's state; the word is the one that JSON and options use."""
    return Cell(state.value, STATE_TONES[state])


def step_cell(step: StepLine) -> Cell:
    """Return how a step's action stands, and behind it how its confirmation does."""
    cell, confirmation = call_cell(step.call), step.confirmation
    if confirmation.outcome == "pending":
        return cell
    if confirmation.outcome == "waiting":
        text = "waiting" if confirmation.next is None else confirmation_text(confirmation.next)
    elif confirmation.outcome == "running":
        text = "confirming"
    else:
        took = "" if confirmation.seconds is None else f" {duration(confirmation.seconds)}"
        text = f"{confirmation.outcome}{took}"
    if confirmation.attempt > 1 and confirmation.outcome != "waiting":
        text += f", attempt {confirmation.attempt}"
    return Cell(f"{cell.text}, {text}", _OUTCOME_TONES[confirmation.outcome])


def confirmation_text(following: Next) -> str:
    """Return when something is confirmed again, and which attempt that is."""
    due_at = clock_time(following.due_at, following.since)
    return f"next confirmation {due_at}, attempt {following.attempt}"


def call_cell(call: Call, *, is_declared: bool = True) -> Cell:
    """Return how a call stands, how long it took, and which attempt it was."""
    if call.outcome == "pending":
        return Cell("", "dim") if not is_declared else Cell("-", "dim")
    return Cell(_call_text(call), _OUTCOME_TONES[call.outcome])


# Where the outcome says what came after the undo; its duration is the undo's.
_AFTER_UNDO = {
    "verifying": "undone{took}, verifying",
    "not verified": "undone{took}, not verified",
    "left something": "undone{took}, left something",
    "may still act": "undone{took}, may still act",
    "acted late": "undone{took}, acted late",
}


def _call_text(call: Call) -> str:
    took = "" if call.seconds is None else f" {duration(call.seconds)}"
    match call.outcome:
        case "waiting":
            return next_text(call.next, is_doubtful=call.is_doubtful)
        case "held":
            return "held until the commit"
        case "asked":
            limit = call.next
            until = "" if limit is None else f" until {clock_time(limit.due_at, limit.since)}"
            return f"waits for an approval{until}"
        case "probing":
            again = f", attempt {call.questions}" if call.questions > 1 else ""
            return f"in doubt, probing{again}"
        case "given up":
            after = f"given up after{took}" if took else "given up"
            return f"{after}, {'returned later' if call.has_returned_late else 'may still act'}"
        case "acted late" if call.attempt == 0:
            return "acted late"
        case outcome:
            text = _AFTER_UNDO.get(outcome, f"{outcome}{{took}}").format(took=took)
    return f"{text}, attempt {call.attempt}" if call.attempt > 1 else text


def next_text(following: Next | None, *, is_doubtful: bool = False) -> str:
    """Return when a call is tried again, or asked about again, and which attempt that is."""
    if following is None:
        return "waiting"
    due_at = clock_time(following.due_at, following.since)
    attempt = f", attempt {following.attempt}" if following.attempt > 1 else ""
    match following.operation:
        case "probe":
            return f"in doubt, next probe {due_at}{attempt}"
        case "verification":
            return f"undone, next look {due_at}{attempt}"
        case "left_behind":
            return f"waits until {due_at}"
        case _:
            doubt = "in doubt, " if is_doubtful else ""
            return f"{doubt}next try {due_at}{attempt}"


def clock_time(at: datetime, since: datetime | None) -> str:
    """Return an instant, without its day where that is the day of another one."""
    is_same_day = since is not None and since.astimezone(UTC).date() == at.astimezone(UTC).date()
    return at.astimezone(UTC).strftime("%H:%M:%SZ") if is_same_day else when(at)


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
    return bool(set(actions_of(transaction)) - set(transaction.actions))


def actions_of(transaction: Transaction) -> list[str]:
    """Return the names of all actions that a transaction may call."""
    names = [
        name
        for step in transaction.steps
        for name in (step.action, step.compensating_action, step.confirming_action)
    ]
    return [name for name in names if name is not None]


def next_commands(
    settings: Settings, result: TransactionResult, steps: Mapping[str, StepLine], *, app: bool
) -> list[tuple[str, list[str]]]:
    """Return what a person has to look at, and for each the commands that go on from there.

    Args:
        settings: What this command was told.
        result: The outcome so far.
        steps: What is known of the steps, by id.
        app: True where handlers in Python are needed to go on.
    """
    name = result.transaction_id
    found = []
    for item in result.outstanding:
        commands = []
        # Why not without an undo: there is nothing that could be tried again.
        if item.compensating_action is not None and item.reason != "no_compensation":
            commands = [settings.command("retry", name, item.step_id, app=app)]
        commands += [_resolving(settings, name, item.step_id, way) for way in _LEFT]
        found.append((left_text(item), commands))
    waiting = result.waiting
    for step_id in waiting.step_ids if waiting is not None else ():
        if waiting is not None and waiting.reason == "in_doubt":
            commands = [_resolving(settings, name, step_id, way, app=app) for way in _DOUBTED]
            found.append((f"{shown(step_id)}: nobody knows whether it happened", commands))
        elif waiting is not None and waiting.reason == "committing":
            commands = [settings.command("retry", name, step_id, app=app)]
            commands += [_resolving(settings, name, step_id, way, app=app) for way in _STUCK]
            found.append((stuck_text(step_id, steps.get(step_id)), commands))
    if waiting is not None and waiting.reason == "restored":
        found.append((shown(waiting.detail.partition(" Find out")[0]), _ways_on(settings, result)))
    if waiting is not None and waiting.reason == "poisoned":
        found.append(
            (shown(waiting.detail.partition(" Find out")[0]), _antidotes(settings, result))
        )
    return found


def _ways_on(settings: Settings, result: TransactionResult) -> list[str]:
    """Return what can be done with what came out of a backup, once it is known what happened."""
    name = result.transaction_id
    found = [settings.command("recover", "--trust", name, "--note", "how you know")]
    if result.state in (TransactionState.pending, TransactionState.active):
        found.append(settings.command("rollback", name))
    return found


def _antidotes(settings: Settings, result: TransactionResult) -> list[str]:
    """Return what can be done with what kills whoever carries it out, once it is known why.

    Why without an app: it is for those who have the handlers, once they are repaired.
    """
    name, waiting = result.transaction_id, result.waiting
    steps = waiting.step_ids if waiting is not None else []
    found = [settings.command("retry", name, step_id) for step_id in steps[:1]]
    if result.state in (TransactionState.pending, TransactionState.active):
        found.append(settings.command("rollback", name))
    return found


def stuck_text(step_id: str, step: StepLine | None) -> str:
    """Return what could not be carried out behind the commit point, in words."""
    name = shown(step_id)
    if step is None:
        return f"{name}: the commit is decided, and it could not be carried out"
    call, what = step.call, f"{step.action} failed"
    if step.confirmation.outcome != "pending":
        call = step.confirmation
        what = f"{step.declared.get('confirming_action')} could not confirm {step.action}"
    why = f": {shown(call.error)}" if call.error else ""
    return f"{name}: the commit is decided, and {shown(what)}{why}"


_STUCK = ("--happened", "--left-in-place")
_LEFT = ("--undone", "--left-in-place")
_DOUBTED = ("--happened", "--did-not-happen")


def left_text(item: OutstandingCompensation) -> str:
    """Return why an effect may still stand, in words."""
    step, action = shown(item.step_id), shown(item.action)
    undo = shown(item.compensating_action or "")
    why = f": {shown(item.error)}" if item.error else ""
    match item.reason:
        case "no_compensation":
            return f"{step}: {action} may have happened, and nothing undoes it{why}"
        case "no_handler":
            return f"{step}: not undone, for {undo} had no handler"
        case "residue":
            return f"{step}: {undo} has undone {action}, and something is still there{why}"
        case "may_still_act":
            return f"{step}: undone, and a call of {action} that was given up may act yet{why}"
        case "acted_late":
            return (
                f"{step}: a call of {action} that had been given up succeeded too late to be "
                f"undone{why}"
            )
        case _:
            return f"{step}: {undo} could not undo {action}{why}"


def until_text(until: datetime, now: int) -> str:
    """Return until when something waits, and how long that is from now."""
    left = until.timestamp() - now / 1_000_000
    if left <= 0:
        return f"was due {when(until)}, and nobody has gone on with it"
    return f"waits until {when(until)}, {duration(left)} from now"


def _resolving(
    settings: Settings, name: str, step_id: str, answer: str, *, app: bool = False
) -> str:
    return settings.command("resolve", name, step_id, answer, "--note", "how you know", app=app)
