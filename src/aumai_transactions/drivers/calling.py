"""How a command to call becomes a call.

Owns: the way from a step's operation to its handler and what that is given, and what is added to
the answer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.calls import Answered, arguments_of, attempt_of, raised
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import (
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    Observation,
    RereadReturned,
)
from aumai_transactions.credentials import SecretMissing
from aumai_transactions.drivers.late import hand_in
from aumai_transactions.drivers.operations import Attendant, DoCall

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.run import Run

Unmade = HandlerMissing | Answered
"""What is seen where nobody here can make a call."""


def call_of(desk: Desk, run: Run, who: Attendant, command: Call) -> DoCall | Unmade:
    """Return the call that a command stands for; or that nobody here can make it.

    Args:
        desk: The manager's.
        run: The transaction.
        who: Who waits for the call.
        command: The command.
    """
    step, operation = command.step, command.operation
    definition = step.definition
    callee = run.registry.find(operation, definition)
    if callee is None and operation == "action" and step.request_id is not None:
        # Why no dry run: who asks for it cannot see that nothing is done here.
        name = definition.action
        why = ErrorRecord("UnknownAction", f"{name!r} has no handler where it is carried out")
        return HandlerRaised(step.step_id, operation, "not_done", why, may_retry=False)
    if callee is None:
        return HandlerMissing(definition.step_id, operation)
    try:
        arguments = arguments_of(callee, run.saga, step, operation)
    except SecretMissing as missing:
        return raised(step, operation, callee.action, missing)
    timeout = definition.policy.timeout_of(operation)
    call = DoCall(callee, who, step, operation, arguments)
    if timeout is not None:
        on_late = partial(hand_in, desk, run.transaction_id)
        attempt = attempt_of(step, operation)
        call = DoCall(callee, who, step, operation, arguments, attempt, timeout, on_late)
    return call if desk.telemetry is None else desk.telemetry.inside(run, call)


def with_draw(desk: Desk, answer: Answered) -> Observation:
    """Return what was seen, with a draw for the jitter where another attempt may follow."""
    if isinstance(answer, (HandlerReturned, RereadReturned)):
        return answer
    return answer._replace(draw=desk.draw())
