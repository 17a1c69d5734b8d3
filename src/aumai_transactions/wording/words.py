"""The words and tones for what happened.

Owns: how states, outcomes, durations and instants read. One concept, one word.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from aumai_transactions.core.outcome import Attention, Summary
from aumai_transactions.core.times import instant
from aumai_transactions.models import (
    OutstandingCompensation,
    ResourceLock,
    Transaction,
    TransactionState,
)
from aumai_transactions.timelines.lines import Call, Next, StepLine
from aumai_transactions.wording.characters import shown

Tone = Literal["good", "bad", "warn", "busy", "dim", "bold", "plain"]


class Cell(NamedTuple):
    """Hold one text of a table, ready to be shown, and its tone."""

    text: str
    tone: Tone = "plain"


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


def age(at: datetime, now: int) -> str:
    """Return how long ago something was, or how far away it is, in its largest unit.

    Args:
        at: When it was.
        now: Microseconds since 1970 UTC.
    """
    seconds = now / 1_000_000 - at.timestamp()
    size = abs(seconds)
    for length, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if size >= length:
            text = f"{int(size // length)} {name}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "now"


def when(at: datetime | None) -> str:
    """Return an instant, UTC, to the second."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def waits_for_cell(summary: Summary, *, alive: bool | None) -> Cell:
    """Return what a transaction waits for.

    Args:
        summary: What lists tell of it.
        alive: Whether a living process has it; None where nothing is to be done.
    """
    if summary.attention:
        tone: Tone = "warn" if summary.attention == "approval" else "bad"
        return Cell(f"a person: {ATTENTION[summary.attention]}", tone)
    if summary.due_at is not None:
        return Cell(when(instant(summary.due_at)), "warn")
    if alive is None:
        return Cell("")
    if not alive and summary.state is TransactionState.pending:
        return Cell("a worker", "warn")
    return Cell("a living process", "busy") if alive else Cell("recover", "warn")


def is_alive(summary: Summary | None, unattended: Collection[str]) -> bool | None:
    """Tell whether a living process has a transaction; None where nothing is to be done."""
    if summary is None or not summary.runnable:
        return None
    return summary.transaction_id not in unattended


def holding_cell(lock: ResourceLock) -> Cell:
    """Return how a transaction holds a resource, or its place among those that wait for it."""
    if lock.token is not None:
        return Cell(f"{lock.mode}, token {lock.token}", "good")
    return Cell(f"waits, place {lock.place} ({lock.mode})", "warn")


def lock_cell(lock: ResourceLock, summary: Summary | None, *, alive: bool | None) -> Cell:
    """Return why a resource is still held, or waited for.

    Args:
        lock: Who holds it, or waits for it.
        summary: What lists tell of that transaction.
        alive: Whether a living process has it; None where nothing is to be done.
    """
    if lock.token is None and lock.waits_for:
        return Cell(f"behind {', '.join(lock.waits_for)}", "warn")
    if lock.token is None:
        return Cell("its turn has come", "busy")
    if summary is None:
        return Cell("")
    if summary.attention:
        return Cell(f"a person: {ATTENTION[summary.attention]}", "bad")
    if alive is False:
        return Cell("no living process has it", "bad")
    return Cell("a living process", "busy")


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
