"""What `begin`, `commit` and `action` can be told by name.

Owns: the check of those options.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from aumai_transactions.actions import Handler
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.freezing import CHOICES
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import SECONDS_MAX, RetryPolicy

_NAMES = ("name", "idempotency_key")


class BeginOptions(TypedDict, total=False):
    """What `begin` and `execute` take besides the timeout; see `Transaction`."""

    timeout_scope: Literal["start", "transaction"]
    on_crash: Literal["resume", "roll_back"] | None
    on_compensation_failure: Literal["continue", "halt"]
    name: str | None
    idempotency_key: str | None


def checked_wait(seconds: object) -> float:
    """Return how long to wait; refuse what is no number of seconds.

    Raises:
        DefinitionError: It is negative, endless, or no number.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 <= seconds <= SECONDS_MAX:  # type: ignore[operator]
        return float(seconds)  # type: ignore[arg-type]
    message = f"how long to wait must be a number of seconds from 0, not {seconds!r:.80}."
    raise DefinitionError(message)


def checked_options(options: BeginOptions) -> BeginOptions:
    """Return the options of `begin`; refuse a name or a value that is none of them.

    Raises:
        DefinitionError: An option is unknown, or has a value that cannot be.
        InvalidData: The name is not text.
    """
    for option, value in options.items():
        if option in _NAMES:
            if value is not None:
                checked_name(value, option)
            continue
        choices = CHOICES.get(option)
        if choices is None:
            known = ", ".join([*CHOICES, *_NAMES])
            message = f"begin() has no option {option!r}. It has timeout_seconds, {known}."
            raise DefinitionError(message)
        if value not in choices:
            named = ", ".join(repr(choice) for choice in choices)
            message = f"{option} must be one of {named}, not {value!r:.80}."
            raise DefinitionError(message)
    return options


class CallOptions(TypedDict, total=False):
    """What `action` takes about calls: how long, how often, and who can be asked; see `Action`."""

    retry: RetryPolicy | None
    retry_on: tuple[type[BaseException], ...] | None
    timeout_seconds: float | None
    abandon_after_seconds: float | None
    probe: Handler | None
    probe_retry: RetryPolicy | None
    verify: Handler | None
    verify_retry: RetryPolicy | None


def checked_call_options(options: CallOptions) -> CallOptions:
    """Return the options of `action`; refuse a name that is none of them.

    Raises:
        DefinitionError: An option is unknown.
    """
    for option in options:
        if option not in CallOptions.__annotations__:
            known = ", ".join(CallOptions.__annotations__)
            message = f"action() has no option {option!r}. Besides its own it has {known}."
            raise DefinitionError(message)
    return options
