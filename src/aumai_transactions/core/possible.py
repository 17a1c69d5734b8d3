"""What can be asked of a transaction now, and what would become of it if it went back.

Owns: both answers. Neither has a rule of its own: what can be asked for is what `decide` does not
refuse, and what would be undone is what `plan` hands out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

from aumai_transactions.core.decider import advance, decide
from aumai_transactions.core.entries import Answer
from aumai_transactions.core.observations import (
    ApprovalAnswered,
    CommitCalled,
    DriverArrived,
    HandlerReturned,
    Observation,
    ProbeReturned,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    TrustAnswered,
    VerificationReturned,
)
from aumai_transactions.core.outcome import result_of
from aumai_transactions.core.planning import wake_at
from aumai_transactions.core.poison import is_poisoned, suspects
from aumai_transactions.core.states import PENDING, STEP_RUNNING
from aumai_transactions.errors import TransactionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.saga import Saga, SagaStep

TURNS_MAX = 100_000
BY = "preview"


class Possible(NamedTuple):
    """Name something that can be asked of a transaction now.

    Args:
        name: What: `commit`, `submit`, `rollback`, `trust`, `approve`, `deny`, `retry` or
            `resolve`.
        step_id: Of which step, where it is about one.
        answers: What a resolution can say.
        needs_note: True where a note must say why.
    """

    name: str
    step_id: str | None = None
    answers: tuple[Answer, ...] = ()
    needs_note: bool = False


class Undo(NamedTuple):
    """Name one undo that a rollback would call.

    Args:
        step_id: The step that is undone.
        agent_id: On whose behalf.
        action: What was done.
        compensating_action: What undoes it.
        in_doubt: True where nobody knows whether it was done.
        is_running: True where it runs yet: it is undone if it succeeds.
    """

    step_id: str
    agent_id: str
    action: str
    compensating_action: str
    in_doubt: bool
    is_running: bool


class Preview(NamedTuple):
    """Tell what a rollback would do, if every undo worked.

    Args:
        undos: What would be called, in this order.
        left: The steps that took effect, and that nothing undoes.
    """

    undos: list[Undo]
    left: list[str]


def possible(saga: Saga, now: int) -> list[Possible]:
    """Return what can be asked of a transaction now.

    Args:
        saga: The transaction; it is not changed.
        now: Microseconds since 1970 UTC.
    """
    found = []
    if _is_heard(saga, CommitCalled(), now):
        found.append(Possible("commit"))
        if saga.state is PENDING and not saga.is_interactive:
            found.append(Possible("submit"))
    if _is_heard(saga, RollbackCalled(), now):
        found.append(Possible("rollback"))
    if _is_heard(saga, TrustAnswered(BY), now):
        found.append(Possible("trust"))
    for step in _in_question(saga):
        name = step.step_id
        if _is_heard(saga, ApprovalAnswered(name, True, BY), now):  # noqa: FBT003
            found += [Possible("approve", name), Possible("deny", name)]
        if _is_heard(saga, RetryAsked(name), now):
            found.append(Possible("retry", name))
        heard = [
            answer
            for answer in get_args(Answer)
            if _is_heard(saga, ResolutionAnswered(name, answer, BY, BY), now)
        ]
        if heard:
            found.append(Possible("resolve", name, tuple(heard), needs_note=True))
    return found


def _in_question(saga: Saga) -> Iterator[SagaStep]:
    """Yield the steps that anything may be asked of; for speed only, `decide` refuses the rest."""
    asked = {*saga.approvals, *saga.doubtful, *saga.stuck}
    if is_poisoned(saga):
        asked |= {step.index for step in suspects(saga)}
    for step in saga.steps:
        is_left = step.outstanding is not None or step.due_at is not None or step.left_behind
        if is_left or step.index in asked:
            yield step


def _is_heard(saga: Saga, wish: Observation, now: int) -> bool:
    try:
        return bool(decide(saga, wish, now))
    except TransactionError:
        return False


def preview(saga: Saga, now: int) -> Preview:
    """Return what a rollback would do.

    Args:
        saga: The transaction; it is of no use afterwards.
        now: Microseconds since 1970 UTC.

    Raises:
        InvalidTransactionState: It cannot go back any more.
    """
    running = [step.step_id for step in saga.steps if step.state is STEP_RUNNING]
    undos: list[Undo] = []
    # Why first: while a call runs, nobody else takes the transaction.
    seen: list[Observation] = [HandlerReturned(name, "action") for name in running]
    seen.append(RollbackCalled(BY))
    if not saga.running:
        seen.append(DriverArrived(BY))
    for _ in range(TURNS_MAX):
        entries, calls = advance(saga, seen, now, parallel_max=len(saga.steps) + 1)
        seen = [_as_if(call, undos, running) for call in calls]
        due = wake_at(saga)
        if not entries and not calls:
            if due is None or due <= now:
                break
            now = due
    return Preview(undos, result_of(saga, durable=True).uncompensated)


def _as_if(call: Call, undos: list[Undo], running: list[str]) -> Observation:
    """Return what is seen if a call goes well."""
    step, definition = call.step, call.step.definition
    if call.operation == "probe":
        return ProbeReturned(step.step_id, "unknown")
    if call.operation == "verification":
        return VerificationReturned(step.step_id, "clean")
    if call.operation == "compensation":
        undos.append(
            Undo(
                step.step_id,
                definition.agent_id,
                definition.action,
                definition.compensating_action or "",
                step.doubt is not None,
                step.step_id in running,
            )
        )
    return HandlerReturned(step.step_id, call.operation)
