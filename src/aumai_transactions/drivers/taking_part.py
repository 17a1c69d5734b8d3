"""How a program takes part in its transaction: every procedure of it, written once.

Owns: what a thread or a task does that executes a step, undoes a part, commits or rolls back, until
what it waits for is settled; and what it is told then.
Rules:
  1. A tool's error is raised to who asked for the step, and aborts nothing.
  2. An undo is finished, whoever is cancelled meanwhile; the cancellation is raised afterwards.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.core.observations import (
    HandlerMissing,
    HandlerRaised,
    Observation,
    RollbackCalled,
    ScopeEnded,
    StepAsked,
    UndoAsked,
)
from aumai_transactions.core.outcome import scope_result
from aumai_transactions.core.programs import unsettled_in
from aumai_transactions.core.states import (
    ACTIVE,
    PENDING,
    ROLLED_BACK,
    STEP_PENDING,
)
from aumai_transactions.core.values import ErrorRecord
from aumai_transactions.drivers.asking import waiting_until
from aumai_transactions.drivers.calling import Unmade, call_of, with_draw
from aumai_transactions.drivers.desk import Desk
from aumai_transactions.drivers.interests import (
    DoubtsInterest,
    GroupInterest,
    Interest,
    NoInterest,
    StepInterest,
    StepsInterest,
)
from aumai_transactions.drivers.looks import Asked, Look
from aumai_transactions.drivers.operations import (
    DoCall,
    DoInbox,
    DoNext,
    DoStart,
    DoTurn,
    Ended,
    Inbox,
    Procedure,
)
from aumai_transactions.drivers.parts import ENDLESS, Part, Patience
from aumai_transactions.drivers.shared import Shared
from aumai_transactions.drivers.telling import Executed, told
from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import (
    InternalError,
    InvalidTransactionState,
    TransactionError,
    TransactionNotFinal,
    rolled_back,
)

if TYPE_CHECKING:
    from aumai_transactions.core.commands import Call
    from aumai_transactions.drivers.groups import Group
    from aumai_transactions.models import TransactionResult

POLL_SECONDS = 0.2
"""How often it is looked whether a person has answered; the journal is where they answer."""

LEAVES = -1.0
"""What stands for a wait that is not worth it."""


def attend(
    desk: Desk,
    shared: Shared,
    part: Part,
    seen: list[Observation],
    interest: Interest,
    *,
    patience: Patience = ENDLESS,
    first: Look | None = None,
) -> Procedure[Look]:
    """Take part until what one waits for is settled, and return how things stand then.

    Args:
        desk: The manager's.
        shared: The transaction.
        part: Who takes part.
        seen: What was seen first.
        interest: What they wait for.
        patience: How long they wait.
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
                polls = patience.polls and not seen
                turn = partial(shared.turn, desk, part, seen, interest, ended=ended, polls=polls)
                look = yield DoTurn(desk, shared.lock, turn, part)
            shared.announce(desk)
            in_hand += len(look.calls) - (ended is not None)
            seen, ended = [], None
            if len(look.calls) == 1 and in_hand == 1:
                ended = look.calls[0]
                seen = yield from _made(desk, shared, part, ended, look)
                continue
            if look.is_settled and not in_hand:
                return look
            if inbox is None:
                inbox = yield DoInbox()
                shared.join(inbox)
                if not look.calls:
                    continue  # Something may have happened before anybody could be woken.
            yield from _start(desk, shared, part, look, inbox)
            seen = _cancelled(shared, part)
            if seen:
                continue
            seconds = _seconds(desk, look, patience)
            if not in_hand and _leaves(part, look, patience, seconds):
                return look
            item: Ended | None = yield _next(inbox, seconds, part, patience)
            if item is not None:
                ended = item.call
                seen = _seen(desk, shared, part, ended, item.answer, item.error)
    finally:
        shared.part(inbox, part)


def _next(inbox: Inbox, seconds: float | None, part: Part, patience: Patience) -> DoNext:
    """Return what is waited for: that something happens, or a time."""
    for_others = seconds is None or patience.polls
    if seconds == LEAVES:
        # Why not at once: nobody waits any longer, but for the calls that are in hand here.
        seconds = POLL_SECONDS if patience.polls else None
    return DoNext(inbox, seconds, part, for_others)


def _made(
    desk: Desk, shared: Shared, part: Part, command: Call, look: Look
) -> Procedure[list[Observation]]:
    """Make a call, and return what was seen."""
    call = _call(desk, shared, part, command, look)
    if not isinstance(call, DoCall):
        return [call]
    answer, error = yield call
    return _seen(desk, shared, part, command, answer, error)


def _start(desk: Desk, shared: Shared, part: Part, look: Look, inbox: Inbox) -> Procedure[None]:
    """Start the calls that were handed out; their ends come into the inbox."""
    for command in look.calls:
        call = _call(desk, shared, part, command, look)
        if isinstance(call, DoCall):
            yield DoStart(command, call, inbox)
        else:
            inbox.put(Ended(command, call, None))


def _cancelled(shared: Shared, part: Part) -> list[Observation]:
    """Return the wish to go back that a cancellation of a commit stands for, once."""
    if part.interrupt is None or not part.goes_back:
        return []
    part.goes_back = False
    if shared.saga.state is not ACTIVE or shared.saga.decided_at is not None:
        return []
    return [RollbackCalled(note=type(part.interrupt).__name__, reason="cancelled")]


def _call(desk: Desk, shared: Shared, part: Part, command: Call, look: Look) -> DoCall | Unmade:
    """Return the call that a command stands for; or why it is not made."""
    definition = command.step.definition
    if command.operation == "action" and not definition.on_commit:
        why = None
        if look.is_unwanted:
            why = "the transaction goes back"
        elif part.interrupt is not None and part.is_callers:
            why = "its caller was cancelled"
        if why is not None:
            error = ErrorRecord("NotCalled", why)
            return HandlerRaised(
                definition.step_id,
                "action",
                "not_done",
                error,
                may_retry=False,
                is_answer=False,
            )
    return call_of(desk, shared.run, part, command)


def _leaves(part: Part, look: Look, patience: Patience, seconds: float | None) -> bool:
    """True where it is not worth waiting any longer."""
    if patience.gives_up and part.interrupt is not None and not look.is_going_back:
        return True
    # The whole goes back, and neither time nor anybody here moves it on.
    is_stuck = seconds is None and look.is_going_back and not look.is_busy
    return seconds == LEAVES or is_stuck


def _seconds(desk: Desk, look: Look, patience: Patience) -> float | None:
    """Return how long to wait for something to happen; `LEAVES` where it is not worth waiting."""
    seconds, until = look.seconds, patience.until
    left = None if until is None else (until - desk.clock.now()) / 1_000_000
    if patience.polls:
        if left is not None and left <= 0 and not look.is_in_line:
            return LEAVES
        times = [POLL_SECONDS, *(time for time in (seconds, left) if time is not None)]
        return min(time for time in times if time >= 0)
    if left is None or look.is_busy:
        return seconds
    if seconds is None or seconds > left:
        return LEAVES
    return seconds


def _seen(  # noqa: PLR0917 (what, where, whose, and its two answers)
    desk: Desk,
    shared: Shared,
    part: Part,
    command: Call,
    answer: Observation,
    error: BaseException | None,
) -> list[Observation]:
    if error is not None:
        if command.operation == "action":
            part.causes[command.step.step_id] = error
            shared.run.causes[command.step.step_id] = error
        if not isinstance(error, Exception):
            part.interrupt = part.interrupt or error
    return [answer if isinstance(answer, HandlerMissing) else with_draw(desk, answer)]  # type: ignore[arg-type]


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
    terms: Terms = ANY,
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
    if group is not None:
        yield from _refuse_late(desk, shared, part, group)
    try:
        asking = partial(shared.ask, desk, part, asked, group, once=once, again=again, terms=terms)
        found: Asked = yield DoTurn(desk, shared.lock, asking, part)
        step_id = found.step_id
        definition = shared.saga.by_id[step_id].definition
        polls = definition.requires_approval or definition.pivot
        until = waiting_until(desk, wait_max_seconds) if polls else None
        interest = StepInterest(step_id)
        look = yield from attend(
            desk,
            shared,
            part,
            [],
            interest,
            patience=Patience(until, polls, gives_up=True),
            first=found.look,
        )
        if definition.pivot and _is_given_up(look):
            look = yield from _withdrawn(desk, shared, part, step_id, look)
    finally:
        shared.part(None, part)
    if look.outcome is None:
        raise InternalError("a step was waited for, and nothing is known about it.")
    if part.interrupt is not None:
        if not found.is_known:
            is_in_force = look.outcome.is_in_force
            yield from _take_back(desk, shared, step_id, part.interrupt, is_in_force=is_in_force)
        raise part.interrupt
    cause = part.causes.get(step_id) or shared.run.causes.get(step_id)
    return told(desk, shared, step_id, look.outcome, cause, is_replayed=found.is_known)


def _is_given_up(look: Look) -> bool:
    """True where a step has not begun, and nobody waits for it any more."""
    outcome = look.outcome
    is_waiting = outcome is not None and outcome.state is STEP_PENDING and outcome.is_in_force
    return is_waiting and outcome.transaction is ACTIVE and outcome.digest is None  # type: ignore[union-attr]


def _withdrawn(desk: Desk, shared: Shared, part: Part, step_id: str, look: Look) -> Procedure[Look]:
    """Take a pivot back whose turn has not come in time; return how things stood before that.

    Why: its caller is told that it was not carried out, and may do something else instead. Left
    as it is, it would begin, and decide, as soon as what it waits for has ended.
    """
    try:
        undoing = partial(shared.undo, desk, part, UndoAsked(step_id=step_id))
        yield DoTurn(desk, shared.lock, undoing, part)
    except InvalidTransactionState:
        # It has begun meanwhile, or the transaction ends: then it is waited for like any other.
        patience = Patience(gives_up=True)
        interest = StepInterest(step_id)
        return (yield from attend(desk, shared, part, [], interest, patience=patience))
    shared.announce(desk)
    return look


def _refuse_late(desk: Desk, shared: Shared, part: Part, group: Group) -> Procedure[None]:
    """Undo a nested transaction whose timeout is over, and say so."""
    now = desk.clock.now()
    for one in group.chain():
        expires_at = one.definition.expires_at
        if expires_at is not None and now > expires_at and not one.is_over:
            asked = UndoAsked(scope_id=one.scope_id, reason="deadline")
            yield from undo(desk, shared, part, asked)
            one.is_over = True
            raise rolled_back(nested_result(desk, shared, one))


def nested_result(desk: Desk, shared: Shared, group: Group) -> TransactionResult:
    """Return the outcome so far of a nested transaction."""
    with shared.lock:
        durable = desk.store.is_durable
        result = scope_result(shared.saga, group.scope_id, durable=durable)
    if group.is_over and group.scope_id not in shared.saga.scopes:
        return result.model_copy(update={"state": ROLLED_BACK, "waiting": None})
    return result


def _take_back(
    desk: Desk, shared: Shared, step_id: str, interrupt: BaseException, *, is_in_force: bool
) -> Procedure[None]:
    """Undo a step whose caller was cancelled, and cannot know that it has happened."""
    part = Part(shared.run.transaction_id, is_callers=False)
    try:
        if is_in_force:
            yield from undo(desk, shared, part, UndoAsked(step_id=step_id, reason="cancelled"))
        else:
            # Its undo may have been decided already, and has to wait for others.
            yield from attend(desk, shared, part, [], StepsInterest((step_id,)))
    except TransactionError as error:
        # Why no more: the whole goes back, or is behind its commit point; the cancellation is
        # what is raised.
        interrupt.add_note(str(error))


def undo(desk: Desk, shared: Shared, part: Part, asked: UndoAsked) -> Procedure[None]:
    """Undo a part, and wait until it is undone.

    Raises:
        UndoRefused: Something in force depends on it.
        TransactionRolledBack: An undo failed, so that the whole went back.
    """
    if not shared.is_begun:
        return
    undoing = partial(shared.undo, desk, part, asked)
    names: tuple[str, ...] = yield DoTurn(desk, shared.lock, undoing, part)
    shared.announce(desk)
    if names:
        yield from attend(desk, shared, part, [], StepsInterest(names))
    if part.interrupt is not None:
        raise part.interrupt
    if shared.saga.state is not ACTIVE:
        result = desk.result_of(shared.run)
        raise rolled_back(result) if result.is_final else TransactionNotFinal(result)


def release(desk: Desk, shared: Shared, part: Part, group: Group) -> Procedure[None]:
    """Commit a nested transaction into what it stands in."""
    yield from _refuse_late(desk, shared, part, group)
    shared.place(group)
    yield from attend(desk, shared, part, [], GroupInterest(group.scope_id))
    if part.interrupt is not None:
        raise part.interrupt
    if shared.saga.state not in (PENDING, ACTIVE):
        raise rolled_back(desk.result_of(shared.run))
    with shared.lock:
        scope = shared.saga.scopes.get(group.scope_id)
        left = [] if scope is None else unsettled_in(shared.saga, scope)
    if left:
        raise InvalidTransactionState(
            f"{shared.run.transaction_id}.{group.scope_id}",
            "not settled",
            "commit",
            f"A person must say what becomes of {', '.join(left)} first, or allow it; or undo it.",
        )
    scopes = group.definitions()
    turn = partial(shared.turn, desk, part, [ScopeEnded(scopes)], NoInterest())
    yield DoTurn(desk, shared.lock, turn, part)


def settle(desk: Desk, shared: Shared, part: Part) -> Procedure[None]:
    """Take a transaction whose program died, and settle what is in doubt."""
    yield from attend(desk, shared, part, [], DoubtsInterest())


def see_to(desk: Desk, shared: Shared, part: Part, step_id: str) -> Procedure[None]:
    """Carry out a step that was asked for before, and that nobody waits for here."""
    yield from attend(desk, shared, part, [], StepInterest(step_id), patience=Patience(0))
