"""What the entries of a rollback mean.

Owns: the part of `evolve` that is about going back; the rest is in `evolution.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.graph import ancestors, descendants, topological_order
from aumai_transactions.core.states import (
    ACTIVE,
    COMPENSATING,
    PENDING,
    STEP_COMPENSATED,
    STEP_COMPENSATING,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_OUTSTANDING,
    STEP_PENDING,
    STEP_RESOLVED,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.transitions import (
    has_effect,
    has_something_to_undo,
    no_longer_in_doubt,
    no_longer_to_undo,
    no_longer_waiting,
    require,
    skip_pending,
    take_effect,
    to_undo,
    undo_waits,
)

if TYPE_CHECKING:
    from aumai_transactions.core.entries import (
        Answer,
        CompensationFailed,
        CompensationStarted,
        CompensationSucceeded,
        OutstandingReason,
        RollbackRevoked,
        RollbackStarted,
        StepOutstanding,
        TransactionRolledBack,
        VerificationAnswered,
        VerificationStarted,
    )
    from aumai_transactions.core.saga import Saga, SagaStep

ATTEMPTS = "its attempt does not follow the one before"

REVOCABLE = frozenset({"step_failed", "in_doubt"})
"""The reasons to go back that an undo may revoke: nobody has asked for the rollback."""


def rollback_started(saga: Saga, entry: RollbackStarted) -> None:
    """Go back: from here on the undo of every effect is due."""
    pending = saga.state is PENDING
    require(pending or saga.state is ACTIVE, "it cannot go back any more")
    require(saga.running == 0, "a rollback starts while a step runs")
    # Invariant: I8, nobody goes back over what may be the commit point.
    pivot = STEP_PENDING if saga.pivot is None else saga.steps[saga.pivot].state
    require(pivot not in (STEP_IN_DOUBT, STEP_SUCCEEDED), "it goes back over its pivot")
    saga.reason = entry.reason
    saga.failed_step = entry.step_id
    saga.error = entry.error
    saga.ran = not pending
    saga.undo_begun.clear()
    saga.going_back.clear()
    if saga.started_at is None:
        saga.started_at = entry.at
    if pending:
        names = [step.step_id for step in saga.steps]
        order = topological_order(saga.edges, names, saga.transaction_id)
        saga.undo = [i for i in order if saga.steps[i].definition.compensating_action]
    else:
        _stop_going_forward(saga)
        saga.undo = [i for i in saga.effects if has_something_to_undo(saga.steps[i])]
        if saga.scopes:
            _undo_children_whole(saga)
    for index in saga.undo:
        saga.steps[index].to_undo = True


def _undo_children_whole(saga: Saga) -> None:
    """Order what is to be undone so that a nested transaction is undone as one unit."""
    last: dict[str, int] = {}
    unit: dict[int, str] = {}
    for index in saga.undo:
        step = saga.steps[index]
        chain = step.scope.chain() if step.scope is not None else []
        outermost = next((s for s in reversed(chain) if s.definition.kind == "child"), None)
        name = outermost.definition.scope_id if outermost is not None else ""
        unit[index] = name
        if name:
            last[name] = max(last.get(name, 0), step.effect_order)

    def order(index: int) -> tuple[int, int]:
        own = saga.steps[index].effect_order
        return last.get(unit[index], own), own

    ordered = sorted(saga.undo, key=order)
    # Why not where a step outside stands between two inside that depend on each other through it:
    # what depends goes first, whatever unit it is of.
    place = {index: number for number, index in enumerate(ordered)}
    fits = all(
        place[index] < place[after]
        for index in ordered
        for after in descendants([step.dependents for step in saga.steps], [index])
        if after in place
    )
    if fits:
        saga.undo = ordered


def _stop_going_forward(saga: Saga) -> None:
    for index in list(saga.waiting):
        no_longer_waiting(saga, saga.steps[index])
    for index in list(saga.ready):
        step = saga.steps[index]
        if step.late_output is not None and step.state is STEP_PENDING:
            # Something said that it was not done, and its own call says that it was.
            saga.ready.remove(index)
            (step.output,) = step.late_output
            take_effect(saga, step)
        elif step.attempt and step.state is STEP_PENDING:
            step.state = STEP_FAILED
            saga.touched.append(index)
    for index in saga.failed:
        step = saga.steps[index]
        if step.acted_late:
            has_effect(saga, step)
            leave_outstanding(saga, step, "acted_late")
    for index in list(saga.stuck):
        # What a partial rollback could not undo: halted from now on, where that is the policy.
        if saga.steps[index].outstanding is not None:
            leave_outstanding_still(saga, saga.steps[index])
    saga.stuck.clear()
    saga.approvals.clear()
    for index in list(saga.doubtful):
        step = saga.steps[index]
        # Why now: a late answer is never counted, but it tells what there is to undo.
        if step.late_output is not None:
            (step.output,) = step.late_output
            take_effect(saga, step)


def settled(saga: Saga, step: SagaStep) -> None:
    """Let what became of a step be known while it stands to be undone."""
    if step.to_undo and (step.state is STEP_FAILED or not has_something_to_undo(step)):
        no_longer_to_undo(saga, step)
        if step.state is not STEP_FAILED and saga.state is ACTIVE:
            to_undo(saga, [step])  # It stays, and that is said.


def compensation_started(saga: Saga, entry: CompensationStarted) -> None:
    """Call the compensating action."""
    step = saga.step(entry.step_id)
    require(step.to_undo and not step.undo_running, "nothing is to be undone there")
    require(not step.probing and not step.to_verify, "the step is being asked about")
    asked = step.doubt is None or step.probe_spent or not step.definition.policy.has_probe
    require(asked, "a step in doubt is undone before its probe was asked")
    # Invariant: I3, what depends on this step has been dealt with before.
    require(not undo_waits(saga, step), "a step that depends on it is not undone yet")
    require(step.index not in saga.blocked, "a step that depends on it could not be undone")
    require(entry.attempt == step.undo_attempt + 1, ATTEMPTS)
    if step.undo_attempt == 0:
        step.undo_first_at = entry.at
    step.undo_attempt = entry.attempt
    step.undo_running = True
    saga.undoing += 1
    step.state = STEP_COMPENSATING
    saga.undo_begun.add(step.index)
    no_longer_waiting(saga, step)
    saga.touched.append(step.index)


def compensation_succeeded(saga: Saga, entry: CompensationSucceeded) -> None:
    """Take a step for undone, or have it verified."""
    step = _ended(saga, entry.step_id)
    step.simulated = step.simulated or entry.simulated
    step.undo_error = None
    if step.definition.policy.has_verify and saga.ran and not entry.simulated:
        step.to_verify = True
        step.verify_base = step.verify_attempt
    else:
        _undone(saga, step)


def _ended(saga: Saga, step_id: str) -> SagaStep:
    step = saga.step(step_id)
    require(step.undo_running, "a compensation that does not run ends")
    step.undo_running = False
    saga.undoing -= 1
    return step


def _undone(saga: Saga, step: SagaStep) -> None:
    no_longer_to_undo(saga, step)
    if step.acted_late or step.left_behind:
        reason: OutstandingReason = "acted_late" if step.acted_late else "may_still_act"
        step.undo_error = step.error
        leave_outstanding(saga, step, reason)
    else:
        step.state = STEP_COMPENSATED
        saga.undone.append(step.index)
        dealt_with(saga, step)


def dealt_with(saga: Saga, step: SagaStep) -> None:
    """Let nobody need to know any more what became of a step, where the transaction goes on."""
    if step.doubt is not None and saga.state is ACTIVE:
        no_longer_in_doubt(saga, step)
        saga.unsettled -= 1


def compensation_failed(saga: Saga, entry: CompensationFailed) -> None:
    """Leave the step to a person, unless another attempt follows."""
    step = _ended(saga, entry.step_id)
    step.undo_error = entry.error
    if entry.left_behind:
        step.undo_left_behind |= {entry.attempt}
    if entry.will_retry:
        return
    no_longer_to_undo(saga, step)
    if saga.ran:
        leave_outstanding(saga, step, "failed")
    else:
        step.state = STEP_FAILED
        saga.warnings.append(
            f"compensating action {step.definition.compensating_action!r} of step "
            f"{step.step_id}, which had never run, raised {entry.error}"
        )


def verification_started(saga: Saga, entry: VerificationStarted) -> None:
    """Look whether the undo left nothing."""
    step = saga.step(entry.step_id)
    require(step.to_verify and not step.verifying, "nothing is to be verified there")
    require(entry.attempt == step.verify_attempt + 1, ATTEMPTS)
    if step.verify_attempt == step.verify_base:
        step.verify_first_at = entry.at
    step.verify_attempt = entry.attempt
    step.verifying = True
    saga.undoing += 1
    no_longer_waiting(saga, step)


def verification_answered(saga: Saga, entry: VerificationAnswered) -> None:
    """Take a step for undone, or leave it to a person."""
    step = saga.step(entry.step_id)
    require(step.verifying, "a verification ends that does not run")
    step.verifying = False
    saga.undoing -= 1
    if entry.will_retry:
        return
    step.to_verify = False
    if entry.answer == "residue":
        no_longer_to_undo(saga, step)
        step.undo_error = entry.error
        leave_outstanding(saga, step, "residue")
        return
    step.unverified = entry.answer == "unknown"
    if step.unverified:
        why = f": {entry.error}" if entry.error else ""
        saga.warnings.append(
            f"step {step.step_id} was undone, but whether anything is left is not known{why}"
        )
    _undone(saga, step)


def rollback_revoked(saga: Saga, entry: RollbackRevoked) -> None:
    """Go forward again with an output that the undo has answered."""
    step = _ended(saga, entry.step_id)
    require(may_continue(saga, step), "its rollback cannot be revoked any more")
    step.revoked = True
    step.output = entry.output
    step.unrecorded = entry.warning is not None
    if entry.warning:
        saga.warnings.append(entry.warning)
    for index in saga.undo:
        saga.steps[index].to_undo = False
        no_longer_waiting(saga, saga.steps[index])
    saga.undo = []
    if step.doubt is not None:
        take_effect(saga, step)
    else:
        step.state = STEP_SUCCEEDED
        saga.touched.append(step.index)
    for index in saga.failed:
        (saga.deferred if saga.steps[index].definition.on_commit else saga.ready).append(index)
        saga.steps[index].state = STEP_PENDING
        saga.touched.append(index)
    if saga.deferred:
        names = [each.step_id for each in saga.steps]
        order = topological_order(saga.edges, names, saga.transaction_id)
        saga.deferred = [index for index in order if index in saga.deferred]
    saga.failed = []
    _ask_again(saga, step)
    for index in saga.ready:
        # Why a look: those as well whose next attempt was waited for when it went back.
        if saga.steps[index].state is STEP_FAILED:
            saga.steps[index].state = STEP_PENDING
            saga.touched.append(index)
    why = f" ({saga.error})" if saga.error else ""
    saga.warnings.append(
        f"the undo of step {step.step_id} answered with an output, so that the transaction went "
        f"on instead of back{why}"
    )
    saga.reason = saga.failed_step = saga.error = None


def _ask_again(saga: Saga, revoked: SagaStep) -> None:
    """Let those wait for an approval again that did; and those whose data is another one now."""
    for step in saga.steps:
        if step.approval is None or step.state is not STEP_PENDING:
            continue
        refers = any(item.step_id == revoked.step_id for item in step.definition.references)
        if not refers and not step.approved:
            saga.approvals[step.index] = step.approval.until
        elif refers:
            # Invariant: an approval is bound to the digest of exactly what was shown.
            step.approval, step.approved = None, False
            if step.index not in saga.ready:
                saga.ready.append(step.index)


def may_continue(saga: Saga, step: SagaStep) -> bool:
    """Tell whether an undo of this step may answer `Continue` now.

    Only a rollback that nobody asked for, before the undo of any other step has begun, and once
    for each step: else two that cannot agree would go back and forth for ever. And only where no
    call of the step may act yet, be it the action or an undo that was given up before.
    """
    return (
        saga.state is COMPENSATING
        and saga.ran
        and saga.reason in REVOCABLE
        and saga.rollback_requested is None
        and saga.undo_begun == {step.index}
        and not step.revoked
        and not step.left_behind
        and not step.undo_left_behind
        and not step.acted_late
        and not any(other.outstanding for other in saga.steps)
        and not _must_go_back(saga)
    )


def _must_go_back(saga: Saga) -> bool:
    """True where recovery, which has it now, would not have let it go forward."""
    if saga.taken_over_at is None:
        return False
    policy = saga.plan.on_crash
    late = saga.taken_over_at > saga.plan.deadline
    return policy == "roll_back" or (policy is None and late)


def step_outstanding(saga: Saga, entry: StepOutstanding) -> None:
    """Leave to a person what nothing here can undo."""
    step = saga.step(entry.step_id)
    require(step.to_undo, "nothing is to be undone there")
    if step.undo_running:
        _ended(saga, entry.step_id)  # It was announced, and has no handler here.
    no_longer_to_undo(saga, step)
    step.undo_error = entry.error or step.error
    leave_outstanding(saga, step, entry.reason)


def leave_outstanding(saga: Saga, step: SagaStep, reason: OutstandingReason) -> None:
    """Put a step on the list of what needs a person."""
    step.state = STEP_OUTSTANDING
    step.outstanding = reason
    # Why: what a person decides about it takes its place, and cannot be revoked either.
    saga.undo_begun.add(step.index)
    saga.touched.append(step.index)
    if saga.state is ACTIVE:
        saga.stuck[step.index] = None  # With that it cannot commit: it goes back as a whole.
    leave_outstanding_still(saga, step)


def leave_outstanding_still(saga: Saga, step: SagaStep) -> None:
    """Halt what a step on that list depends on, where that is the policy."""
    going_back = saga.state is COMPENSATING or saga.stuck
    if saga.plan.on_compensation_failure == "halt" and going_back:
        saga.halted.add(step.index)
        saga.blocked = ancestors(saga.edges, saga.halted)


def no_longer_outstanding(saga: Saga, step: SagaStep) -> None:
    """Take a step off the list of what needs a person."""
    step.outstanding = None
    saga.stuck.pop(step.index, None)
    saga.halted.discard(step.index)
    saga.blocked = ancestors(saga.edges, saga.halted)
    saga.touched.append(step.index)


def retry_requested(saga: Saga, step: SagaStep) -> None:
    """Let an outstanding compensation be tried once more."""
    require(step.state is STEP_OUTSTANDING, "there is nothing to try again")
    no_longer_outstanding(saga, step)
    step.state = STEP_COMPENSATING
    step.acted_late = False
    step.to_undo = True
    # Order matters: what took effect last is undone first, whichever was asked for first.
    saga.undo.append(step.index)
    saga.undo.sort(key=lambda index: saga.steps[index].effect_order)


def resolved(saga: Saga, step: SagaStep, answer: Answer) -> None:
    """Take a person's word for what became of an outstanding compensation."""
    require(step.state is STEP_OUTSTANDING, "the step is not outstanding")
    no_longer_outstanding(saga, step)
    step.state = STEP_RESOLVED
    dealt_with(saga, step)
    if answer == "undone":
        saga.undone.append(step.index)
    else:
        step.left_in_place = True


def rolled_back(saga: Saga, entry: TransactionRolledBack) -> None:
    """End: everything that may have had an effect is undone or outstanding."""
    # Invariant: I2.
    require(saga.state is COMPENSATING, "it is not going back")
    require(not saga.undo and not saga.halted, "something is still to be undone")
    saga.finished_at = entry.at
    skip_pending(saga)


def note_late_undo(step: SagaStep, error: ErrorRecord) -> None:
    """Keep what a compensation said after it had been given up."""
    if step.outstanding is not None:
        step.undo_error = error
