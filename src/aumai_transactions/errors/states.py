"""Calls that do not fit how a transaction stands, and what a program is told of its steps.

Owns: those errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.errors.root import TransactionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class InvalidTransactionState(TransactionError):
    """Say that a call does not fit the state of its transaction.

    Args:
        transaction_id: The transaction that the call was about.
        state: The state that it is in.
        call: What was asked for, such as `commit`.
        hint: What to do next; a full sentence.
    """

    def __init__(self, transaction_id: str, state: str, call: str, hint: str = "") -> None:
        self.transaction_id = transaction_id
        self.state = state
        self.call = call
        self.hint = hint
        message = f"cannot {call} transaction {transaction_id}: it is {state}."
        super().__init__(f"{message} {hint}".rstrip())


class TransactionNotActive(InvalidTransactionState):
    """Say that a transaction has ended, or is ending, so that nothing was done in it."""


class CommitPointPassed(InvalidTransactionState):
    """Say that the commit was decided, so that the transaction only goes forward."""

    def __init__(self, transaction_id: str, state: str, call: str, hint: str = "") -> None:
        told = hint or "Its commit point is passed, and nothing was changed; it goes on forward."
        super().__init__(transaction_id, state, call, told)


class NoActiveTransaction(TransactionError):
    """Say that a step that must run in a transaction was called outside one; nothing was done.

    Args:
        what: The step, or what else needs a transaction.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} must run inside a transaction, and there is none here. Call it inside "
            "`with transaction():`; in a thread of your own, pass it through tx.bind(function)."
        )


class StepInDoubt(TransactionError):
    """Say that nobody knows whether a step happened.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step.
        undone: True where the step was undone, so that it does not matter any more; False where a
            person must say what happened before the transaction can commit.
        detail: What the call raised.
    """

    def __init__(self, transaction_id: str, step_id: str, detail: str, *, undone: bool) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.detail = detail
        self.undone = undone
        then = (
            "It was undone; try something else, or the same again."
            if undone
            else "A person must find out before the transaction can commit: "
            f"aumai-transactions resolve {transaction_id} {step_id} --happened | --did-not-happen"
        )
        super().__init__(
            f"nobody knows whether step {step_id} of transaction {transaction_id} happened "
            f"({detail}). {then}"
        )


class StepUndone(TransactionError):
    """Say that a step was undone, or left out, while its caller waited for it.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step.
        why: What undid it.
    """

    def __init__(self, transaction_id: str, step_id: str, why: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.why = why
        super().__init__(f"step {step_id} of transaction {transaction_id} is {why}.")


class StepFailed(TransactionError):
    """Say that a step's action raised, where the exception itself is not at hand.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step.
        detail: What the action raised, as text.
    """

    def __init__(self, transaction_id: str, step_id: str, detail: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.detail = detail
        super().__init__(f"step {step_id} of transaction {transaction_id} failed: {detail}.")


class LockTimeout(TransactionError):
    """Say that a step was not begun, for others have held what it uses for too long.

    Args:
        transaction_id: The transaction; it goes on.
        step_id: The step; nothing of it was done.
        detail: What it waited for, and who has it.
    """

    def __init__(self, transaction_id: str, step_id: str, detail: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.detail = detail
        super().__init__(
            f"step {step_id} of transaction {transaction_id} was not begun: {detail}. See who has "
            "it with: aumai-transactions locks. Try something else, or the same again."
        )


class ApprovalPending(TransactionError):
    """Say that a person has not allowed a step yet; the transaction goes on without it.

    Args:
        transaction_id: The transaction.
        step_id: The step.
        digest: Of what is to be allowed.
    """

    def __init__(self, transaction_id: str, step_id: str, digest: str) -> None:
        self.transaction_id = transaction_id
        self.step_id = step_id
        self.digest = digest
        super().__init__(
            f"step {step_id} of transaction {transaction_id} waits for an approval: "
            f"aumai-transactions approve {transaction_id} {step_id}. Then ask for the same step "
            "again."
        )


class UndoRefused(TransactionError):
    """Say that something cannot be undone alone, for what depends on it is still in force.

    Args:
        transaction_id: The transaction; nothing was changed.
        what: What was to be undone.
        dependants: The steps that depend on it.
    """

    def __init__(self, transaction_id: str, what: str, dependants: Sequence[str]) -> None:
        self.transaction_id = transaction_id
        self.what = what
        self.dependants = tuple(dependants)
        super().__init__(
            f"{what} of transaction {transaction_id} cannot be undone alone: "
            f"{', '.join(self.dependants)} would be left without it. Undo that first, or undo it "
            "together with what depends on it. Nothing was changed."
        )
