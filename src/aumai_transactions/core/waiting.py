"""What a transaction waits for, in words that say what to do next.

Owns: those sentences, and whom they ask.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from aumai_transactions.core.doubts import needs_person
from aumai_transactions.core.isolation import Queued, look_again_at, waits_of
from aumai_transactions.core.planning import (
    may_have_decided,
    only_its_program,
    resume_until,
    wake_at,
)
from aumai_transactions.core.poison import is_poisoned, suspects
from aumai_transactions.core.states import ACTIVE, COMMITTING, PENDING
from aumai_transactions.core.times import instant
from aumai_transactions.core.undo_planning import next_to_undo, undo_due
from aumai_transactions.models import Waiting

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga, SagaStep


def waiting_of(saga: Saga) -> Waiting | None:
    """Return what a saga waits for; None where nothing is asked of it, or nothing is left to do.

    A finished one waits where an undo of it is tried once more.
    """
    if saga.restored == "held":
        return _restored(saga)
    if saga.state is PENDING:
        return _pending(saga)
    if saga.state.is_final and not saga.undo:
        return None
    if saga.halted and next_to_undo(saga) is None:
        return _halted(saga)
    if is_poisoned(saga):
        return _poisoned(saga)
    persons = asking(saga) if saga.state in (ACTIVE, COMMITTING) else []
    if saga.state is COMMITTING and saga.stuck:
        return _stuck(saga)
    goes_back = saga.rollback_requested and not may_have_decided(saga)
    if persons and not saga.running and not goes_back:
        return _in_doubt(saga, persons)
    if saga.state is ACTIVE and only_approvals(saga) and not saga.running:
        return _approvals(saga)
    if saga.locks is not None and not saga.running and (waits := waits_of(saga)):
        return _locks(saga, waits)
    due = wake_at(saga)
    until = resume_until(saga)
    if saga.state is ACTIVE and due is not None and due not in saga.waiting.values():
        if until is not None and not saga.doubtful and not saga.undo:
            return _resume(saga, until)
        if saga.approvals:
            return _approvals(saga)
    if saga.state is ACTIVE and only_its_program(saga):
        return _resume(saga, None)
    if due is not None:
        return _until(saga, due)
    if saga.state is ACTIVE and saga.is_interactive and saga.driver_id is not None:
        detail = "its program goes on with it; if that has died: aumai-transactions recover"
        return Waiting(reason="running", detail=detail)
    if saga.driver_id is None:
        detail = "nobody carries it on now; it goes on with wait(), or: aumai-transactions recover"
    else:
        detail = "it is under way; if its process has died, run: aumai-transactions recover"
    return Waiting(reason="running", detail=detail)


def _pending(saga: Saga) -> Waiting | None:
    if is_poisoned(saga):
        return _poisoned(saga)
    if saga.commit_requested and saga.rollback_requested is None:
        detail = (
            "it was submitted, and no worker has taken it yet; it goes on with a worker, with "
            "wait(), or: aumai-transactions recover"
        )
        return Waiting(reason="running", detail=detail)
    return None


def _halted(saga: Saga) -> Waiting:
    name = saga.transaction_id
    steps = [saga.steps[index].step_id for index in sorted(saga.halted)]
    retry = f"aumai-transactions retry {name} {steps[0]}, or "
    if saga.step(steps[0]).outstanding == "no_compensation":
        retry = ""
    detail = (
        f"the compensation of {', '.join(steps)} failed and the policy is halt. Then: "
        f"{retry}undo it by hand and: "
        f"aumai-transactions resolve {name} {steps[0]} --undone --note '…'"
    )
    return Waiting(reason="halted", detail=detail, step_ids=steps)


def _in_doubt(saga: Saga, persons: list[SagaStep]) -> Waiting:
    steps = [step.step_id for step in persons]
    name = saga.transaction_id
    late = [step.step_id for step in persons if step.late_output is not None]
    heard = f" ({', '.join(late)} returned late, as if it had)" if late else ""
    detail = (
        f"nobody knows whether {', '.join(steps)} happened{heard}. Find out, then: "
        f"aumai-transactions resolve {name} {steps[0]} --happened | --did-not-happen --note '…'"
    )
    return Waiting(reason="in_doubt", detail=detail, step_ids=steps)


def _stuck(saga: Saga) -> Waiting:
    steps = [saga.steps[index].step_id for index in saga.stuck]
    name = saga.transaction_id
    error = saga.steps[next(iter(saga.stuck))].error
    detail = (
        f"its commit is decided, and {', '.join(steps)} could not be carried out ({error}). Then: "
        f"aumai-transactions retry {name} {steps[0]}, or do it by hand and: "
        f"aumai-transactions resolve {name} {steps[0]} --happened --note '…'"
    )
    return Waiting(reason="committing", detail=detail, step_ids=steps)


def _approvals(saga: Saga) -> Waiting:
    steps = [saga.steps[index].step_id for index in saga.approvals]
    times = [until for until in saga.approvals.values() if until is not None]
    until = instant(min(times)) if times else None
    name = saga.transaction_id
    limit = "" if until is None else f", until {_shown(until)}"
    detail = (
        f"a person must allow {', '.join(steps)}{limit}: aumai-transactions approve {name} "
        f"{steps[0]} | deny {name} {steps[0]} --note '…'"
    )
    return Waiting(reason="approval", detail=detail, step_ids=steps, until=until)


def _restored(saga: Saga) -> Waiting:
    name = saga.transaction_id
    back = f", or aumai-transactions rollback {name}" if saga.state in (ACTIVE, PENDING) else ""
    detail = (
        "it came out of a backup, and what ran after the backup stands in no journal. Find out "
        f"what has happened, then: aumai-transactions recover --trust {name} --note '…'{back}"
    )
    steps = [saga.steps[index].step_id for index in saga.doubtful]
    return Waiting(reason="restored", detail=detail, step_ids=steps)


def _poisoned(saga: Saga) -> Waiting:
    name = saga.transaction_id
    steps = [step.step_id for step in suspects(saga)]
    what = f", all in a call of {', '.join(steps)}" if steps else ""
    again = f"aumai-transactions retry {name} {steps[0] if steps else 'STEP'}"
    back = f" or aumai-transactions rollback {name}" if saga.state in (ACTIVE, PENDING) else ""
    deaths = f"{saga.crashes} processes in a row have died of it{what}"
    if saga.crashes == 1:
        deaths = f"a process has died of it{what.replace('all in', 'in')}"
    detail = f"{deaths}, so nobody takes it any more. Find out why, then: {again}{back}"
    return Waiting(reason="poisoned", detail=detail, step_ids=steps)


def _locks(saga: Saga, waited: list[tuple[int, Queued]]) -> Waiting:
    names = sorted({use.name for _, queued in waited for use in queued.resources})
    behind = dict.fromkeys(name for _, queued in waited for name in queued.behind)
    at = look_again_at(saga)
    detail = (
        f"it waits for {', '.join(names)}, behind {', '.join(behind)}; see who has it with: "
        "aumai-transactions locks"
    )
    steps = [saga.steps[place].step_id for place, _ in waited if place >= 0]
    until = None if at is None else instant(at)
    return Waiting(reason="lock", detail=detail, step_ids=steps, until=until)


def _resume(saga: Saga, due: int | None) -> Waiting:
    until = None if due is None else instant(due)
    limit = "" if until is None else f" until {_shown(until)}"
    then = "" if until is None else ". Then it is rolled back"
    detail = (
        f"its program has gone and may go on with it{limit}: "
        f"manager.resume({saga.transaction_id!r}){then}"
    )
    return Waiting(reason="resume", detail=detail, until=until)


def _shown(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _until(saga: Saga, due: int) -> Waiting:
    until = instant(due)
    when = _shown(until)
    waiting = [saga.steps[index] for index, at in saga.waiting.items() if at == due]
    if saga.state not in (ACTIVE, COMMITTING):
        following = undo_due(saga, due) or next_to_undo(saga)
        waiting = [following] if following is not None else []
    # Why: a window of another step may be what it wakes for.
    waiting = waiting or [saga.steps[index] for index in saga.waiting or saga.undo or saga.doubtful]
    name = saga.transaction_id
    steps = [step.step_id for step in waiting]
    if not steps:
        detail = f"it goes on at {when}, with wait(), or: aumai-transactions recover"
        return Waiting(reason="running", detail=detail, until=until)
    if waiting and waiting[0].due_at is None:
        detail = (
            f"a call of {steps[0]} was given up and may act yet; its undo waits for it until "
            f"{when}. Then it goes on with wait(), or: aumai-transactions recover; without waiting "
            f"with: aumai-transactions retry {name} {steps[0]}"
        )
        return Waiting(reason="left_behind", detail=detail, step_ids=steps, until=until)
    detail = (
        f"the next attempt of {', '.join(steps)} is due at {when}. Then it goes on with wait(), "
        f"or: aumai-transactions recover; at once with: aumai-transactions retry {name} {steps[0]}"
    )
    return Waiting(reason="retry", detail=detail, step_ids=steps, until=until)


def asking(saga: Saga) -> list[SagaStep]:
    """Return the steps in doubt of which a person must say what became."""
    return [saga.steps[index] for index in saga.doubtful if needs_person(saga.steps[index])]


def only_approvals(saga: Saga) -> bool:
    """True where nothing is to be done before a person allows a step."""
    nothing = not (saga.ready or saga.doubtful or saga.failed or saga.undo or saga.conflict)
    return bool(saga.approvals) and nothing and saga.denied is None
