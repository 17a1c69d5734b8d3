"""Whether an action can be what it is declared to be.

Owns: the checks of declarations and of handlers' signatures.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any, NamedTuple

from aumai_transactions.actions.declaration import Action, Handler, StepContext
from aumai_transactions.core.values import is_one_of, shown
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import SECONDS_MAX, Resource, RetryPolicy


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


def check_choice(name: str, option: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse an option of an action that is none of its choices."""
    if not is_one_of(value, choices):
        allowed = ", ".join(repr(choice) for choice in choices)
        message = f"{option} of action {name!r} is {shown(value)}; it must be one of {allowed}."
        raise DefinitionError(message)


def check_policies(action: Action) -> None:
    """Refuse an action whose policies, times or exceptions cannot be."""
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
            f"requires_approval of action {action.name!r} is {shown(approval)}; it must be True, "
            "False, or a function of the step's data that says so."
        )
        raise DefinitionError(message)
    identity: object = action.identity
    is_text = isinstance(identity, tuple) and all(isinstance(key, str) for key in identity)
    if identity is not None and not is_text:
        message = (
            f"identity of action {action.name!r} is {shown(identity)}; it must be a tuple of keys "
            'of its data, such as ("order_id",).'
        )
        raise DefinitionError(message)
    redact: object = action.redact
    if not isinstance(redact, tuple) or not all(isinstance(key, str) for key in redact):
        message = (
            f"redact of action {action.name!r} is {shown(redact)}; it must be a tuple of keys of "
            'its data or its output, such as ("card_number",).'
        )
        raise DefinitionError(message)
    check_resources(action)
    for option in ("in_doubt_on", "retry_on"):
        kinds = getattr(action, option)
        fits = isinstance(kinds, tuple) and all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
        )
        if not fits and not (kinds is None and option == "retry_on"):
            message = (
                f"{option} of action {action.name!r} is {shown(kinds)}; it must be a tuple of "
                "exception classes, such as (ConnectionError,)."
            )
            raise DefinitionError(message)


def check_resources(action: Action) -> None:
    """Refuse what cannot say what an action uses."""
    resources: object = action.resources
    if resources is None or callable(resources):
        return
    is_list = isinstance(resources, (list, tuple))
    if not is_list or not all(isinstance(item, (str, Resource)) for item in resources):  # type: ignore[attr-defined]
        message = (
            f"resources of action {action.name!r} is {shown(resources)}; it must be a list of "
            'names and Resource objects, such as ["account:{account}"], or a function of the data '
            "that returns one."
        )
        raise DefinitionError(message)


def checked_retry(value: object, what: str) -> RetryPolicy | None:
    """Return a retry policy; refuse what is none.

    Raises:
        DefinitionError: It is something else.
    """
    if value is None or isinstance(value, RetryPolicy):
        return value
    message = f"{what} is {shown(value)}; it must be a RetryPolicy, as RetryPolicy(attempts_max=3)."
    raise DefinitionError(message)


def checked_seconds(value: object, what: str) -> float | None:
    """Return a number of seconds that is positive and not endless, or None.

    Raises:
        DefinitionError: It is something else.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (is_number and 0 < value <= SECONDS_MAX):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    message = (
        f"{what} is {shown(value)}; it must be a positive number of seconds, at most "
        f"{SECONDS_MAX:,}."
    )
    raise DefinitionError(message)


def looked_at(action: Action, handler: Handler, what: str) -> Callee:
    """Return a handler that was looked at once; refuse one that cannot be called."""
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
