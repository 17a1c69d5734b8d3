"""What `begin`, `commit` and `action` can be told by name.

Owns: the check of those options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from aumai_transactions.actions import Handler, Resources, checked_retry, checked_seconds
from aumai_transactions.core.outcome import ATTENTIONS
from aumai_transactions.core.states import PENDING
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import checked_name, is_one_of, shown
from aumai_transactions.drivers.freezing import CHOICES, checked_count, checked_metadata
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import (
    CRASHES_MAX,
    LOCK_TIMEOUT_SECONDS,
    SECONDS_MAX,
    Resource,
    RetryPolicy,
    TransactionStep,
)
from aumai_transactions.store import Query

_NAMES = ("name", "idempotency_key")
_SEVERAL = ("states", "agents", "actions", "metadata")
ASKED_MAX = 100
"""How many agents, actions or pairs of metadata a query may name."""


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
    isolation: Literal["none", "exclusive", "validated"]
    lock_timeout_seconds: float
    release_outstanding_locks: bool
    metadata: dict[str, str]
    crashes_max: int


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
    isolation: Literal["none", "exclusive", "validated"]
    lock_timeout_seconds: float
    release_outstanding_locks: bool
    metadata: dict[str, str]
    crashes_max: int


def begun_fields(transaction_id: str, created_at: datetime, timeout: float) -> dict[str, Any]:
    """Return the fields of a new planned transaction, where nothing else is said."""
    return {
        "transaction_id": transaction_id,
        "state": PENDING,
        "steps": [],
        "created_at": created_at,
        "timeout_seconds": timeout,
        "timeout_scope": "start",
        "on_crash": None,
        "on_compensation_failure": "continue",
        "name": None,
        "idempotency_key": None,
        "actions": {},
        "shape": "planned",
        "parallel_compensation": False,
        "allow_irreversible_first": False,
        "resume_within_seconds": None,
        "on_undo_window": "warn",
        "isolation": "exclusive",
        "lock_timeout_seconds": LOCK_TIMEOUT_SECONDS,
        "release_outstanding_locks": False,
        "metadata": {},
        "crashes_max": CRASHES_MAX,
    }


def checked_wait(seconds: object) -> float:
    """Return how long to wait; refuse what is no number of seconds.

    Raises:
        DefinitionError: It is negative, endless, or no number.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if is_number and 0 <= seconds <= SECONDS_MAX:  # type: ignore[operator]
        return float(seconds)  # type: ignore[arg-type]
    message = f"how long to wait must be a number of seconds from 0, not {shown(seconds)}."
    raise DefinitionError(message)


def checked_before(at: object) -> int:
    """Return a time as microseconds since 1970 UTC; 0 for None.

    Raises:
        DefinitionError: It is no time, or does not say in which zone.
    """
    if at is None:
        return 0
    if not isinstance(at, datetime) or at.tzinfo is None:
        message = f"purged_before must be a datetime with a time zone, not {at!r:.80}."
        raise DefinitionError(message)
    return (at - instant(0)) // timedelta(microseconds=1)


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
        if option == "lock_timeout_seconds" and checked_seconds(value, option) is None:
            message = f"{option} must be a positive number of seconds, not None."
            raise DefinitionError(message)
        if option == "metadata":
            checked_metadata(value)
            continue
        if option == "crashes_max":
            checked_count(value, option)
            continue
        choices = CHOICES.get(option)
        if choices is not None and not is_one_of(value, choices):
            named = ", ".join(repr(choice) for choice in choices)
            message = f"{option} must be one of {named}, not {shown(value)}."
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
        resources: What it uses that other transactions may use as well, besides what its action
            says: names and `Resource` objects.
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
    resources: Sequence[str | Resource] | None


def checked_step_options(options: Mapping[str, Any], call: str) -> None:
    """Refuse a name that is no option of a step, and a value that it cannot have.

    Raises:
        DefinitionError: An option is unknown, or cannot be that.
    """
    for option in options:
        if option not in StepOptions.__annotations__:
            known = ", ".join(StepOptions.__annotations__)
            message = f"{call}() has no option {option!r}. It has {known}."
            raise DefinitionError(message)
    checked_retry(options.get("retry"), "retry")
    for option in ("timeout_seconds", "approval_timeout_seconds", "undo_within_seconds"):
        checked_seconds(options.get(option), option)
    for option in ("pivot", "on_commit", "requires_approval"):
        value = options.get(option)
        if not isinstance(value, bool) and value is not None:
            message = f"{option} must be True or False, not {shown(value)}."
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
    resources: Resources | None
    redact: tuple[str, ...]


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
    """Return how many calls of one transaction may be under way at once.

    Raises:
        DefinitionError: It is no whole number from 1 to 1,000.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000:
        return value
    message = f"parallel_max must be a whole number from 1 to 1,000, not {shown(value)}."
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
    message = f"after must be a list of steps or of their ids, not {shown(value)}."
    raise DefinitionError(message)


def check_parts(
    *,
    actions: object,
    store: object,
    clock: object,
    hooks: Mapping[str, object],
    telemetry: object = None,
) -> None:
    """Refuse what a manager cannot be made of.

    Raises:
        DefinitionError: Something is of another kind than it must be; names it.
    """
    if not isinstance(actions, Iterable):
        message = f"actions must be a list of Action objects, not {shown(actions)}."
        raise DefinitionError(message)
    is_store = all(callable(getattr(store, call, None)) for call in ("append", "read", "join"))
    if not (store is None or isinstance(store, (str, os.PathLike)) or is_store):
        message = (
            f"store must be a URL such as 'sqlite:///trips.db', a path, or a store, not "
            f"{shown(store)}."
        )
        raise DefinitionError(message)
    if clock is not None and not callable(getattr(clock, "now", None)):
        raise DefinitionError(f"clock must be a Clock, not {shown(clock)}.")
    if telemetry is not None and not callable(getattr(telemetry, "recorded", None)):
        raise DefinitionError(f"telemetry must be an OpenTelemetry(), not {shown(telemetry)}.")
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            raise DefinitionError(f"{name} must be a function, not {shown(hook)}.")


def checked_query(query: object) -> Query:
    """Return which transactions to list; all where nothing is said.

    Raises:
        DefinitionError: It is no `Query`, or asks for something that cannot be asked.
    """
    if query is None:
        return Query()
    if not isinstance(query, Query):
        raise DefinitionError(f"a query must be a Query, not {shown(query)}.")
    asked: dict[str, Any] = {name: getattr(query, name) for name in _SEVERAL}
    for name, several in asked.items():
        if not isinstance(several, tuple) or len(several) > ASKED_MAX:
            message = f"Query.{name} must be a tuple of at most {ASKED_MAX}, not {shown(several)}."
            raise DefinitionError(message)
    texts: list[Any] = [*query.agents, *query.actions, query.text, query.prefix, query.tenant or ""]
    for pair in asked["metadata"]:
        if not isinstance(pair, tuple) or len(pair) != 2:
            message = f"Query.metadata must hold pairs of key and value, not {shown(pair)}."
            raise DefinitionError(message)
        texts += pair
    for text in texts:
        if not isinstance(text, str) or _has_no_bytes(text):
            raise DefinitionError(f"a Query asks for texts, not for {shown(text)}.")
    unknown = set(query.reasons) - ATTENTIONS
    if unknown:
        message = (
            f"Query.attention is True or some of {', '.join(sorted(ATTENTIONS))}; "
            f"{shown(min(unknown))} is none of them."
        )
        raise DefinitionError(message)
    return query


def _has_no_bytes(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
