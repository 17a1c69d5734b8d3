"""How the caller's object becomes a definition.

Owns: the check of everything that a caller may have put into a pending transaction, at the
moment when it is frozen into the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import Action
from aumai_transactions.core.definition import Definition, Reference, StepDefinition
from aumai_transactions.core.states import (
    PENDING,
)
from aumai_transactions.core.values import INTEGER_MAX, checked_name, checked_object
from aumai_transactions.errors import DefinitionError, InvalidData, InvalidTransactionState
from aumai_transactions.models import Transaction, TransactionStep

if TYPE_CHECKING:
    from aumai_transactions.actions import ActionRegistry

STEPS_MAX = 10_000

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
    created_at = transaction.created_at
    if created_at.tzinfo is None:
        message = (
            f"created_at of transaction {transaction.transaction_id} has no time zone. "
            "Use datetime.now(timezone.utc)."
        )
        raise DefinitionError(message)
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
        created_at=round(created_at.timestamp() * 1_000_000),
        timeout_seconds=timeout,
        steps=steps,
        timeout_scope=transaction.timeout_scope,
        on_crash=transaction.on_crash,
        on_compensation_failure=transaction.on_compensation_failure,
        actions=checked_object(transaction.actions, "actions") if transaction.actions else None,
        name=transaction.name,
    )


def _frozen_step(
    step: TransactionStep, index: int, registry: ActionRegistry, before_record: BeforeRecord | None
) -> StepDefinition:
    data = step.data if before_record is None else before_record(step)
    callee = registry.get(step.action)
    action = callee.action if callee else _UNDECLARED
    compensating = step.compensating_action
    try:
        return StepDefinition(
            checked_name(step.step_id, "step_id"),
            checked_name(step.agent_id, "agent_id"),
            checked_name(step.action, "action"),
            checked_object(data, "data"),
            None if compensating is None else checked_name(compensating, "compensating_action"),
            None if step.after is None else tuple(step.after),
            _references(step) if step.references else (),
            action.idempotent,
            action.on_unknown,
            action.effect,
        )
    except InvalidData as error:
        raise InvalidData(f"steps[{index}].{error.path}", error.problem) from None


def _references(step: TransactionStep) -> tuple[Reference, ...]:
    return tuple(Reference(tuple(item.into), item.step_id, item.at) for item in step.references)
