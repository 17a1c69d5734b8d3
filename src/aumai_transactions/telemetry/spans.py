"""What the spans of a transaction are called, and what they say.

Owns: the names and attributes of spans. They are written out, and not taken from
OpenTelemetry's package of conventions, which calls every `gen_ai` name deprecated while it moves.
Rules:
  1. Neither the data of a step nor what it returned, and no text of an error, is ever in a span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.calls import attempt_of, name_called
from aumai_transactions.core import entries as kinds
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.outcome import attention_of
from aumai_transactions.core.states import FAILED
from aumai_transactions.telemetry.names import harmless

if TYPE_CHECKING:
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.saga import Saga, SagaStep

Attributes = dict[str, str | bool | int | float]

WORDS: dict[Operation, str] = {
    "action": "execute_tool",
    "compensation": "compensate",
    "probe": "probe",
    "verification": "verify",
    "confirmation": "confirm",
    "reread": "reread",
}
"""What the name of a span begins with."""

STARTS: dict[type[Entry], Operation] = {
    kinds.StepStarted: "action",
    kinds.CompensationStarted: "compensation",
    kinds.ProbeStarted: "probe",
    kinds.VerificationStarted: "verification",
    kinds.ConfirmationStarted: "confirmation",
}
"""Which operation each entry announces."""

ENDS: dict[type[Entry], Operation] = {
    kinds.StepSucceeded: "action",
    kinds.StepFailed: "action",
    kinds.StepInDoubt: "action",
    kinds.CompensationSucceeded: "compensation",
    kinds.CompensationFailed: "compensation",
    kinds.RollbackRevoked: "compensation",
    kinds.ProbeAnswered: "probe",
    kinds.VerificationAnswered: "verification",
    kinds.ConfirmationSucceeded: "confirmation",
    kinds.ConfirmationFailed: "confirmation",
    kinds.RereadAnswered: "reread",
}
"""Which operation each entry is the end of."""

FINAL = (kinds.TransactionCommitted, kinds.TransactionRolledBack, kinds.TransactionExpired)


class End(NamedTuple):
    """Hold how an attempt has ended.

    Args:
        outcome: In one word.
        error_type: What kind of error it was; None where it was none.
        attributes: What its span says besides.
    """

    outcome: str
    error_type: str | None
    attributes: Attributes


def span_name(step: SagaStep, operation: Operation) -> str:
    """Return what the span of a call is called."""
    return f"{WORDS[operation]} {harmless(name_called(step.definition, operation))}"


def whole_name(saga: Saga) -> str:
    """Return what the span of the whole transaction is called."""
    name = saga.plan.name
    return "transaction" if name is None else f"transaction {harmless(name)}"


def transaction_attributes(transaction_id: str, name: str | None) -> Attributes:
    """Return what every span says about its transaction."""
    told: Attributes = {"aumai.transaction.id": harmless(transaction_id)}
    if name is not None:
        told["aumai.transaction.name"] = harmless(name)
    return told


def call_attributes(saga: Saga, step: SagaStep, operation: Operation) -> Attributes:
    """Return what the span of a call says."""
    key = idempotency_key(saga.transaction_id, step.step_id, operation)
    told = transaction_attributes(saga.transaction_id, saga.plan.name) | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": harmless(name_called(step.definition, operation)),
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": harmless(f"{saga.transaction_id}/{step.step_id}"),
        "gen_ai.agent.name": harmless(step.definition.agent_id),
        "aumai.transaction.step": harmless(step.step_id),
        "aumai.transaction.operation": operation,
        "aumai.transaction.attempt": attempt_of(step, operation),
        "aumai.transaction.idempotency_key": harmless(key),
    }
    if operation == "compensation":
        told["aumai.transaction.compensates"] = harmless(step.step_id)
        told["aumai.transaction.in_doubt"] = step.doubt is not None
    return told


def end_of(entry: Entry) -> End:
    """Return how the attempt has ended that an entry is the end of."""
    match entry:
        case kinds.StepFailed() | kinds.CompensationFailed() | kinds.ConfirmationFailed():
            retried: Attributes = {"aumai.transaction.will_retry": entry.will_retry}
            return End("failed", harmless(entry.error.type), retried)
        case kinds.StepInDoubt():
            kind = entry.error.type if entry.cause == "unknown" else entry.cause
            return End("in_doubt", harmless(kind), {"aumai.transaction.in_doubt": True})
        case kinds.ProbeAnswered() | kinds.VerificationAnswered():
            failed = None if entry.error is None else harmless(entry.error.type)
            return End(entry.answer, failed, {"aumai.transaction.answer": entry.answer})
        case kinds.RereadAnswered():
            failed = None if entry.error is None else harmless(entry.error.type)
            return End("holds" if entry.holds else "changed", failed, {})
        case kinds.RollbackRevoked():
            return End("continued", None, {})
        case _:
            is_simulated = getattr(entry, "simulated", False)
            return End(
                "succeeded", None, {"aumai.transaction.simulated": True} if is_simulated else {}
            )


def outcome_of(saga: Saga) -> End:
    """Return how a transaction has ended that has."""
    attention = attention_of(saga)
    outstanding = sum(step.outstanding is not None for step in saga.steps)
    told = transaction_attributes(saga.transaction_id, saga.plan.name) | {
        "aumai.transaction.outcome": saga.state.value,
        "aumai.transaction.steps": len(saga.steps),
    }
    if saga.plan.name is not None:
        told["gen_ai.workflow.name"] = harmless(saga.plan.name)
    if saga.reason is not None:
        told["aumai.transaction.reason"] = saga.reason
    if outstanding:
        told["aumai.transaction.outstanding"] = outstanding
    if attention is not None:
        told["aumai.transaction.attention"] = attention
    error = None
    if saga.state is FAILED or attention is not None:
        error = attention or (saga.error.type if saga.error else saga.state.value)
    return End(saga.state.value, None if error is None else harmless(error), told)
