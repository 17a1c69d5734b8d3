"""A transaction as a Mermaid sequence diagram, for pages that draw those.

Owns: that text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aumai_transactions.pictures.layout import STEPS_MAX
from aumai_transactions.timelines.outcome import outcome_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from aumai_transactions.models import TransactionResult
    from aumai_transactions.timelines.lines import Outcome, StepLine
    from aumai_transactions.timelines.timeline import Timeline

_PLAIN = re.compile(r"[^A-Za-z0-9 _.,:()=/'+*!?@-]")
"""What might mean something in Mermaid, or in the page around it."""

_NOT = frozenset({"failed", "never called", "in doubt", "given up", "undo failed", "not undone"})


def drawn(timeline: Timeline, result: TransactionResult) -> str:
    """Return a transaction as a sequence diagram."""
    return "\n".join(_lines(timeline, result)) + "\n"


def fit(text: str, characters_max: int = 80) -> str:
    """Return a text in which nothing means anything to Mermaid."""
    cut = text if len(text) <= characters_max else text[: characters_max - 1] + "…"
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", cut.replace("\n", " "))


def _lines(timeline: Timeline, result: TransactionResult) -> Iterator[str]:
    yield "sequenceDiagram"
    yield f"    participant tx as {fit(timeline.name or 'transaction')}"
    steps = list(timeline.steps.values())[:STEPS_MAX]
    agents = {agent: f"a{n}" for n, agent in enumerate(dict.fromkeys(s.agent_id for s in steps))}
    for agent, name in agents.items():
        yield f"    participant {name} as {fit(agent)}"
    moments: list[tuple[datetime, int, str]] = []
    for step in steps:
        for at, line in _calls(step, agents[step.agent_id]):
            moments.append((at, len(moments), line))
    for _at, _number, line in sorted(moments):
        yield f"    {line}"
    yield f"    Note over tx: {fit(outcome_sentence(timeline, result), 200)}"


def _calls(step: StepLine, agent: str) -> Iterator[tuple[datetime, str]]:
    for what, name, call in (
        ("", step.action, step.call),
        ("confirm ", step.declared.get("confirming_action") or "", step.confirmation),
        ("undo ", step.compensating_action or "", step.undo),
    ):
        for attempt in call.attempts:
            again = f", attempt {attempt.number}" if attempt.number > 1 else ""
            said = fit(f"{what}{step.step_id} {name}{again}")
            yield attempt.started_at, f"tx->>{agent}: {said}"
            if attempt.ended_at is not None:
                is_last = attempt is call.attempts[-1]
                outcome: Outcome = call.outcome if is_last else attempt.outcome
                arrow = "--x" if outcome in _NOT else "-->>"
                yield attempt.ended_at, f"{agent}{arrow}tx: {fit(outcome)}"
