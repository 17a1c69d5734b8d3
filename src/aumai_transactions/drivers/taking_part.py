"""How a program takes part in its transaction: every procedure of it, written once.

Owns: what a thread or a task does that executes a step, undoes a part, commits or rolls back, until
what it waits for is settled; and what it is told then.
Rules:
  1. A tool's error is raised to who asked for the step, and aborts nothing.
  2. An undo is finished, whoever is cancelled meanwhile; the cancellation is raised afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.observations import (
    CommitCalled,
    HandlerMissing,
    Observation,
    RollbackCalled,
    ScopeEnded,
    StepAsked,
    UndoAsked,
)
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    STEP_COMPENSATED,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.values import clone
from aumai_transactions.drivers.asking import ask, leave, waiting_until
from aumai_transactions.drivers.desk import Desk, read_saga
from aumai_transactions.drivers.driving import call_of, with_draw
from aumai_transactions.drivers.interests import (
    DoubtsInterest,
    Interest,
    StepInterest,
    StepsInterest,
    WholeInterest,
)
from aumai_transactions.drivers.operations import (
    DoCall,
    DoInbox,
    DoNext,
    DoSleep,
    DoStart,
    DoTurn,
    Ended,
    Inbox,
    Procedure,
)
from aumai_transactions.drivers.shared import Asked, Look, Shared
from aumai_transactions.errors import (
    ApprovalPending,
    CommitPointPassed,
    DefinitionError,
    InternalError,
    InvalidTransactionState,
    StepFailed,
    StepInDoubt,
    StepUndone,
    TransactionNotFinal,
    TransactionRolledBack,
)

if TYPE_CHECKING:
    from aumai_transactions.calls import Answered
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.drivers.groups import Group
    from aumai_transactions.models import TransactionResult

POLL_SECONDS = 0.2
"""How often it is looked whether a person has answered; the journal is where they answer."""

QUIET_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class Part:
    """Hold what is known about one who takes part, while they wait.

    Args:
        transaction_id: In which transaction.
        interrupt: A cancellation that arrived meanwhile.
        is_callers: True where a cancellation means that their call is not wanted any more.
        goes_back: True where a cancellation means that the whole is not wanted any more.
        causes: What the last call of a step's action raised, itself, by step id.
    """

    transaction_id: str
    interrupt: BaseException | None = None
    is_callers: bool = True
    goes_back: bool = False
    causes: dict[str, BaseException] = field(default_factory=dict)


class Executed(NamedTuple):
    """Tell what became of a step that was asked for.

    Args:
        step_id: The step.
        output: What it returned, as recorded.
        is_replayed: True where it was not carried out now.
    """

    step_id: str
    output: Any
    is_replayed: bool


def attend(
    desk: Desk,
    shared: Shared,
    part: Part,
    seen: list[Observation],
    interest: Interest,
    *,
    until: int | None = None,
    polls: bool = False,
    first: Look | None = None,
) -> Procedure[None]:
    """Take part until what one waits for is settled.

    Args:
        desk: The manager's.
        shared: The transaction.
        part: Who takes part.
        seen: What was seen first.
        interest: What they wait for.
        until: How long to wait for times and people; microseconds since 1970 UTC, None for ever.
        polls: True to look as well for what others append.
        first: How things stand, where that is known already.
    """
    inbox: Inbox | None = None
    ended: Call | None = None
    in_hand = 0
    try:
        while True:
            if first is not None:
                look, first = first, None
            else:
                turn = partial(
                    shared.turn, desk, part, seen, interest, ended=ended, polls=polls and not seen
                )
                look = yield DoTurn(turn, part)
            shared.announce(desk)
            in_hand += len(look.calls) - (ended is not None)
            seen, ended = [], None
            if len(look.calls) == 1 and in_hand == 1:
                ended = look.calls[0]
                call = call_of(desk, shared.run, part, ended)
                if not isinstance(call, DoCall):
                    seen = [call]
                else:
                    answer, error = yield call
                    seen = _seen(desk, part, ended, answer, error)
                continue
            if look.is_settled and not in_hand:
                return
            if inbox is None:
                inbox = yield DoInbox()
                shared.join(inbox)
                if not look.calls:
                    continue  # Something may have happened before anybody could be woken.
            for command in look.calls:
                call = call_of(desk, shared.run, part, command)
                if not isinstance(call, DoCall):
                    inbox.put(Ended(command, call, None))
                else:
                    yield DoStart(command, call, inbox)
            seen = _cancelled(shared, part)
            if seen:
                continue
            seconds = _patience(desk, look, until, polls=polls)
            if not in_hand:
                nothing = seconds is None and look.is_going_back and not look.is_busy
                if look.is_settled or nothing or (seconds == 0 and not look.is_busy):
                    return
            item: Ended | None = yield DoNext(inbox, seconds, part)
            if item is not None:
                seen, ended = _seen(desk, part, item.call, item.answer, item.error), item.call
    finally:
        shared.part(inbox, part)


def _cancelled(shared: Shared, part: Part) -> list[Observation]:
    """Return the wish to go back that a cancellation of a commit stands for, once."""
    if part.interrupt is None or not part.goes_back:
        return []
    part.goes_back = False
    if shared.saga.state is not ACTIVE or shared.saga.decided_at is not None:
        return []
    return [RollbackCalled(note=type(part.interrupt).__name__, reason="cancelled")]


def _patience(desk: Desk, look: Look, until: int | None, *, polls: bool) -> float | None:
    """Return how long to wait for something to happen; 0 where it is not worth waiting."""
    seconds = look.seconds
    if until is not None and not look.is_busy:
        left = max(0.0, (until - desk.clock.now()) / 1_000_000)
        if seconds is None and not polls:
            return 0.0
        seconds = left if seconds is None else seconds
        if seconds > left:
            seconds = left if polls else 0.0
    if polls:
        seconds = POLL_SECONDS if seconds is None else min(seconds, POLL_SECONDS)
        if until is not None and not look.is_busy:
            seconds = min(seconds, max(0.0, (until - desk.clock.now()) / 1_000_000))
    return seconds


def _seen(
    desk: Desk,
    part: Part,
    command: Call,
    answer: Answered | HandlerMissing,
    error: BaseException | None,
) -> list[Observation]:
    if error is not None:
        if command.operation == "action":
            part.causes[command.step.step_id] = error
        if not isinstance(error, Exception):
            part.interrupt = part.interrupt or error
    return [answer if isinstance(answer, HandlerMissing) else with_draw(desk, answer)]


def execute(
    desk: Desk,
    shared: Shared,
    part: Part,
    asked: StepAsked,
    group: Group | None,
    *,
    once: bool,
    again: bool,
    wait_max_seconds: float,
) -> Procedure[Executed]:
    """Carry out a step, and return what became of it.

    Raises:
        Exception: What the step's own call raised.
        StepInDoubt: Nobody knows whether it happened.
        StepUndone: It was undone meanwhile.
        ApprovalPending: Nobody has allowed it yet.
        TransactionNotActive: The transaction has ended, or is ending; nothing was done.
        TransactionRolledBack: The transaction went back meanwhile.
    """
    try:
        found: Asked = yield DoTurn(
            partial(shared.ask, desk, part, asked, group, once=once, again=again), part
        )
        step_id = found.step_id
        awaits_person = shared.saga.by_id[step_id].definition.requires_approval
        until = waiting_until(desk, wait_max_seconds) if awaits_person else None
        interest = StepInterest(step_id)
        yield from attend(
            desk, shared, part, [], interest, until=until, polls=awaits_person, first=found.look
        )
    finally:
        shared.part(None, part)
    if part.interrupt is not None:
        raise part.interrupt
    return _outcome(desk, shared, part, step_id, is_replayed=found.is_known)


def _outcome(
    desk: Desk, shared: Shared, part: Part, step_id: str, *, is_replayed: bool
) -> Executed:
    """Return what a step returned; or raise what became of it."""
    with shared.lock:
        saga = shared.saga
        step = saga.by_id[step_id]
        state = step.state
        in_force = is_in_force(step)
        output = clone(step.output)
    name = saga.transaction_id
    cause = part.causes.get(step_id)
    if state is STEP_SUCCEEDED and in_force:
        return Executed(step_id, output, is_replayed)
    if saga.state is ACTIVE and step.definition.on_commit and state is STEP_PENDING:
        return Executed(step_id, None, is_replayed)  # It is held.
    if saga.rollback_requested is not None or saga.state is not ACTIVE:
        if saga.decided_at is not None:
            raise CommitPointPassed(name, saga.state.value, f"execute step {step_id} of")
        result = desk.result_of(shared.run)
        if not result.is_final:
            raise TransactionNotFinal(result) from cause
        raise TransactionRolledBack(result) from cause
    if state is STEP_FAILED:
        if cause is not None:
            raise cause
        if step.attempt == 0:
            raise DefinitionError(f"step {step_id} of transaction {name}: {step.error}.")
        raise StepFailed(name, step_id, str(step.error))
    if state is STEP_IN_DOUBT:
        detail = str(step.error) if step.error else "unknown"
        raise StepInDoubt(name, step_id, detail, undone=False) from cause
    if state is STEP_COMPENSATED and cause is not None:
        raise StepInDoubt(name, step_id, f"{type(cause).__name__}: {cause}", undone=True) from cause
    if step.index in saga.approvals and step.approval is not None:
        raise ApprovalPending(name, step_id, step.approval.digest)
    raise StepUndone(name, step_id, state.value.replace("_", " "))


def undo(desk: Desk, shared: Shared, part: Part, asked: UndoAsked) -> Procedure[None]:
    """Undo a part, and wait until it is undone.

    Raises:
        UndoRefused: Something in force depends on it.
        TransactionRolledBack: An undo failed, so that the whole went back.
    """
    if not shared.is_begun:
        return
    names: tuple[str, ...] = yield DoTurn(partial(shared.undo, desk, part, asked), part)
    shared.announce(desk)
    if names:
        yield from attend(desk, shared, part, [], StepsInterest(names))
    if part.interrupt is not None:
        raise part.interrupt
    if shared.saga.state is not ACTIVE:
        raise TransactionRolledBack(desk.result_of(shared.run))


class _Nothing:
    def covers(self, saga: Saga, step: SagaStep) -> bool:  # noqa: ARG002
        return False

    def is_settled(self, saga: Saga) -> bool:  # noqa: ARG002
        return True


def release(desk: Desk, shared: Shared, part: Part, group: Group) -> Procedure[None]:
    """Commit a nested transaction into what it stands in."""
    shared.place(group)
    scopes = group.definitions()
    yield DoTurn(partial(shared.turn, desk, part, [ScopeEnded(scopes)], _Nothing()), part)


def settle(desk: Desk, shared: Shared, part: Part) -> Procedure[None]:
    """Take a transaction whose program died, and settle what is in doubt."""
    yield from attend(desk, shared, part, [], DoubtsInterest())


def finish(
    desk: Desk,
    shared: Shared,
    part: Part,
    wish: CommitCalled | RollbackCalled | None,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    """Commit, or roll back, and return the outcome; without a wish, see what is wanted through."""
    until = waiting_until(desk, wait_max_seconds)
    # Why: nothing but undos, confirmations and held steps begins from here on, and none of them
    # may be left half-way.
    part.is_callers = False
    part.goes_back = isinstance(wish, CommitCalled)
    seen: list[Observation] = [] if wish is None else [wish]
    try:
        yield from attend(desk, shared, part, seen, WholeInterest(), until=until)
    except InvalidTransactionState:
        raise
    except Exception:
        if shared.broken is None:
            raise
        return (yield from _finish_broken(desk, shared, wish, wait_max_seconds))
    if not shared.saga.state.is_final:
        yield DoTurn(partial(shared.let_go, desk, part), part)
    shared.run.causes.update(part.causes)
    if shared.saga.state is COMMITTED:
        shared.run.hook_warnings += [
            f"step {name} had been carried out before its program was resumed, which did not ask "
            "for it again; it stays"
            for name in shared.not_asked_again()
        ]
    result = desk.result_of(shared.run)
    shared.run.result = result
    leave(desk, shared.run)
    return result


def _finish_broken(
    desk: Desk,
    shared: Shared,
    wish: CommitCalled | RollbackCalled | None,
    wait_max_seconds: float,
) -> Procedure[TransactionResult]:
    """Go on from the journal, as after a crash, once no call is under way here any more."""
    while not shared.is_quiet():
        yield DoSleep(QUIET_SECONDS)
    run = shared.run
    leave(desk, run)
    if shared.is_begun or desk.store.is_blocking:
        saga = yield from read_saga(desk, run.transaction_id)
        if saga.state.is_final:
            run.saga = saga
            return desk.result_of(run)
        if isinstance(wish, RollbackCalled):
            return (
                yield from ask(desk, run.transaction_id, wish, wait_max_seconds=wait_max_seconds)
            )
    raise shared.broken or InternalError("a transaction is broken, and nobody knows why.")
