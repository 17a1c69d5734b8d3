"""How a step in doubt is settled.

Owns: what may be asked or tried about a step whose outcome nobody knows.
Rules:
  1. In doubt, in this order: ask the probe; run again with the same key where that is safe; then
     what the action declares (SEMANTICS C4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.commands import Call
from aumai_transactions.core.entries import ProbeStarted

if TYPE_CHECKING:
    from aumai_transactions.core.saga import SagaStep

# Why two: one call and, where the action is idempotent, one more with the same key to ask
# the participant what became of it. More is a retry policy, which an action must declare.
UNKNOWN_ATTEMPTS_MAX = 2


def asks(step: SagaStep) -> bool:
    """True where a person must say what became of this step once it stays in doubt."""
    if step.definition.pivot or step.definition.on_commit:
        return True  # Never back, for it may be the commit point; never forward, for it may not.
    policy = step.definition.on_unknown
    if policy is None:
        return step.definition.compensating_action is None and step.definition.effect != "none"
    return policy == "ask"


def needs_person(step: SagaStep) -> bool:
    """True where everything was tried on a step in doubt, and a person must say what became."""
    return asks(step) and not (
        step.probing
        or step.due_at is not None
        or step.retry_requested
        or must_be_asked(step)
        or may_run_again(step)
    )


def must_be_asked(step: SagaStep) -> bool:
    """True where the participant can say what became of a step, and was not asked yet."""
    return step.definition.policy.has_probe and not step.probe_spent


def probe_of(step: SagaStep, now: int) -> Call:
    """Return the call that asks it."""
    return Call("probe", step, ProbeStarted(now, step.step_id, step.probe_attempt + 1))


def may_run_again(step: SagaStep) -> bool:
    """True where a step in doubt may be run again with the same key, by itself.

    With a retry policy that is where the next attempt was scheduled; but what a crash cut off
    is always asked for once more.
    """
    if not step.definition.idempotent:
        return False
    if step.doubt == "crash" or step.due_at is not None:
        return True
    return step.definition.policy.retry is None and step.attempt < UNKNOWN_ATTEMPTS_MAX
