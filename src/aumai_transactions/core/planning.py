"""What should be done next.

Owns: `plan`, and what else follows from how a transaction stands: when it has to be looked at
again, and whether only a person can move it.
Rules:
  1. Journal before act: a call is handed out together with its intent.
  2. A decision that needs no new observation (commit, go back, done) is a `Record` command.
  3. Time decides only when something is tried or given up, never what is true.
  4. In doubt, in this order: ask the probe; run again with the same key where that is safe; then
     what the action declares (SEMANTICS C4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from aumai_transactions.core.commands import Call, Command, Look, Record
from aumai_transactions.core.commit_planning import (
    impossible,
    is_read_again,
    plan_commit,
    plan_committing,
    read_again,
)
from aumai_transactions.core.doubts import (
    asks,
    may_run_again,
    must_be_asked,
    needs_person,
    probe_of,
)
from aumai_transactions.core.entries import (
    ApprovalDenied,
    ErrorRecord,
    PartialRollbackStarted,
    RollbackStarted,
    StepStarted,
    TransactionActivated,
    TransactionExpired,
    TransactionRolledBack,
    UndoWindowClosing,
)
from aumai_transactions.core.isolation import (
    awaits_locks,
    look_again_at,
    missing,
    names_wanted,
    unchecked_reads,
)
from aumai_transactions.core.poison import is_poisoned
from aumai_transactions.core.programs import answer_of
from aumai_transactions.core.scopes import (
    is_held_back,
    is_in_force,
    live_dependants,
    undo_of,
)
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    COMPENSATING,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_IN_DOUBT,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.turns import approval_of, fill_in
from aumai_transactions.core.undo_planning import abandon_at, plan_undo, undo_wakes_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.models import RollbackReason

PARALLEL_MAX = 2**31
"""No bound: who asks for the steps of an interactive transaction decides how many run at once."""

WINDOW_WARNING_SECONDS_MAX = 60.0
"""How long before its end it is said at the earliest that an undo window closes."""

CRASH = ErrorRecord("ProcessDied", "the process that ran this step died before it could tell")


def plan(saga: Saga, now: int, parallel_max: int = 1) -> Sequence[Command]:
    """Return what should be done next: one decision to record, or calls to make, or nothing.

    Nothing means that the transaction is finished, or waits for a person, for a call that is
    under way, for its program, or until `wake_at`.

    Args:
        saga: The transaction.
        now: Microseconds since 1970 UTC.
        parallel_max: How many steps of a plan may run at once.
    """
    state = saga.state
    if saga.restored == "held" or (saga.crashes and is_poisoned(saga)):
        return ()
    if state is ACTIVE:
        return _plan_forward(saga, now, parallel_max)
    if state is PENDING:
        return _plan_start(saga, now)
    if state is COMPENSATING:
        return plan_undo(saga, now, parallel_max) or _plan_end_of_undo(saga, now)
    if state is ROLLED_BACK or state is COMMITTED:
        return plan_undo(saga, now, parallel_max) if saga.undo else ()
    if state is COMMITTING:
        return plan_committing(saga, now)
    if state is FAILED:
        return ()
    assert_never(state)


def wake_at(saga: Saga) -> int | None:
    """Return when time alone gives something to do; None where only a call or a person does."""
    state = saga.state
    if saga.crashes and is_poisoned(saga):
        return None
    if state is ACTIVE:
        if saga.running or (not may_have_decided(saga) and _goes_back(saga)):
            return None
        look_at = look_again_at(saga)
        if saga.is_interactive and not was_left_by_its_program(saga):
            return _program_is_awaited(saga) if look_at is None else look_at
        # Why not all of them: while something is in doubt, nothing else begins.
        waiting = saga.doubtful or saga.waiting
        times = [at for index, at in saga.waiting.items() if index in waiting]
        if saga.approvals:
            times += [until for until in saga.approvals.values() if until is not None]
        asking = saga.doubtful and not any(saga.steps[i].probing for i in saga.doubtful)
        if times or saga.approvals or asking:
            times += [window_warning_at(saga, index) for index in saga.windows]
        if look_at is not None:
            times.append(look_at)
        if saga.undo and (undo_at := undo_wakes_at(saga)) is not None:
            times.append(undo_at)
        return min(times, default=None)
    if state is COMMITTING:
        return None if saga.running else min(saga.waiting.values(), default=None)
    return undo_wakes_at(saga) if saga.undo else None


def timer_at(saga: Saga, now: int) -> int | None:
    """Return the next time from now on at which something may have to be done, busy or not."""
    waits = saga.waiting or saga.approvals or saga.undo or saga.windows
    if not waits and saga.awaiting_since is None:
        return None
    times = [*saga.waiting.values(), *(until for until in saga.approvals.values() if until)]
    times += [at for at in map(abandon_at, (saga.steps[i] for i in saga.undo)) if at is not None]
    times += [window_warning_at(saga, index) for index in saga.windows]
    until = resume_until(saga)
    if until is not None:
        times.append(until)
    return min((at for at in times if at > now), default=None)


def was_left_by_its_program(saga: Saga) -> bool:
    """True where a program has asked for the commit, so that anybody can go on with it."""
    return saga.is_interactive and saga.commit_requested and saga.awaiting_since is None


def _program_is_awaited(saga: Saga) -> int | None:
    """Return until when a transaction whose program died may wait, where nothing else is to do."""
    if saga.awaiting_since is None or saga.undoing:
        return None
    times = [*saga.waiting.values(), *(window_warning_at(saga, index) for index in saga.windows)]
    times += [at for at in saga.approvals.values() if at is not None]
    undo = undo_wakes_at(saga) if saga.undo else None
    until = resume_until(saga)
    if undo is not None:
        times.append(undo)
    if until is not None and _only_persons(saga):
        times.append(until)
    return min(times, default=None)


def resume_until(saga: Saga) -> int | None:
    """Return until when a transaction waits for its program; None where it does not."""
    if saga.awaiting_since is None or saga.plan.on_crash != "wait" or saga.commit_requested:
        return None
    seconds = saga.plan.resume_within_seconds
    return saga.awaiting_since + round((seconds or 0) * 1_000_000)


def only_its_program(saga: Saga) -> bool:
    """True where it waits for its program, which has died, for as long as that takes."""
    waits = saga.awaiting_since is not None and saga.plan.on_crash == "resume"
    busy = saga.ready or saga.doubtful or saga.undo or saga.undo_awaits or saga.approvals
    back = saga.denied or saga.stuck or saga.conflict or saga.commit_requested
    return waits and not (busy or back or saga.step_requests or saga.undo_requests)


def deadline_error(saga: Saga, now: int) -> ErrorRecord:
    """Return the error of a deadline that has passed."""
    late = (now - saga.plan.deadline) / 1_000_000
    return ErrorRecord(
        "DeadlineExceeded",
        f"the timeout of {saga.plan.timeout_seconds:g} s was over {late:.3f} s ago",
    )


def _plan_start(saga: Saga, now: int) -> Sequence[Command]:
    if saga.rollback_requested:
        why = saga.rollback_error
        return (Record(RollbackStarted(now, saga.rollback_requested, None, why)),)
    if not saga.commit_requested:
        return ()
    if now > saga.plan.deadline:
        return (Record(TransactionExpired(now, deadline_error(saga, now))),)
    return (Record(TransactionActivated(now)),)


def _plan_forward(saga: Saga, now: int, parallel_max: int) -> Sequence[Command]:
    back = reason_to_go_back(saga, now)
    if back is not None:
        return () if saga.running or saga.undoing else (Record(back),)
    if saga.windows and (found := _windows(saga, now)):
        return found
    if saga.is_interactive:
        return _plan_interactive(saga, now)
    if saga.approvals and (found := _overdue(saga, now)):
        return found
    if saga.doubtful:
        return _plan_doubtful(saga, now)
    if saga.locks is not None and awaits_locks(saga):
        late = _start_is_late(saga, now)
        return late if late is not None else (Look(names_wanted(saga)),)
    if not saga.ready:
        return plan_commit(saga, now) if saga.unsettled == 0 else ()
    ready = _due(saga, now) if saga.waiting else saga.ready
    free = parallel_max - saga.running
    if free <= 0 or not ready:
        return ()
    late = _start_is_late(saga, now)
    return late if late is not None else _plan_ready(saga, ready, now, free)


def _start_is_late(saga: Saga, now: int) -> Sequence[Command] | None:
    """Return what to do where the time for another step is over; None where it is not."""
    if saga.plan.timeout_scope != "transaction" or now <= saga.plan.deadline:
        return None
    if saga.running:
        return ()
    return (Record(RollbackStarted(now, "deadline", None, deadline_error(saga, now))),)


def _plan_interactive(saga: Saga, now: int) -> Sequence[Command]:
    """Carry out what a program has asked for; what is in doubt or undone hinders nobody else."""
    commands: list[Command] = []
    for name, note in () if may_have_decided(saga) else saga.undo_requests.items():
        why = ErrorRecord("Requested", note) if note else None
        return (Record(undo_of(saga, saga.scopes[name], now, "requested", why)),)
    for request in saga.step_requests.values():
        return [Record(entry) for entry in answer_of(saga, request, now)]
    if saga.undo:
        commands += plan_undo(saga, now, PARALLEL_MAX)
    if saga.doubtful:
        commands += _plan_doubtful(saga, now)
    for command in commands:
        if isinstance(command, Record):
            return (command,)
    if saga.approvals and (found := _overdue(saga, now)):
        return found
    ready = _due(saga, now) if saga.waiting else saga.ready
    if saga.awaiting_since is not None and not saga.commit_requested:
        ready = []  # Its program has died, and nobody waits for what has not begun.
    if saga.going_back:
        ready = [index for index in ready if not is_held_back(saga, saga.steps[index])]
    if ready:
        found = _plan_ready(saga, list(ready), now, PARALLEL_MAX)
        return found if found and isinstance(found[0], Record) else (*commands, *found)
    is_open = saga.unsettled or saga.undo or saga.undo_awaits or saga.running or saga.doubtful
    if commands or is_open:
        return commands
    pivot = None if saga.pivot is None else saga.steps[saga.pivot].state
    if not saga.commit_requested and pivot is not STEP_SUCCEEDED:
        return ()
    if awaits_locks(saga):
        return (Look(names_wanted(saga)),)
    return plan_commit(saga, now)


def _overdue(saga: Saga, now: int) -> Sequence[Command]:
    """Take for denied what nobody has allowed in time."""
    for index, until in saga.approvals.items():
        if until is not None and now >= until:
            step = saga.steps[index]
            seconds = step.definition.approval_timeout_seconds or 0.0
            note = f"it waited for {seconds:g} s"
            return (Record(ApprovalDenied(now, step.step_id, "", note)),)
    return ()


def _windows(saga: Saga, now: int) -> Sequence[Command]:
    for index, until in saga.windows.items():
        if now >= window_warning_at(saga, index):
            return (Record(UndoWindowClosing(now, saga.steps[index].step_id, until)),)
    return ()


def window_warning_at(saga: Saga, index: int) -> int:
    """Return when it is time to say that a step can soon not be undone any more."""
    seconds = saga.steps[index].definition.undo_within_seconds or 0.0
    return saga.windows[index] - round(min(seconds / 10, WINDOW_WARNING_SECONDS_MAX) * 1_000_000)


def _due(saga: Saga, now: int) -> list[int]:
    return [index for index in saga.ready if saga.waiting.get(index, now) <= now]


def _plan_ready(saga: Saga, ready: list[int], now: int, free: int) -> Sequence[Command]:
    if len(ready) > 1:
        ready.sort()
    commands: list[Command] = []
    for index in ready[:free]:
        step = saga.steps[index]
        definition = step.definition
        data = None
        if definition.references:
            data, failed = fill_in(saga, step, now)
            if failed is not None:
                return (failed,)
        if definition.requires_approval and not step.approved:
            return (Record(approval_of(step, data, now)),)
        if definition.resources and missing(saga, step):
            commands.append(Look(names_wanted(saga)))
            continue
        if definition.pivot:
            if saga.unsettled > 1 or saga.running or saga.undo:
                continue  # It waits until everything else has ended.
            if saga.locks is not None and awaits_locks(saga):
                commands.append(Look(names_wanted(saga)))
                continue  # Behind it nothing is claimed, so the held steps claim before it.
            if saga.locks is not None and (names := unchecked_reads(saga)):
                commands.append(Look(names))
                continue
            if (failed := impossible(saga, now)) is not None:
                return (failed,)
            if not is_read_again(saga):
                return read_again(saga)
        intent = StepStarted(now, step.definition.step_id, step.attempt + 1, data)
        commands.append(Call("action", step, intent))
    return commands


def reason_to_go_back(saga: Saga, now: int) -> RollbackStarted | None:
    """Return why a transaction that goes forward must go back; None where it need not."""
    if may_have_decided(saga):
        return None  # Nobody may go back over what may be the commit point.
    if saga.failed:
        step = saga.steps[saga.failed[0]]
        return RollbackStarted(now, "step_failed", step.step_id, step.error)
    if saga.rollback_requested:
        return RollbackStarted(now, saga.rollback_requested, None, saga.rollback_error)
    if saga.denied is not None:
        step_id, said = saga.denied
        return RollbackStarted(now, "denied", step_id, ErrorRecord("ApprovalDenied", said))
    if saga.conflict is not None:
        step_id, error = saga.conflict
        return RollbackStarted(now, "conflict", step_id, error)
    if saga.closing and saga.plan.on_undo_window == "roll_back":
        closes = _window_closes(saga, now)
        if closes is not None:
            return closes  # Else it is one of what was undone meanwhile.
    if saga.stuck:
        step = saga.steps[next(iter(saga.stuck))]
        return RollbackStarted(now, "step_failed", step.step_id, step.undo_error or step.error)
    if saga.is_interactive:
        return _back_interactive(saga, now)
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.doubt == "cancelled":
            return RollbackStarted(now, "cancelled", step.step_id, step.error)
    if saga.taken_over_at is not None:
        return _back_after_crash(saga, saga.taken_over_at, now)
    return None


_MAY_HAVE_DECIDED = frozenset({STEP_RUNNING, STEP_IN_DOUBT, STEP_SUCCEEDED})


def may_have_decided(saga: Saga) -> bool:
    """True while the pivot may be the commit point already, so that nobody may go back."""
    return saga.pivot is not None and saga.steps[saga.pivot].state in _MAY_HAVE_DECIDED


def _goes_back(saga: Saga) -> bool:
    return bool(saga.rollback_requested or saga.failed or saga.denied)


def _window_closes(saga: Saga, now: int) -> RollbackStarted | None:
    for index, until in saga.closing.items():
        step = saga.steps[index]
        if is_in_force(step):
            late = "could be undone until" if now > until else "can soon not be undone any more,"
            error = ErrorRecord("UndoWindow", f"step {step.step_id} {late} so it is undone now")
            return RollbackStarted(now, "deadline", step.step_id, error)
    return None


def _only_persons(saga: Saga) -> bool:
    """True where nothing is in doubt that could be settled without a person."""
    return all(needs_person(saga.steps[index]) for index in saga.doubtful)


def _back_interactive(saga: Saga, now: int) -> RollbackStarted | None:
    """Return why an interactive transaction goes back: its time is over, or its program is gone."""
    if saga.awaiting_since is not None and not saga.commit_requested:
        until = resume_until(saga)
        if until is None and saga.plan.on_crash == "resume":
            until = 2**62
        if until is None or (now >= until and _only_persons(saga)):
            first = next((saga.steps[index].step_id for index in saga.doubtful), None)
            return RollbackStarted(now, "crash", first, CRASH)
    if now > saga.plan.deadline and (saga.ready or saga.commit_requested):
        return RollbackStarted(now, "deadline", None, deadline_error(saga, now))
    return None


def _back_after_crash(saga: Saga, taken_over_at: int, now: int) -> RollbackStarted | None:
    reason: RollbackReason
    if saga.plan.on_crash == "roll_back":
        reason, error = "crash", CRASH
    elif saga.plan.on_crash is None and taken_over_at > saga.plan.deadline:
        reason, error = "deadline", deadline_error(saga, taken_over_at)
    else:
        return None
    first = next((saga.steps[index].step_id for index in saga.doubtful), None)
    return RollbackStarted(now, reason, first, error)


def _plan_doubtful(saga: Saga, now: int) -> Sequence[Command]:
    """Settle what is in doubt: ask, re-run where that is safe, else go back or ask a person."""
    for index in saga.doubtful:
        step = saga.steps[index]
        if step.to_undo or step.probing or (step.due_at is not None and now < step.due_at):
            continue
        if must_be_asked(step):
            return (probe_of(step, now),)
        if step.retry_requested or may_run_again(step):
            late_at = saga.plan.deadline if saga.plan.timeout_scope == "transaction" else None
            # Why not the pivot: nobody goes back over what may be the commit point.
            if late_at is not None and now > late_at and not step.definition.pivot:
                late = deadline_error(saga, now)
                return () if saga.running else (Record(_too_late(now, step, late)),)
            intent = StepStarted(now, step.step_id, step.attempt + 1, step.data)
            return (Call("action", step, intent),)
        if asks(step):
            continue
        if saga.is_interactive:
            named = [step.index, *live_dependants(saga, [step.index])]
            steps = tuple(saga.steps[position].step_id for position in named)
            undo = PartialRollbackStarted(now, steps, "in_doubt", None, step.step_id, step.error)
            return (Record(undo),)
        if not saga.running:
            return (Record(RollbackStarted(now, "in_doubt", step.step_id, step.error)),)
    return ()


def _too_late(now: int, step: SagaStep, error: ErrorRecord) -> RollbackStarted:
    return RollbackStarted(now, "deadline", step.step_id, error)


def _plan_end_of_undo(saga: Saga, now: int) -> Sequence[Command]:
    if saga.undo or saga.halted:
        return ()
    return (Record(TransactionRolledBack(now)),)
