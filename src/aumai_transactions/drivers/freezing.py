"""How the caller's object becomes a definition.

Owns: the check of everything that a caller may have put into a pending transaction, at the
moment when it is frozen into the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from aumai_transactions.actions import (
    Action,
    checked_retry,
    checked_seconds,
    journaled_retry,
)
from aumai_transactions.core.definition import Definition, Policy, Reference, StepDefinition
from aumai_transactions.core.masking import MARK
from aumai_transactions.core.references import pointer_to
from aumai_transactions.core.shapes import check_shape
from aumai_transactions.core.states import (
    PENDING,
)
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import (
    DEPTH_MAX,
    INTEGER_MAX,
    checked_name,
    checked_note,
    checked_object,
    clone,
    is_one_of,
    shown,
)
from aumai_transactions.credentials import checked_secret_name
from aumai_transactions.drivers.resources import resources_of
from aumai_transactions.errors import DefinitionError, InvalidData, InvalidTransactionState
from aumai_transactions.models import (
    JsonType,
    Output,
    OutputReference,
    SecretRef,
    Transaction,
    TransactionState,
    TransactionStep,
)

if TYPE_CHECKING:
    from aumai_transactions.actions import ActionRegistry

STEPS_MAX = 10_000
METADATA_MAX = 50
VALUES_MAX = 200_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNDECLARED = Action("", print)

BeforeRecord = Callable[[TransactionStep], "dict[str, Any]"]
"""Given a step before it is journaled, return the data to journal and to act on instead."""


def checked_timeout(value: object) -> int | float:
    """Return a timeout in seconds that is a positive finite number.

    Raises:
        DefinitionError: It is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        message = f"timeout_seconds must be a number of seconds, not {shown(value)}."
        raise DefinitionError(message)
    try:
        fits = math.isfinite(value) and value > 0
    except OverflowError:
        message = "timeout_seconds must be positive and finite; this number is beyond every clock."
        raise DefinitionError(message) from None
    if not fits:
        message = f"timeout_seconds must be positive and finite, not {shown(value)}."
        raise DefinitionError(message)
    # Why a float then: a store keeps whole numbers of 64 bits.
    return value if value <= INTEGER_MAX else float(value)


def frozen(
    transaction: Transaction, registry: ActionRegistry, before_record: BeforeRecord | None
) -> Definition:
    """Return the definition that a pending transaction stands for; nothing in it is shared.

    Raises:
        InvalidTransactionState: Its state was edited by hand.
        DefinitionError: A timeout, a time, or the number of steps cannot be.
        InvalidData: A name or a value cannot be written to the journal; names the place.
    """
    if transaction.state is not PENDING:
        raise InvalidTransactionState(
            transaction.transaction_id,
            _shown_state(transaction.state),
            "carry out",
            "Its `state` was edited by hand; only the manager changes it.",
        )
    timeout = checked_timeout(transaction.timeout_seconds)
    created_at = _checked_instant(transaction.created_at, transaction.transaction_id)
    checked_choices(transaction)
    if len(transaction.steps) > STEPS_MAX:
        message = (
            f"transaction {transaction.transaction_id} has {len(transaction.steps):,} steps, more "
            f"than the {STEPS_MAX:,} allowed. Split it."
        )
        raise DefinitionError(message)
    steps = tuple(
        [
            frozen_step(step, index, registry, before_record)
            for index, step in enumerate(transaction.steps)
        ]
    )
    definition = Definition(
        created_at=created_at,
        timeout_seconds=timeout,
        steps=steps,
        timeout_scope=transaction.timeout_scope,
        on_crash=transaction.on_crash,
        on_compensation_failure=transaction.on_compensation_failure,
        actions=checked_object(transaction.actions, "actions") if transaction.actions else None,
        name=transaction.name,
        key=transaction.idempotency_key,
        shape=transaction.shape,
        parallel_compensation=transaction.parallel_compensation,
        allow_irreversible_first=transaction.allow_irreversible_first,
        resume_within_seconds=transaction.resume_within_seconds,
        on_undo_window=transaction.on_undo_window,
        isolation=transaction.isolation,
        # Why a float: it is read back as one, and 30 is no other plan than 30.0.
        lock_timeout_seconds=float(transaction.lock_timeout_seconds),
        release_outstanding_locks=transaction.release_outstanding_locks,
        metadata=checked_metadata(transaction.metadata) or None,
        crashes_max=checked_count(transaction.crashes_max, "crashes_max"),
    )
    check_shape(definition, transaction.transaction_id, registry.is_idempotent)
    return definition


def _shown_state(state: object) -> str:
    return state.value if isinstance(state, TransactionState) else shown(state)


def _checked_instant(value: object, transaction_id: str) -> int:
    """Return an aware datetime as microseconds since 1970 UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        message = (
            f"created_at of transaction {transaction_id} must be a datetime with a time zone, not "
            f"{shown(value)}. Use datetime.now(timezone.utc)."
        )
        raise DefinitionError(message)
    try:
        microseconds = (value - _EPOCH) // _MICROSECOND
        is_shown = value.tzinfo is UTC or instant(microseconds) == value
    except (OverflowError, ValueError):
        microseconds, is_shown = 0, False
    if not is_shown:
        message = (
            f"created_at of transaction {transaction_id} is {value}, which is no time in UTC "
            "that a clock can show."
        )
        raise DefinitionError(message) from None
    return microseconds


CHOICES: dict[str, tuple[object, ...]] = {
    "timeout_scope": ("start", "transaction"),
    "on_crash": ("resume", "roll_back", "wait", None),
    "on_compensation_failure": ("continue", "halt"),
    "parallel_compensation": (False, True),
    "allow_irreversible_first": (False, True),
    "on_undo_window": ("warn", "roll_back"),
    "isolation": ("none", "exclusive", "validated"),
    "release_outstanding_locks": (False, True),
}

_chosen = itemgetter(*CHOICES)
_USUAL = ("start", None, "continue", False, False, "warn")


def checked_choices(transaction: Transaction) -> None:
    """Refuse an option or a name of a transaction that cannot be.

    Raises:
        DefinitionError: An option has a value that is none of its choices.
        InvalidData: The name is not text.
    """
    given = _chosen(transaction.__dict__)
    if given != _USUAL:  # Nearly always it is.
        for (option, choices), value in zip(CHOICES.items(), given, strict=True):
            if not is_one_of(value, choices):
                named = ", ".join(repr(choice) for choice in choices)
                message = f"{option} must be one of {named}, not {shown(value)}."
                raise DefinitionError(message)
    checked_seconds(transaction.resume_within_seconds, "resume_within_seconds")
    if checked_seconds(transaction.lock_timeout_seconds, "lock_timeout_seconds") is None:
        message = "lock_timeout_seconds must be a positive number of seconds, not None."
        raise DefinitionError(message)
    if transaction.name is not None:
        checked_name(transaction.name, "name")
    if transaction.idempotency_key is not None:
        checked_name(transaction.idempotency_key, "idempotency_key")


def checked_metadata(value: object) -> dict[str, str]:
    """Return what an author has noted: text by name.

    Raises:
        InvalidData: It is something else, or too much.
    """
    if not isinstance(value, dict) or len(value) > METADATA_MAX:
        problem = f"must be an object of at most {METADATA_MAX} texts, such as {{'tenant': 'a'}}."
        raise InvalidData("metadata", problem)
    return {
        checked_name(key, "metadata"): checked_note(text, f"metadata.{key}")
        for key, text in value.items()
    }


def checked_count(value: object, what: str) -> int:
    """Return a whole number from 1 to 1,000,000.

    Raises:
        DefinitionError: It is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000:
        return value
    message = f"{what} must be a whole number from 1 to 1,000,000, not {shown(value)}."
    raise DefinitionError(message)


def frozen_step(
    step: TransactionStep,
    place: str | int,
    registry: ActionRegistry,
    before_record: BeforeRecord | None,
) -> StepDefinition:
    """Return the definition that a step stands for; nothing in it is shared.

    Args:
        step: The step.
        place: How to name it in an error: as that, or by its index in the transaction.
        registry: The actions.
        before_record: The user's hook that cleans its data.

    Raises:
        DefinitionError: An option cannot be.
        InvalidData: A name or a value cannot be written to the journal; names the place.
    """
    if not isinstance(step, TransactionStep):
        message = f"{_named(place)} is {type(step).__name__}. Add steps with add_step()."
        raise DefinitionError(message)
    for option in ("action", "confirming_action"):
        # Why before the look: what is no text may be no key at all.
        name = getattr(step, option)
        if type(name) is not str and (name is not None or option == "action"):
            checked_name(name, f"{_named(place)}.{option}")
    callee = registry.get(step.action)
    action = callee.action if callee else _UNDECLARED
    if step.compensating_action is None:
        # Why here as well as in add_step: the action may have been registered since, or in
        # another process.
        step.compensating_action = action.compensating_action
    compensating, after = step.compensating_action, step.after
    data = step.data if before_record is None else before_record(step)
    try:
        definition = StepDefinition(
            checked_name(step.step_id, "step_id"),
            checked_name(step.agent_id, "agent_id"),
            checked_name(step.action, "action"),
            checked_object(data, "data"),
            None if compensating is None else checked_name(compensating, "compensating_action"),
            None if after is None else _after(after),
            _references(step) if step.references else (),
            action.idempotent,
            action.on_unknown,
            action.effect,
            _policy(step, registry, action),
        )
    except InvalidData as error:
        raise InvalidData(f"{_named(place)}.{error.path}", error.problem) from None
    if step.secrets:
        places = _listed(step.secrets, "secrets", "places")
        secrets = tuple([checked_note(pointer, "secrets") for pointer in places])
        definition = definition._replace(secrets=secrets)
    if action.redact:
        _refuse_in_clear(definition, action, _named(place))
    if _is_plain(step, action):
        return definition
    return _with_shape(definition, step, action)


def _refuse_in_clear(definition: StepDefinition, action: Action, place: str) -> None:
    """Refuse data that would stand in the journal, and must not.

    Raises:
        DefinitionError: A field that the action redacts is given as it is.
    """
    # Why refused, and not painted over: an undo, or another attempt after a crash, needs it.
    for key in action.redact:
        if definition.data.get(key) is not None and f"/{key}" not in definition.secrets:
            message = (
                f"{place}.data.{key} is a secret of action {action.name!r}, and would stand in the "
                'journal. Give its name instead: SecretRef("env:NAME").'
            )
            raise DefinitionError(message)


def _after(value: object) -> tuple[str, ...]:
    return tuple([checked_name(name, "after") for name in _listed(value, "after", "step ids")])


def _listed(value: object, what: str, of: str) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return value
    raise InvalidData(what, f"must be a list of {of}, not {shown(value)}.")


def _named(place: str | int) -> str:
    return place if isinstance(place, str) else f"steps[{place}]"


def _is_plain(step: TransactionStep, action: Action) -> bool:
    """True where neither a step nor its action says more than what is done and what undoes it."""
    return not (
        step.pivot
        or step.on_commit
        or step.requires_approval
        or step.confirming_action
        or step.approval_timeout_seconds
        or step.undo_within_seconds
        or step.resources
        or action.resources
        or action.confirming_action
        or action.requires_approval
        or action.undo_within_seconds
    )


def _with_shape(
    definition: StepDefinition, step: TransactionStep, action: Action
) -> StepDefinition:
    """Return a definition with what is said about commit point, approval, undo and resources."""
    for option in ("pivot", "on_commit"):
        if not isinstance(getattr(step, option), bool):
            message = f"{option} of step {step.step_id!r} must be True or False."
            raise DefinitionError(message)
    requires = _requires_approval(definition, step, action)
    timeout = step.approval_timeout_seconds
    if timeout is None and requires:
        timeout = action.approval_timeout_seconds
    window = step.undo_within_seconds
    window = action.undo_within_seconds if window is None else window
    confirming = step.confirming_action or action.confirming_action
    if confirming is not None:
        checked_name(confirming, "confirming_action")
        step.confirming_action = confirming
    return definition._replace(
        pivot=step.pivot,
        on_commit=step.on_commit,
        confirming_action=confirming,
        requires_approval=requires,
        approval_timeout_seconds=checked_seconds(timeout, "approval_timeout_seconds"),
        undo_within_seconds=checked_seconds(window, "undo_within_seconds"),
        resources=resources_of(definition, step, action),
    )


def _requires_approval(definition: StepDefinition, step: TransactionStep, action: Action) -> bool:
    if step.requires_approval is not None:
        return bool(step.requires_approval)
    policy = action.requires_approval
    if isinstance(policy, bool):
        return policy
    if definition.references:
        return True  # What the data will be is not known yet: better one question too many.
    # Why a copy: what the function does to its data must not change what is journaled.
    return bool(policy(clone(definition.data)))


def _policy(step: TransactionStep, registry: ActionRegistry, action: Action) -> Policy:
    confirming = step.confirming_action or action.confirming_action
    policy = registry.policy(step.action, step.compensating_action, confirming)
    if step.retry is not None:
        checked_retry(step.retry, "retry")
        policy = policy._replace(retry=journaled_retry(step.retry))
    if step.timeout_seconds is not None:
        seconds = checked_seconds(step.timeout_seconds, "timeout_seconds")
        policy = policy._replace(timeout_seconds=seconds)
    return policy


def _references(step: TransactionStep) -> tuple[Reference, ...]:
    found = []
    for item in _listed(step.references, "references", "OutputReference objects"):
        if not isinstance(item, OutputReference):
            raise InvalidData("references", "must hold OutputReference objects only.")
        if not {type(key) for key in item.into} <= {str, int}:
            raise InvalidData("references", "`into` must hold text and whole numbers only.")
        step_id = checked_name(item.step_id, "references")
        at = checked_note(item.at, "references")
        into = tuple(checked_note(k, "references") if isinstance(k, str) else k for k in item.into)
        found.append(Reference(into, step_id, at, checked_type(item.type)))
    return tuple(found)


def checked_type(value: object) -> JsonType | None:
    """Return the name of a JSON type, or None.

    Raises:
        DefinitionError: It is something else.
    """
    names = get_args(JsonType)
    if value is None or is_one_of(value, names):
        return value  # type: ignore[return-value]
    message = f"the type of an output must be one of {', '.join(names)}, not {shown(value)}."
    raise DefinitionError(message)


class GivenData(NamedTuple):
    """Hold a step's data as it was given.

    Args:
        data: A checked copy; null where an `Output` stood, and a name where a secret did.
        references: Where outputs belong.
        secrets: JSON pointers to where secrets belong.
    """

    data: dict[str, Any]
    references: list[OutputReference]
    secrets: list[str]


def data_of(value: object) -> GivenData:
    """Return a checked copy of a step's data, and the references that stood in it.

    Raises:
        InvalidData: It is no JSON object; names the place.
        DefinitionError: The name of a secret cannot be one.
    """
    try:
        return GivenData(checked_object(value, "data"), [], [])
    except InvalidData:
        found = GivenData({}, [], [])
        # Why a budget: an object that holds another one many times over would be walked for ever.
        left = [VALUES_MAX]
        return found._replace(data=checked_object(_plain(value, (), found, left), "data"))


def _plain(value: object, into: tuple[str | int, ...], found: GivenData, left: list[int]) -> object:
    left[0] -= 1
    if isinstance(value, SecretRef):
        found.secrets.append(pointer_to(into))
        return {MARK: checked_secret_name(value.name)}
    if isinstance(value, Output):
        step_id, at = (
            checked_name(value.step_id, "output.step_id"),
            checked_note(value.at, "output.at"),
        )
        kind = checked_type(value.type)
        reference = OutputReference(into=list(into), step_id=step_id, at=at, type=kind)
        found.references.append(reference)
        return None
    if len(into) > DEPTH_MAX or left[0] < 0:
        return value
    if isinstance(value, dict):
        return {
            key: _plain(item, (*into, key), found, left) if type(key) is str else item
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*into, at), found, left) for at, item in enumerate(value)]
    return value
