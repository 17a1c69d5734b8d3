"""What commands that carry out transactions share.

Owns: progress, Ctrl-C, and the report at the end.
Rules:
  1. The first Ctrl-C interrupts the call that is running; the command ends once all is undone.
  2. The second one ends the process at once, as kill -9 would; `recover` goes on from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from aumai_transactions.cli.exits import PERSONAL, Code, code_of, needs_person
from aumai_transactions.cli.progress import Progress
from aumai_transactions.cli.session import Session
from aumai_transactions.cli.story import outcome_lines
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.outcome import Summary
from aumai_transactions.core.times import instant
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import TransactionNotFound
from aumai_transactions.models import Transaction, TransactionResult, TransactionState
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import actions_of, when

PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 0.5

Start = Callable[[TransactionManager], Transaction]
Work = Callable[[TransactionManager, Transaction], TransactionResult]
Judge = Callable[[TransactionResult], Code]


def stored(transaction_id: str) -> Start:
    """Return what reads a transaction of the store."""
    return lambda manager: manager.get_transaction(transaction_id)


def drive(
    session: Session,
    start: Start,
    work: Work,
    judge: Judge = code_of,
    *,
    goes_back: bool = True,
    patience: float | None = 0,
) -> Code:
    """Carry out one transaction, show how it goes, and tell how it ended.

    Args:
        session: The store.
        start: Begins the transaction, or reads it.
        work: What to do with it.
        judge: What the outcome means for the exit code.
        goes_back: False where Ctrl-C only ends the waiting.
        patience: How long it may take until a person has allowed a step, in seconds from now on;
            None for ever.
    """
    is_interrupted = False
    began = SystemClock().now()
    try:
        with watched(session) as (manager, progress):
            transaction = start(manager)
            name = transaction.transaction_id
            try:
                result = work(manager, transaction)
                # Why only now: what is no number of seconds has been refused by then.
                until = None if patience is None else began + round(patience * 1_000_000)
                result = _through_approvals(manager, progress, result, until)
            except Exception:
                raise
            except BaseException as raised:  # noqa: BLE001 (Ctrl-C, or a handler that exits)
                is_interrupted = isinstance(raised, KeyboardInterrupt)
                # Why: what was found by its key, and was not touched here, is somebody else's.
                is_ours = transaction.idempotency_key is None or name in progress.timelines
                result = _after_interrupt(session, manager, name, goes_back=goes_back and is_ours)
    finally:
        session.changed()
    tell(session, manager, result, progress.timelines.get(name))
    code = Code.interrupted if is_interrupted else judge(result)
    summary = session.summary_of(name)
    if summary is not None and summary.runnable:
        _tell_waiting(session, manager, transaction, result, summary)
        code = Code.unfinished if code is Code.done else code
    return code


@contextmanager
def watched(session: Session) -> Iterator[tuple[TransactionManager, Progress]]:
    """Give a manager whose work is shown, and may be interrupted, until the block ends."""
    settings = session.settings
    with Progress(settings.err, is_quiet=settings.is_quiet) as progress:
        manager = session.manager(progress)
        progress.read = manager.get_events
        progress.approve = lambda name, step: settings.command("approve", name, step)
        session.say = progress.say
        try:
            # Why the redirection: what a handler prints must not stand between the results.
            with interrupts(progress), redirect_stdout(sys.stderr):
                yield manager, progress
            # Why only there: where the result goes elsewhere, the last picture is what is left.
            if settings.out.is_terminal and not settings.as_json:
                progress.clear()
        finally:
            session.say = settings.err.say


def _through_approvals(
    manager: TransactionManager,
    progress: Progress,
    result: TransactionResult,
    until: int | None,
) -> TransactionResult:
    """Wait while a person is asked to allow a step, and go on once one has.

    Why here: for a manager, what waits for a person is done with; for somebody at a terminal the
    command goes on. Whoever allows it goes on with it where they have the handlers, else this does.
    """
    name, clock, pause = result.transaction_id, SystemClock(), PAUSE_SECONDS_MIN
    while result.waiting is not None and result.waiting.reason == "approval":
        left = None if until is None else (until - clock.now()) / 1_000_000
        if left is not None and left <= 0:
            break
        clock.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, PAUSE_SECONDS_MAX)
        result = manager.wait(name, timeout_seconds=0)
        waiting = result.waiting
        is_theirs = waiting is not None and waiting.reason in (*PERSONAL, "approval")
        if not result.is_final and not is_theirs:
            left = None if until is None else max((until - clock.now()) / 1_000_000, 0)
            result = manager.wait(name, timeout_seconds=left)
        progress.catch_up(name)
    return result


def _tell_waiting(
    session: Session,
    manager: TransactionManager,
    transaction: Transaction,
    result: TransactionResult,
    summary: Summary,
) -> None:
    """Say why something is still to be done, and who can do it."""
    missing = manager.actions.missing(
        name for name in actions_of(transaction) if name not in transaction.actions
    )
    if session.is_alive(result.transaction_id):
        session.settings.err.say("recorded; the living process that has it goes on with it")
        return
    if not missing and result.waiting is not None:
        if session.settings.as_json:  # Else the outcome has said it, with the commands to go on.
            session.settings.err.say(shown(result.waiting.detail))
        return
    why = f" No handler here for {', '.join(shown(name) for name in missing)}." if missing else ""
    at = "" if summary.due_at is None else f" at {when(instant(summary.due_at))}"
    command = session.settings.command("recover", app=bool(missing))
    session.settings.err.say(
        f"recorded, but not carried out yet.{why} Go on{at} with: {shown(command)}"
    )


def _after_interrupt(
    session: Session, manager: TransactionManager, transaction_id: str, *, goes_back: bool
) -> TransactionResult:
    """Undo what is not undone yet, and return the outcome.

    Why: an interrupt that arrives while a handler runs ends in a rollback; one that arrives
    between two calls leaves the transaction where it stands.
    """
    try:
        result = manager.get_result(transaction_id)
    except TransactionNotFound:
        raise KeyboardInterrupt from None
    has_begun = result.state is not TransactionState.pending
    if result.is_final or needs_person(result) or not has_begun:
        return result
    if not goes_back:
        session.say("interrupted: not waited for any longer; it stands as it stood")
        return result
    if result.state is TransactionState.committing:
        command = session.settings.command("recover")
        session.say(f"interrupted: its commit is decided, so nothing is undone; go on: {command}")
        return result
    return manager.rollback(manager.get_transaction(transaction_id))


def tell(
    session: Session,
    manager: TransactionManager,
    result: TransactionResult,
    timeline: Timeline | None,
) -> None:
    """Write the outcome to standard output."""
    settings = session.settings
    if settings.as_json:
        settings.out.say_json(result.model_dump(mode="json"))
        return
    # Why the state: where another process did it, this one has not seen all of it.
    if timeline is None or not timeline.steps or timeline.state is not result.state:
        name = result.transaction_id
        timeline = Timeline.of(name, manager.get_events(name))
    transaction = manager.get_transaction(result.transaction_id)
    is_alive = None if result.is_final else session.is_alive(result.transaction_id)
    lines = outcome_lines(settings, transaction, result, timeline, is_alive=is_alive)
    settings.out.say(*lines)


@contextmanager
def interrupts(progress: Progress) -> Iterator[None]:
    """Let the first Ctrl-C undo, and the second one end the process."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def arrived(_number: int, _frame: FrameType | None) -> None:
        if progress.is_interrupted:
            os.write(2, b"\nstopped at once; `aumai-transactions recover` goes on from here\n")
            os._exit(Code.interrupted)
        progress.is_interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, arrived)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
