"""How a step that was asked for before is found again.

Owns: what makes two requests the same: agent, groups, action and identity arguments. Positions
never identify a step.
Rules:
  1. Steps that succeeded or are in doubt count; what failed or was undone does not: asked for
     again, it is a new step with a new key (SEMANTICS E4).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.saga import Saga, SagaStep

CHARACTERS = 32


def intent_of(
    agent_id: str,
    groups: Sequence[str],
    action: str,
    data: dict[str, Any],
    identity: Sequence[str] | None,
) -> str:
    """Return the intent of a step as a digest.

    Args:
        agent_id: Who asks.
        groups: The names of the groups that it stands in, the outermost first.
        action: What is to be done.
        data: With what.
        identity: The keys of the data that count; None for all.
    """
    counts = data if identity is None else {key: data.get(key) for key in identity}
    return named_intent(agent_id, groups, ["", action, counts])


def named_intent(agent_id: str, groups: Sequence[str], name: Any) -> str:
    """Return the digest of an intent that its program has named itself."""
    told = canonical_json([agent_id, list(groups), name])
    return hashlib.sha256(told).hexdigest()[:CHARACTERS]


def occurrences(saga: Saga, intent: str) -> Iterator[SagaStep]:
    """Yield the steps in force that have this intent, in the order in which they were added."""
    for step in saga.by_intent.get(intent, ()):
        if is_in_force(step):
            yield step
