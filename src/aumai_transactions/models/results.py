"""What became of a transaction.

Owns: `TransactionResult` and what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import AwareDatetime, Field, computed_field

from aumai_transactions.errors import TransactionExpired, TransactionNotFinal, rolled_back
from aumai_transactions.models.states import RollbackReason, TransactionState
from aumai_transactions.models.values import Model


class OutstandingCompensation(Model):
    """Hold one effect that may still stand and that a person has to look at.

    Args:
        step_id: The step whose effect it is.
        agent_id: The agent that acted.
        action: What was done, or may have been done.
        compensating_action: What should have undone it, if there is such an action.
        reason: `failed` (the undo raised), `no_handler` (the undo has no handler here),
            `no_compensation` (in doubt, and nothing declared undoes it), `residue` (the undo left
            something), `may_still_act` (undone, but a call of the action that was given up after
            its timeout still runs), `acted_late` (such a call succeeded after the undo). Once a
            person has resolved it, it is no longer listed; a warning tells what was decided.
        error: The error's text, where there was one.
    """

    step_id: str
    agent_id: str
    action: str
    compensating_action: str | None = None
    reason: str
    error: str | None = None


class Waiting(Model):
    """Say what a transaction that is not final waits for.

    Args:
        reason: `in_doubt` (a person must say what happened), `halted` (an undo failed and the
            policy is halt), `retry` (the next attempt is due at `until`), `left_behind` (an undo
            waits, until then at most, for a call that was given up), `approval` (a person must
            allow a step), `lock` (others hold what it uses), `resume` (its program died, and may go
            on with it), `committing` (its commit is decided, and something behind the commit point
            failed), `parent` (a nested one has committed into its parent, and is final with it),
            `poisoned` (too many processes have died of it, and a person must look), `restored`
            (it came out of a backup, and a person must say that it may go on), or `running` (a
            driver has it, or one must claim it).
        detail: A sentence that says what to do next.
        step_ids: The steps that it waits for.
        until: When it goes on, where time alone decides.
    """

    reason: Literal[
        "in_doubt",
        "halted",
        "retry",
        "left_behind",
        "approval",
        "lock",
        "resume",
        "committing",
        "parent",
        "poisoned",
        "restored",
        "running",
    ]
    detail: str
    step_ids: list[str] = Field(default_factory=list)
    until: AwareDatetime | None = None


class TransactionResult(Model):
    """Tell the outcome of a transaction, whole; nothing swallowed is missing from it.

    `print(result)` tells it in plain lines.

    Args:
        transaction_id: The transaction.
        state: Its state when this was taken.
        completed_steps: Ids of the steps that had completed, in the order of completion. After a
            failure these are the steps that had completed before it.
        failed_step: The step that failed or came into doubt first, if one did.
        error: Why, with the original exception's text.
        reason: Why it went back: `requested`, `step_failed`, `in_doubt`, `deadline`, `cancelled`,
            `crash`, …; None where it did not.
        outputs: What the steps returned, by step id; steps that returned nothing are left out.
        compensated_steps: Ids of the steps that were undone, in the order of undoing.
        uncompensated: Ids of steps that took effect and declare nothing that undoes them.
        outstanding: Effects that may still stand and that need a person.
        unverified: Ids of steps that were undone, and of which it could not be told whether the
            undo left nothing.
        simulated_steps: Ids of steps that ran without a handler, that is, did nothing.
        warnings: Everything else worth knowing, one sentence each.
        durable: True where the outcome survives the end of this process.
        waiting: What it waits for, where it is not final, or where an undo of it is tried again.
        started_at: When execution began, if it did.
        finished_at: When it became final, if it did.
    """

    transaction_id: str
    state: TransactionState
    completed_steps: list[str] = Field(default_factory=list)
    failed_step: str | None = None
    error: str | None = None
    reason: RollbackReason | None = None
    outputs: dict[str, Any] = Field(default_factory=dict)
    compensated_steps: list[str] = Field(default_factory=list)
    uncompensated: list[str] = Field(default_factory=list)
    outstanding: list[OutstandingCompensation] = Field(default_factory=list)
    unverified: list[str] = Field(default_factory=list)
    simulated_steps: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    durable: bool = False
    waiting: Waiting | None = None
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_final(self) -> bool:
        """True where the state will not change any more."""
        return self.state.is_final

    @computed_field  # type: ignore[prop-decorator]
    @property
    def clean(self) -> bool:
        """True where nothing is left for a person: committed or undone without remainder."""
        left = self.outstanding or self.uncompensated or self.unverified or self.waiting
        return self.is_final and not left

    def attach_cause(self, cause: BaseException | None) -> None:
        """Remember the exception that `raise_for_state` names as the cause."""
        # Why not a private attribute: pydantic compares those, and a result that was read back
        # from JSON must equal the one that was written.
        self.__dict__["_cause"] = cause

    def raise_for_state(self) -> TransactionResult:
        """Return this result where it is committed; raise otherwise.

        Raises:
            TransactionRolledBack: It went back; the step's own exception is the cause, where
                this process saw it.
            TransactionExpired: Its deadline had passed before anything ran.
            TransactionNotFinal: It still waits for something.
        """
        if self.state is TransactionState.committed:
            return self
        if not self.is_final:
            raise TransactionNotFinal(self)
        if self.state is TransactionState.failed:
            raise TransactionExpired(self)
        raise rolled_back(self) from self.__dict__.get("_cause")

    def __str__(self) -> str:
        """Tell the story in plain lines."""
        return "\n".join(self._story())

    def _story(self) -> Iterator[str]:
        headline = f"Transaction {self.transaction_id}: {self.state.value}"
        if self.reason:
            headline += f" ({self.reason.replace('_', ' ')})"
        yield headline
        if self.failed_step:
            yield f"  failed step: {self.failed_step}: {self.error}"
        elif self.error:
            yield f"  why: {self.error}"
        for label, steps in (
            ("completed", self.completed_steps),
            ("undone", self.compensated_steps),
            ("cannot be undone, nothing declared", self.uncompensated),
            ("undone, but not verified", self.unverified),
            ("simulated, no handler", self.simulated_steps),
        ):
            if steps:
                yield f"  {label}: {', '.join(steps)}"
        for item in self.outstanding:
            undo = item.compensating_action or "no compensating action"
            why = f": {item.error}" if item.error else ""
            yield f"  needs a person: {item.step_id} {item.action} ({undo}, {item.reason}){why}"
        if self.waiting:
            yield f"  waiting: {self.waiting.detail}"
        for warning in self.warnings:
            yield f"  warning: {warning}"
        if not self.durable:
            yield "  kept in memory only: this record ends with the process"
