"""How a step comes into a transaction that another process carries out, and who serves it there.

Owns: the way of such a wish through the journal, and back.
Rules:
  1. Who wishes calls nothing and holds nothing: the process that has the transaction carries the
     step out, with its own actions, where it accepts requests.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.observations import StepWanted
from aumai_transactions.core.states import (
    ACTIVE,
    STEP_IN_DOUBT,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.values import clone
from aumai_transactions.drivers.asking import waiting_until
from aumai_transactions.drivers.desk import read_saga, whole_and_part
from aumai_transactions.drivers.driving import MOVED, append_request, decide_and_evolve
from aumai_transactions.drivers.interests import is_at_rest
from aumai_transactions.drivers.operations import DoSleep, Procedure
from aumai_transactions.drivers.parts import Part, Patience
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.taking_part import attend
from aumai_transactions.errors import (
    DefinitionError,
    StepFailed,
    StepInDoubt,
    StepUndone,
    TransactionError,
    TransactionNotActive,
)

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.drivers.shared import Shared

log = logging.getLogger("aumai_transactions")

PAUSE_SECONDS_MAX = 0.2


class RequestInterest:
    """Wait for the steps that others ask for, until the transaction ends."""

    def covers(self, saga: Saga, call: Call) -> bool:  # noqa: ARG002 (as the protocol has it)
        """Tell that calls of steps that others have asked for are worth making."""
        return call.step.request_id is not None

    def is_settled(self, saga: Saga, now: int) -> bool:  # noqa: ARG002
        """Tell whether nothing can be asked for any more."""
        return saga.started_at is not None and saga.state is not ACTIVE


def request(
    desk: Desk,
    transaction_id: str,
    step: StepDefinition,
    *,
    by: str,
    wait_max_seconds: float,
) -> Procedure[Any]:
    """Ask for a step, wait until it has been carried out, and return what it returned.

    Raises:
        TransactionNotActive: The transaction has ended, or ends before the step has begun; or
            nobody has carried it out in time: it may be yet.
        DefinitionError: The step cannot be.
        StepFailed: Its action raised.
        StepInDoubt: Nobody knows whether it happened.
        StepUndone: It was undone.
    """
    transaction_id, scope_id = yield from whole_and_part(desk, transaction_id)
    step = step._replace(step_id="", after=step.after or (), scope_id=scope_id)
    request_id = desk.append_id()
    while True:
        saga = yield from read_saga(desk, transaction_id)
        scope = None if scope_id is None else saga.scopes.get(scope_id)
        around = [] if scope is None else [one.definition for one in reversed(scope.chain())]
        wish = StepWanted(request_id, step, tuple(around), by)
        run = Run(transaction_id, saga, desk.registry, sequence=saga.sequence)
        entries = decide_and_evolve(desk, run, wish)
        if (yield from append_request(desk, run, entries)) is not MOVED:
            break
    here = desk.book.run_of(transaction_id)
    if here is not None and here.shared is not None:
        here.shared.hear()
    until = waiting_until(desk, wait_max_seconds)
    pause = 0.01
    while True:
        yield DoSleep(pause)
        pause = min(pause * 2, PAUSE_SECONDS_MAX)
        saga = yield from read_saga(desk, transaction_id)
        if request_id in saga.refused:
            raise DefinitionError(f"the step was refused: {saga.refused[request_id]}")
        found = next((one for one in saga.steps if one.request_id == request_id), None)
        if found is not None and is_at_rest(saga, found):
            return _outcome(saga, found)
        hint = ""
        if saga.state is not ACTIVE:
            hint = "It ended before the step was carried out."
        elif desk.clock.now() >= until:
            hint = (
                "Nobody has carried out the step yet; it may be yet. Its process must have begun "
                "it with accepts_requests=True."
            )
        if hint:
            state = saga.state.value
            raise TransactionNotActive(transaction_id, state, "ask for a step in", hint)


def serve(desk: Desk, shared: Shared) -> Procedure[None]:
    """Carry out the steps that others ask for, until the transaction ends."""
    part = Part(shared.run.transaction_id, is_callers=False)
    try:
        yield from attend(desk, shared, part, [], RequestInterest(), patience=Patience(polls=True))
    except TransactionError as error:
        # Why only a log line: whoever has the transaction meets the same, and is told.
        about = {"transaction_id": part.transaction_id}
        log.debug("transaction %s: no more requests: %s", part.transaction_id, error, extra=about)


def _outcome(saga: Saga, step: SagaStep) -> Any:
    name, error = saga.transaction_id, str(step.error or "unknown")
    if step.state is STEP_SUCCEEDED:
        return clone(step.output)
    if step.state is STEP_IN_DOUBT:
        raise StepInDoubt(name, step.step_id, error, undone=False)
    if step.error is not None:
        raise StepFailed(name, step.step_id, error)
    raise StepUndone(name, step.step_id, step.state.value)
