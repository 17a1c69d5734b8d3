"""How procedures are carried out by the workflows of somebody else's engine.

Owns: the fourth way to carry out operations, beside threads, tasks and the simulator: one execution
of a workflow that carries one transaction on. The rules are the core's, the procedures the
drivers'.
Rules:
  1. Each append, each read, each call and each short wait is a step of the engine (`recording.py`);
     between two steps nothing is looked at that a replay would see otherwise.
  2. A call is made only where the step before it, which wrote its intent, was carried out in this
     very execution, so that no engine makes it twice. In any other the transaction is claimed anew.
  3. Each execution is a driver of its own, which has left when the execution ends: then what it
     held can be claimed at once.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.calls import attempt_of, late
from aumai_transactions.clock import Since, waited
from aumai_transactions.core.isolation import awaits_locks
from aumai_transactions.core.observations import HandlerMissing
from aumai_transactions.core.outcome import is_runnable
from aumai_transactions.core.planning import wake_at
from aumai_transactions.drivers.asking import recover_one
from aumai_transactions.drivers.desk import Desk, read_run
from aumai_transactions.drivers.hooks import Hooks
from aumai_transactions.drivers.late import hand_in
from aumai_transactions.drivers.leases import may_be_over
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoCall,
    DoInbox,
    DoNext,
    DoSleep,
    DoStart,
    Ended,
    Operations,
    Procedure,
)
from aumai_transactions.drivers.recording import (
    RecordedClock,
    RecordedStore,
    Recorder,
    answer_kept,
    kept_answer,
)
from aumai_transactions.drivers.run import Book, Run
from aumai_transactions.drivers.threads import ThreadInbox, ThreadRunner
from aumai_transactions.engine import Execution, ExecutionStopped
from aumai_transactions.errors import (
    InternalError,
    JournalConflict,
    StoreError,
    StoreUnavailable,
)
from aumai_transactions.models import TransactionResult

if TYPE_CHECKING:
    from aumai_transactions.calls import Answered
    from aumai_transactions.clock import Clock
    from aumai_transactions.drivers.background import LoopThread
    from aumai_transactions.models import Event

log = logging.getLogger("aumai_transactions")

FIRST_WAIT_SECONDS = 0.05
LAST_WAIT_SECONDS = 5.0
"""How long is waited for others, at first and at most; each time it is twice as long."""


class Turned(NamedTuple):
    """Say what is left to do where a transaction was carried on as far as it goes.

    Args:
        ended: How it stands, where nothing is left that this workflow could wait for.
        seconds: How long until it is due; None where it is others that are waited for.
        sequence: How far its journal goes.
    """

    ended: str | None
    seconds: float | None = None
    sequence: int = 0


def carried_on(desk: Desk, name: str) -> Procedure[Turned]:
    """Carry a transaction on as far as it goes now."""
    outcome = yield from recover_one(desk, name)
    if isinstance(outcome, list):
        return Turned(f"parked: no handler for {', '.join(outcome)}")
    if isinstance(outcome, TransactionResult) and outcome.is_final and outcome.waiting is None:
        return Turned(outcome.state.value)
    run = yield from read_run(desk, name)
    saga = run.saga
    if not is_runnable(saga):
        return Turned(f"{saga.state.value}: left to a person")
    due = wake_at(saga)
    if outcome is None or due is None or awaits_locks(saga):
        return Turned(None, None, saga.sequence)
    return Turned(None, max(0.0, (due - desk.clock.now()) / 1_000_000), saga.sequence)


class HostedInbox(ThreadInbox):
    """Take in what the calls of one transaction answer that run at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[int, tuple[DoStart, int]] = {}
        self.started = 0

    def number_of(self, ended: Ended) -> int:
        """Return which call has ended."""
        return next(n for n, (start, _) in self.under_way.items() if start.call is ended.call)


class HostedRun(ThreadRunner):
    """Carry one transaction on in one execution of a workflow.

    Args:
        desk: The manager's.
        execution: The execution.
        transaction_id: The transaction.
        loop_thread: Where async handlers run.
    """

    def __init__(
        self,
        desk: Desk,
        execution: Execution,
        transaction_id: str,
        loop_thread: LoopThread,
    ) -> None:
        super().__init__(desk.clock, loop_thread, lambda: self.desk)
        self._real = desk
        self._execution = execution
        self._name = transaction_id
        self._driver_id: str | None = None
        self._asked = Since.now()
        self._inboxes: list[HostedInbox] = []
        self._guard = threading.Lock()
        self._is_over = False
        self._steps = Recorder(execution, transaction_id, self._arrive, self._act_as, desk.clock)
        clock: Clock = RecordedClock(self._steps, desk.clock)
        store: Any = RecordedStore(desk.store, self._steps)
        self.desk = Desk(
            store=store,
            driver_id="",
            registry=desk.registry,
            book=Book(keeps_all=False),
            clock=clock,
            strict=desk.strict,
            on_event=None if desk.on_event is None else _LiveHooks(desk.on_event, self._steps),
            action_source=desk.action_source,
            # Why seeded: a replay must draw the same.
            draw=random.Random(execution.workflow_id).random,  # noqa: S311 (the jitter of waits)
            nonce=execution.workflow_id,
            parallel_max=desk.parallel_max,
        )

    def to_the_end(self) -> str:
        """Carry the transaction on until it has ended or needs a person; return how it stands."""
        pause, seen = FIRST_WAIT_SECONDS, 0
        while True:
            try:
                turned = self.run(carried_on(self.desk, self._name))
            except JournalConflict:
                continue  # Who arrives comes this way, and who was replaced.
            except StoreUnavailable:
                turned = Turned(None, None, seen)
            if turned.ended is not None:
                return turned.ended
            if turned.seconds:
                self._execution.wait(turned.seconds)
                continue
            pause = FIRST_WAIT_SECONDS if turned.sequence != seen else pause
            seen = turned.sequence
            self._execution.wait(pause)
            pause = min(2 * pause, LAST_WAIT_SECONDS)

    def leave(self) -> None:
        """Let go of everything; what calls answer from now on is journaled as late."""
        with self._guard:
            self._is_over = True
        for inbox in self._inboxes:
            while (ended := inbox.take()) is not None:
                self._hand_in(ended.call.step, ended.call.operation, ended.answer)
        driver_id, self._driver_id = self._driver_id, None
        if driver_id is not None:
            self._real.hosted.discard(driver_id)
            with contextlib.suppress(StoreError):
                self._real.store.leave(driver_id)

    def _arrive(self) -> str:
        if self._driver_id is None:
            self._driver_id = self._real.store.join()
            self._real.hosted.add(self._driver_id)
        return self._driver_id

    def _act_as(self, driver_id: str) -> None:
        self.desk.driver_id = driver_id

    def _perform(self, operation: Operations) -> object:
        is_between = isinstance(operation, (DoAppend, DoBlocking, DoSleep))
        if is_between and self._execution.is_ending:
            # Why not before a call: its intent is durable, so that it would be in doubt.
            raise ExecutionStopped
        match operation:
            case DoCall():
                return self._called(operation)
            case DoAppend():
                self._asked = Since.now()
                return self.desk.store.append((operation.append,))[0]
            case DoBlocking():
                return operation.function()
            case DoSleep():
                self.desk.clock.sleep(operation.seconds)
                return None
            case DoInbox():
                self._inboxes.append(HostedInbox())
                return self._inboxes[-1]
            case DoStart():
                self._begin(operation)
                return None
            case DoNext():
                return self._following(operation)
            case _:
                message = f"{type(operation).__name__} was asked for in a workflow."
                raise InternalError(message)

    def _called(self, operation: DoCall) -> tuple[Answered, None]:
        """Call a handler in a step of its own."""
        step, kind = operation.step, operation.operation
        made: list[Answered] = []

        def work() -> Any:
            if may_be_over(self._real, self._asked):
                return None
            made.append(self.call(self._late_to_us(operation))[0])
            return kept_answer(made[0])

        name = f"{kind} {step.step_id} #{attempt_of(step, kind)}"
        try:
            kept = self._steps.step(name, work)
        except ExecutionStopped:
            for answer in made:
                self._hand_in(step, kind, answer)
            raise
        if kept is None:
            raise JournalConflict(self._name, "it may have been claimed by somebody else since")
        return answer_kept(kept), None

    def _late_to_us(self, operation: DoCall) -> DoCall:
        """Return the call with a way for late answers that leads past the engine's steps."""
        if operation.on_late is None:
            return operation
        return operation._replace(on_late=partial(hand_in, self._real, self._name))

    def _hand_in(self, step: Any, kind: Any, answer: Any) -> None:
        found = late(answer, attempt_of(step, kind))
        if found is not None:
            hand_in(self._real, self._name, found)

    def _begin(self, operation: DoStart) -> None:
        """Start a call beside others, but in a replay, where it was started long ago."""
        inbox = operation.inbox
        if not isinstance(inbox, HostedInbox):
            raise InternalError("a call was started at an inbox of somebody else.")
        inbox.under_way[inbox.started] = (operation, self._steps.arrivals)
        inbox.started += 1
        if self._steps.is_live:
            there = self._late_to_us(operation.operation)
            put = partial(self._put, inbox)
            self._start(operation._replace(operation=there, inbox=_Putting(put)))

    def _put(self, inbox: HostedInbox, ended: Ended | None) -> None:
        with self._guard:
            if not self._is_over or ended is None:
                inbox.put(ended)
                return
        self._hand_in(ended.call.step, ended.call.operation, ended.answer)

    def _following(self, operation: DoNext) -> Ended | None:
        """Wait, in a step of its own, for what comes first: the end of a call, or a time."""
        inbox = operation.inbox
        if not isinstance(inbox, HostedInbox):
            raise InternalError("somebody waits at an inbox of somebody else.")
        for number, (start, arrivals) in list(inbox.under_way.items()):
            if arrivals < self._steps.arrivals:
                # It died with the execution that made it. What is in doubt is settled elsewhere.
                del inbox.under_way[number]
                lost = HandlerMissing(start.call.step.step_id, start.call.operation)
                return Ended(start.call, lost, None)

        def work() -> Any:
            inbox.wait(operation.seconds)
            if inbox.is_empty and operation.seconds is not None:
                waited(self._clock, operation.seconds)
            ended = inbox.take()
            if ended is None:
                return None
            return [inbox.number_of(ended), kept_answer(ended.answer)]  # type: ignore[arg-type]

        found = self._steps.step("wait for calls", work)
        if found is None:
            return None
        number, kept = found
        start, _ = inbox.under_way.pop(number)
        return Ended(start.call, answer_kept(kept), None)


class _LiveHooks(Hooks):
    """Tell hooks what is done, and not what is only replayed."""

    def __init__(self, hooks: Hooks, steps: Recorder) -> None:
        self._told = hooks
        self._steps = steps

    def tell(self, run: Run, event: Event) -> None:
        """Tell each hook."""
        if self._steps.is_live:
            self._told.tell(run, event)


class _Putting:
    """Be an inbox that hands on."""

    def __init__(self, put: Any) -> None:
        self.put = put
