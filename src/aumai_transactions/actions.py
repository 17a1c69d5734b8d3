"""The actions that a process can carry out, by name.

Owns: what can be declared about an action, and the registry of handlers; how they are called is
in `calls.py`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

from aumai_transactions.core.definition import (
    NO_POLICY,
    Operation,
    Policy,
    Retry,
    StepDefinition,
    UnknownPolicy,
)
from aumai_transactions.core.values import checked_name
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import SECONDS_MAX, RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

ActionHandler = Callable[[str, dict[str, object]], None]
"""What the seed calls a handler: it is given the action's name and the step's data."""

Handler = Callable[..., Any]
"""Any handler: `(action, data)`, or `(action, data, context)` where it asks for the context;
sync or async; it may return a JSON value."""


@dataclass(slots=True, frozen=True)
class StepContext:
    """Tell a handler about the call that it serves.

    A handler gets it by having a parameter named `context` or annotated `StepContext`.

    Args:
        transaction_id: The transaction.
        step_id: The step.
        agent_id: On whose behalf it acts.
        action: The name that is called.
        operation: `action`, `compensation` where it undoes, `probe` where it asks what became of
            the action, `verification` where it looks whether the undo left nothing.
        attempt: 1 for the first call of this operation; higher after a crash or an unknown
            outcome.
        idempotency_key: The same for every attempt of this operation of this step, from any
            process. Hand it to whatever is called.
        forward_key: The idempotency key of the step's action, in all four operations: what an
            undo, a probe or a verification is about.
        forward_attempt: How often the step's action has been called so far: what a probe is about.
        in_doubt: In a compensation: nobody knows whether the action ever happened; undoing
            nothing must do nothing.
        ran: In a compensation: False where a pending transaction is rolled back, whose steps
            never ran.
        token: The fencing token of the driver; grows with every takeover.
        outputs: What earlier steps returned, by step id.
        output: In a compensation: what the action returned.
        error: In a compensation: why the transaction goes back.
        can_continue: In a compensation: whether `Continue` would be heard now.
    """

    transaction_id: str
    step_id: str
    agent_id: str
    action: str
    operation: Operation
    attempt: int
    idempotency_key: str
    forward_key: str = ""
    forward_attempt: int = 0
    in_doubt: bool = False
    ran: bool = True
    token: int = 0
    outputs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    error: str | None = None
    can_continue: bool = False


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
        retry: How often it is tried again when it was not done; None for not at all, but for
            what a handler asks for with `RetryLater`. Where it is a compensating action: None for
            once, and as `RetryPolicy()` where it is idempotent.
        retry_on: Only these exceptions are worth another attempt; None for all but `StepRejected`.
        timeout_seconds: How long a call may take; then it is in doubt.
        abandon_after_seconds: How long an undo waits for a call that was left behind in its
            thread after its timeout; None for 60.
        probe: `(data)` or `(data, context)`: tells what became of a call whose outcome is unknown;
            returns `Done`, `NotDone` or `Unknown`.
        probe_retry: How often it is asked again while it answers `Unknown`.
        verify: `(data)` or `(data, context)`: looks, after the undo, whether anything is left;
            returns `Clean`, `Residue` or `Unknown`.
        verify_retry: How often it is asked again while it answers `Unknown`.
    """

    name: str
    handler: Handler
    compensating_action: str | None = None
    idempotent: bool = False
    on_unknown: UnknownPolicy | None = None
    effect: Literal["none"] | None = None
    in_doubt_on: tuple[type[BaseException], ...] = ()
    is_plain: bool = False
    retry: RetryPolicy | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    timeout_seconds: float | None = None
    abandon_after_seconds: float | None = None
    probe: Handler | None = None
    probe_retry: RetryPolicy | None = None
    verify: Handler | None = None
    verify_retry: RetryPolicy | None = None


_UNDECLARED = Action("", print)


class Callee(NamedTuple):
    """Hold a handler that was looked at once, so that a call need not look again.

    Args:
        action: The action that it belongs to.
        handler: The function.
        context_parameter: The name of the parameter that takes the context, if there is one.
        is_async: True where calling it gives a coroutine for certain.
        takes_name: True where it is given the action's name as well as the data.
    """

    action: Action
    handler: Handler
    context_parameter: str | None
    is_async: bool
    takes_name: bool = True


class ActionRegistry:
    """Hold the actions of one process, by name."""

    def __init__(self) -> None:
        self._callees: dict[str, Callee] = {}
        self._asked: dict[tuple[Operation, str], Callee] = {}
        self._policies: dict[tuple[str, str | None], Policy] = {}

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
        _check_policies(action)
        callee = _looked_at(action, action.handler, "handler")
        asked: tuple[tuple[Operation, Handler | None], ...] = (
            ("probe", action.probe),
            ("verification", action.verify),
        )
        found = {
            operation: _looked_at(action, handler, operation)
            for operation, handler in asked
            if handler is not None
        }
        self._callees[action.name] = callee
        # Why a new one: whoever looks a policy up meanwhile keeps the old one out of it.
        self._policies = {}
        for operation, _handler in asked:
            self._asked.pop((operation, action.name), None)
            if operation in found:
                self._asked[operation, action.name] = found[operation]

    def get(self, name: str | None) -> Callee | None:
        """Return the action of this name, ready to be called; None where there is none."""
        return self._callees.get(name) if name is not None else None

    def find(self, operation: Operation, step: StepDefinition) -> Callee | None:
        """Return what makes one of a step's four calls; None where it is not here."""
        if operation == "action":
            return self._callees.get(step.action)
        if operation == "compensation":
            return self.get(step.compensating_action)
        return self._asked.get((operation, step.action))

    def policy(self, action: str, compensating_action: str | None) -> Policy:
        """Return what an action and the one that undoes it declare, as it is journaled."""
        policies, pair = self._policies, (action, compensating_action)
        known = policies.get(pair)
        if known is None:
            did, undid = self.get(action), self.get(compensating_action)
            known = policy_of(did and did.action, undid and undid.action)
            # Why only for those that are here: names may come from agents, and have no end.
            if did is not None and (undid is not None or compensating_action is None):
                policies[pair] = known
        return known

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


def policy_of(action: Action | None, undo: Action | None) -> Policy:
    """Return what a step's action and its compensating action declare, as it is journaled."""
    if action is None and undo is None:
        return NO_POLICY
    did, undid = action or _UNDECLARED, undo or _UNDECLARED
    policy = Policy(
        _journaled(did.retry),
        did.timeout_seconds,
        did.abandon_after_seconds,
        did.probe is not None,
        _journaled(did.probe_retry),
        did.verify is not None,
        _journaled(did.verify_retry),
        undid.idempotent,
        _journaled(undid.retry),
        undid.timeout_seconds,
    )
    return NO_POLICY if policy == NO_POLICY else policy


def _journaled(retry: RetryPolicy | None) -> Retry | None:
    return None if retry is None else journaled_retry(retry)


def journaled_retry(retry: RetryPolicy) -> Retry:
    """Return a retry policy as it is journaled."""
    return Retry(
        retry.attempts_max,
        retry.first_delay_seconds,
        retry.delay_factor,
        retry.delay_seconds_max,
        retry.jitter,
        retry.budget_seconds,
    )


def plain_actions(handlers: Mapping[str, ActionHandler | Handler]) -> list[Action]:
    """Return the seed's mapping of names to handlers as actions."""
    return [Action(name, handler, is_plain=True) for name, handler in handlers.items()]


def _check_choice(name: str, option: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        message = f"{option} of action {name!r} is {value!r}; it must be one of {allowed}."
        raise DefinitionError(message)


def _check_policies(action: Action) -> None:
    for option in ("retry", "probe_retry", "verify_retry"):
        checked_retry(getattr(action, option), f"{option} of action {action.name!r}")
    for option in ("timeout_seconds", "abandon_after_seconds"):
        checked_seconds(getattr(action, option), f"{option} of action {action.name!r}")
    for option in ("in_doubt_on", "retry_on"):
        kinds = getattr(action, option)
        fits = isinstance(kinds, tuple) and all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
        )
        if not fits and not (kinds is None and option == "retry_on"):
            message = (
                f"{option} of action {action.name!r} is {kinds!r:.80}; it must be a tuple of "
                "exception classes, such as (ConnectionError,)."
            )
            raise DefinitionError(message)


def checked_retry(value: object, what: str) -> RetryPolicy | None:
    """Return a retry policy; refuse what is none.

    Raises:
        DefinitionError: It is something else.
    """
    if value is None or isinstance(value, RetryPolicy):
        return value
    message = f"{what} is {value!r:.80}; it must be a RetryPolicy, as RetryPolicy(attempts_max=3)."
    raise DefinitionError(message)


def checked_seconds(value: object, what: str) -> float | None:
    """Return a number of seconds that is positive and not endless, or None.

    Raises:
        DefinitionError: It is something else.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (is_number and 0 < value <= SECONDS_MAX):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    message = f"{what} is {value!r:.80}; it must be a positive number of seconds."
    raise DefinitionError(message)


def _looked_at(action: Action, handler: Handler, what: str) -> Callee:
    takes_name = what == "handler"
    parameter = _context_parameter(action.name, handler, what, takes_name=takes_name)
    called = getattr(handler, "__call__", None)  # noqa: B004 (an object may be async by it)
    is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)
    return Callee(action, handler, parameter, is_async, takes_name)


def _context_parameter(name: str, handler: Handler, what: str, *, takes_name: bool) -> str | None:
    shape = "(action, data" if takes_name else "(data"
    if not callable(handler):
        message = (
            f"the {what} of action {name!r} is {type(handler).__name__}, which cannot be called. "
            f"Give a function {shape})."
        )
        raise DefinitionError(message)
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return None  # Why no error: some builtins have no signature, and can be called.
    parameter = _named_context(handler, signature)
    extra = {parameter: None} if parameter else {}
    arguments: tuple[object, ...] = ("action", {}) if takes_name else ({},)
    try:
        signature.bind(*arguments, **extra)
    except TypeError as error:
        message = (
            f"the {what} of action {name!r} has the signature {signature}, which cannot be called "
            f"as {shape}) or {shape}, context): {error}."
        )
        raise DefinitionError(message) from None
    return parameter


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


class RegisteredAction(Generic[P, R]):
    """Be the function that was registered, and take its probe and its verification.

    Args:
        registry: Where it is registered.
        action: As what.
    """

    def __init__(self, registry: ActionRegistry, action: Action) -> None:
        # Order matters: the function may be such an object itself, and lends its attributes.
        functools.update_wrapper(self, action.handler)
        self._registry = registry
        self._action = action

    @property
    def name(self) -> str:
        """What steps call it."""
        return self._action.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function as it is; nothing is journaled."""
        result: R = self._action.handler(*args, **kwargs)
        return result

    def probe(self, function: F) -> F:
        """Register what tells whether a call of this action took effect; use it as a decorator.

        It is called with `(data)` or `(data, context)` and returns `Done(output)`, `NotDone()` or
        `Unknown()`. It is asked before an unknown outcome is run again, undone, or put before a
        person.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(probe=function)
        return function

    def verify(self, function: F) -> F:
        """Register what looks, after the undo, whether anything is left; use it as a decorator.

        It is called with `(data)` or `(data, context)` and returns `Clean()`, `Residue(left)` or
        `Unknown()`.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(verify=function)
        return function

    def _change(self, **changes: Any) -> None:
        action = replace(self._action, **changes)
        self._registry.add(action)
        self._action = action
