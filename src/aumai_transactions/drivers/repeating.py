"""A program that is run again under the same idempotency key.

Owns: how far such a program has repeated the plan that the journal holds. Its steps are
compared with the recorded ones, one by one, instead of being added a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import journaled_retry
from aumai_transactions.core.states import PENDING
from aumai_transactions.core.values import canonical_json, checked_object
from aumai_transactions.errors import IdempotencyKeyReused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.definition import Definition, StepDefinition
    from aumai_transactions.drivers.freezing import BeforeRecord
    from aumai_transactions.models import Transaction, TransactionStep

_REPEAT = "_repeat"


@dataclass(slots=True)
class Repeat:
    """Hold the recorded steps, and how many of them have been named again.

    Args:
        steps: The recorded steps.
        position: How many have been named again.
        is_waiting: True once its `commit()` only waits for what somebody else has begun.
    """

    steps: tuple[StepDefinition, ...]
    position: int = 0
    is_waiting: bool = False

    @property
    def recorded(self) -> int:
        """How many steps are recorded."""
        return len(self.steps)


def start_repeating(transaction: Transaction, recorded: tuple[StepDefinition, ...]) -> None:
    """Take every step that is added from now on for a repetition of a recorded one."""
    transaction.__dict__[_REPEAT] = Repeat(recorded)


def repeat_of(transaction: Transaction) -> Repeat | None:
    """Return how far a repetition has come; None where the transaction is no repetition."""
    repeat: Repeat | None = transaction.__dict__.get(_REPEAT)
    return repeat


def repeated(
    transaction: Transaction, step: TransactionStep, before_record: BeforeRecord | None
) -> TransactionStep | None:
    """Return the recorded step that this one repeats; None where it is to be added.

    Args:
        transaction: The transaction.
        step: The step, as it was added.
        before_record: The user's hook, through which the recorded data went as well.

    Raises:
        IdempotencyKeyReused: Another step stands there, or none, and none can be added any more.
    """
    repeat = repeat_of(transaction)
    if repeat is None:
        return None
    number = repeat.position + 1
    if repeat.position >= repeat.recorded:
        if transaction.state is PENDING:
            return None
        raise _reused(
            transaction, f"its plan has {repeat.recorded} steps, and this is number {number}"
        )
    data = step.data if before_record is None else checked_object(before_record(step), "data")
    for field in _differences(repeat.steps[repeat.position], step, data):
        raise _reused(transaction, f"step {number} of its plan has another {field}")
    repeat.position = number
    return transaction.steps[number - 1]


_OPTIONS = (
    "confirming_action",
    "requires_approval",
    "approval_timeout_seconds",
    "undo_within_seconds",
)
"""What a step may leave to its action: compared only where it says so itself."""


def _order(after: Sequence[str] | None) -> list[str] | None:
    return None if after is None else list(after)


def _differences(
    recorded: StepDefinition, step: TransactionStep, data: dict[str, Any]
) -> Iterator[str]:
    for field in ("agent_id", "action", "compensating_action"):
        if getattr(recorded, field) != getattr(step, field):
            yield field
    if _order(recorded.after) != _order(step.after):
        yield "after"
    mine = [(tuple(item.into), item.step_id, item.at, item.type) for item in step.references]
    # Why only where it has some: they may be set on the step that add_step returns.
    if mine and mine != [tuple(item) for item in recorded.references]:
        yield "references"
    for field in ("pivot", "on_commit"):
        if getattr(recorded, field) != getattr(step, field):
            yield field
    for field in _OPTIONS:
        said = getattr(step, field)
        if said is not None and said != getattr(recorded, field):
            yield field
    # Why no more: what its action says that it uses has been added to what it says itself.
    modes = dict(recorded.resources)
    if any(modes.get(use.name) not in (use.mode, "exclusive") for use in step.resources or ()):
        yield "resources"
    # Why as texts: 1 == True == 1.0, and they are not the same request.
    if canonical_json(recorded.data) != canonical_json(data):
        yield "data"
    # Why only where it says so itself: else it has those that its action had when it was recorded.
    if step.retry is not None and journaled_retry(step.retry) != recorded.policy.retry:
        yield "retry"
    timeout = step.timeout_seconds
    if timeout is not None and timeout != recorded.policy.timeout_seconds:
        yield "timeout_seconds"


def other_plan(transaction: Transaction, mine: Definition, recorded: Definition) -> str | None:
    """Return what a recorded plan has otherwise than a caller's; None where they are the same.

    Compared is what a caller says, not what the actions that happen to be registered here add.

    Args:
        transaction: The caller's object.
        mine: What it stands for, its data as it would be recorded.
        recorded: What stands in the journal.
    """
    if len(recorded.steps) != len(mine.steps):
        return f"its plan has {len(recorded.steps)} steps, and here are {len(mine.steps)}"
    trio = zip(recorded.steps, transaction.steps, mine.steps, strict=True)
    for number, (was, step, own) in enumerate(trio, 1):
        for field in _differences(was, step, own.data):
            return f"step {number} of its plan has another {field}"
    return None


def check_whole(transaction: Transaction, repeat: Repeat) -> None:
    """Refuse to commit what repeats only a part of the recorded plan.

    To repeat none of it is to take it as it is.

    Raises:
        IdempotencyKeyReused: The recorded plan has more steps.
    """
    if 0 < repeat.position < repeat.recorded:
        raise _reused(
            transaction, f"its plan has {repeat.recorded} steps, and here are {repeat.position}"
        )


def _reused(transaction: Transaction, detail: str) -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        transaction.idempotency_key or "", transaction.transaction_id, detail
    )
