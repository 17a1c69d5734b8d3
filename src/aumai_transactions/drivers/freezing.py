"""How the caller's object becomes a definition.

Owns: the check of everything that a caller may have put into a pending transaction, at the
moment when it is frozen into the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import (
    Action,
    checked_retry,
    checked_seconds,
    journaled_retry,
)
from aumai_transactions.core.definition import Definition, Policy, Reference, StepDefinition
from aumai_transactions.core.outcome import instant
from aumai_transactions.core.states import (
    PENDING,
)
from aumai_transactions.core.values import INTEGER_MAX, checked_name, checked_note, checked_object
from aumai_transactions.errors import DefinitionError, InvalidData, InvalidTransactionState
from aumai_transactions.models import OutputReference, Transaction, TransactionStep

if TYPE_CHECKING:
    from aumai_transactions.actions import ActionRegistry

STEPS_MAX = 10_000

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
        message = f"timeout_seconds must be a number of seconds, not {value!r:.80}."
        raise DefinitionError(message)
    try:
        fits = math.isfinite(value) and value > 0
    except OverflowError:
        message = "timeout_seconds must be positive and finite; this number is beyond every clock."
        raise DefinitionError(message) from None
    if not fits:
        message = f"timeout_seconds must be positive and finite, not {value!r:.80}."
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
            str(getattr(transaction.state, "value", transaction.state)),
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
            _frozen_step(step, index, registry, before_record)
            for index, step in enumerate(transaction.steps)
        ]
    )
    return Definition(
        created_at=created_at,
        timeout_seconds=timeout,
        steps=steps,
        timeout_scope=transaction.timeout_scope,
        on_crash=transaction.on_crash,
        on_compensation_failure=transaction.on_compensation_failure,
        actions=checked_object(transaction.actions, "actions") if transaction.actions else None,
        name=transaction.name,
        key=transaction.idempotency_key,
    )


def _checked_instant(value: object, transaction_id: str) -> int:
    """Return an aware datetime as microseconds since 1970 UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        message = (
            f"created_at of transaction {transaction_id} must be a datetime with a time zone, not "
            f"{value!r:.80}. Use datetime.now(timezone.utc)."
        )
        raise DefinitionError(message)
    try:
        microseconds = (value - _EPOCH) // _MICROSECOND
        instant(microseconds)
    except (OverflowError, ValueError):
        message = (
            f"created_at of transaction {transaction_id} is {value}, which is no time in UTC "
            "that a clock can show."
        )
        raise DefinitionError(message) from None
    return microseconds


CHOICES: dict[str, tuple[object, ...]] = {
    "timeout_scope": ("start", "transaction"),
    "on_crash": ("resume", "roll_back", None),
    "on_compensation_failure": ("continue", "halt"),
}


def checked_choices(transaction: Transaction) -> None:
    """Refuse an option or a name of a transaction that cannot be.

    Raises:
        DefinitionError: An option has a value that is none of its choices.
        InvalidData: The name is not text.
    """
    for option, choices in CHOICES.items():
        value = getattr(transaction, option)
        if value not in choices:
            named = ", ".join(repr(choice) for choice in choices)
            message = f"{option} must be one of {named}, not {value!r:.80}."
            raise DefinitionError(message)
    if transaction.name is not None:
        checked_name(transaction.name, "name")
    if transaction.idempotency_key is not None:
        checked_name(transaction.idempotency_key, "idempotency_key")


def _frozen_step(
    step: TransactionStep, index: int, registry: ActionRegistry, before_record: BeforeRecord | None
) -> StepDefinition:
    if not isinstance(step, TransactionStep):
        message = f"steps[{index}] is {type(step).__name__}. Add steps with add_step()."
        raise DefinitionError(message)
    data = step.data if before_record is None else before_record(step)
    callee = registry.get(step.action)
    action = callee.action if callee else _UNDECLARED
    if step.compensating_action is None:
        # Why here as well as in add_step: the action may have been registered since, or in
        # another process.
        step.compensating_action = action.compensating_action
    compensating = step.compensating_action
    try:
        return StepDefinition(
            checked_name(step.step_id, "step_id"),
            checked_name(step.agent_id, "agent_id"),
            checked_name(step.action, "action"),
            checked_object(data, "data"),
            None if compensating is None else checked_name(compensating, "compensating_action"),
            None if step.after is None else tuple(checked_name(i, "after") for i in step.after),
            _references(step) if step.references else (),
            action.idempotent,
            action.on_unknown,
            action.effect,
            _policy(step, registry.policy(step.action, compensating)),
        )
    except InvalidData as error:
        raise InvalidData(f"steps[{index}].{error.path}", error.problem) from None


def _policy(step: TransactionStep, policy: Policy) -> Policy:
    if step.retry is not None:
        checked_retry(step.retry, "retry")
        policy = policy._replace(retry=journaled_retry(step.retry))
    if step.timeout_seconds is not None:
        seconds = checked_seconds(step.timeout_seconds, "timeout_seconds")
        policy = policy._replace(timeout_seconds=seconds)
    return policy


def _references(step: TransactionStep) -> tuple[Reference, ...]:
    found = []
    for item in step.references:
        if not isinstance(item, OutputReference):
            raise InvalidData("references", "must hold OutputReference objects only.")
        if not {type(key) for key in item.into} <= {str, int}:
            raise InvalidData("references", "`into` must hold text and whole numbers only.")
        step_id = checked_name(item.step_id, "references")
        at = checked_note(item.at, "references")
        into = tuple(checked_note(k, "references") if isinstance(k, str) else k for k in item.into)
        found.append(Reference(into, step_id, at))
    return tuple(found)
