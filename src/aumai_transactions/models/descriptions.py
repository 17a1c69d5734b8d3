"""A transaction as it is told to a model.

Owns: `Description` and `ConflictNotice`, as JSON and as text.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AwareDatetime, Field

from aumai_transactions.models.states import TransactionState
from aumai_transactions.models.values import Model


class DescribedStep(Model):
    """Tell a model about one step.

    Args:
        step_id: The step.
        agent_id: On whose behalf it acts.
        action: What it does.
        data: With what, as JSON; shortened where it is long.
        undo: What undoes it, if anything does.
        can_be_undone: True where it can be undone now.
        undo_before: Until when it can be undone, where that is limited.
        error: Why it failed, or is in doubt.
        digest: Of what a person is to allow, where it waits for that; for `approve(digest=…)`.
    """

    step_id: str
    agent_id: str
    action: str
    data: str
    undo: str | None = None
    can_be_undone: bool = False
    undo_before: AwareDatetime | None = None
    error: str | None = None
    digest: str | None = None


class ConflictNotice(Model):
    """Tell a program that what it has read may not be so any more, while it can still do something.

    `str()` of it is text for a prompt.

    Args:
        transaction_id: The transaction that has read it.
        resource: The resource's canonical name.
        version_read: The version in which it was read.
        version_now: The version that it has since; it only grows.
        is_certain: True where a transaction that had it exclusively is known to have committed;
            False where it may have changed.
        changed_by: The transaction that has changed it, where that is certain.
        steps: The steps that have read it, as of when the notice was made.
        can_read_again: True where undoing these steps, and executing them again, lets it commit.
        can_be_rolled_back: True while all of it can still be undone.
    """

    transaction_id: str
    resource: str
    version_read: int
    version_now: int
    is_certain: bool = False
    changed_by: str | None = None
    steps: list[str] = Field(default_factory=list)
    can_read_again: bool = False
    can_be_rolled_back: bool = False

    def __str__(self) -> str:
        """Tell it in one line."""
        by = f" by transaction {self.changed_by}" if self.changed_by else ""
        changed = f"has been changed{by}" if self.is_certain else "may have changed"
        read_by = f" by {', '.join(self.steps)}" if self.steps else ""
        ways = []
        if self.can_read_again:
            ways.append(f"undo {', '.join(self.steps)} and read again")
        if self.can_be_rolled_back:
            ways.append("roll back")
        what_to_do = f": {', or '.join(ways)}" if ways else ""
        return (
            f"{self.resource} {changed} since it was read{read_by}; "
            f"the commit will be refused{what_to_do}"
        )


class Description(Model):
    """Tell a model how a transaction stands, fit to put into a prompt.

    `str()` of it is text. Lists that are empty are left out of it.

    Args:
        transaction_id: The transaction.
        state: Its state.
        name: What people call it.
        can_be_rolled_back: True while all of it can still be undone.
        deadline: When it is rolled back, unless it has been committed by then.
        done: Steps that took effect.
        running: Steps under way.
        held: Steps that run when the transaction commits, and not before.
        waiting_for_approval: Steps that a person must allow.
        in_doubt: Steps of which nobody knows whether they happened.
        failed: Steps that did not happen.
        undone: Steps that were taken back.
        needs_a_person: Steps whose undo failed.
        changed_since_read: What others may have changed since it was read, so that the commit
            will be refused; known only where `on_conflict` was called.
    """

    transaction_id: str
    state: TransactionState
    name: str | None = None
    can_be_rolled_back: bool = False
    deadline: AwareDatetime
    done: list[DescribedStep] = Field(default_factory=list)
    running: list[DescribedStep] = Field(default_factory=list)
    held: list[DescribedStep] = Field(default_factory=list)
    waiting_for_approval: list[DescribedStep] = Field(default_factory=list)
    in_doubt: list[DescribedStep] = Field(default_factory=list)
    failed: list[DescribedStep] = Field(default_factory=list)
    undone: list[DescribedStep] = Field(default_factory=list)
    needs_a_person: list[DescribedStep] = Field(default_factory=list)
    changed_since_read: list[ConflictNotice] = Field(default_factory=list)

    def __str__(self) -> str:
        """Tell it in plain lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        named = f" ({self.name})" if self.name else ""
        back = "can still be rolled back" if self.can_be_rolled_back else "cannot be rolled back"
        yield f"Transaction {self.transaction_id}{named}: {self.state.value}, {back}"
        for title, steps in (
            ("done", self.done),
            ("under way", self.running),
            ("held until the commit", self.held),
            ("waiting for an approval", self.waiting_for_approval),
            ("in doubt, nobody knows whether it happened", self.in_doubt),
            ("failed, did not happen", self.failed),
            ("undone", self.undone),
            ("undo failed, needs a person", self.needs_a_person),
        ):
            if steps:
                yield f"{title}:"
            for step in steps:
                yield f"- {step.step_id} {step.agent_id}: {step.action} {step.data}{_ending(step)}"
        if self.changed_since_read:
            yield "changed since it was read:"
        for notice in self.changed_since_read:
            yield f"- {notice}"


def _ending(step: DescribedStep) -> str:
    if step.error is not None:
        return f" ({step.error})"
    if step.can_be_undone and step.undo_before is not None:
        until = step.undo_before.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f" (can be undone until {until})"
    return " (can be undone)" if step.can_be_undone else ""
