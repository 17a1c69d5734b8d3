"""What somebody who takes part in a transaction is told after a turn.

Owns: those two shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.isolation import waits_of

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.drivers.interests import StepOutcome


class Look(NamedTuple):
    """Tell how things stand after a turn.

    Args:
        calls: The calls to be made by whoever took the turn.
        is_settled: True where there is nothing left to wait for.
        seconds: When time alone gives something to do; None for never.
        is_busy: True while somebody here makes calls for it.
        is_going_back: True where the whole is being undone.
        is_unwanted: True where no action is to be called any more, for the whole goes back.
        is_in_line: True while the step that is waited for stands in line for what it uses.
        outcome: What is known about the step that is waited for, where it is one.
    """

    calls: list[Call]
    is_settled: bool
    seconds: float | None
    is_busy: bool
    is_going_back: bool
    is_unwanted: bool = False
    is_in_line: bool = False
    outcome: StepOutcome | None = None


class Asked(NamedTuple):
    """Tell which step stands for what was asked for.

    Args:
        step_id: The step.
        is_known: True where it had been asked for before, and is not carried out again.
        look: How things stand for whoever waits for it.
    """

    step_id: str
    is_known: bool
    look: Look


def stands_in_line(saga: Saga, step: SagaStep) -> bool:
    """Tell whether a step waits for a resource: its own, or, for a pivot, a held step's."""
    places = [place for place, _ in waits_of(saga)]
    return step.index in places or (step.definition.pivot and bool(places))
