"""One transaction, ready to be shown: what became of it, and what can be done.

Owns: what the page of a transaction and the attention page say about one.
Rules:
  1. What can be asked for, and the command line that asks for the same, come from one place.
  2. Each form holds the sequence that was shown: what has moved since is told before anything is
     done about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.masking import masked
from aumai_transactions.drivers.overview import rollback_of
from aumai_transactions.models import TransactionState
from aumai_transactions.timelines.outcome import outcome_sentence
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.web.pages.rendering import path_of
from aumai_transactions.wording.happenings import sentence
from aumai_transactions.wording.ways_on import Need, Verb, Way, approval_ways, needs_of
from aumai_transactions.wording.words import Cell, call_cell, needs_app, state_cell, step_cell

if TYPE_CHECKING:
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.models import Event
    from aumai_transactions.timelines.lines import StepLine
    from aumai_transactions.web.service import Service

LABELS: dict[Verb, str] = {
    "retry": "Try again",
    "resolve": "Settle",
    "approve": "Allow exactly this",
    "deny": "Deny and undo",
    "trust": "Let it go on",
    "roll_back": "Roll back",
}
ANSWERS = {
    "happened": "It happened",
    "did_not_happen": "It did not happen",
    "undone": "Nothing of it is left",
    "left_in_place": "Leave it in place",
}
NOTED: tuple[Verb, ...] = ("resolve", "deny", "trust")
"""For these a note is required: whoever reads the journal must be able to tell why."""


class Button(NamedTuple):
    """Hold a button, and the command line that does the same.

    Args:
        label: What it says.
        do: What its form says under `do`.
        line: The command line.
        needs_note: True where a note is required.
        tone: How it is painted.
    """

    label: str
    do: str
    line: str
    needs_note: bool
    tone: str


class Ask(NamedTuple):
    """Hold something that a person can do, as a form with a note and some buttons.

    Args:
        what: What it is about.
        step_id: Which step; empty for the whole.
        digest: What an approval is bound to.
        buttons: At least one.
        step: The step, where exactly what is allowed must be shown.
    """

    what: str
    step_id: str
    digest: str
    buttons: list[Button]
    step: StepLine | None = None

    @property
    def needs_note(self) -> bool:
        """True where every button needs a note."""
        return all(button.needs_note for button in self.buttons)


class StepRow(NamedTuple):
    """Hold a line of the table of steps."""

    step: StepLine
    group: str
    outcome: Cell
    undone: Cell


class Line(NamedTuple):
    """Hold an entry of the journal, and what it says."""

    event: Event
    text: str
    hash: str


def button_of(way: Way) -> Button:
    """Return the button of a way on."""
    if way.answer is not None:
        return Button(ANSWERS[way.answer], f"resolve.{way.answer}", way.line, True, "plain")  # noqa: FBT003
    tone = {"approve": "good", "deny": "bad", "roll_back": "bad"}.get(way.verb, "plain")
    return Button(LABELS[way.verb], way.verb, way.line, way.verb in NOTED, tone)


def story_of(service: Service, look: Look) -> dict[str, Any]:
    """Return what is said about a transaction, wherever it is shown."""
    transaction, result = look.transaction, look.result
    timeline = Timeline.of(transaction.transaction_id, look.events)
    timeline.take(result)
    app = needs_app(transaction)
    rollback = rollback_of(look)
    needs = needs_of(service.command, result, timeline.steps, app=app)
    return {
        "look": look,
        "transaction": transaction,
        "result": result,
        "timeline": timeline,
        "path_here": path_of(transaction.transaction_id),
        "state": state_cell(result.state),
        "outcome": outcome_sentence(timeline, result),
        "metadata": masked(transaction.metadata),
        "asks": [*_approvals(service, look, timeline, app=app), *map(_ask, needs)],
        "retries": _retries(service, look),
        "rollback": _rollback(service, look, app=app),
        "no_rollback": why_no_rollback(look),
        "undo_order": [timeline.steps[name] for name in rollback.undoes],
        "kept": rollback.keeps,
    }


def step_rows(timeline: Timeline) -> list[StepRow]:
    """Return the table of steps."""
    rows = []
    for step in timeline.steps.values():
        group = timeline.groups.get(step.declared.get("scope_id") or "")
        undone = call_cell(step.undo, is_declared=step.compensating_action is not None)
        text = "" if group is None else group.text
        rows.append(StepRow(step, text, step_cell(step), undone))
    return rows


def journal_lines(look: Look) -> list[Line]:
    """Return the journal, entry by entry."""
    growing = Timeline(look.transaction.transaction_id)
    lines = []
    for event, entry_hash in zip(look.events, look.hashes, strict=True):
        growing.add(event)
        lines.append(Line(event, sentence(growing, event), entry_hash.hex()))
    return lines


def why_no_rollback(look: Look) -> str | None:
    """Return why a rollback cannot be asked for; None where it can."""
    match look.result.state:
        case TransactionState.committed:
            return "It is committed; what is final cannot be rolled back."
        case TransactionState.rolled_back:
            return "It is rolled back already."
        case TransactionState.failed:
            return "It failed before anything ran; there is nothing to roll back."
        case TransactionState.committing:
            return "Its commit is decided; from there it only goes forward."
        case TransactionState.compensating:
            return "It is being rolled back already."
        case TransactionState.pending | TransactionState.active:
            asked = any(event.kind == "rollback_requested" for event in look.events)
            is_whole = asked and look.events[-1].kind == "rollback_requested"
            return "A rollback is asked for already." if is_whole else None


def _ask(need: Need) -> Ask:
    return Ask(need.what, need.step_id, "", [button_of(way) for way in need.ways])


def _approvals(service: Service, look: Look, timeline: Timeline, *, app: bool) -> list[Ask]:
    """Return what a person is asked to allow."""
    if look.result.is_final:
        return []
    found = []
    for step in timeline.waiting_for_approval():
        ways = approval_ways(service.command, look.transaction.transaction_id, step, app=app)
        digest = "" if step.asked is None else step.asked.digest
        what = f"{step.step_id}: {step.agent_id} wants to do {step.action}"
        found.append(Ask(what, step.step_id, digest, [button_of(way) for way in ways], step))
    return found


def _retries(service: Service, look: Look) -> list[Ask]:
    """Return what waits for its next attempt, which can be made at once."""
    waiting = look.result.waiting
    if waiting is None or waiting.reason != "retry":
        return []
    name = look.transaction.transaction_id
    return [
        Ask(
            f"{step_id}: its next attempt can begin at once",
            step_id,
            "",
            [button_of(Way("retry", service.command("retry", name, step_id), step_id))],
        )
        for step_id in waiting.step_ids
    ]


def _rollback(service: Service, look: Look, *, app: bool) -> Ask:
    name = look.transaction.transaction_id
    way = Way("roll_back", service.command("rollback", name, app=app))
    return Ask("Undo everything that it has done", "", "", [button_of(way)])
