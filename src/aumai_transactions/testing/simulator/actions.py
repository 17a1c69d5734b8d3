"""The actions that simulated transactions are made of.

Owns: what each of them declares, and which kind of participant is behind it. A handler here does
nothing but name the call; the simulated network carries it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aumai_transactions.actions import Action, ActionRegistry, StepContext
from aumai_transactions.models import RetryPolicy

Kind = Literal["keyed", "dumb"]
"""`keyed` keeps the participant's contract (idempotency keys, tombstones, fencing); `dumb` does
whatever it is told, each time that it is told."""


class Request(NamedTuple):
    """Say what is asked of a participant.

    Args:
        context: The call, as its handler was told of it.
        data: The step's data.
        kind: Which kind of participant is asked.
    """

    context: StepContext
    data: dict[str, Any]
    kind: Kind


def keyed(action: str, data: dict[str, Any], context: StepContext) -> Request:  # noqa: ARG001
    """Ask a participant that keeps the contract."""
    return Request(context, data, "keyed")


def dumb(action: str, data: dict[str, Any], context: StepContext) -> Request:  # noqa: ARG001
    """Ask one that does not."""
    return Request(context, data, "dumb")


def keyed_question(data: dict[str, Any], context: StepContext) -> Request:
    """Ask a participant that keeps the contract about a call."""
    return Request(context, data, "keyed")


def dumb_question(data: dict[str, Any], context: StepContext) -> Request:
    """Ask one that does not about a call."""
    return Request(context, data, "dumb")


_SOON = RetryPolicy(attempts_max=4, first_delay_seconds=0.5)
_FAR = RetryPolicy(attempts_max=3, first_delay_seconds=40.0, delay_factor=1.0, jitter=0.2)
_BOUNDED = RetryPolicy(attempts_max=5, first_delay_seconds=2.0, budget_seconds=15.0)
_TWICE = RetryPolicy(attempts_max=2, first_delay_seconds=1.0)

UNDOS = (
    Action("release", keyed, idempotent=True, retry=_SOON),
    Action("release_once", keyed),
    Action("release_timed", keyed, idempotent=True, timeout_seconds=2.0),
    Action("release_twice", keyed, idempotent=True, retry=_TWICE),
    Action("refund", dumb),
    Action("refund_again", dumb, idempotent=True),
)

STEPS = (
    Action("reserve", keyed, "release", idempotent=True),
    Action("reserve_retried", keyed, "release", idempotent=True, retry=_SOON),
    Action("reserve_patient", keyed, "release_twice", idempotent=True, retry=_FAR),
    Action("reserve_bounded", keyed, "release", idempotent=True, retry=_BOUNDED),
    Action(
        "reserve_timed",
        keyed,
        "release_timed",
        idempotent=True,
        timeout_seconds=1.5,
        abandon_after_seconds=5.0,
    ),
    Action(
        "reserve_probed",
        keyed,
        "release",
        idempotent=True,
        probe=keyed_question,
        probe_retry=_TWICE,
    ),
    Action("reserve_verified", keyed, "release", idempotent=True, verify=keyed_question),
    Action("hold", keyed, "release_once"),
    Action("hold_retried", keyed, "release", retry=_SOON),
    Action("hold_asking", keyed, "release", on_unknown="ask", timeout_seconds=3.0),
    Action("hold_probed", keyed, "release", probe=keyed_question),
    Action("hold_timed", keyed, "release", timeout_seconds=1.5, abandon_after_seconds=5.0),
    Action("hold_windowed", keyed, "release", idempotent=True, undo_within_seconds=60.0),
    Action("charge", dumb, "refund"),
    Action("charge_again", dumb, "refund_again"),
    Action("charge_asking", dumb, "refund", on_unknown="ask"),
    Action("charge_probed", dumb, "refund_again", probe=dumb_question),
    Action("charge_timed", dumb, "refund", timeout_seconds=2.0, abandon_after_seconds=8.0),
    Action("spend", keyed, idempotent=True),
    Action("look", keyed, effect="none", idempotent=True),
    Action("look_again", keyed, effect="none", idempotent=True, reread=keyed_question),
)
"""What may stand anywhere in a plan."""

TRIES = (Action("attempt", keyed, "release", idempotent=True, confirming_action="confirm"),)
CONFIRMS = (Action("confirm", keyed, idempotent=True, retry=_SOON),)
PIVOTS = (
    Action("decide", keyed, idempotent=True),
    Action("decide_probed", keyed, probe=keyed_question),
)
HELD = (
    Action("notify", keyed, idempotent=True),
    Action("notify_probed", keyed, probe=keyed_question, retry=_SOON),
)

ALL = (*UNDOS, *STEPS, *TRIES, *CONFIRMS, *PIVOTS, *HELD)


def registry() -> ActionRegistry:
    """Return the handlers of a simulated process."""
    found = ActionRegistry()
    for action in ALL:
        found.add(action)
    return found
