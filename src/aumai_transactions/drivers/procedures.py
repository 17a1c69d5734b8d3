"""How a transaction is driven: every procedure of a manager, written once.

Owns: the order of durable writes and calls. What to do is the core's decision, how to wait is
the driver's. A procedure yields operations and gets their answers.
Rules:
  1. Order matters: entries are durable before any call that they announce is made, and before
     any caller's object shows them.
  2. An append that was answered *moved* is decided again on what the journal says now.
  3. A driver that was answered *fenced* stops at once and acts no more.
  4. Recovery, and whatever a person asks for, goes through `_drive` as well; there is no second
     way to act (invariant I14).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.decider import advance, decide
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    Observation,
    PlanGiven,
    RollbackCalled,
)
from aumai_transactions.core.outcome import is_runnable, needed_actions, show, summary_of
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.core.states import (
    ACTIVE,
    PENDING,
)
from aumai_transactions.core.values import clone
from aumai_transactions.drivers.desk import Desk, pending_run, read_run, read_saga
from aumai_transactions.drivers.freezing import frozen
from aumai_transactions.drivers.operations import DoAppend, DoCall, DoSleep, Procedure
from aumai_transactions.drivers.run import CALLING, Run
from aumai_transactions.errors import (
    InternalError,
    InvalidTransactionState,
    JournalConflict,
    StoreUnavailable,
    UnknownAction,
)
from aumai_transactions.store import Append, AppendAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aumai_transactions.core.commands import RunCompensation, RunStep
    from aumai_transactions.core.definition import Definition
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.models import Transaction, TransactionResult

FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 0.5
WAIT_PAUSE_SECONDS_MAX = 0.25
WAIT_SECONDS_MAX = 30.0

# Why names for members: Python 3.11 looks a member up on its enum slowly.
_APPENDED = AppendAnswer.appended
_ALREADY_OURS = AppendAnswer.already_ours
_MOVED = AppendAnswer.moved
_HELD = AppendAnswer.held
_FENCED = AppendAnswer.fenced


class HeldByAnother(Exception):
    """Say that a living driver holds the transaction."""


def commit(desk: Desk, transaction: Transaction, by: str = "") -> Procedure[TransactionResult]:
    """Carry a pending transaction out to its end, and return the outcome."""
    run = yield from pending_run(desk, transaction, "commit")
    definition = _frozen(desk, run, transaction)
    if desk.strict:
        _refuse_unknown(run, (step.action for step in definition.steps))
        _refuse_unknown(run, (step.compensating_action for step in definition.steps))
    return (yield from _drive_pending(desk, run, definition, CommitCalled(by)))


def save(desk: Desk, transaction: Transaction) -> Procedure[None]:
    """Make a pending transaction durable as it stands, without starting it."""
    run = yield from pending_run(desk, transaction, "save")
    definition = _frozen(desk, run, transaction)
    entries = decide_and_evolve(desk, run, PlanGiven(definition))
    if not entries:
        return
    answer = yield from _append(desk, run, entries)
    if answer is _MOVED:
        raise JournalConflict(
            run.transaction_id, "somebody else changed it while it was saved here"
        )
    desk.announce(run, entries)
    desk.book.hold(transaction, run.saga.sequence)


def rollback(desk: Desk, transaction: Transaction, by: str = "") -> Procedure[TransactionResult]:
    """Undo a pending or active transaction, and return the outcome."""
    name = transaction.transaction_id
    held = desk.book.get(name)
    if desk.book.run_of(name) is not None:
        return (yield from ask(desk, name, RollbackCalled(by)))
    if held is None:
        saga = yield from read_saga(desk, name)
        desk.book.hold(transaction, saga.sequence)
        return (yield from ask(desk, name, RollbackCalled(by)))
    if held.sequence > 0:
        saga = yield from read_saga(desk, name)
        # Why the caller's object where it is current: what was added to it since counts as well.
        if saga.state is not PENDING or saga.sequence != held.sequence:
            return (yield from ask(desk, name, RollbackCalled(by)))
    run = yield from pending_run(desk, transaction, "roll back")
    definition = _frozen(desk, run, transaction)
    if desk.strict:
        _refuse_unknown(run, (step.compensating_action for step in definition.steps))
    return (yield from _drive_pending(desk, run, definition, RollbackCalled(by)))


def ask(
    desk: Desk, transaction_id: str, wish: Observation, *, wait: bool = True
) -> Procedure[TransactionResult]:
    """Journal what somebody asks for, see to it that it is done, and return the outcome.

    A living driver of the transaction, here or elsewhere, does it; where there is none, this
    manager does, if it has all the handlers. Else the wish stands in the journal until somebody
    who has them comes by.

    Args:
        desk: The manager's.
        transaction_id: The transaction.
        wish: What is asked for.
        wait: True to wait for a living driver until it has done with the transaction.
    """
    # Why the run as well: a task that a handler started may outlive it.
    if transaction_id in CALLING.get() and desk.book.run_of(transaction_id) is not None:
        raise InvalidTransactionState(
            transaction_id,
            "carrying out this very step",
            "be asked for anything from a handler of",
            "To make it go back, raise an exception in the handler.",
        )
    yield from _until_saved(desk, transaction_id)
    while True:
        saga = yield from read_saga(desk, transaction_id)
        run = Run(transaction_id, saga, desk.registry, sequence=saga.sequence)
        entries = decide_and_evolve(desk, run, wish)
        if not entries:
            break
        answer = yield from _append(desk, run, entries)
        if answer is not _MOVED:
            desk.announce(run, entries)
            break
    return (yield from _see_through(desk, transaction_id, wait=wait))


def _until_saved(desk: Desk, transaction_id: str) -> Procedure[None]:
    """Wait until the first entries of a transaction that is being started here are durable."""
    while True:
        here = desk.book.run_of(transaction_id)
        if here is None or here.sequence > 0:
            return
        yield DoSleep(0.001)


def is_left_behind(desk: Desk, transaction: Transaction) -> bool:
    """Tell whether an interrupt has left this transaction half-way, and nobody drives it here."""
    under_way = not transaction.state.is_final and transaction.state is not PENDING
    return under_way and desk.book.run_of(transaction.transaction_id) is None


def cancel(desk: Desk, transaction: Transaction) -> Procedure[TransactionResult]:
    """Undo a transaction whose procedure was interrupted between two operations."""
    wish = RollbackCalled(note="interrupted", reason="cancelled")
    return (yield from ask(desk, transaction.transaction_id, wish, wait=False))


def recover_one(desk: Desk, transaction_id: str) -> Procedure[TransactionResult | list[str] | None]:
    """Finish a transaction that nobody drives.

    Returns:
        Its outcome; or the names of the actions that it needs and that are missing here; or
        None where somebody else has it, or nothing is to be done.
    """
    if desk.book.run_of(transaction_id) is not None:
        return None
    run = yield from read_run(desk, transaction_id)
    if not is_runnable(run.saga):
        return None
    missing = run.registry.missing(needed_actions(run.saga))
    if missing:
        return missing
    try:
        return (yield from _take_over(desk, run))
    except (HeldByAnother, JournalConflict, InvalidTransactionState):
        return None


def decide_and_evolve(desk: Desk, run: Run, seen: Observation) -> list[Entry]:
    """Return what must be recorded about one observation, and let the run's saga say it."""
    entries = decide(run.saga, seen, desk.clock.now())
    for entry in entries:
        evolve(run.saga, entry)
    return entries


def _see_through(desk: Desk, transaction_id: str, *, wait: bool) -> Procedure[TransactionResult]:
    """Drive the transaction, or wait until whoever drives it has done with it.

    A driver elsewhere is waited for up to `WAIT_SECONDS_MAX`; what was asked for stands in the
    journal, and it will come to it.
    """
    pause = 0.001
    waited = 0.0
    while True:
        here = desk.book.run_of(transaction_id)
        if here is None:
            run = yield from read_run(desk, transaction_id)
            if not is_runnable(run.saga) or not _can_drive(desk, run):
                return desk.result_of(run)
            try:
                return (yield from _take_over(desk, run))
            except (HeldByAnother, JournalConflict, InvalidTransactionState):
                if not wait or waited >= WAIT_SECONDS_MAX:
                    return desk.result_of(run)
                waited += pause
        yield DoSleep(pause)
        pause = min(pause * 2, WAIT_PAUSE_SECONDS_MAX)
        if here is not None and here.is_over and here.result is not None:
            return here.result


def _can_drive(desk: Desk, run: Run) -> bool:
    # Why pending may be driven without handlers: nothing of it has run, so that in a process
    # that is not strict its undo is a dry run.
    if run.saga.state is PENDING and not desk.strict:
        return True
    return not run.registry.missing(needed_actions(run.saga))


def _take_over(desk: Desk, run: Run) -> Procedure[TransactionResult]:
    desk.book.enter(run, "take over")
    try:
        takeover = run.saga.driver_id is not None
        return (yield from _drive(desk, run, [DriverArrived(desk.driver_id, takeover)]))
    finally:
        _leave(desk, run)


def _drive_pending(
    desk: Desk, run: Run, definition: Definition, wish: CommitCalled | RollbackCalled
) -> Procedure[TransactionResult]:
    desk.book.enter(run, "commit" if isinstance(wish, CommitCalled) else "roll back")
    try:
        seen: list[Observation] = [PlanGiven(definition), wish, DriverArrived(desk.driver_id)]
        return (yield from _drive(desk, run, seen))
    except HeldByAnother:
        raise JournalConflict(run.transaction_id, "somebody else is carrying it out") from None
    finally:
        _leave(desk, run)


def _leave(desk: Desk, run: Run) -> None:
    if run.transaction is not None:
        desk.book.hold(run.transaction, run.sequence)
    desk.book.leave(run)


def _drive(desk: Desk, run: Run, seen: list[Observation]) -> Procedure[TransactionResult]:
    """Decide, record, act, and again, until nothing is left to be done here."""
    claims = True
    while True:
        try:
            entries, calls = advance(run.saga, seen, desk.clock.now())
        except IllegalEntry as error:
            raise _our_bug(run, error) from error
        if entries:
            append = _built(desk, run, entries, claims=claims, release=not calls)
            answer = _answer_at_once(desk, append)
            if answer is None:
                answer = yield from _until_answered(append, run)
            _take(run, answer, claims=claims)
            if answer is _MOVED:
                yield from _reread(desk, run, seen)
                continue
            claims = False
            if run.transaction is not None:
                show(run.saga, run.transaction, run.models)
            if desk.on_event is not None:
                desk.announce(run, entries)
        if not calls:
            break
        call = _call_of(run, calls[0])
        if isinstance(call, HandlerMissing):
            seen = [call]
            continue
        observation, raised = yield call
        if raised is not None:
            _remember(run, calls[0], raised)
        seen = [observation]
        if run.interrupt is not None and not run.is_cancelled:
            run.is_cancelled = True
            if run.saga.state is ACTIVE and not _says_cancelled(seen[0]):
                seen.append(RollbackCalled(note=type(run.interrupt).__name__, reason="cancelled"))
    run.result = desk.result_of(run)
    if run.interrupt is not None:
        _annotate(run.interrupt, run.result)
        raise run.interrupt
    return run.result


def _our_bug(run: Run, error: IllegalEntry) -> InternalError:
    steps = [f"{step.step_id}: {step.state.value}" for step in run.saga.steps[-20:]]
    message = f"transaction {run.transaction_id} ({run.saga.state.value}) decided on an entry: "
    return InternalError(f"{message}{error}.", steps)


def _says_cancelled(seen: Observation) -> bool:
    return isinstance(seen, HandlerRaised) and seen.outcome == "cancelled"


def _append(desk: Desk, run: Run, entries: Sequence[Entry]) -> Procedure[AppendAnswer]:
    """Make requests or a plan durable that the run's saga has said already."""
    append = _built(desk, run, entries, claims=False, release=False)
    answer = yield from _until_answered(append, run)
    _take(run, answer, claims=False)
    return answer


def _built(
    desk: Desk, run: Run, entries: Sequence[Entry], *, claims: bool, release: bool
) -> Append:
    """Return the append of entries that the run's saga has said already.

    Args:
        desk: The manager's.
        run: The transaction.
        entries: What to append.
        claims: True where they hold a `Claimed`.
        release: True to let go of the transaction with them.
    """
    saga = run.saga
    return Append(
        run.transaction_id,
        saga.sequence - len(entries),
        desk.append_id(),
        entries,
        summary_of(saga),
        saga.token if claims else (run.token or None),
        desk.driver_id if claims else None,
        release,
    )


def _answer_at_once(desk: Desk, append: Append) -> AppendAnswer | None:
    """Append where nothing has to be waited for; None where something has."""
    if desk.store.is_blocking:
        return None
    try:
        return desk.store.append((append,))[0]
    except StoreUnavailable:
        return None


def _until_answered(append: Append, run: Run) -> Procedure[AppendAnswer]:
    """Append, and append the very same again while nobody knows whether it became durable.

    Raises:
        StoreUnavailable: It could not be done, or nobody knows; nothing more is done then.
    """
    pause = 0.0
    answer: AppendAnswer = _MOVED
    while True:
        try:
            answer = yield DoAppend(append, run)
            break
        except StoreUnavailable as error:
            # Why the very same append again: its entry ids tell whether the first one had
            # become durable (invariant I13); guessing would be wrong either way.
            pause = pause * 4 or FIRST_PAUSE_SECONDS
            if pause > LAST_PAUSE_SECONDS:
                raise _unavailable(run, error) from error
        yield DoSleep(pause)
    return answer


def _take(run: Run, answer: AppendAnswer, *, claims: bool) -> None:
    """Draw the consequences of an answer.

    Raises:
        HeldByAnother: The append held a claim, and a living driver has the transaction.
        JournalConflict: A higher token is in force.
    """
    if answer is _APPENDED or answer is _ALREADY_OURS:
        run.sequence = run.saga.sequence
        if claims:
            run.token = run.saga.token
    elif answer is _HELD:
        raise HeldByAnother
    elif answer is _FENCED:
        raise JournalConflict(run.transaction_id, "somebody else has claimed it since")


def _unavailable(run: Run, error: StoreUnavailable) -> StoreUnavailable:
    if run.token:
        what = (
            "No further step of it runs. Once the store works again, call recover() on this "
            "manager; or end this process, and then: aumai-transactions recover"
        )
    elif error.outcome_unknown:
        what = (
            "It may have been recorded all the same, so do not begin it a second time: once the "
            "store works again, call recover() on this manager, and then get_result()."
        )
    else:
        what = "Nothing of it has run; try again once the store works."
    return StoreUnavailable(
        f"the journal of transaction {run.transaction_id} could not be written: {error} {what}",
        outcome_unknown=error.outcome_unknown,
    )


def _reread(desk: Desk, run: Run, seen: Sequence[Observation]) -> Procedure[None]:
    """Take up what somebody else has appended; what was seen is decided upon again."""
    saga = yield from read_saga(desk, run.transaction_id)
    if any(isinstance(observation, PlanGiven) for observation in seen):
        # Why not the journal's: the caller's object does not show what stands there.
        run.sequence = run.sequence or 1
        raise JournalConflict(
            run.transaction_id, "somebody else changed it while it was being started here"
        )
    if run.token and saga.token != run.token:
        raise JournalConflict(run.transaction_id, "somebody else has claimed it since")
    if not run.token and (saga.token != run.saga.token - 1 or not is_runnable(saga)):
        raise HeldByAnother
    run.saga = saga
    run.sequence = saga.sequence
    if run.transaction is not None:
        saga.touched.extend(range(len(run.models)))


def _call_of(run: Run, command: RunStep | RunCompensation) -> DoCall | HandlerMissing:
    """Return the call that a command stands for; or that nobody here can make it."""
    step = command.step
    definition = step.definition
    operation = command.operation
    name = definition.action if operation == "action" else definition.compensating_action
    callee = run.registry.get(name)
    if callee is None:
        return HandlerMissing(definition.step_id, operation)
    return DoCall(callee, run, step, operation)


def _remember(run: Run, command: RunStep | RunCompensation, error: BaseException) -> None:
    """Keep an exception for the result, and an interrupt to be raised again."""
    if command.operation == "action":
        run.cause = error
    if not isinstance(error, Exception):
        run.interrupt = error


def _frozen(desk: Desk, run: Run, transaction: Transaction) -> Definition:
    definition = frozen(transaction, run.registry, desk.before_record)
    if desk.before_record is not None:
        for model, step in zip(transaction.steps, definition.steps, strict=True):
            model.data = clone(step.data)
    return definition


def _refuse_unknown(run: Run, names: Iterable[str | None]) -> None:
    missing = run.registry.missing(name for name in names if name is not None)
    if missing:
        raise UnknownAction(
            missing,
            run.transaction_id,
            "Register it with action_handlers= or @manager.action; on the command line, name the "
            "manager that has it with --app module:attribute. Nothing was run.",
        )


def _annotate(interrupt: BaseException, result: TransactionResult) -> None:
    """Say in a cancellation's note what became of the transaction."""
    left = ", ".join(item.step_id for item in result.outstanding)
    note = f"transaction {result.transaction_id} is {result.state.value}"
    interrupt.add_note(f"{note}; needs a person: {left}" if left else note)
