"""A transaction as one HTML file that needs nothing else.

Owns: that page. It has no script, and asks nobody for anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.pictures import svg
from aumai_transactions.timelines.outcome import outcome_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aumai_transactions.models import Event, TransactionResult
    from aumai_transactions.timelines.timeline import Timeline

_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;
margin:2rem auto;padding:0 1rem}svg{max-width:100%;height:auto}table{border-collapse:collapse;
width:100%;margin:1rem 0}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;
vertical-align:top;overflow-wrap:break-word}pre{white-space:pre-wrap;overflow-wrap:anywhere}
code{overflow-wrap:anywhere}caption{text-align:left;font-weight:600;padding:.3rem 0}
""".strip().replace("\n", "")
TEXT_MAX = 2_000


def drawn(timeline: Timeline, result: TransactionResult, said: Iterable[tuple[Event, str]]) -> str:
    """Return a transaction as the text of an HTML file.

    Args:
        timeline: How it went.
        result: What became of it.
        said: Each event, and what it says.
    """
    return "\n".join(_lines(timeline, result, said)) + "\n"


def _lines(
    timeline: Timeline, result: TransactionResult, said: Iterable[tuple[Event, str]]
) -> Iterator[str]:
    name = svg.fit(timeline.name or "Transaction", 200)
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield f"<title>{name}: {result.state.value}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{name}</h1>"
    yield f"<p><code>{svg.fit(timeline.transaction_id, 200)}</code></p>"
    yield f"<p>{svg.fit(outcome_sentence(timeline, result), TEXT_MAX)}</p>"
    yield svg.drawn(timeline, result)
    yield "<table><caption>Steps</caption><thead><tr>"
    yield from _heads("Step", "Agent", "Action", "Became", "Undone by", "Became")
    for step in timeline.steps.values():
        undo = "" if step.undo.outcome == "pending" else step.undo.outcome
        cells = (
            step.step_id,
            step.agent_id,
            step.action,
            _with_error(step.call.outcome, step.call.error),
            step.compensating_action or "",
            _with_error(undo, step.undo.error),
        )
        told = "".join(f"<td>{svg.fit(cell, TEXT_MAX)}</td>" for cell in cells)
        yield f"<tr>{told}</tr>"
    yield "</tbody></table>"
    yield f"<h2>What became of it</h2><pre>{_block(str(result))}</pre>"
    yield "<table><caption>Journal</caption><thead><tr>"
    yield from _heads("Entry", "At (UTC)", "What it says")
    for event, text in said:
        at = event.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        yield f"<tr><td>{event.sequence}</td><td>{at}</td><td>{svg.fit(text, TEXT_MAX)}</td></tr>"
    yield "</tbody></table></body></html>"


def _heads(*heads: str) -> Iterator[str]:
    yield "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead><tbody>"


def _with_error(outcome: str, error: str) -> str:
    return f"{outcome}: {error}" if outcome and error else outcome


def _block(text: str) -> str:
    return "\n".join(svg.fit(line, TEXT_MAX) for line in text.splitlines())
