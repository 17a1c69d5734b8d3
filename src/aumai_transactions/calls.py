"""How a handler is called, and what its answer means.

Owns: what a handler is given, and the way from what it returns or raises to an observation.
Rules:
  1. A handler gets a copy of its data: what it does to it changes neither the journal nor
     what its compensating action will be given.
  2. What an exception means is decided here and nowhere else (`outcome_of`).
  3. A return value never changes an outcome: one that is not JSON becomes a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from aumai_transactions.actions import StepContext
from aumai_transactions.answers import (
    Clean,
    Continue,
    Done,
    NotDone,
    NothingToUndo,
    Residue,
    Unknown,
)
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.entries import ErrorRecord, LateOutcome
from aumai_transactions.core.isolation import fencing_tokens
from aumai_transactions.core.masking import PAINT
from aumai_transactions.core.observations import (
    HandlerRaised,
    HandlerReturned,
    LateReturn,
    ProbeReturned,
    RereadReturned,
    VerificationReturned,
)
from aumai_transactions.core.undoing import may_continue
from aumai_transactions.core.values import canonical_json, checked_copy, clone
from aumai_transactions.credentials import filled_in, painted, values_in
from aumai_transactions.errors import NotDelivered, OutcomeUnknown, RetryLater, StepRejected
from aumai_transactions.models import SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aumai_transactions.actions import Action, Callee
    from aumai_transactions.core.definition import Operation, StepDefinition
    from aumai_transactions.core.saga import Saga, SagaStep

ERROR_CHARACTERS_MAX = 2_000

Answered = HandlerReturned | HandlerRaised | ProbeReturned | VerificationReturned | RereadReturned


def context_of(saga: Saga, step: SagaStep, operation: Operation) -> StepContext:
    """Return what a handler may know about the call that is about to be made."""
    definition = step.definition
    undoing = operation == "compensation"
    return StepContext(
        transaction_id=saga.transaction_id,
        step_id=definition.step_id,
        agent_id=definition.agent_id,
        action=name_called(definition, operation),
        operation=operation,
        attempt=attempt_of(step, operation),
        idempotency_key=idempotency_key(saga.transaction_id, definition.step_id, operation),
        forward_key=idempotency_key(saga.transaction_id, definition.step_id, "action"),
        forward_attempt=step.attempt,
        in_doubt=operation != "action" and step.doubt is not None,
        ran=saga.ran,
        token=saga.token,
        outputs=Outputs(saga, step) if saga.completed else _NO_OUTPUTS,
        output=None if operation == "action" else clone(step.output),
        error=(str(saga.error) if saga.error else saga.reason) if undoing else None,
        can_continue=undoing and may_continue(saga, step),
        resources=fencing_tokens(saga, step),
    )


class Outputs(Mapping[str, Any]):
    """Show what the other steps had returned when a call was made, by step id.

    Why no dict: most handlers look at none of them, and a transaction may have thousands.

    Args:
        saga: The transaction.
        step: The step that is called.
    """

    __slots__ = ("_by_id", "_completed", "_saga", "_step")

    def __init__(self, saga: Saga, step: SagaStep) -> None:
        self._saga, self._step = saga, step
        self._completed = tuple(saga.completed)
        self._by_id: dict[str, SagaStep] | None = None

    def _steps(self) -> dict[str, SagaStep]:
        if self._by_id is None:
            found = (self._saga.steps[index] for index in self._completed)
            self._by_id = {one.step_id: one for one in found if one is not self._step}
        return self._by_id

    def __getitem__(self, step_id: str) -> Any:
        """Return a copy of what a step had returned."""
        return clone(self._steps()[step_id].output)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the steps, in the order in which they had succeeded."""
        return iter(self._steps())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._steps())

    def __repr__(self) -> str:
        """Show it as a dict."""
        return repr(dict(self))


_NO_OUTPUTS: Mapping[str, Any] = MappingProxyType({})


def name_called(definition: StepDefinition, operation: Operation) -> str:
    """Return the name of the action that an operation of a step calls."""
    if operation == "compensation":
        return definition.compensating_action or ""
    if operation == "confirmation":
        return definition.confirming_action or ""
    return definition.action


def attempt_of(step: SagaStep, operation: Operation) -> int:
    """Return which attempt of an operation is under way, or was the last one."""
    if operation == "action":
        return step.attempt
    if operation == "compensation":
        return step.undo_attempt
    if operation == "confirmation":
        return step.confirm_attempt
    if operation == "reread":
        return 1
    return step.probe_attempt if operation == "probe" else step.verify_attempt


Arguments = tuple[tuple[Any, ...], dict[str, StepContext]]
"""What a handler is called with: the action's name, where it takes one, and a copy of the step's
data; and by name the context, where it takes one."""

_NOTHING: dict[str, StepContext] = {}


def arguments_of(callee: Callee, saga: Saga, step: SagaStep, operation: Operation) -> Arguments:
    """Return what a handler is called with, taken from the transaction as it stands now.

    Raises:
        SecretMissing: A secret that it needs is not to be had here.
    """
    definition = step.definition
    data = clone(definition.data if step.data is None else step.data)
    if definition.secrets:
        data = filled_in(data, definition.secrets)
    parameter = callee.context_parameter
    named = _NOTHING if parameter is None else {parameter: context_of(saga, step, operation)}
    if not callee.takes_name:
        return (data,), named
    return (name_called(definition, operation), data), named


def call(callee: Callee, arguments: Arguments) -> Any | Awaitable[Any]:
    """Call a handler; return what it returns, maybe awaitable."""
    positional, named = arguments
    return callee.handler(*positional, **named) if named else callee.handler(*positional)


def returned(
    step: SagaStep, operation: Operation, value: object, redact: tuple[str, ...] = ()
) -> Answered:
    """Return the observation that a handler returned this value.

    Args:
        step: The step.
        operation: What was called.
        value: What it returned.
        redact: The keys of an output that are painted over before it is recorded.
    """
    seen = _returned(step, operation, value)
    if redact and isinstance(seen, (HandlerReturned, ProbeReturned)):
        seen = seen._replace(output=_redacted(seen.output, redact))
    return _without_secrets(step, seen)


def _redacted(output: Any, keys: tuple[str, ...]) -> Any:
    """Return an output in which the fields that the action redacts are painted over."""
    if not isinstance(output, dict):
        return output
    return {key: PAINT if key in keys else value for key, value in output.items()}


def _without_secrets(step: SagaStep, seen: Answered) -> Answered:
    """Return an observation in which the secrets that the call was given are painted over."""
    definition = step.definition
    if not definition.secrets:
        return seen
    held: Answered = painted(seen, values_in(step.resolved_data, definition.secrets))
    return held


def _returned(step: SagaStep, operation: Operation, value: object) -> Answered:
    step_id = step.definition.step_id
    if operation == "action":
        if value is None:
            return HandlerReturned(step_id, operation)
        output, warning = _recordable(step, value)
        return HandlerReturned(step_id, operation, output, warning)
    if operation == "compensation":
        return _undo_returned(step, value)
    if operation == "probe":
        return _probe_returned(step, value)
    if operation == "confirmation":
        return HandlerReturned(step_id, operation)
    if operation == "reread":
        return _reread_returned(step, value)
    return _verification_returned(step, value)


def _recordable(step: SagaStep, value: object) -> tuple[Any, str | None]:
    if value is None:
        return None, None
    try:
        return checked_copy(value), None
    except Exception as error:  # noqa: BLE001 (a hostile value must not change an outcome)
        return None, (
            f"step {step.step_id} succeeded, but what {step.definition.action!r} returned could "
            f"not be recorded: {error_record(error).message}"
        )


def _undo_returned(step: SagaStep, value: object) -> HandlerReturned:
    if value is None:
        return HandlerReturned(step.definition.step_id, "compensation")
    if isinstance(value, Continue):
        output, warning = _recordable(step, value.output)
        return HandlerReturned(step.step_id, "compensation", output, warning, continues=True)
    if isinstance(value, NothingToUndo):
        note = _bounded(value.why) or "there was nothing to undo"
        return HandlerReturned(step.step_id, "compensation", note=note)
    return HandlerReturned(step.step_id, "compensation")


def _probe_returned(step: SagaStep, value: object) -> ProbeReturned:
    match value:
        case Done():
            output, warning = _recordable(step, value.output)
            return ProbeReturned(step.step_id, "done", output, warning=warning)
        case NotDone():
            why = ErrorRecord("NotDone", _bounded(value.why) or "the probe says: not done")
            return ProbeReturned(step.step_id, "not_done", error=why)
        case Unknown():
            return ProbeReturned(step.step_id, "unknown", error=_unknown(value))
        case _:
            why = _no_answer(value, "Done(output), NotDone() or Unknown()")
            return ProbeReturned(step.step_id, "unknown", error=why)


def _verification_returned(step: SagaStep, value: object) -> VerificationReturned:
    match value:
        case Clean():
            return VerificationReturned(step.step_id, "clean")
        case Residue():
            left, warning = _recordable(step, value.left)
            shown = warning or canonical_json(left).decode()
            error = ErrorRecord("Residue", _bounded(f"the undo left something: {shown}"))
            return VerificationReturned(step.step_id, "residue", left, error)
        case Unknown():
            return VerificationReturned(step.step_id, "unknown", error=_unknown(value))
        case _:
            why = _no_answer(value, "Clean(), Residue(left) or Unknown()")
            return VerificationReturned(step.step_id, "unknown", error=why)


def _reread_returned(step: SagaStep, value: object) -> RereadReturned:
    if value is True:
        return RereadReturned(step.step_id, holds=True)
    if value is False:
        why = ErrorRecord("ReadConflict", f"what step {step.step_id} had read has changed since")
        return RereadReturned(step.step_id, holds=False, error=why)
    return RereadReturned(step.step_id, holds=False, error=_no_answer(value, "True or False"))


def _unknown(answer: Unknown) -> ErrorRecord:
    return ErrorRecord("Unknown", _bounded(answer.why) or "it cannot tell")


def _no_answer(value: object, answers: str) -> ErrorRecord:
    return ErrorRecord("NoAnswer", f"it returned {type(value).__name__}; return {answers}")


def raised(step: SagaStep, operation: Operation, action: Action, error: BaseException) -> Answered:
    """Return the observation that a handler raised this exception."""
    return _without_secrets(step, _raised(step, operation, action, error))


def _raised(step: SagaStep, operation: Operation, action: Action, error: BaseException) -> Answered:
    record = error_record(error)
    after = _after_seconds(error)
    if operation == "probe":
        return ProbeReturned(step.step_id, "unknown", error=record, after_seconds=after)
    if operation == "verification":
        return VerificationReturned(step.step_id, "unknown", error=record, after_seconds=after)
    if operation == "reread":
        return RereadReturned(step.step_id, holds=False, error=record)
    return HandlerRaised(
        step.definition.step_id,
        operation,
        outcome_of(action, error),
        record,
        may_retry=_may_retry(action, error),
        after_seconds=after,
        # Why no other: whatever else a handler raises may be raised before it asked anybody, and
        # says nothing about an earlier attempt under the same key.
        is_answer=isinstance(error, StepRejected) and not isinstance(error, NotDelivered),
    )


def timed_out(
    step: SagaStep, operation: Operation, seconds: float, *, left_behind: bool
) -> tuple[Answered, TimeoutError]:
    """Return the observation that a handler did not return in time, and the exception for it."""
    goes_on = "; the call goes on and may act yet" if left_behind else ""
    error = TimeoutError(f"no answer within {seconds:g} s{goes_on}")
    record = error_record(error)
    if operation == "probe":
        return ProbeReturned(step.step_id, "unknown", error=record), error
    if operation == "verification":
        return VerificationReturned(step.step_id, "unknown", error=record), error
    if operation == "reread":
        return RereadReturned(step.step_id, holds=False, error=record), error
    seen = HandlerRaised(step.step_id, operation, "timeout", record, left_behind=left_behind)
    return seen, error


def late(seen: Answered, attempt: int) -> LateReturn | None:
    """Return the observation that an answer came after its call had been given up.

    Returns:
        None where the answer says nothing about an effect.
    """
    if isinstance(seen, HandlerReturned):
        return LateReturn(seen.step_id, seen.operation, attempt, "succeeded", seen.output)
    if isinstance(seen, HandlerRaised):
        outcome: LateOutcome = "not_done" if seen.outcome == "not_done" else "in_doubt"
        return LateReturn(seen.step_id, seen.operation, attempt, outcome, None, seen.error)
    return None


def _may_retry(action: Action, error: BaseException) -> bool:
    if isinstance(error, RetryLater):
        return True
    if isinstance(error, StepRejected):
        return False
    return action.retry_on is None or isinstance(error, action.retry_on)


def _after_seconds(error: BaseException) -> float | None:
    if not isinstance(error, (RetryLater, OutcomeUnknown)):
        return None
    seconds: object = error.after_seconds
    is_nan = isinstance(seconds, float) and math.isnan(seconds)
    if is_nan or isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return 0.0 if isinstance(error, RetryLater) else None
    return float(min(max(seconds, 0), SECONDS_MAX))


def outcome_of(
    action: Action, error: BaseException
) -> Literal["not_done", "in_doubt", "cancelled"]:
    """Say what an exception of this action's handler means for the world.

    Source: SEMANTICS C1. A refused connection is the one OSError that proves that nothing was
    sent.
    """
    if not isinstance(error, Exception):
        return "cancelled"
    if isinstance(error, (StepRejected, NotDelivered, RetryLater)):
        return "not_done"
    if isinstance(error, (OutcomeUnknown, action.in_doubt_on)):
        return "in_doubt"
    if action.is_plain or isinstance(error, ConnectionRefusedError):
        return "not_done"
    return "in_doubt" if isinstance(error, (TimeoutError, OSError)) else "not_done"


def error_record(error: BaseException) -> ErrorRecord:
    """Return an exception as data; its text is bounded and made fit for every store."""
    try:
        text = str(error)
    except Exception as unprintable:  # noqa: BLE001 (a hostile __str__ must not change an outcome)
        text = f"(its text cannot be read: {type(unprintable).__name__})"
    return ErrorRecord(type(error).__qualname__, _bounded(text))


def _bounded(text: object) -> str:
    told = text if isinstance(text, str) else repr(text)
    if not told.isascii() or "\0" in told:
        told = told.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
    return told if len(told) <= ERROR_CHARACTERS_MAX else told[:ERROR_CHARACTERS_MAX] + "…"
