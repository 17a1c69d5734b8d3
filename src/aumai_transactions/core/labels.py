"""What transactions are searched by.

Owns: the two texts that a store keeps for searches, and how a question is put to them.
Rules:
  1. *Terms* are exact: one line for each agent, action and pair of metadata. A line is JSON behind
     one word, so no name can hold a line's end, and a whole line is found by looking for its text.
  2. *Words* are without case, by Unicode, so that every store finds alike; whatever a database
     thinks of letters does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from aumai_transactions.core.values import canonical_json

Term = Literal["agent", "action", "metadata"]

PLAN_KIND = b'"kind":"plan_recorded"'
IMPORT_KIND = b'"kind":"transaction_imported"'
STEP_KIND = b'"kind":"step_added"'
"""What stands in the bytes of the entries that `named_in` reads."""

_CACHED = 512
_CONTROLS = dict.fromkeys(range(32), " ")


class Labels(NamedTuple):
    """Hold what is kept of a transaction for searches.

    Args:
        terms: What it is found by exactly.
        words: What it is found by in parts.
    """

    terms: str
    words: str


def labels_of(
    transaction_id: str,
    name: str | None,
    agents: tuple[str, ...],
    actions: tuple[str, ...],
    metadata: Mapping[str, str] | None,
) -> Labels:
    """Return what is kept for searches."""
    terms, words = _of_steps(agents, actions)
    if metadata:
        terms += "".join(_line("metadata", *pair) for pair in metadata.items())
    return Labels(terms, f"\n{folded(transaction_id)}\n{folded(name or '')}{words}")


# Why a cache: transactions of one kind come by the thousand, and have the same steps.
@lru_cache(maxsize=_CACHED)
def _of_steps(agents: tuple[str, ...], actions: tuple[str, ...]) -> tuple[str, str]:
    lines = [_line("agent", agent) for agent in agents]
    lines += [_line("action", action) for action in actions]
    words = "".join(f"\n{folded(word)}" for word in (*agents, *actions))
    return "\n" + "".join(lines), words + "\n"


def _line(term: Term, *texts: str) -> str:
    return " ".join((term, *(canonical_json(text).decode("utf-8") for text in texts))) + "\n"


def term(kind: Term, *texts: str) -> str:
    """Return what stands in the terms of a transaction that has this, and in no others.

    Args:
        kind: What is meant.
        texts: The agent's or the action's name, or the key and the value of metadata.
    """
    return "\n" + _line(kind, *texts)


def folded(text: str) -> str:
    """Return a text as it is compared without case."""
    return text.casefold().translate(_CONTROLS)


def told_by(terms: str) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """Return the actions and the metadata that terms name.

    Raises:
        ValueError: They are damaged.
    """
    actions: list[str] = []
    metadata: dict[str, str] = {}
    reader = json.JSONDecoder()
    for line in terms.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind == "action":
            actions.append(_text(json.loads(rest)))
        elif kind == "metadata":
            key, end = reader.raw_decode(rest)
            metadata[_text(key)] = _text(json.loads(rest[end:]))
    return tuple(actions), metadata or None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        message = f"{type(value).__name__} for a text"
        raise ValueError(message)  # noqa: TRY004 (damage, and said as such)
    return value


def named_in(bodies: Iterable[bytes]) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """Return the actions and the metadata that the entries of an older release's journal name.

    Why not by loading the journal: what is damaged, or too new, is to be found as far as it can be
    read, and nothing need be checked here.
    """
    actions: dict[str, None] = {}
    metadata: dict[str, Any] = {}
    for body in bodies:
        try:
            found = json.loads(body)
            plan, step = found.get("definition"), found.get("step")
            steps = [*plan.get("steps", ())] if isinstance(plan, dict) else []
            if isinstance(plan, dict):
                # A plan that was saved is recorded again, and the last one counts.
                actions.clear()
                metadata = dict(plan.get("metadata") or {})
            for one in (*steps, step):
                if isinstance(one, dict) and isinstance(one.get("action"), str):
                    actions[one["action"]] = None
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    texts = {key: text for key, text in metadata.items() if isinstance(text, str)}
    return tuple(actions), texts or None
