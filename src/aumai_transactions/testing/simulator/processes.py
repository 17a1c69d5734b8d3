"""How procedures are carried out by a simulated process.

Owns: the third driver, beside those of threads and of tasks: one process with its clock, its
handlers and its driver id, whose procedures go on when the agenda says so, and which can be
stopped for a while, or killed, at each operation.
Rules:
  1. What is carried out is the product's own procedures; nothing is decided here.
  2. A process that is killed takes with it everything that only it knew. Nothing of it is told
     to the store: what it held is free once its lease is over, or once its death is proved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.calls import call, late, raised, returned, timed_out
from aumai_transactions.drivers.append_queue import written
from aumai_transactions.drivers.choosing import Choice
from aumai_transactions.drivers.desk import Desk
from aumai_transactions.drivers.in_place import take_in_place
from aumai_transactions.drivers.late import handing_in
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoCall,
    DoInbox,
    DoNext,
    DoSleep,
    DoStart,
    DoTogether,
    DoTurn,
    Ended,
)
from aumai_transactions.drivers.recovery import recovered
from aumai_transactions.drivers.run import Book
from aumai_transactions.drivers.worker import RESERVE_SECONDS
from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.testing.simulator.agenda import SECOND, ProcessClock
from aumai_transactions.testing.simulator.interrupts import Interrupted
from aumai_transactions.testing.simulator.store import StoreHandle
from aumai_transactions.testing.simulator.together import Together

if TYPE_CHECKING:
    from aumai_transactions.drivers.operations import Attendant, Operations, Procedure
    from aumai_transactions.store import Append
    from aumai_transactions.testing.simulator.participants import Reply
    from aumai_transactions.testing.simulator.world import World

OnEnd = Callable[[Any, BaseException | None], None]

PAUSES_SECONDS = (0.5, 5.0, 15.0, 45.0, 150.0)
RESTART_SECONDS = (0.1, 2.0, 20.0)


class SimulatedManager(ManagerBase):
    """Be a manager whose procedures a simulated process carries out."""

    def _opened_desk(self, *, create: bool) -> Desk:
        raise NotImplementedError


class SimulatedInbox:
    """Take in what a procedure waits for."""

    def __init__(self, process: Process) -> None:
        self.items: deque[Ended | None] = deque()
        self.waiting: Task | None = None
        self.number = 0
        self._process = process

    def put(self, item: Ended | None) -> None:
        """Put something in; whoever waits goes on at the same instant, in their turn."""
        self.items.append(item)
        if self.waiting is not None:
            task, self.waiting = self.waiting, None
            self.number += 1
            self._process.world.agenda.after(0, self._take, task)

    def _take(self, task: Task) -> None:
        task.go_on(self.items.popleft() if self.items else None)

    def over(self, number: int) -> None:
        """Let whoever waits go on, for the time is over."""
        if self.waiting is not None and self.number == number:
            task, self.waiting = self.waiting, None
            self.number += 1
            task.go_on(None)


class Task:
    """Hold one procedure that a process carries out.

    Args:
        process: The process.
        procedure: What is carried out.
        on_end: Told what it returned or raised.
        attendant: Whom an interrupt of it reaches; None where none does.
    """

    __slots__ = ("attendant", "on_end", "procedure", "process")

    def __init__(self, process: Process, procedure: Procedure[Any], on_end: OnEnd) -> None:
        self.process = process
        self.procedure = procedure
        self.on_end = on_end
        self.attendant: Attendant | None = None

    def go_on(self, value: object = None, error: BaseException | None = None) -> None:
        """Give the procedure the answer to what it asked for, unless its process is gone."""
        process = self.process
        if not process.is_alive:
            return
        world = process.world
        if process.stopped_until > world.agenda.now:
            seconds = (process.stopped_until - world.agenda.now) / SECOND
            world.agenda.after(seconds, self.go_on, value, error)
            return
        if world.faults.hit("crash", process.name):
            process.crash()
            return
        if world.faults.hit("pause", process.name):
            seconds = world.faults.details("pause").choice(PAUSES_SECONDS)
            process.stop(seconds)
            world.agenda.after(seconds, self.go_on, value, error)
            return
        attendant = self.attendant
        if (
            attendant is not None
            and attendant.interrupt is None
            and world.faults.hit("interrupt", process.name)
        ):
            attendant.interrupt = Interrupted("it was interrupted")
        self.attendant = None
        try:
            if error is not None:
                operation = self.procedure.throw(error)
            else:
                operation = self.procedure.send(value)
        except StopIteration as done:
            process.tasks.pop(self, None)
            self.on_end(done.value, None)
        except (Exception, Interrupted) as failure:  # noqa: BLE001 (whoever began it decides)
            process.tasks.pop(self, None)
            self.on_end(None, failure)
        else:
            process.perform(self, operation)


class Process:
    """Be one process of a simulated world: a manager, and a worker.

    Args:
        world: The world.
        name: What it is called in the trace.
        concurrency: How many transactions its worker carries out at once; 0 for no worker.
    """

    def __init__(self, world: World, name: str, concurrency: int) -> None:
        self.world = world
        self.name = name
        self.concurrency = concurrency
        self.tasks: dict[Task, None] = {}
        self.is_alive = True
        self.stopped_until = 0
        self._appending: list[tuple[Append, Task]] = []
        self._busy: set[str] = set()
        dice = world.dice("process", name)
        self._dice = dice
        skew = 0
        if world.faults.hit("skew", self.name):
            skew = int(world.faults.details("skew").uniform(-120, 120) * SECOND)
        self.clock = ProcessClock(world.agenda, skew)
        self.handle = StoreHandle(world.store, world.agenda, world.faults, dice, name)
        self.driver_id = self.handle.join()
        world.owners[self.driver_id] = self
        self.manager = SimulatedManager(store=self.handle, clock=self.clock)
        self.manager._registry = world.registry  # noqa: SLF001 (made once for all worlds)
        self.desk = Desk(
            store=self.handle,
            driver_id=self.driver_id,
            registry=world.registry,
            book=Book(keeps_all=False),
            clock=self.clock,
            draw=dice.random,
            new_id=world.new_id,
            nonce=name,
            parallel_max=world.settings.parallel_max,
        )
        self.manager._opened = self.desk  # noqa: SLF001 (it opens no store by itself)
        self._choice = Choice(dice)
        self.news = SimulatedInbox(self)
        world.agenda.after(world.store.lease_seconds / 3, self._keep_lease)
        if concurrency:
            self.start(self._work(), self._worker_ended)

    # --------------------------------------------------------------------- its life

    def start(self, procedure: Procedure[Any], on_end: OnEnd) -> Task:
        """Begin to carry out a procedure."""
        task = Task(self, procedure, on_end)
        self.tasks[task] = None
        self.world.agenda.after(0, task.go_on)
        return task

    def is_busy(self) -> bool:
        """Tell whether it does anything but look for work."""
        return len(self.tasks) > (self.concurrency > 0)

    def stop(self, seconds: float) -> None:
        """Let it stand still for a while; what others send it meanwhile waits for it."""
        self.world.trace("pause", self.name, seconds)
        self.stopped_until = self.world.agenda.now + int(seconds * SECOND)

    def crash(self) -> None:
        """Kill it; another one takes its place after a while."""
        self.is_alive = False
        world = self.world
        world.trace("crash", self.name)
        details = world.faults.details("crash")
        if details.random() < 0.5:
            # As on one machine, where a lock that the dead one held is free at once.
            world.store.leave(self.driver_id)
        tasks, self.tasks = self.tasks, {}
        for task in tasks:
            # Why: what a procedure does on its way out must reach nothing outside any more.
            task.procedure.close()
        world.agenda.after(details.choice(RESTART_SECONDS), world.restart, self)

    def _keep_lease(self) -> None:
        if not self.is_alive:
            return
        world = self.world
        if not world.is_working and not self.desk.book.is_driving():
            world.asleep.append(self._keep_lease)
            return
        if self.stopped_until > world.agenda.now:
            seconds = (self.stopped_until - world.agenda.now) / SECOND
            world.agenda.after(seconds, self._keep_lease)
            return
        if world.faults.hit("jump", self.name):
            self.clock.skew += int(world.faults.details("jump").uniform(-90, 90) * SECOND)
        if self.desk.book.is_driving():
            try:
                self.handle.renew(self.driver_id)
            except StoreError:
                world.count("lease_not_renewed")
        world.agenda.after(world.store.lease_seconds / 3, self._keep_lease)

    # --------------------------------------------------------------------- its worker

    def _work(self) -> Procedure[None]:
        """Take what is due, as `drivers/worker.py` does with threads."""
        world, desk = self.world, self.desk
        while True:
            free = self.concurrency - len(self._busy)
            chosen: list[str] = []
            if free > 0:
                limit = self._choice.limit(free, len(desk.book.driven()) + len(self._busy))
                look = partial(
                    desk.store.due,
                    desk.driver_id,
                    limit,
                    desk.clock.now(),
                    reserve_seconds=RESERVE_SECONDS,
                )
                try:
                    due = yield DoBlocking(look)
                except StoreUnavailable:
                    due = []
                in_hand = self._busy.union(desk.book.driven())
                chosen = self._choice.chosen(due, in_hand, free, self._monotonic())
            for name in chosen:
                self._busy.add(name)
                self.start(recovered(desk, name, _EVERYBODY), partial(self._carried_on, name))
            seconds: float | None = world.settings.poll_seconds * (0.5 + self._dice.random())
            if not world.is_working:
                world.asleep.append(partial(self.news.put, None))
                seconds = None
            yield DoNext(self.news, 0.0 if chosen else seconds, _NOBODY)
            self.news.items.clear()

    def _monotonic(self) -> float:
        return self.world.agenda.seconds()

    def _carried_on(self, name: str, report: Any, error: BaseException | None) -> None:
        self._busy.discard(name)
        outcome = "failed"
        if error is None:
            outcome = report.outcome
        elif isinstance(error, StoreUnavailable):
            outcome = "unavailable"
        else:
            self.world.refuse(error, f"a worker carried on {name}")
        self._choice.heard(name, outcome, self._monotonic())
        self.news.put(None)

    def _worker_ended(self, _value: object, error: BaseException | None) -> None:
        if error is not None:
            self.world.refuse(error, f"the worker of {self.name}", expected=())

    # --------------------------------------------------------------------- what procedures ask for

    def perform(self, task: Task, operation: Operations) -> None:
        """Carry out what a procedure asks for."""
        _PERFORM[type(operation)](self, task, operation)

    def _latency(self) -> float:
        seconds = 0.001 + 0.015 * self._dice.random()
        if self.world.faults.hit("store_slow", self.name):
            seconds += self.world.faults.details("store_slow").choice((0.2, 1.0, 4.0))
        return seconds

    def _append(self, task: Task, operation: DoAppend) -> None:
        """Append together with what other tasks of this process append meanwhile."""
        task.attendant = operation.run
        self._appending.append((operation.append, task))
        if len(self._appending) == 1:
            self.world.agenda.after(self._latency(), self._write)

    def _write(self) -> None:
        if not self.is_alive:
            return
        batch, self._appending = self._appending, []
        if len(batch) > 1:
            self.world.count("appends_in_one_write")
        outcomes = written(self.handle, [append for append, _task in batch])
        for (_append, task), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self.world.agenda.after(0.001, task.go_on, None, outcome)
            else:
                self.world.agenda.after(0.001, task.go_on, outcome)

    def _block(self, task: Task, operation: DoBlocking) -> None:
        self.world.agenda.after(self._latency(), self._at_once, task, operation.function)

    def _turn(self, task: Task, operation: DoTurn) -> None:
        task.attendant = operation.run
        self.world.agenda.after(
            self._latency(), self._at_once, task, partial(take_in_place, operation)
        )

    def _at_once(self, task: Task, function: Callable[[], object]) -> None:
        if not self.is_alive:
            return
        try:
            value = function()
        except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
            task.go_on(None, error)
        else:
            task.go_on(value)

    def _sleep(self, task: Task, operation: DoSleep) -> None:
        if operation.run is not None:
            task.attendant = operation.run
        self.world.agenda.after(self._checked(operation.seconds), task.go_on)

    def _inbox(self, task: Task, _operation: DoInbox) -> None:
        self.world.agenda.after(0, task.go_on, SimulatedInbox(self))

    def _next(self, task: Task, operation: DoNext) -> None:
        inbox: Any = operation.inbox
        if operation.run is not _NOBODY:
            task.attendant = operation.run
        if inbox.items:
            self.world.agenda.after(0, task.go_on, inbox.items.popleft())
            return
        inbox.waiting = task
        inbox.number += 1
        if operation.seconds is not None:
            seconds = self._checked(operation.seconds)
            self.world.agenda.after(seconds, inbox.over, inbox.number)

    def _checked(self, seconds: float) -> float:
        """Return for how long a procedure waits; one that waits for less than nothing spins."""
        if seconds < 0:
            self.world.watch.wrong(f"L1: a procedure waits for {seconds} s, and so does not wait")
        return max(seconds, 0.0)

    def _together(self, task: Task, operation: DoTogether) -> None:
        together = Together(self, task, operation)
        for _ in range(operation.concurrency):
            together.begin_next()
        if not operation.procedures:
            self.world.agenda.after(0, task.go_on, [])

    def _start(self, task: Task, operation: DoStart) -> None:
        def on_end(answer: Any, error: BaseException | None) -> None:
            operation.inbox.put(Ended(operation.call, answer, error))

        self._send(operation.operation, on_end)
        self.world.agenda.after(0, task.go_on)

    def _call(self, task: Task, operation: DoCall) -> None:
        task.attendant = operation.run
        self._send(operation, lambda answer, error: task.go_on((answer, error)))

    def _send(self, operation: DoCall, on_end: OnEnd) -> None:
        """Call a handler: its request goes over the network, and its answer comes back."""
        request: Any = call(operation.callee, operation.arguments)
        self.world.network.send(self, request, _Waiting(self, operation, on_end).answered)


class _Waiting:
    """Wait for the answer to one call, for as long as the product does."""

    __slots__ = ("is_left", "is_over", "on_end", "operation", "process")

    def __init__(self, process: Process, operation: DoCall, on_end: OnEnd) -> None:
        self.process = process
        self.operation = operation
        self.on_end = on_end
        self.is_over = False
        self.is_left = False
        seconds = operation.timeout_seconds
        if seconds is not None:
            process.world.agenda.after(seconds, self._give_up, seconds)

    def answered(self, reply: Reply) -> None:
        """Hear what the participant said, or that the client has waited long enough."""
        if self.is_over and not self.is_left:
            return
        operation = self.operation
        step, kind = operation.step, operation.operation
        if reply.error is None:
            seen = returned(step, kind, reply.value)
        else:
            seen = raised(step, kind, operation.callee.action, reply.error)
        if not self.is_over:
            self.is_over = True
            self.on_end(seen, reply.error)
            return
        self.is_left = False
        process = self.process
        answer = late(seen, operation.attempt)
        if answer is not None and process.is_alive:
            process.world.count("late_return")
            handed = handing_in(process.desk, operation.run.transaction_id, answer)
            process.start(handed, process.world.ended("a late answer"))

    def _give_up(self, seconds: float) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.is_left = self.process._dice.random() < 0.7  # noqa: SLF001 (its own)
        step, kind = self.operation.step, self.operation.operation
        seen, error = timed_out(step, kind, seconds, left_behind=self.is_left)
        self.on_end(seen, error)


class _Everybody:
    """Be the agents that a worker serves which serves all."""

    def __contains__(self, _agent_id: object) -> bool:
        return True


_EVERYBODY = _Everybody()


class _Nobody:
    transaction_id = ""
    interrupt: BaseException | None = None
    is_callers = False


_NOBODY = _Nobody()

_PERFORM: dict[type, Callable[[Process, Task, Any], None]] = {
    DoAppend: Process._append,  # noqa: SLF001 (this table is a part of it)
    DoBlocking: Process._block,  # noqa: SLF001
    DoTurn: Process._turn,  # noqa: SLF001
    DoSleep: Process._sleep,  # noqa: SLF001
    DoInbox: Process._inbox,  # noqa: SLF001
    DoTogether: Process._together,  # noqa: SLF001
    DoNext: Process._next,  # noqa: SLF001
    DoStart: Process._start,  # noqa: SLF001
    DoCall: Process._call,  # noqa: SLF001
}
