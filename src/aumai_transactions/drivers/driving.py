"""The loop that carries a transaction out.

Owns: the order of durable writes and calls. What to do is the core's decision, how to wait is
the driver's. A procedure yields operations and gets their answers.
Rules:
  1. Order matters: entries are durable before any call that they announce is made, and before
     any caller's object shows them.
  2. An append that was answered *moved* is decided again on what the journal says now.
  3. A driver that was answered *fenced* stops at once and acts no more.
  4. A short wait is slept through; before a long one the transaction is let go of (parked), so
     that it holds nothing but its place in the journal, and anybody can go on with it.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from aumai_transactions.core.decider import advance, decide
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import holdings_of, reads_to_check
from aumai_transactions.core.locking import is_out_of_line
from aumai_transactions.core.observations import (
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    Observation,
    PlanGiven,
    RollbackCalled,
)
from aumai_transactions.core.outcome import is_runnable, show, summary_of
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.core.settling import is_awaited
from aumai_transactions.drivers.calling import call_of, with_draw
from aumai_transactions.drivers.desk import Desk, read_saga
from aumai_transactions.drivers.late import hand_in, late_returns
from aumai_transactions.drivers.leases import is_idle_claim, may_be_over, moment_of, see_whose
from aumai_transactions.drivers.looking import shown_locks, with_locks
from aumai_transactions.drivers.messages import annotate, our_bug, unavailable
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoCall,
    DoInbox,
    DoNext,
    DoSleep,
    DoStart,
    Ended,
    Inbox,
    Procedure,
    blocking,
)
from aumai_transactions.drivers.pauses import pause_of, seconds_left
from aumai_transactions.drivers.run import Run
from aumai_transactions.errors import InternalError, JournalConflict, StoreUnavailable
from aumai_transactions.store import Append, AppendAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aumai_transactions.calls import Answered
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.models import TransactionResult

FIRST_PAUSE_SECONDS = 0.02
LAST_PAUSE_SECONDS = 0.5

# Why names for members: Python 3.11 looks a member up on its enum slowly.
APPENDED = AppendAnswer.appended
ALREADY_OURS = AppendAnswer.already_ours
MOVED = AppendAnswer.moved
HELD = AppendAnswer.held
FENCED = AppendAnswer.fenced
BLOCKED = AppendAnswer.blocked


class HeldByAnother(Exception):
    """Say that a living driver holds the transaction."""


class TakenUp(JournalConflict):
    """Say that another process goes on with what an engine has kept of a transaction."""


class NothingToDo(Exception):
    """Say that a driver which serves some would claim a transaction, and that would be all."""


def decide_and_evolve(desk: Desk, run: Run, seen: Observation) -> list[Entry]:
    """Return what must be recorded about one observation, and let the run's saga say it."""
    entries = decide(run.saga, seen, desk.clock.now())
    for entry in entries:
        evolve(run.saga, entry)
    return entries


def take_turn(
    desk: Desk, run: Run, seen: list[Observation], *, claims: bool, stays: bool = False
) -> Procedure[list[Call]]:
    """Decide on what was seen, make it durable, and return the calls to make.

    Args:
        desk: The manager's.
        run: The transaction.
        seen: What was seen.
        claims: True where this takes the transaction.
        stays: True to keep it in hand although nothing is to be done now.

    Raises:
        StoreUnavailable: It could not be recorded, or nobody knows whether it was.
        JournalConflict: Somebody else has it by now.
        HeldByAnother: Somebody else has it, and this would have taken it.
        NothingToDo: Nothing of it is for those whom this driver serves.
    """
    while True:
        calls: list[Call] = []
        run.planned_at = now = desk.clock.now()
        run.look_at = None
        asked = moment_of(desk)
        try:
            entries, calls = advance(run.saga, seen, now, run.parallel_max, run.serves)
            if run.saga.locks is not None and run.saga.locks.look:
                table = yield from shown_locks(desk, run)
                if not entries and is_out_of_line(run.saga.transaction_id, run.holdings, table):
                    # Somebody has appended that it does not stand in line any more.
                    yield from _reread(desk, run, seen)
                    continue
                more, further = with_locks(run, table, now)
                entries, calls = [*entries, *more], [*calls, *further]
        except IllegalEntry as error:
            raise our_bug(run, error) from error
        if not entries:
            return calls
        if claims and not calls and run.serves is not None and is_idle_claim(run, entries):
            raise NothingToDo
        leaves = not stays and not calls and pause_of(desk, run) is None
        begun = 0.0
        if desk.telemetry is not None:
            entries, begun = desk.telemetry.begin_spans(run, entries), perf_counter()
        append = _built(desk, run, entries, claims=claims, release=leaves)
        answer = _answer_at_once(desk, append)
        if answer is None:
            answer = yield from _until_answered(append, run)
        if desk.telemetry is not None:
            desk.telemetry.time(begun)
        _take(run, append, answer, claims=claims)
        if answer is not MOVED and answer is not BLOCKED:
            run.is_released = leaves
            _told(desk, run, entries)
            if calls and may_be_over(desk, asked):
                yield from see_whose(desk, run)
            return calls
        yield from _reread(desk, run, seen, is_blocked=answer is BLOCKED)


def _told(desk: Desk, run: Run, entries: Sequence[Entry]) -> None:
    """Let the caller's object and whoever listens know what is durable now."""
    if run.transaction is not None:
        show(run.saga, run.transaction, run.models)
    if desk.on_event is not None or desk.telemetry is not None:
        desk.announce(run, entries)


def stop(
    desk: Desk, run: Run, seen: list[Observation], *, claims: bool, release: bool = True
) -> Procedure[None]:
    """Record what was seen, plan nothing, and let go: others go on from there.

    Args:
        desk: The manager's.
        run: The transaction.
        seen: What was seen.
        claims: True where this takes the transaction.
        release: False to keep it in hand yet, for calls are under way.
    """
    while True:
        # Where nothing was seen, to let go is all there is to be written.
        seen = seen or [DriverArrived(desk.driver_id)]
        claims = claims or isinstance(seen[0], DriverArrived)
        entries = [entry for one in seen for entry in decide_and_evolve(desk, run, one)]
        if not entries and not release:
            return
        append = _built(desk, run, entries, claims=claims, release=release)
        answer = _answer_at_once(desk, append)
        if answer is None:
            answer = yield from _until_answered(append, run)
        _take(run, append, answer, claims=claims)
        if answer is not MOVED:
            _told(desk, run, entries)
            return
        yield from _reread(desk, run, seen)


def drive(desk: Desk, run: Run, seen: list[Observation]) -> Procedure[TransactionResult]:
    """Decide, record, act, and again, until nothing is left to be done here and now."""
    crew = _Crew()
    try:
        return (yield from _drive(desk, run, seen, crew))
    except TakenUp:
        yield from _record_known(desk, run)
        raise
    except (JournalConflict, StoreUnavailable) as error:
        # Why none left behind: whoever goes on, in this process too, would act beside a live call.
        # Why unrecorded only if taken over: else, what was written may have become durable.
        seen = run.unrecorded if isinstance(error, JournalConflict) else []
        yield from _tell_late(desk, run, crew, list(seen))
        raise


def _record_known(desk: Desk, run: Run) -> Procedure[None]:
    """Record what a process had seen before it died, and let go of what it had.

    Why under its token: nobody else has claimed it since, or this is refused; and what is known
    must not be taken for unknown.
    """
    seen = run.unrecorded
    if not run.token or not seen:
        return
    yield from _reread(desk, run, seen)
    # Why a look: the process may have recorded it, and have died before the engine heard of that.
    seen = [one for one in seen if is_awaited(run.saga, one)]
    if seen:
        yield from stop(desk, run, seen, claims=False)


def _tell_late(desk: Desk, run: Run, crew: _Crew, seen: list[Observation]) -> Procedure[None]:
    """Wait for the calls in hand, and journal as late what they answer and what was seen."""
    while crew.under_way:
        seen += yield from crew.next(desk, run, is_timed=False)
    for answer in late_returns(run.saga, seen):
        yield from blocking(partial(hand_in, desk, run.transaction_id, answer))


def _drive(
    desk: Desk, run: Run, seen: list[Observation], crew: _Crew
) -> Procedure[TransactionResult]:
    claims = True
    while True:
        run.unrecorded = seen
        if run.interrupt is not None and not run.is_callers:
            yield from stop(desk, run, seen, claims=claims, release=not crew.under_way)
            if not crew.under_way:
                break
            claims = False
            seen = yield from crew.next(desk, run)
            continue
        calls = yield from take_turn(desk, run, seen, claims=claims, stays=crew.under_way > 0)
        claims, run.unrecorded = False, []
        if len(calls) == 1 and not crew.under_way and not run.saga.waiting:
            call = call_of(desk, run, run, calls[0])
            if not isinstance(call, DoCall):
                seen = [call]
            else:
                answer, error = yield call
                seen = _seen(desk, run, calls[0], answer, error)
            continue
        missing = []
        for command in calls:
            missing += yield from crew.start(desk, run, command)
        if missing:
            seen = missing
        elif crew.under_way:
            seen = yield from crew.next(desk, run)
        elif (pause := pause_of(desk, run)) is not None:
            # Why before it, too: a cancellation may have come while this was being recorded.
            seen = _cancelled(run)
            if not seen:
                yield DoSleep(pause, run)
                seen = _cancelled(run)
        else:
            if run.look_at is not None and not run.is_released:
                yield from stop(desk, run, [], claims=False)
            break
    run.result = desk.result_of(run)
    if run.interrupt is not None:
        annotate(run.interrupt, run.result)
        raise run.interrupt
    return run.result


class _Crew:
    """Hold the calls of one transaction that are under way at the same time."""

    def __init__(self) -> None:
        self.inbox: Inbox | None = None
        self.under_way = 0

    def start(self, desk: Desk, run: Run, command: Call) -> Procedure[list[Observation]]:
        """Start a call; return what was seen where nobody here can make it."""
        call = call_of(desk, run, run, command)
        if not isinstance(call, DoCall):
            return [call]
        if self.inbox is None:
            self.inbox = yield DoInbox()
        yield DoStart(command, call, self.inbox)
        self.under_way += 1
        return []

    def next(self, desk: Desk, run: Run, *, is_timed: bool = True) -> Procedure[list[Observation]]:
        """Wait until a call has ended, or a time has come; return what was seen."""
        if self.inbox is None:
            raise InternalError("something is waited for that was not started.")
        seconds = seconds_left(desk, run) if is_timed else None
        ended: Ended | None = yield DoNext(self.inbox, seconds, run)
        if ended is None:
            return _cancelled(run)
        self.under_way -= 1
        if isinstance(ended.answer, HandlerMissing):
            return [ended.answer]
        return _seen(desk, run, ended.call, ended.answer, ended.error)


def _seen(
    desk: Desk, run: Run, call: Call, answer: Answered, raised: BaseException | None
) -> list[Observation]:
    """Return what was seen of a call, and keep what only this process knows."""
    if raised is not None:
        _remember(run, call, raised)
    elif call.operation == "action" and run.causes:
        # Why: what an earlier attempt raised is not why the transaction fails later.
        run.causes.pop(call.step.step_id, None)
    if isinstance(answer, HandlerReturned) and run.interrupt is None:
        return [answer]  # As nearly every call; it needs no draw, and nobody was cancelled.
    observation = with_draw(desk, answer)
    is_cancelled = isinstance(observation, HandlerRaised) and observation.outcome == "cancelled"
    if call.operation == "action" and is_cancelled:
        # What is recorded about the step says so as well.
        run.is_cancelled = True
    return [observation, *_cancelled(run)]


def _cancelled(run: Run) -> list[Observation]:
    """Return the wish to go back that a cancellation stands for, once.

    Also where it goes back already: an undo could revoke that.
    """
    if run.interrupt is None or run.is_cancelled:
        return []
    run.is_cancelled = True
    if run.saga.state.is_final or not run.is_callers:
        return []
    return [RollbackCalled(note=type(run.interrupt).__name__, reason="cancelled")]


def append_request(
    desk: Desk, run: Run, entries: Sequence[Entry], append_id: str | None = None
) -> Procedure[AppendAnswer]:
    """Make durable what needs no token, and what the run's saga has said already."""
    append = _built(desk, run, entries, claims=False, release=False)
    append = append._replace(append_id=append_id or append.append_id)
    answer = yield from _until_answered(append, run)
    _take(run, append, answer, claims=False)
    if run.interrupt is not None:
        # Why here: nothing follows with this run that would raise it.
        raise run.interrupt
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
    holdings = None if saga.locks is None else holdings_of(saga)
    return Append(
        run.transaction_id,
        saga.sequence - len(entries),
        desk.append_id(),
        entries,
        summary_of(saga),
        saga.token if claims else (run.token or None),
        desk.driver_id if claims else None,
        release,
        # Why also where it lets go: what it waits for may have become free just now.
        None if holdings == run.holdings and not release else holdings,
        () if saga.locks is None else reads_to_check(saga, entries),
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
    answer: AppendAnswer = MOVED
    while True:
        try:
            answer = yield DoAppend(append, run)
            break
        except StoreUnavailable as error:
            # Why the very same append again: its entry ids tell whether the first one had
            # become durable (invariant I13); guessing would be wrong either way.
            pause = pause * 4 or FIRST_PAUSE_SECONDS
            if pause > LAST_PAUSE_SECONDS:
                raise unavailable(run, error) from error
        yield DoSleep(pause)
    return answer


def _take(run: Run, append: Append, answer: AppendAnswer, *, claims: bool) -> None:
    """Draw the consequences of an answer.

    Raises:
        HeldByAnother: The append held a claim, and a living driver has the transaction.
        JournalConflict: A higher token is in force.
    """
    if answer is APPENDED or answer is ALREADY_OURS:
        run.sequence = run.saga.sequence
        if append.holdings is not None:
            run.holdings = tuple(append.holdings)
        if claims:
            run.token = run.saga.token
    elif answer is HELD:
        raise HeldByAnother
    elif answer is FENCED:
        raise JournalConflict(run.transaction_id, "somebody else has claimed it since")


def _reread(
    desk: Desk, run: Run, seen: Sequence[Observation], *, is_blocked: bool = False
) -> Procedure[None]:
    """Take up what somebody else has appended; what was seen is decided upon again.

    Args:
        desk: The manager's.
        run: The transaction.
        seen: What was seen.
        is_blocked: True where somebody else has taken a resource, and the journal is as it was.
    """
    run.holdings = None
    if is_blocked and run.sequence == 0:
        run.saga = Saga(run.transaction_id)  # Nothing of it stands in the journal yet.
        return
    saga = yield from read_saga(desk, run.transaction_id)
    run.terms.check_sequence(saga)
    if is_blocked and (saga.token == run.token or not run.token):
        run.saga = saga
        return
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
        saga.touched.extend(range(len(saga.steps)))


def _remember(run: Run, command: Call, error: BaseException) -> None:
    """Keep an exception for the result, and an interrupt to be raised again."""
    if command.operation == "action":
        run.causes[command.step.step_id] = error
    if not isinstance(error, Exception):
        run.interrupt = error
