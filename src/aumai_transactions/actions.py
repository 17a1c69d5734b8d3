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
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from aumai_transactions.core.definition import (
    NO_POLICY,
    Effect,
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
            the action, `verification` where it looks whether the undo left nothing,
            `confirmation` where it makes final what was only tried, `reread` where it looks whether
            what was read still holds.
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
        output: In every operation but the action itself: what the action returned.
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
        effect: `none` where it changes nothing outside, so that nothing is to undo; `irreversible`
            where nothing can undo it.
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
        confirming_action: What makes it final after the commit point, where this action only
            tries; `compensating_action` then cancels.
        reread: `(data)` or `(data, context)`: tells, before the commit point, whether what the
            action had read (`context.output`) still holds; returns True or False.
        requires_approval: True where a person must allow it; or a function of `(data)` that says so
            for this data.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
        identity: The keys of its data by which a restarted program's step is found again; None
            for all of them.
        once: True where the same step, asked for again in one transaction, is not carried out
            again, but answered with what it returned.
    """

    name: str
    handler: Handler
    compensating_action: str | None = None
    idempotent: bool = False
    on_unknown: UnknownPolicy | None = None
    effect: Effect | None = None
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
    confirming_action: str | None = None
    reread: Handler | None = None
    requires_approval: bool | Callable[[dict[str, Any]], bool] = False
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
    identity: tuple[str, ...] | None = None
    once: bool = False


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
    """Hold the actions of one process, by name.

    Args:
        fallback: Where those are looked for that are not here.
    """

    def __init__(self, fallback: ActionRegistry | None = None) -> None:
        self._fallback = fallback
        self._callees: dict[str, Callee] = {}
        self._asked: dict[tuple[Operation, str], Callee] = {}
        self._policies: dict[tuple[str, str | None, str | None], Policy] = {}

    def add(self, action: Action) -> None:
        """Register an action; one of the same name is replaced.

        Raises:
            DefinitionError: The handler cannot be called as a handler is called.
            InvalidData: The name is empty or not text.
        """
        checked_name(action.name, "action name")
        if action.compensating_action is not None:
            checked_name(action.compensating_action, f"compensating_action of {action.name!r}")
        if action.confirming_action is not None:
            checked_name(action.confirming_action, f"confirming_action of {action.name!r}")
        _check_choice(action.name, "on_unknown", action.on_unknown, ("compensate", "ask", None))
        _check_choice(action.name, "effect", action.effect, ("none", "irreversible", None))
        _check_policies(action)
        callee = _looked_at(action, action.handler, "handler")
        asked: tuple[tuple[Operation, Handler | None], ...] = (
            ("probe", action.probe),
            ("verification", action.verify),
            ("reread", action.reread),
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
        if name is None:
            return None
        found = self._callees.get(name)
        if found is None and self._fallback is not None:
            return self._fallback.get(name)
        return found

    def find(self, operation: Operation, step: StepDefinition) -> Callee | None:
        """Return what makes one of a step's calls; None where it is not here."""
        if operation == "action":
            return self._callees.get(step.action) or self.get(step.action)
        if operation == "compensation":
            return self.get(step.compensating_action)
        if operation == "confirmation":
            return self.get(step.confirming_action)
        found = self._asked.get((operation, step.action))
        if found is None and self._fallback is not None and step.action not in self._callees:
            return self._fallback.find(operation, step)
        return found

    def policy(
        self, action: str, compensating_action: str | None, confirming_action: str | None = None
    ) -> Policy:
        """Return what an action and those that undo and confirm it declare, as it is journaled."""
        policies, names = self._policies, (action, compensating_action, confirming_action)
        known = policies.get(names)
        if known is None:
            callees = [self.get(name) for name in names]
            known = policy_of(*(callee and callee.action for callee in callees))
            # Why only for those that are here: names may come from agents, and have no end.
            # And not for those of the fallback, which may be replaced there.
            if all(name in self._callees or name is None for name in names):
                policies[names] = known
        return known

    def is_idempotent(self, name: str) -> bool | None:
        """Tell whether an action is declared idempotent; None where it is not here."""
        callee = self.get(name)
        return None if callee is None else callee.action.idempotent

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that have no handler here, each once, in order."""
        return [name for name in dict.fromkeys(names) if self.get(name) is None]

    def __iter__(self) -> Iterator[Action]:
        """Yield every action, those of the fallback last."""
        for callee in self._callees.values():
            yield callee.action
        for action in self._fallback or ():
            if action.name not in self._callees:
                yield action

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a handler of this name."""
        return isinstance(name, str) and self.get(name) is not None


DECORATED = ActionRegistry()
"""The actions of functions decorated with `@step`: every manager of the process has them."""


class FunctionName(NamedTuple):
    """Hold the name that a function has by itself.

    Args:
        name: `module:qualname`.
        is_stable: True where another process finds the same function by it.
    """

    name: str
    is_stable: bool


def name_of(function: Callable[..., Any]) -> FunctionName:
    """Return the name that a function has by itself.

    Raises:
        DefinitionError: It has none.
    """
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if module is None or qualname is None:
        message = f"{function!r:.80} has no name of its own. Register it under a name."
        raise DefinitionError(message)
    return FunctionName(f"{module}:{qualname}", module != "__main__" and "<" not in qualname)


def policy_of(action: Action | None, undo: Action | None, confirm: Action | None = None) -> Policy:
    """Return what a step's action, its undo and its confirmation declare, as it is journaled."""
    if action is None and undo is None and confirm is None:
        return NO_POLICY
    did, undid = action or _UNDECLARED, undo or _UNDECLARED
    confirms = confirm or _UNDECLARED
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
        did.reread is not None,
        _journaled(confirms.retry),
        confirms.timeout_seconds,
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
    for option in (
        "timeout_seconds",
        "abandon_after_seconds",
        "approval_timeout_seconds",
        "undo_within_seconds",
    ):
        checked_seconds(getattr(action, option), f"{option} of action {action.name!r}")
    approval: object = action.requires_approval
    if not isinstance(approval, bool) and not callable(approval):
        message = (
            f"requires_approval of action {action.name!r} is {approval!r:.80}; it must be True, "
            "False, or a function of the step's data that says so."
        )
        raise DefinitionError(message)
    identity: object = action.identity
    is_text = isinstance(identity, tuple) and all(isinstance(key, str) for key in identity)
    if identity is not None and not is_text:
        message = (
            f"identity of action {action.name!r} is {identity!r:.80}; it must be a tuple of keys "
            'of its data, such as ("order_id",).'
        )
        raise DefinitionError(message)
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

    def reread(self, function: F) -> F:
        """Register what tells, before the commit point, whether what was read still holds.

        It is called with `(data)` or `(data, context)`, where `context.output` is what had been
        read, and returns True or False. False, or an exception, rolls the transaction back
        (`ReadConflict`). Use it as a decorator.

        Raises:
            DefinitionError: It cannot be called so.
        """
        self._change(reread=function)
        return function

    def _change(self, **changes: Any) -> None:
        action = replace(self._action, **changes)
        self._registry.add(action)
        self._action = action
