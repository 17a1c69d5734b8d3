"""The actions that a process can carry out, and how a handler is called.

Owns: the registry of handlers, what a handler is given, and what its answer means.
Rules:
  1. A handler gets a copy of its data: what it does to it changes neither the journal nor
     what its compensating action will be given.
  2. What an exception means is decided here and nowhere else (`outcome_of`).
  3. A return value never changes an outcome: one that is not JSON becomes a warning.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from aumai_transactions.core.definition import Operation, UnknownPolicy, idempotency_key
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import HandlerRaised, HandlerReturned
from aumai_transactions.core.values import checked_copy, checked_name, clone
from aumai_transactions.errors import (
    DefinitionError,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
)

if typing.TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga, SagaStep

ActionHandler = Callable[[str, dict[str, object]], None]
"""What the seed calls a handler: it is given the action's name and the step's data."""

Handler = Callable[..., Any]
"""Any handler: `(action, data)`, or `(action, data, context)` where it asks for the context;
sync or async; it may return a JSON value."""

ERROR_CHARACTERS_MAX = 2_000


@dataclass(slots=True, frozen=True)
class StepContext:
    """Tell a handler about the call that it serves.

    A handler gets it by having a parameter named `context` or annotated `StepContext`.

    Args:
        transaction_id: The transaction.
        step_id: The step.
        agent_id: On whose behalf it acts.
        action: The name that is called.
        operation: `action`, or `compensation` where it undoes.
        attempt: 1 for the first call of this operation; higher after a crash or an unknown
            outcome.
        idempotency_key: The same for every attempt of this operation of this step, from any
            process. Hand it to whatever is called.
        in_doubt: In a compensation: nobody knows whether the action ever happened; undoing
            nothing must do nothing.
        ran: In a compensation: False where a pending transaction is rolled back, whose steps
            never ran.
        token: The fencing token of the driver; grows with every takeover.
        outputs: What earlier steps returned, by step id.
        output: In a compensation: what the action returned.
        error: In a compensation: why the transaction goes back.
    """

    transaction_id: str
    step_id: str
    agent_id: str
    action: str
    operation: Operation
    attempt: int
    idempotency_key: str
    in_doubt: bool = False
    ran: bool = True
    token: int = 0
    outputs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    error: str | None = None


@dataclass(slots=True, frozen=True)
class Action:
    """Hold one action: its handler and what is declared about it.

    Args:
        name: What steps call it.
        handler: `(action, data)` or `(action, data, context)`, sync or async.
        compensating_action: What undoes it where a step names nothing else.
        idempotent: True where it may run again under the same idempotency key.
        on_unknown: `compensate` or `ask`, while nobody knows whether it happened.
        effect: `none` where it changes nothing outside, so that nothing is to undo.
        in_doubt_on: Exceptions of this handler that leave the outcome unknown.
        is_plain: True for the handlers of `action_handlers`, whose exceptions all mean
            "not done".
    """

    name: str
    handler: Handler
    compensating_action: str | None = None
    idempotent: bool = False
    on_unknown: UnknownPolicy | None = None
    effect: Literal["none"] | None = None
    in_doubt_on: tuple[type[BaseException], ...] = ()
    is_plain: bool = False


class Callee(NamedTuple):
    """Hold a handler that was looked at once, so that a call need not look again.

    Args:
        action: The action.
        context_parameter: The name of the parameter that takes the context, if there is one.
        is_async: True where calling it gives a coroutine for certain.
    """

    action: Action
    context_parameter: str | None
    is_async: bool


class ActionRegistry:
    """Hold the actions of one process, by name."""

    def __init__(self) -> None:
        self._callees: dict[str, Callee] = {}

    def add(self, action: Action) -> None:
        """Register an action; one of the same name is replaced.

        Raises:
            DefinitionError: The handler cannot be called as a handler is called.
            InvalidData: The name is empty or not text.
        """
        checked_name(action.name, "action name")
        if action.compensating_action is not None:
            checked_name(action.compensating_action, f"compensating_action of {action.name!r}")
        _check_choice(action.name, "on_unknown", action.on_unknown, ("compensate", "ask", None))
        _check_choice(action.name, "effect", action.effect, ("none", None))
        parameter = _context_parameter(action)
        is_async = inspect.iscoroutinefunction(action.handler)
        self._callees[action.name] = Callee(action, parameter, is_async)

    def get(self, name: str | None) -> Callee | None:
        """Return the action of this name, ready to be called; None where there is none."""
        return self._callees.get(name) if name is not None else None

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that have no handler here, each once, in order."""
        return [name for name in dict.fromkeys(names) if name not in self._callees]

    def __iter__(self) -> Iterator[Action]:
        """Yield every action."""
        for callee in self._callees.values():
            yield callee.action

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a handler of this name."""
        return name in self._callees


def plain_actions(handlers: Mapping[str, ActionHandler | Handler]) -> list[Action]:
    """Return the seed's mapping of names to handlers as actions."""
    return [Action(name, handler, is_plain=True) for name, handler in handlers.items()]


def context_of(saga: Saga, step: SagaStep, operation: Operation) -> StepContext:
    """Return what a handler may know about the call that is about to be made."""
    definition = step.definition
    undoing = operation == "compensation"
    outputs = {
        saga.steps[index].step_id: clone(saga.steps[index].output)
        for index in saga.completed
        if index != step.index
    }
    return StepContext(
        transaction_id=saga.transaction_id,
        step_id=definition.step_id,
        agent_id=definition.agent_id,
        action=(definition.compensating_action or "") if undoing else definition.action,
        operation=operation,
        attempt=step.undo_attempt if undoing else step.attempt,
        idempotency_key=idempotency_key(saga.transaction_id, definition.step_id, operation),
        in_doubt=undoing and step.doubt is not None,
        ran=saga.ran,
        token=saga.token,
        outputs=outputs,
        output=clone(step.output) if undoing else None,
        error=(str(saga.error) if saga.error else saga.reason) if undoing else None,
    )


def call(callee: Callee, saga: Saga, step: SagaStep, operation: Operation) -> Any | Awaitable[Any]:
    """Call a handler with a copy of its step's data; return what it returns, maybe awaitable."""
    definition = step.definition
    name = definition.action if operation == "action" else definition.compensating_action
    data = clone(step.resolved_data)
    parameter = callee.context_parameter
    if parameter is None:
        return callee.action.handler(name, data)
    return callee.action.handler(name, data, **{parameter: context_of(saga, step, operation)})


def returned(step: SagaStep, operation: Operation, value: object) -> HandlerReturned:
    """Return the observation that a handler returned this value."""
    if value is None or operation == "compensation":
        return HandlerReturned(step.definition.step_id, operation)
    try:
        return HandlerReturned(step.definition.step_id, operation, checked_copy(value))
    except Exception as error:  # noqa: BLE001 (a hostile value must not change an outcome)
        warning = (
            f"step {step.step_id} succeeded, but what {step.definition.action!r} returned could "
            f"not be recorded: {error_record(error).message}"
        )
        return HandlerReturned(step.definition.step_id, operation, None, warning)


def raised(
    step: SagaStep, operation: Operation, action: Action, error: BaseException
) -> HandlerRaised:
    """Return the observation that a handler raised this exception."""
    outcome = outcome_of(action, error)
    return HandlerRaised(step.definition.step_id, operation, outcome, error_record(error))


def outcome_of(
    action: Action, error: BaseException
) -> Literal["not_done", "in_doubt", "cancelled"]:
    """Say what an exception of this action's handler means for the world.

    Source: SEMANTICS C1. A refused connection is the one OSError that proves that nothing was
    sent.
    """
    if not isinstance(error, Exception):
        return "cancelled"
    if isinstance(error, (StepRejected, RetryLater)):
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
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
    if len(text) > ERROR_CHARACTERS_MAX:
        text = text[:ERROR_CHARACTERS_MAX] + "…"
    return ErrorRecord(type(error).__qualname__, text)


def _check_choice(name: str, option: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        message = f"{option} of action {name!r} is {value!r}; it must be one of {allowed}."
        raise DefinitionError(message)


def _context_parameter(action: Action) -> str | None:
    handler = action.handler
    if not callable(handler):
        message = (
            f"the handler of action {action.name!r} is {type(handler).__name__}, which cannot be "
            "called. Give a function (action, data)."
        )
        raise DefinitionError(message)
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return None  # Why no error: some builtins have no signature, and can be called.
    name = _named_context(handler, signature)
    extra = {name: None} if name else {}
    try:
        signature.bind("action", {}, **extra)
    except TypeError as error:
        message = (
            f"the handler of action {action.name!r} has the signature {signature}, which cannot "
            f"be called as (action, data) or (action, data, context): {error}."
        )
        raise DefinitionError(message) from None
    return name


def _named_context(handler: Handler, signature: inspect.Signature) -> str | None:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    hints: dict[str, Any] = {}
    try:
        hints = typing.get_type_hints(handler)
    except Exception:  # noqa: BLE001 (whatever a user's annotations raise, names still work)
        hints = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in by_name:
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        written = annotation.rsplit(".", 1)[-1] if isinstance(annotation, str) else annotation
        if parameter.name == "context" or written in (StepContext, "StepContext"):
            return parameter.name
    return None
