"""A transaction told in lines: the table of its steps, and what is left to do.

Owns: how `run`, `commit`, `show` and the progress block lay out a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aumai_transactions.cli.exits import PERSONAL
from aumai_transactions.cli.screen import Screen, columns_of, plain_columns
from aumai_transactions.cli.settings import Settings
from aumai_transactions.cli.tables import Row, aligned, table
from aumai_transactions.clock import SystemClock
from aumai_transactions.models import Event, Transaction, TransactionResult, TransactionState
from aumai_transactions.timelines.lines import Call, Group, StepLine
from aumai_transactions.timelines.sayings import declared_text
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown, shown_json, shown_lines
from aumai_transactions.wording.happenings import sentence
from aumai_transactions.wording.ways_on import approval_ways, needs_of
from aumai_transactions.wording.words import (
    STATE_TONES,
    Cell,
    call_cell,
    needs_app,
    reason_text,
    step_cell,
    until_text,
    when,
)

HEAD = ("STEP", "AGENT", "ACTION", "OUTCOME", "UNDO", "OUTCOME", "GROUP")


def step_rows(timeline: Timeline) -> list[Row]:
    """Return a row for each step, its compensating action beside it."""
    groups = timeline.groups
    return [
        (
            Cell(shown(step.step_id), "bold"),
            Cell(shown(step.agent_id)),
            Cell(shown(step.action)),
            step_cell(step),
            Cell(shown(step.compensating_action or "")),
            call_cell(step.undo, is_declared=step.compensating_action is not None),
            Cell(_group_of(step, groups), "dim"),
        )
        for step in timeline.steps.values()
    ]


def _group_of(step: StepLine, groups: Mapping[str, Group]) -> str:
    group = groups.get(step.declared.get("scope_id") or "")
    return "" if group is None else shown(group.name or group.group_id)


def step_table(screen: Screen, timeline: Timeline, indent: str = "  ") -> list[str]:
    """Return the table of a transaction's steps; three lines each where it is too narrow."""
    if not timeline.steps:
        return [f"{indent}no steps"]
    rows = step_rows(timeline)
    wide = table(replace(screen, is_terminal=False), HEAD, rows, indent)
    if screen.width is None or max(plain_columns(line) for line in wide) <= screen.width:
        return wide
    width = max(columns_of(cell.text) for row in rows for cell in (row[2], row[4]))
    lines = []
    for step, agent, action, outcome, undo, undone, group in rows:
        lines.append(indent + aligned(screen, [step, agent, group], [0, 0, 0]))
        for pair in ([action, outcome], [undo, undone]):
            if pair[0].text:
                lines.append(f"{indent}  {aligned(screen, pair, [width, 0])}")  # noqa: PERF401
    return lines


def outcome_lines(
    settings: Settings,
    transaction: Transaction,
    result: TransactionResult,
    timeline: Timeline,
    *,
    is_alive: bool | None = None,
) -> list[str]:
    """Return what a command that drove a transaction has to say at its end.

    Args:
        settings: What this command was told.
        transaction: The transaction.
        result: Its outcome so far.
        timeline: How it went.
        is_alive: Whether a living process has it; None where nobody knows.
    """
    out = settings.out
    timeline.take(result)
    first, *rest = _story(result)
    return [
        out.styled(first, STATE_TONES[result.state]),
        *rest,
        "",
        *step_table(out, timeline),
        *_section(out, "notes", _told(timeline)),
        *attention_lines(settings, transaction, result, timeline, is_alive=is_alive),
    ]


def _story(result: TransactionResult) -> list[str]:
    """Return the result's own story, but for what is told with the commands to copy."""
    told = result.model_dump(
        mode="json", exclude={"outputs", "outstanding", "waiting", "is_final", "clean"}
    )
    # Why before and not after: a line end in an error must not look like a line of ours.
    return str(TransactionResult.model_validate(_escaped(told))).split("\n")


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return shown(value) if isinstance(value, str) else value


def attention_lines(
    settings: Settings,
    transaction: Transaction,
    result: TransactionResult,
    timeline: Timeline,
    *,
    is_alive: bool | None = None,
) -> list[str]:
    """Return what needs a person, or what is waited for, and the exact commands to go on."""
    screen = settings.out
    app = needs_app(transaction)
    lines = []
    for need in needs_of(settings.command, result, timeline.steps, app=app):
        lines.append(f"    {need.what}")
        lines += [f"      {screen.styled(shown(way.line), 'busy')}" for way in need.ways]
    if lines:
        lines = ["", screen.styled("  needs a person", "bad"), *lines]
    # Why not for a living process: it has the handlers, and goes on with it itself.
    lines += _approval_lines(settings, transaction, result, timeline, app=app and not is_alive)
    return [*lines, *_waiting_lines(settings, transaction, result, app=app, is_alive=is_alive)]


def _approval_lines(
    settings: Settings,
    transaction: Transaction,
    result: TransactionResult,
    timeline: Timeline,
    *,
    app: bool,
) -> list[str]:
    """Return what a person is asked to allow, and how to answer."""
    asked = [] if result.state.is_final else timeline.waiting_for_approval()
    if not asked:
        return []
    screen, name = settings.out, transaction.transaction_id
    lines = ["", screen.styled("  waits for an approval", "warn")]
    for step in asked:
        lines += [f"    {line}" for line in approval_lines(step)]
        for way in approval_ways(settings.command, name, step, app=app):
            lines.append(f"      {screen.styled(shown(way.line), 'busy')}")
    return lines


def approval_lines(step: StepLine) -> list[str]:
    """Return exactly what a person is asked to allow."""
    undo = step.compensating_action
    undone = f"undone by {shown(undo)}" if undo else "and nothing undoes it"
    asked = step.asked
    lines = [
        f"{shown(step.step_id)}: {shown(step.agent_id)} does {shown(step.action)}, {undone}",
        f"  data    {shown_json(step.data)}",
    ]
    if asked is not None:
        lines.append(f"  digest  {shown(asked.digest)}")
    if asked is not None and asked.until is not None:
        until = until_text(asked.until, SystemClock().now())
        lines.append(f"  {until}; then it counts as denied")
    return lines


def _in_line(screen: Screen, who: str, ways: Sequence[str]) -> list[str]:
    return [
        "",
        screen.styled("  not finished: it stands in line for what others use", "warn"),
        f"    who has it: {who}",
        "    it goes on once its turn has come, with one of:",
        *(f"      {way}" for way in ways),
    ]


def _waiting_lines(
    settings: Settings,
    transaction: Transaction,
    result: TransactionResult,
    *,
    app: bool,
    is_alive: bool | None,
) -> list[str]:
    """Return what else a transaction waits for: a time, or whoever has it."""
    waiting, screen, name = result.waiting, settings.out, result.transaction_id
    if waiting is None or waiting.reason in (*PERSONAL, "approval", "parent"):
        return []

    def command(*words: str) -> str:
        return screen.styled(shown(settings.command(*words, app=app)), "busy")

    if waiting.until is None:
        if is_alive:
            if transaction.shape == "interactive":
                return ["", "  not finished: its program is alive, and goes on with it"]
            return ["", "  not finished: it is under way in a living process"]
        if transaction.state is TransactionState.pending:
            return ["", f"  submitted: it waits for a worker, or for: {command('recover')}"]
        what = "nobody carries it on" if is_alive is False else "if its process has died"
        return ["", f"  not finished: it is under way; {what}: {command('recover')}"]
    if waiting.reason == "resume":
        return [
            "",
            screen.styled(f"  {until_text(waiting.until, SystemClock().now())}", "warn"),
            "    its program has gone, and may go on with it until then: manager.resume(…)",
            "    then it is rolled back; to undo everything at once:",
            f"      {command('rollback', name)}",
        ]
    if waiting.reason == "lock":
        who = screen.styled(shown(settings.command("locks")), "busy")
        ways = [command("wait", name), command("recover")]
        return _in_line(screen, who, ways)
    steps = shown(", ".join(waiting.step_ids)) or "it"
    is_left_behind = waiting.reason == "left_behind"
    what = (
        "its undo waits for a call that was given up, and begins then, with one of:"
        if is_left_behind
        else "its next attempt begins then, with one of:"
    )
    lines = ["", screen.styled(f"  {until_text(waiting.until, SystemClock().now())}", "warn")]
    lines += [
        f"    {steps}: {what}",
        f"      {command('wait', name)}",
        f"      {command('recover')}",
    ]
    if not is_left_behind:
        lines += [
            "    to begin it at once:",
            f"      {command('retry', name, waiting.step_ids[0])}",
        ]
    if transaction.state is TransactionState.active:
        lines += ["    to undo everything instead:", f"      {command('rollback', name)}"]
    return lines


def show_lines(
    settings: Settings,
    transaction: Transaction,
    result: TransactionResult,
    timeline: Timeline,
    *,
    is_alive: bool | None = None,
) -> list[str]:
    """Return everything about a transaction."""
    out = settings.out
    timeline.take(result)
    lines = [out.styled(f"Transaction {shown(transaction.transaction_id)}", "bold")]
    lines += _header(out, transaction, result, timeline)
    lines += ["", *step_table(out, timeline)]
    lines += _section(out, "declared", _declared(timeline))
    lines += _section(out, "course", _course(timeline))
    lines += _section(
        out, "data", [(s.step_id, shown_json(s.data)) for s in timeline.steps.values() if s.data]
    )
    lines += _section(
        out,
        "outputs",
        [
            (step.step_id, shown_json(step.output))
            for step in timeline.steps.values()
            if step.output is not None
        ],
    )
    lines += _section(out, "errors", _errors(timeline))
    lines += _section(out, "notes", _told(timeline))
    lines += _section(
        out,
        "decisions",
        [(step.step_id, note) for step in timeline.steps.values() for note in step.notes],
    )
    lines += _section(out, "warnings", [("", warning) for warning in result.warnings])
    attention = attention_lines(settings, transaction, result, timeline, is_alive=is_alive)
    return [*lines, *attention]


def _declared(timeline: Timeline) -> list[tuple[str, str]]:
    """Return what steps declare besides what is done and what undoes it."""
    is_planned = timeline.shape == "planned"
    return [
        (step.step_id, text)
        for step in timeline.steps.values()
        if (text := declared_text(step.declared, is_planned=is_planned))
    ]


def _course(timeline: Timeline) -> list[tuple[str, str]]:
    """Return, one after the other, what concerned more than one call."""
    return [(when(event.at), sentence(timeline, event)) for event in timeline.course]


def _header(
    out: Screen, transaction: Transaction, result: TransactionResult, timeline: Timeline
) -> list[str]:
    reason = f" ({reason_text(result.reason)})" if result.reason else ""
    ran = when(result.started_at)
    if result.finished_at is not None:
        ran = (
            f"{ran} to {when(result.finished_at)}"
            if ran
            else f"finished {when(result.finished_at)}"
        )
    facts = [
        ("name", shown(transaction.name or "")),
        ("state", out.styled(f"{result.state.value}{reason}", STATE_TONES[result.state])),
        ("kind", _kind(transaction)),
        ("metadata", shown(", ".join(f"{k}={v}" for k, v in transaction.metadata.items()))),
        ("created", f"{when(transaction.created_at)}, timeout {transaction.timeout_seconds:g} s"),
        ("ran", ran),
        ("failed", shown(f"{result.failed_step}: {result.error}") if result.failed_step else ""),
        ("why", shown(result.error) if result.error and not result.failed_step else ""),
        ("stays", _staying(result)),
        ("journal", f"{timeline.sequence} entries"),
    ]
    return [f"  {out.styled(label.ljust(8), 'dim')}  {text}" for label, text in facts if text]


def _kind(transaction: Transaction) -> str:
    """Return what is unusual about a transaction as a whole; maybe nothing."""
    parts = []
    if transaction.shape == "interactive":
        parts.append("interactive: a program chooses its steps as it goes")
    if transaction.parallel_compensation:
        parts.append("independent steps are undone at the same time")
    if transaction.allow_irreversible_first:
        parts.append("what cannot be undone may come first")
    if transaction.on_undo_window == "roll_back":
        parts.append("it goes back before a step can no longer be undone")
    return "; ".join(parts)


def _staying(result: TransactionResult) -> str:
    if not result.uncompensated:
        return ""
    steps = shown(", ".join(result.uncompensated))
    return f"{steps}: took effect, and nothing is declared that undoes it"


def _errors(timeline: Timeline) -> list[tuple[str, str]]:
    found = []
    for step in timeline.steps.values():
        told = {step.call.error} - {""}
        found += [(step.step_id, text) for text in _numbered(step.call)]
        found += [(step.step_id, f"confirmation: {text}") for text in _numbered(step.confirmation)]
        for text in _numbered(step.undo):
            # Why: an undo that could not know more than its step says the same once more.
            if text not in told:
                found.append((step.step_id, f"undo: {text}"))
    return found


def _numbered(call: Call) -> list[str]:
    """Return a call's errors, each with its attempt where there were several."""
    if call.attempt <= 1 and len(call.errors) <= 1:
        return [error for _, error in call.errors]
    earlier = call.errors[0][0] - 1 if call.errors else 0
    skipped = [f"({earlier} earlier: see --events)"] if earlier > 1 else []
    return skipped + [f"attempt {number}: {error}" for number, error in call.errors]


def _told(timeline: Timeline) -> list[tuple[str, str]]:
    return [(step.step_id, note) for step in timeline.steps.values() for note in step.told.values()]


def _section(out: Screen, title: str, pairs: list[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    width = max(len(shown(label)) for label, _ in pairs)
    lines = ["", out.styled(f"  {title}", "dim")]
    for label, text in pairs:
        first, *rest = shown_lines(text).split("\n")
        head = f"{shown(label).ljust(width)}  " if width else ""
        lines.append(f"    {head}{first}")
        lines += [f"    {' ' * len(head)}{line}" for line in rest]
    return lines


def event_lines(screen: Screen, events: Iterable[Event]) -> list[str]:
    """Return the journal entry by entry."""
    rows = [
        (
            Cell(str(event.sequence), "dim"),
            Cell(event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "dim"),
            Cell(event.kind, "bold"),
            Cell(shown(event.step_id or "")),
            Cell(shown_json(event.fields) if event.fields else ""),
        )
        for event in events
    ]
    return table(screen, ("ENTRY", "AT", "KIND", "STEP", "SAYS"), rows)
