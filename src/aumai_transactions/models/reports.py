"""What is reported about transactions: entries, risks, recovery, verification.

Owns: those shapes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, Field, computed_field

from aumai_transactions.models.results import TransactionResult
from aumai_transactions.models.states import TransactionState
from aumai_transactions.models.values import Model


class Event(Model):
    """Tell a hook about one journal entry, right after it became durable.

    Args:
        transaction_id: The transaction.
        sequence: The entry's place in its journal, from 1.
        kind: What it says, such as `step_succeeded`.
        at: When it was decided.
        state: The transaction's state with it.
        step_id: The step that it is about, if it is about one.
        fields: The entry's other fields that differ from their defaults.
    """

    transaction_id: str
    sequence: int
    kind: str
    at: AwareDatetime
    state: TransactionState
    step_id: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


RiskCode = Literal[
    "no_steps",
    "unknown_action",
    "not_undone",
    "verify_without_undo",
    "plain_handler",
    "no_probe",
    "retry_not_idempotent",
    "undo_not_idempotent",
    "timeout_beyond_deadline",
    "undo_never_runs",
    "undo_window",
    "approval_beyond_deadline",
    "approval_under_lock",
    "secret_in_data",
    "plan",
]


class Risk(Model):
    """Name something that may go wrong with a transaction that has not run yet.

    Args:
        code: Which rule found it; for programs.
        message: What may happen, and what to do about it.
        step_id: The step that it is about, if it is about one.
    """

    code: RiskCode
    message: str
    step_id: str | None = None


class ResourceLock(Model):
    """Tell that a transaction holds a resource, or waits for it.

    Args:
        resource: The resource's canonical name.
        mode: `exclusive` or `shared`.
        transaction_id: Who holds it, or waits.
        token: The fencing token of the hold; it only grows. None while it waits.
        place: Its place in the queue, from 1; None where it holds it.
        waits_for: The transactions that have to end, or to go on, before it gets it.
    """

    resource: str
    mode: Literal["exclusive", "shared"]
    transaction_id: str
    token: int | None = None
    place: int | None = None
    waits_for: list[str] = Field(default_factory=list)


class Recovered(Model):
    """Say what became of one transaction that recovery looked at.

    Args:
        transaction_id: The transaction.
        outcome: `finished` (see `result`), `parked` (handlers are missing here), `waiting` (a
            person is needed), `busy` (somebody else has it), or `unreadable` (see `detail`).
        detail: A sentence that says what happened and what to do next.
        result: The outcome, where it was driven here.
    """

    transaction_id: str
    outcome: Literal["finished", "parked", "waiting", "busy", "unreadable"]
    detail: str
    result: TransactionResult | None = None


class BackupReport(Model):
    """Say what a backup holds, or what was restored from one.

    Args:
        path: The backup, or the store that was made of it.
        store_id: Whose backup it is; a restored store has the same id.
        changes: The store's change counter at that moment.
        made_at: When the backup was made.
        transactions: How many journals it holds.
        entries: How many entries these hold.
        resources: Of how many resources it holds the fences.
        sha256: The hash of all its lines but the last.
        damaged: What could not be backed up and is not in it: why, by transaction id.
        waiting: The ids of those that were not finished in it, once restored: each waits for a
            person's word.
    """

    path: str
    store_id: str
    changes: int
    made_at: AwareDatetime
    transactions: int = 0
    entries: int = 0
    resources: int = 0
    sha256: str = ""
    damaged: dict[str, str] = Field(default_factory=dict)
    waiting: list[str] = Field(default_factory=list)


class WitnessReport(Model):
    """Say what a head witness holds now.

    Args:
        path: The file.
        store_id: Whose heads it holds.
        changes: The store's change counter at the last look.
        transactions: Of how many transactions it holds the head.
        written: How many of these heads are new, or have moved since it was last written.
    """

    path: str
    store_id: str
    changes: int
    transactions: int = 0
    written: int = 0


class Verification(Model):
    """Say what `verify` found.

    Args:
        transactions: How many journals were checked.
        entries: How many entries they hold.
        problems: What does not fit, one sentence each, by transaction id.
        store_problems: What does not fit about the store itself, one sentence each.
    """

    transactions: int = 0
    entries: int = 0
    problems: dict[str, str] = Field(default_factory=dict)
    store_problems: list[str] = Field(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_intact(self) -> bool:
        """True where nothing was found."""
        return not self.problems and not self.store_problems
