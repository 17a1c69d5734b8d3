"""Whatever is asked of a transaction that somebody may be driving, here or elsewhere.

Owns: the way from a wish to its outcome, and how an outcome is waited for.
Rules:
  1. A wish is journaled as a request, and whoever drives the transaction hears it; where nobody
     does, this manager does, if it has all the handlers (invariant I14).
  2. Nothing is held while something is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

from aumai_transactions.core.entries import Answer
from aumai_transactions.core.isolation import awaits_locks, is_its_turn, names_wanted
from aumai_transactions.core.journal import load
from aumai_transactions.core.observations import (
    DriverArrived,
    Observation,
    ResolutionAnswered,
    RollbackCalled,
)
from aumai_transactions.core.outcome import is_runnable, needed_actions
from aumai_transactions.core.planning import wake_at
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.states import PENDING
from aumai_transactions.core.values import checked_name, is_one_of, shown
from aumai_transactions.credentials import missing_in
from aumai_transactions.drivers.ambient import CALLING
from aumai_transactions.drivers.desk import Desk, read_journal, read_run
from aumai_transactions.drivers.driving import (
    ALREADY_OURS,
    MOVED,
    HeldByAnother,
    NothingToDo,
    append_request,
    decide_and_evolve,
    drive,
)
from aumai_transactions.drivers.noticing import refuse_in_notice
from aumai_transactions.drivers.operations import DoSleep, Procedure, blocking
from aumai_transactions.drivers.run import Run
from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import DefinitionError, InvalidTransactionState, JournalConflict

if TYPE_CHECKING:
    from collections.abc import Container

    from aumai_transactions.core.entries import Entry
    from aumai_transactions.models import TransactionResult

WAIT_SECONDS_MAX = 30.0
"""How long a call waits for others, and for times to come, where it is not told how long."""

PAUSE_SECONDS_MAX = 0.25


WishesOf = Callable[[Saga], Sequence[Observation]]


class Noted(NamedTuple):
    """Tell how a wish stands in the journal.

    Args:
        run: The transaction, with the wish in it.
        is_replayed: True where it stood there before, by the same request.
    """

    run: Run
    is_replayed: bool


def ask(
    desk: Desk,
    transaction_id: str,
    wish: Observation,
    *,
    wait_max_seconds: float = WAIT_SECONDS_MAX,
) -> Procedure[TransactionResult]:
    """Journal what somebody asks for, see to it that it is done, and return the outcome.

    A living driver of the transaction, here or elsewhere, does it; where there is none, this
    manager does, if it has all the handlers. Else the wish stands in the journal until somebody
    who has them comes by.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        wish: What is asked for.
        wait_max_seconds: How long to wait, for a living driver or for the time of an attempt.
    """
    noted = yield from note(desk, transaction_id, lambda _: [wish])
    if not isinstance(wish, RollbackCalled) and has_program(noted.run.saga):
        # Why not waited for: what follows is its program's business, and may take its time.
        return desk.result_of(noted.run)
    until = waiting_until(desk, wait_max_seconds)
    # Why: an undo that somebody asked for is finished, whoever interrupts.
    goes_back = isinstance(wish, RollbackCalled)
    hosted = desk.host is not None
    return (
        yield from see_through(desk, transaction_id, until, others=hosted, is_callers=goes_back)
    )


def note(
    desk: Desk, transaction_id: str, wishes_of: WishesOf, terms: Terms = ANY
) -> Procedure[Noted]:
    """Journal what somebody asks for, and let whoever has the transaction here hear it.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        wishes_of: Given how it stands, return what is asked for: all of it, or nothing.
        terms: Which request it is, and on which sequence alone it counts.

    Raises:
        IdempotencyKeyReused: Something else was asked for under the same key.
        SequenceMoved: The journal has gone on; nothing was changed.
    """
    refuse_own_handler(desk, transaction_id)
    yield from _until_saved(desk, transaction_id)
    is_replayed = False
    while True:
        journal = yield from read_journal(desk, transaction_id)
        saga = load(journal)
        run = Run(transaction_id, saga, desk.registry, sequence=saga.sequence)
        if terms.request is not None and terms.request.is_in(journal):
            return Noted(run, is_replayed=True)
        terms.check_sequence(saga)
        entries: list[Entry] = []
        for wish in wishes_of(saga):
            _check_wish(wish)
            entries += decide_and_evolve(desk, run, wish)
        if not entries:
            break
        answer = yield from append_request(desk, run, entries, terms.append_id(desk))
        if answer is not MOVED:
            desk.announce(run, entries)
            is_replayed = answer is ALREADY_OURS
            break
    here = desk.book.run_of(transaction_id)
    if here is not None and here.shared is not None:
        here.shared.hear()
    elif desk.host is not None and is_runnable(run.saga):
        yield from blocking(partial(desk.host.wake, transaction_id))
    return Noted(run, is_replayed)


def _check_wish(wish: Observation) -> None:
    """Refuse what can be no step's name, and what is no answer."""
    step_id = getattr(wish, "step_id", None)
    if step_id is not None:
        checked_name(step_id, "step_id")
    if isinstance(wish, ResolutionAnswered):
        answers = get_args(Answer)
        if not is_one_of(wish.answer, answers):
            named = ", ".join(repr(answer) for answer in answers)
            raise DefinitionError(f"answer must be one of {named}, not {shown(wish.answer)}.")


def has_program(saga: Saga) -> bool:
    """Tell whether a program goes on with a transaction, as far as the journal knows."""
    return saga.is_interactive and saga.driver_id is not None and saga.awaiting_since is None


def refuse_own_handler(desk: Desk, transaction_id: str) -> None:
    """Refuse what a handler asks of its own transaction; it would wait for itself."""
    refuse_in_notice(transaction_id)
    # Why the run as well: a task that a handler started may outlive it.
    is_here = desk.host is not None or desk.book.run_of(transaction_id) is not None
    if transaction_id in CALLING.get() and is_here:
        raise InvalidTransactionState(
            transaction_id,
            "carrying out this very step",
            "be asked for anything from a handler of",
            "To make it go back, raise an exception in the handler.",
        )


def _until_saved(desk: Desk, transaction_id: str) -> Procedure[None]:
    """Wait until the first entries of a transaction that is being started here are durable."""
    while True:
        here = desk.book.run_of(transaction_id)
        if here is None or here.sequence > 0:
            return
        yield DoSleep(0.001)


def waiting_until(desk: Desk, wait_max_seconds: float) -> int:
    """Return until when to wait, microseconds since 1970 UTC."""
    return desk.clock.now() + round(wait_max_seconds * 1_000_000)


def see_through(
    desk: Desk,
    transaction_id: str,
    until: int | None,
    *,
    others: bool = False,
    is_callers: bool = False,
) -> Procedure[TransactionResult]:
    """Drive the transaction, or wait until whoever drives it has done with it.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        until: How long to wait, for a living driver or for the time of an attempt; microseconds
            since 1970 UTC, None for ever. What was asked for stands in the journal, and
            somebody will come to it.
        others: True to wait for others as well where this manager lacks the handlers.
        is_callers: True where an interrupt means that the transaction is not wanted any more.

    Raises:
        InvalidTransactionState: A handler of this very transaction asks; it would wait for itself.
    """
    refuse_own_handler(desk, transaction_id)
    pause = 0.001
    while True:
        here = desk.book.run_of(transaction_id)
        longest = PAUSE_SECONDS_MAX
        if here is None:
            run = yield from read_run(desk, transaction_id)
            drivable = _can_drive(desk, run)
            if not is_runnable(run.saga) or not (drivable or others):
                return desk.result_of(run)
            due = wake_at(run.saga)
            left = 0 if due is None else due - desk.clock.now()
            if left > 0 and awaits_locks(run.saga):
                left = 0 if (yield from _is_its_turn(desk, run)) else left
                longest = PAUSE_SECONDS_MAX
            if left > 0:
                may_answer = any(step.left_behind for step in run.saga.steps)
                if until is not None and due is not None and due > until and not may_answer:
                    return desk.result_of(run)
                may_answer = may_answer or bool(run.saga.approvals)
                longest = PAUSE_SECONDS_MAX if may_answer else _longest_pause(left)
            elif drivable:
                driven = yield from _taken_over(desk, run, until, is_callers=is_callers)
                if driven is not None and not waits_for_a_time(driven, run):
                    return driven
            elif desk.host is not None:
                nudge = partial(desk.host.nudge, transaction_id, run.saga.sequence)
                yield from blocking(nudge)
        if until is not None and desk.clock.now() >= until:
            run = yield from read_run(desk, transaction_id)
            return desk.result_of(run)
        pause = min(pause, longest)
        yield DoSleep(pause)
        pause *= 2
        result = here.result if here is not None and here.is_over else None
        if result is not None and not waits_for_a_time(result, here):
            # Why that run's own: it knows the exception that made it go back.
            return result


def _is_its_turn(desk: Desk, run: Run) -> Procedure[bool]:
    """Tell whether a transaction could have now what it waits for."""
    names = names_wanted(run.saga)
    table = yield from blocking(partial(desk.store.locks, names))
    return is_its_turn(run.saga, table)


def _taken_over(
    desk: Desk, run: Run, until: int | None, *, is_callers: bool = False
) -> Procedure[TransactionResult | None]:
    try:
        return (yield from take_over(desk, run, until, is_callers=is_callers))
    except (HeldByAnother, JournalConflict, InvalidTransactionState):
        return None  # Somebody else has it, and is waited for.


def waits_for_a_time(result: TransactionResult, run: Run | None) -> bool:
    """True where somebody has let go of a transaction until a time comes.

    Args:
        result: How it stood then.
        run: How it was driven here, if it was.
    """
    if run is not None and run.look_at is not None and not result.is_final:
        return True  # It stood in line; whatever it hears of meanwhile, it is looked at again.
    return result.waiting is not None and result.waiting.until is not None


def _longest_pause(left: int) -> float:
    # Why a part of it: so a wait of an hour costs a look every three minutes, and what somebody
    # else does meanwhile is seen in proportion to what is left.
    seconds = left / 1_000_000
    return min(seconds, max(PAUSE_SECONDS_MAX, seconds / 20))


def _can_drive(desk: Desk, run: Run) -> bool:
    if desk.host is not None:
        return False  # Its engine does.
    # Why pending may go back without handlers: nothing of it has run, so that in a process
    # that is not strict its undo is a dry run.
    if run.saga.state is PENDING and run.saga.rollback_requested and not desk.strict:
        return True
    return not missing_of(run)


def missing_of(run: Run) -> list[str]:
    """Return what finishing this transaction may need, and is not here.

    Why what asks too: a driver that cannot ask would undo what another could have found done, or
    take for undone what another could have found left.
    """
    serves = run.serves
    found = run.registry.missing(needed_actions(run.saga, serves))
    found += _secrets_missing(run)
    for index in run.saga.doubtful:
        step = run.saga.steps[index]
        definition = step.definition
        if not definition.policy.has_probe or step.probe_spent or definition.action in found:
            continue
        if serves is not None and definition.agent_id not in serves:
            continue
        if run.registry.find("probe", definition) is None:
            found.append(f"the probe of {definition.action}")
    for index in run.saga.undo:
        definition = run.saga.steps[index].definition
        if serves is not None and definition.agent_id not in serves:
            continue
        if definition.policy.has_verify and run.registry.find("verification", definition) is None:
            found.append(f"the verification of {definition.action}")
    return found


def _secrets_missing(run: Run) -> list[str]:
    """Return the secrets that a call may need which are not to be had here.

    Why: an undo that cannot be made for the want of one would be left to a person, although
    another process can make it.
    """
    serves = run.serves
    return [
        f"the secret {name}"
        for step in run.saga.steps
        if step.definition.secrets and (serves is None or step.definition.agent_id in serves)
        for name in missing_in(step.resolved_data, step.definition.secrets)
    ]


def take_over(
    desk: Desk, run: Run, until: int | None, *, is_callers: bool = False
) -> Procedure[TransactionResult]:
    """Claim a transaction that nobody drives, and drive it.

    Args:
        desk: The manager's.
        run: The transaction.
        until: How long to wait for times to come.
        is_callers: True where an interrupt means that the transaction is not wanted any more.

    Raises:
        HeldByAnother: A living driver holds it.
        JournalConflict: Somebody else claimed it meanwhile.
        InvalidTransactionState: It is driven in this process.
    """
    desk.book.enter(run, "take over")
    run.wait_until = until
    run.is_callers = is_callers
    try:
        takeover = run.saga.driver_id is not None
        return (yield from drive(desk, run, [DriverArrived(desk.driver_id, takeover)]))
    finally:
        leave(desk, run)


def leave(desk: Desk, run: Run) -> None:
    """Say that a run is not driven here any more."""
    if run.transaction is not None:
        desk.book.hold(run.transaction, run.sequence)
    desk.book.leave(run)


def recover_one(
    desk: Desk, transaction_id: str, agents: Container[str] | None = None
) -> Procedure[TransactionResult | list[str] | None]:
    """Finish a transaction that nobody drives.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        agents: Only calls on behalf of these are made; None for all.

    Returns:
        Its outcome; or the names of the actions that it needs and that are missing here, none of
        them where it waits for an agent that is not served here; or None where somebody else has
        it, or nothing is to be done.
    """
    if desk.book.run_of(transaction_id) is not None:
        return None
    run = yield from read_run(desk, transaction_id)
    due = wake_at(run.saga)
    now = desk.clock.now()
    if not is_runnable(run.saga):
        return None
    # Why not where it waits for resources: the store knows better when it is its turn.
    if due is not None and due > now and not awaits_locks(run.saga):
        return desk.result_of(run)
    run.serves = agents
    missing = missing_of(run)
    if missing:
        return missing
    try:
        return (yield from _taken_over(desk, run, now, is_callers=False))
    except NothingToDo:
        return []
