"""A transaction told in lines: the table of its steps, and what is left to do.

Owns: how `run`, `commit`, `show` and the progress block lay out a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aumai_transactions.cli.screen import (
    Screen,
    columns_of,
    plain_columns,
    shown,
    shown_json,
    shown_lines,
)
from aumai_transactions.cli.settings import Settings
from aumai_transactions.cli.tables import Cell, Row, aligned, table
from aumai_transactions.cli.timeline import Call, StepLine, Timeline
from aumai_transactions.cli.wording import (
    STATE_TONES,
    call_cell,
    needs_app,
    next_commands,
    reason_text,
    until_text,
    when,
)
from aumai_transactions.clock import SystemClock
from aumai_transactions.models import Event, Transaction, TransactionResult, TransactionState

HEAD = ("STEP", "AGENT", "ACTION", "OUTCOME", "UNDO", "OUTCOME")


def step_rows(steps: Iterable[StepLine]) -> list[Row]:
    """Return a row for each step, its compensating action beside it."""
    return [
        (
            Cell(shown(step.step_id), "bold"),
            Cell(shown(step.agent_id)),
            Cell(shown(step.action)),
            call_cell(step.call),
            Cell(shown(step.compensating_action or "")),
            call_cell(step.undo, is_declared=step.compensating_action is not None),
        )
        for step in steps
    ]


def step_table(screen: Screen, timeline: Timeline, indent: str = "  ") -> list[str]:
    """Return the table of a transaction's steps; three lines each where it is too narrow."""
    if not timeline.steps:
        return [f"{indent}no steps"]
    rows = step_rows(timeline.steps.values())
    wide = table(replace(screen, is_terminal=False), HEAD, rows, indent)
    if screen.width is None or max(plain_columns(line) for line in wide) <= screen.width:
        return wide
    width = max(columns_of(cell.text) for row in rows for cell in (row[2], row[4]))
    lines = []
    for step, agent, action, outcome, undo, undone in rows:
        lines.append(indent + aligned(screen, [step, agent], [0, 0]))
        for pair in ([action, outcome], [undo, undone]):
            if pair[0].text:
                lines.append(f"{indent}  {aligned(screen, pair, [width, 0])}")  # noqa: PERF401
    return lines


def outcome_lines(
    settings: Settings, transaction: Transaction, result: TransactionResult, timeline: Timeline
) -> list[str]:
    """Return what a command that drove a transaction has to say at its end."""
    out = settings.out
    timeline.take(result)
    first, *rest = _story(result)
    return [
        out.styled(first, STATE_TONES[result.state]),
        *rest,
        "",
        *step_table(out, timeline),
        *_section(out, "notes", _told(timeline)),
        *attention_lines(settings, transaction, result),
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
    settings: Settings, transaction: Transaction, result: TransactionResult
) -> list[str]:
    """Return what needs a person, or what is waited for, and the exact commands to go on."""
    screen = settings.out
    app = needs_app(transaction)
    lines = []
    for what, commands in next_commands(settings, result, app=app):
        lines.append(f"    {what}")
        lines += [f"      {screen.styled(shown(command), 'busy')}" for command in commands]
    if lines:
        lines = ["", screen.styled("  needs a person", "bad"), *lines]
    return [*lines, *_waiting_lines(settings, transaction, result, app=app)]


def _waiting_lines(
    settings: Settings, transaction: Transaction, result: TransactionResult, *, app: bool
) -> list[str]:
    """Return what else a transaction waits for: a time, or whoever has it."""
    waiting, screen, name = result.waiting, settings.out, result.transaction_id
    if waiting is None or waiting.reason in ("in_doubt", "halted"):
        return []

    def command(*words: str) -> str:
        return screen.styled(shown(settings.command(*words, app=app)), "busy")

    if waiting.until is None:
        what = "not finished: it is under way; if its process has died:"
        return ["", f"  {what} {command('recover')}"]
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
    settings: Settings, transaction: Transaction, result: TransactionResult, timeline: Timeline
) -> list[str]:
    """Return everything about a transaction."""
    out = settings.out
    timeline.take(result)
    lines = [out.styled(f"Transaction {shown(transaction.transaction_id)}", "bold")]
    lines += _header(out, transaction, result, timeline)
    lines += ["", *step_table(out, timeline)]
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
    return [*lines, *attention_lines(settings, transaction, result)]


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
        ("created", f"{when(transaction.created_at)}, timeout {transaction.timeout_seconds:g} s"),
        ("ran", ran),
        ("failed", shown(f"{result.failed_step}: {result.error}") if result.failed_step else ""),
        ("why", shown(result.error) if result.error and not result.failed_step else ""),
        ("stays", _staying(result)),
        ("journal", f"{timeline.sequence} entries"),
    ]
    return [f"  {out.styled(label.ljust(8), 'dim')}  {text}" for label, text in facts if text]


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
