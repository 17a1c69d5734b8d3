"""Functions of others that are made steps: `transactional`.

Owns: how several functions are made steps at once, and which undoes which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from aumai_transactions.drivers.steps import step, step_of
from aumai_transactions.errors import DefinitionError


def transactional(
    tools: Any,
    *,
    compensating_actions: Mapping[str, str | Callable[..., Any]] | None = None,
    agent_id: str | None = None,
    required: bool = False,
) -> Any:
    """Make steps of functions that one does not own, in one line.

    What is a step already stays what it is.

    Args:
        tools: A function, or a list, a tuple or a mapping of them.
        compensating_actions: What undoes which, by the function's name (or its key in the
            mapping); a function, or the name of an action.
        agent_id: On whose behalf they act.
        required: True to refuse calls outside a transaction.

    Returns:
        The same, each function as a step.

    Raises:
        DefinitionError: One of them cannot be a step; or what something undoes is none of them, or
            more than one.
    """
    undos = dict(compensating_actions or {})
    if isinstance(tools, Mapping):
        named = [(str(key), function) for key, function in tools.items()]
    elif isinstance(tools, (list, tuple)):
        named = [(_called_by(function), function) for function in tools]
    else:
        named = [(_called_by(tools), tools)]
    times = Counter(key for key, _function in named)
    for key in undos:
        if times[key] != 1:
            which = "none of the tools" if not times[key] else "the name of more than one tool"
            message = (
                f"compensating_actions has {key!r}, which is {which}. "
                f"They are: {', '.join(times)}. Give a mapping to name them yourself."
            )
            raise DefinitionError(message)

    def made(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if step_of(function) is not None and key not in undos:
            return function
        undo = undos.get(key)
        return step(compensating_action=undo, agent_id=agent_id, required=required)(function)

    found = [made(key, function) for key, function in named]
    if isinstance(tools, Mapping):
        return dict(zip(tools, found, strict=True))
    return type(tools)(found) if isinstance(tools, (list, tuple)) else found[0]


def _called_by(function: Any) -> str:
    return str(getattr(function, "__name__", ""))
