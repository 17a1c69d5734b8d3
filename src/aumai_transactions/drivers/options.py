"""What `begin`, `commit` and `action` can be told by name.

Owns: the check of those options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from aumai_transactions.actions import Handler, checked_seconds
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.freezing import CHOICES
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import SECONDS_MAX, RetryPolicy, TransactionStep

_NAMES = ("name", "idempotency_key")


class BeginOptions(TypedDict, total=False):
    """What `begin` and `execute` take besides the timeout; see `Transaction`."""

    timeout_scope: Literal["start", "transaction"]
    on_crash: Literal["resume", "roll_back"] | None
    on_compensation_failure: Literal["continue", "halt"]
    name: str | None
    idempotency_key: str | None
    parallel_compensation: bool
    allow_irreversible_first: bool
    on_undo_window: Literal["warn", "roll_back"]


class BlockOptions(TypedDict, total=False):
    """What `transaction` takes besides the timeout; see `Transaction`.

    Args:
        accepts_requests: True to carry out the steps as well that other processes ask for with
            `request_step`, in a thread or a task of its own.
    """

    accepts_requests: bool
    on_crash: Literal["roll_back", "resume", "wait"] | None
    resume_within_seconds: float | None
    on_compensation_failure: Literal["continue", "halt"]
    name: str | None
    parallel_compensation: bool
    allow_irreversible_first: bool
    on_undo_window: Literal["warn", "roll_back"]


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
    _check(options, BeginOptions.__annotations__, "begin")
    return options


def checked_block_options(options: BlockOptions) -> BlockOptions:
    """Return the options of `transaction`; refuse a name or a value that is none of them.

    Raises:
        DefinitionError: An option is unknown, or has a value that cannot be.
        InvalidData: The name is not text.
    """
    _check(options, BlockOptions.__annotations__, "transaction")
    within = checked_seconds(options.get("resume_within_seconds"), "resume_within_seconds")
    if (options.get("on_crash") == "wait") != (within is not None):
        message = (
            'on_crash="wait" and resume_within_seconds go together: the one says that a program '
            "may go on with it after a crash, the other until when."
        )
        raise DefinitionError(message)
    return options


def _check(options: Mapping[str, Any], known: Mapping[str, Any], call: str) -> None:
    for option, value in options.items():
        if option not in known:
            names = ", ".join(known)
            message = f"{call}() has no option {option!r}. It has timeout_seconds, {names}."
            raise DefinitionError(message)
        if option in _NAMES:
            if value is not None:
                checked_name(value, option)
            continue
        choices = CHOICES.get(option)
        if choices is not None and value not in choices:
            named = ", ".join(repr(choice) for choice in choices)
            message = f"{option} must be one of {named}, not {value!r:.80}."
            raise DefinitionError(message)


class StepOptions(TypedDict, total=False):
    """What `add_step`, `register` and `execute` take besides agent, action, data and undo.

    Args:
        retry: How often the action is tried again when it was not done.
        timeout_seconds: How long a call of it may take.
        after: The steps that must have succeeded before, as steps or ids. Planned: omitted means
            all added before, an empty list none.
        pivot: True where its success is the commit point.
        on_commit: True to hold it until everything else has succeeded.
        confirming_action: What makes it final after the commit point (a name or a function).
        requires_approval: True where a person must allow it.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
    """

    retry: RetryPolicy | None
    timeout_seconds: float | None
    after: Sequence[TransactionStep | str] | None
    pivot: bool
    on_commit: bool
    confirming_action: str | Handler | None
    requires_approval: bool | None
    approval_timeout_seconds: float | None
    undo_within_seconds: float | None


def checked_step_options(options: Mapping[str, Any], call: str) -> None:
    """Refuse a name that is no option of a step.

    Raises:
        DefinitionError: An option is unknown.
    """
    for option in options:
        if option not in StepOptions.__annotations__:
            known = ", ".join(StepOptions.__annotations__)
            message = f"{call}() has no option {option!r}. It has {known}."
            raise DefinitionError(message)


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
    reread: Handler | None
    requires_approval: bool | Callable[[dict[str, Any]], bool]
    approval_timeout_seconds: float | None
    undo_within_seconds: float | None
    identity: tuple[str, ...] | None
    once: bool


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


def checked_parallel(value: object) -> int:
    """Return how many steps of one transaction may run at once.

    Raises:
        DefinitionError: It is no whole number from 1 to 1,000.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000:
        return value
    message = f"parallel_max must be a whole number from 1 to 1,000, not {value!r:.80}."
    raise DefinitionError(message)


def checked_after(value: object) -> list[str] | None:
    """Return the ids of the steps to wait for.

    Raises:
        DefinitionError: It is no list of steps and ids.
    """
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        names = [item.step_id if isinstance(item, TransactionStep) else item for item in value]
        if all(isinstance(name, str) for name in names):
            return names
    message = f"after must be a list of steps or of their ids, not {value!r:.80}."
    raise DefinitionError(message)
