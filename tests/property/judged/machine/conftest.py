"""A simulated life of one transaction.

The program says what each handler does, when the driver's process dies, how far the clock jumps
then, when calls that were left behind return, and when somebody else asks to roll back. The
simulation drives the product's own procedures operation by operation; at each moment before and
after an operation the process may die: the generator is abandoned, its driver leaves the store,
and another manager recovers, or the same program is run again under its key.
"""
# mypy: disable-error-code="arg-type, assignment, attr-defined"
# mypy: disable-error-code="possibly-undefined, union-attr, var-annotated"

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pytest

from aumai_transactions import (
    Clean,
    Continue,
    Done,
    NotDelivered,
    NotDone,
    NothingToUndo,
    Residue,
    TransactionManager,
    Unknown,
)
from aumai_transactions.actions import Action
from aumai_transactions.calls import call, late, raised, returned, timed_out
from aumai_transactions.core.codec import decode
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import ResolutionAnswered, RetryAsked, RollbackCalled
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.drivers import asking, operations, procedures, recovery
from aumai_transactions.drivers.desk import read_result
from aumai_transactions.drivers.verifying import verify
from aumai_transactions.errors import (
    IdempotencyKeyReused,
    InvalidTransactionState,
    JournalConflict,
    JournalCorrupt,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
    TransactionNotFound,
)
from aumai_transactions.testing.clock import ManualClock

ROUNDS_MAX = 80
NUMBERS = count(1)
OPERATIONS_MAX = 5_000
TIMEOUT_SECONDS = 1.5


class Killed(Exception):
    """The process of the driver is dead."""


class GivenUp(Exception):
    """The handler does not return in time; `later` says what it does then, None for nothing."""

    def __init__(self, later=None):
        self.later = later


@dataclass
class Pending:
    """A call that was left behind."""

    desk: object
    operation: str
    index: int
    call: operations.DoCall
    attempt: int
    later: str
    due: int
    is_dead: bool = False


def number_of(step_id):
    return int(step_id.removeprefix("s")) - 1


class Simulation:
    def __init__(self, outside, judging, store, program):
        self.store = store
        self.program = program
        self.violation = judging.Violation
        self.clock = ManualClock(outside.T0)
        self.world = outside.World(program)
        self.judge = judging.Judge(program, self.world)
        self.kills = list(program.kills)
        self.jumps = list(program.jumps)
        self.ticks = 0
        self.all_ticks = 0
        self.transaction_id = None
        self.managers = []
        self.saga = None
        self.key = f"key {next(NUMBERS)}"

    # ------------------------------------------------------------------------------- the outside

    def actions(self):
        for index, step in enumerate(self.program.steps):
            yield Action(
                f"do_{index}",
                self.forward,
                compensating_action=f"undo_{index}" if step.undo else None,
                idempotent=step.idempotent,
                on_unknown=step.on_unknown,
                effect=step.effect,
                retry=step.retry,
                timeout_seconds=TIMEOUT_SECONDS,
                abandon_after_seconds=step.abandon_after_seconds,
                probe=None if step.probe is None else self.probe,
                probe_retry=step.asks_retry,
                verify=None if step.verify is None else self.verify,
                verify_retry=step.asks_retry,
            )
            if step.undo:
                yield Action(
                    f"undo_{index}",
                    self.back,
                    idempotent=step.undo_idempotent,
                    retry=step.undo_retry,
                    timeout_seconds=TIMEOUT_SECONDS,
                )

    def forward(self, action, data, context):
        self.judge.call(context)
        index = number_of(context.step_id)
        step = self.program.steps[index]
        behaviour = self.asked(step.forward, "action", index)
        stands = step.idempotent and index in self.world.applied
        if behaviour in ("ok", "lost", "late", "cut", "slow_early"):
            self.world.apply(index)
        elif behaviour in ("fail", "error", "later", "refused"):
            self.refuse(behaviour, index, stands=stands)
        if behaviour in ("lost", "void"):
            raise OutcomeUnknown("no answer", after_seconds=None if index else 0.5)
        if behaviour == "late":
            raise TimeoutError("no answer in time")
        if behaviour in ("cut", "cut_void"):
            raise GivenUp
        if behaviour.startswith("slow"):
            raise GivenUp(behaviour)
        return {"by": index}

    def refuse(self, behaviour, index, *, stands):
        if behaviour == "refused":
            raise NotDelivered("it never left")
        if behaviour == "later":
            raise RetryLater(0.5)
        if stands:
            return  # Under the same key it answers what it answered before.
        if behaviour == "fail":
            self.world.rejected.add(index)
            if self.program.steps[index].idempotent:
                self.world.tombstone(index)
            raise StepRejected("no")
        raise ValueError("it cannot now")

    def back(self, action, data, context):
        self.judge.call(context)
        index = number_of(context.step_id)
        behaviour = self.asked(self.program.steps[index].back, "compensation", index)
        if behaviour == "fail":
            raise ValueError("cannot be undone")
        if behaviour == "later":
            raise RetryLater(0.5)
        if behaviour.startswith("slow"):
            raise GivenUp(behaviour)
        if behaviour == "continue" and context.can_continue:
            self.world.standing.add(index)
        if behaviour == "continue":
            return Continue({"by": index})
        nothing = index not in self.world.standing
        if behaviour != "residue":
            self.world.standing.discard(index)
        if behaviour == "lost":
            raise OutcomeUnknown("no answer")
        return NothingToUndo("it is not there") if behaviour == "nothing" and nothing else None

    def asked(self, behaviours, operation, index):
        """Return what a handler does at this call; the last behaviour is repeated."""
        number = self.world.count(operation, index)
        self.world.calls.append((operation, index))
        return behaviours[min(number, len(behaviours) - 1)]

    def probe(self, data, context):
        self.judge.call(context)
        index = number_of(context.step_id)
        behaviour = self.asked(self.program.steps[index].probe, "probe", index)
        if behaviour == "error":
            raise ConnectionResetError
        if behaviour == "unknown":
            return Unknown("who knows")
        if index in self.world.standing:
            return Done({"by": index})
        self.world.tombstone(index)
        return NotDone("and never will be")

    def verify(self, data, context):
        self.judge.call(context)
        index = number_of(context.step_id)
        behaviour = self.asked(self.program.steps[index].verify, "verification", index)
        if behaviour == "error":
            raise ConnectionResetError
        if behaviour == "unknown":
            return Unknown("who knows")
        return Residue([index]) if index in self.world.standing else Clean()

    # ---------------------------------------------------------------- calls that were left behind

    def act(self, pending):
        """Let a call that was left behind have its effect, if it still can."""
        if pending.operation == "compensation":
            if pending.later == "slow":
                self.world.standing.discard(pending.index)
        elif pending.later not in ("slow_fail", "slow_early") and not pending.is_dead:
            self.world.apply(pending.index)

    def deliver(self, pending):
        """Let a call that was left behind return."""
        self.world.pending.remove(pending)
        self.act(pending)
        if pending.later == "slow_never":
            return
        step = pending.call.step
        is_early = pending.later == "slow_early"
        if pending.later == "slow_fail" or (pending.is_dead and not is_early):
            seen = raised(step, pending.operation, pending.call.callee.action, ValueError("no"))
        elif pending.later == "slow_lost":
            error = OutcomeUnknown("no answer")
            seen = raised(step, pending.operation, pending.call.callee.action, error)
        else:
            seen = returned(step, pending.operation, {"by": pending.index})
        pending.call.on_late(late(seen, pending.attempt))
        self.follow()

    def deliver_of(self, index):
        for pending in [one for one in self.world.pending if one.index == index]:
            self.deliver(pending)

    def die_with(self, desk):
        """Let what a process left behind die with it, some of it at the last moment."""
        for pending in [one for one in self.world.pending if one.desk is desk]:
            self.world.pending.remove(pending)
            if self.program.lag % 2:
                self.act(pending)

    # -------------------------------------------------------------------------------- the driver

    def follow(self):
        """Read on in the journal, each entry checked by what stands before it."""
        journal = self.store.read(self.transaction_id)
        if journal is None:
            return
        self.saga = self.saga or Saga(self.transaction_id)
        for stored in journal.entries[self.saga.sequence :]:
            try:
                _id, entry = decode(stored.body, self.transaction_id, stored.sequence)
                evolve(self.saga, entry)
            except (IllegalEntry, JournalCorrupt) as error:
                raise self.violation(f"I11: entry {stored.sequence}: {error}") from error
            self.judge.entry(entry)

    def manager(self):
        made = TransactionManager(actions=list(self.actions()), store=self.store, clock=self.clock)
        made._open(create=True).draw = lambda: self.program.draw
        self.managers.append(made)
        return made

    def desk(self):
        return self.manager()._open(create=True)

    def tick(self, desk, procedure):
        self.ticks += 1
        self.all_ticks += 1
        self.judge.require(self.all_ticks < OPERATIONS_MAX, "I2", "it never ends")
        for pending in [one for one in self.world.pending if one.due <= self.all_ticks]:
            if pending.later != "slow_never":
                self.deliver(pending)
        if self.all_ticks == self.program.wish:
            self.interfere()
        if self.kills and self.ticks >= self.kills[0]:
            self.kills.pop(0)
            procedure.close()
            self.die_with(desk)
            raise Killed

    def drive(self, desk, procedure, *, mortal=True):
        try:
            operation = next(procedure)
            while True:
                is_moment = mortal and not isinstance(operation, operations.DoTogether)
                if is_moment:
                    self.tick(desk, procedure)
                try:
                    answer = self.perform(desk, operation, mortal=mortal)
                except (self.violation, Killed):
                    raise
                except Exception as error:
                    operation = procedure.throw(error)
                    continue
                if is_moment:
                    self.tick(desk, procedure)
                operation = procedure.send(answer)
        except StopIteration as done:
            return done.value

    def perform(self, desk, operation, *, mortal):
        if isinstance(operation, operations.DoTogether):
            # Why one after the other: each is a life's moments, whoever else is recovered.
            return [self.drive(desk, make(), mortal=mortal) for make in operation.procedures]
        if isinstance(operation, operations.DoAppend):
            (answer,) = self.store.append((operation.append,))
            self.follow()
            return answer
        if isinstance(operation, operations.DoCall):
            self.follow()
            return self.call(desk, operation)
        if isinstance(operation, operations.DoBlocking):
            return operation.function()
        if isinstance(operation, operations.DoInbox):
            return deque()
        if isinstance(operation, operations.DoStart):
            # Why at once: calls under way at the same time have acted when the process dies.
            self.follow()
            ended = operations.Ended(operation.call, *self.call(desk, operation.operation))
            return operation.inbox.append(ended)
        if isinstance(operation, operations.DoNext) and len(operation.inbox) > 0:
            operation.inbox.rotate(self.program.lag)
            return operation.inbox.popleft()
        self.judge.require(operation.seconds is not None, "I2", "it waits for nothing")
        self.clock.advance(operation.seconds)
        return None

    def call(self, desk, operation):
        step, kind, callee = operation.step, operation.operation, operation.callee
        try:
            value = call(callee, operation.arguments)
        except self.violation:
            raise
        except GivenUp as given_up:
            self.clock.advance(operation.timeout_seconds)
            is_left = given_up.later is not None
            if is_left:
                index, due = number_of(step.step_id), self.all_ticks + self.program.lag
                pending = Pending(
                    desk, kind, index, operation, operation.attempt, given_up.later, due
                )
                self.world.pending.append(pending)
            return timed_out(step, kind, operation.timeout_seconds, left_behind=is_left)
        except Exception as error:
            return raised(step, kind, callee.action, error), error
        return returned(step, kind, value), None

    def interfere(self):
        """Somebody else asks to roll back."""
        desk = self.desk()
        wish = asking.ask(desk, self.transaction_id, RollbackCalled("other"), wait_max_seconds=0)
        with suppress(TransactionNotFound, InvalidTransactionState, JournalConflict):
            self.drive(desk, wish, mortal=False)

    # ------------------------------------------------------------------------------- a whole life

    def run(self):
        """Live a whole life; return the result, or None where it never came to be."""
        try:
            return self.lived()
        finally:
            for manager in self.managers:
                manager.close()

    def lived(self):
        # Somebody else may have been faster, with a rollback of what had no steps yet as well.
        with suppress(InvalidTransactionState, JournalConflict, IdempotencyKeyReused):
            self.until_alive(self.start(self.manager()), again=self.start_again)
        if self.store.read(self.transaction_id) is None:
            self.judge.require(self.world.calls == [], "I1", "something ran without a journal")
            return None
        for _ in range(ROUNDS_MAX):
            result = self.result()
            if result.state.value == "pending" and not self.saga.rollback_requested:
                return None  # It was begun under a key, and nobody came to want anything of it.
            if not result.is_final or result.waiting is not None:
                self.judge.require(result.waiting is not None, "I2", "neither final nor waiting")
                self.go_on(result)
            elif self.world.pending:
                # Whatever was left behind ends at last, and may act or answer then.
                self.deliver(self.world.pending[0])
            elif result.outstanding and self.program.person != "leave":
                self.ask_a_person("outstanding", result.outstanding[0].step_id)
            else:
                break
        else:
            raise self.violation(f"I2: it never ends: {result}")
        desk = self.desk()
        verifying = verify(desk, self.transaction_id)
        verification = self.drive(desk, verifying, mortal=False)
        self.judge.require(verification.is_intact, "I11", str(verification.problems))
        self.judge.end(result)
        return result

    def start(self, manager):
        """Return a desk, and the procedure with which the program begins."""
        tx = self.begun(manager)
        self.transaction_id = tx.transaction_id
        self.follow()
        make = procedures.commit if self.program.start == "commit" else procedures.rollback
        desk = manager._open(create=True)
        return desk, make(desk, tx)

    def start_again(self):
        """Return what another process does after the first one has died."""
        if self.program.keyed and self.program.start == "commit":
            return self.start(self.manager())
        return self.recovering()

    def recovering(self):
        desk = self.desk()
        return desk, recovery.recover(desk)

    def begun(self, manager):
        options = {
            "timeout_scope": self.program.timeout_scope,
            "on_crash": self.program.on_crash,
            "on_compensation_failure": self.program.on_compensation_failure,
        }
        if self.program.keyed:
            options["idempotency_key"] = self.key
        tx = manager.begin(60, **options)
        for index, step in enumerate(self.program.steps):
            added = manager.add_step(tx, "agent", f"do_{index}", {"n": index})
            if step.after is not None:
                added.after = [f"s{before + 1}" for before in step.after]
        return tx

    def until_alive(self, begun, *, again):
        """Drive a procedure; whenever the process dies, another one goes on."""
        self.ticks = 0
        while True:
            desk, procedure = begun
            try:
                return self.drive(desk, procedure)
            except Killed:
                self.store.leave(desk.driver_id)
                self.clock.advance(self.jumps.pop(0) if self.jumps else 0)
                begun = again()
                self.ticks = 0

    def result(self):
        desk = self.desk()
        return self.drive(desk, read_result(desk, self.transaction_id), mortal=False)

    def go_on(self, result):
        waiting = result.waiting
        if waiting.reason in ("in_doubt", "halted"):
            self.ask_a_person(waiting.reason, waiting.step_ids[0])
            return
        if waiting.until is not None:
            due = round(waiting.until.timestamp() * 1_000_000)
            self.judge.require(due > self.clock.now(), "I15", f"it waits for {waiting.until}")
            self.clock.advance((due - self.clock.now()) / 1_000_000)
        self.until_alive(self.recovering(), again=self.recovering)

    def ask_a_person(self, reason, step_id):
        index = number_of(step_id)
        if any(pending.index == index for pending in self.world.pending):
            # A person waits for what is under way, and looks only then.
            self.deliver_of(index)
            return
        wish = self.answer(reason, step_id)

        def ask():
            desk = self.desk()
            return desk, asking.ask(desk, self.transaction_id, wish, wait_max_seconds=3)

        with suppress(InvalidTransactionState):
            self.until_alive(ask(), again=self.recovering)

    def answer(self, reason, step_id):
        index = number_of(step_id)
        stands = index in self.world.standing
        if reason == "in_doubt":
            tries = self.world.count("action", index)
            if self.program.person == "retry" and not stands and tries < 5:
                self.world.wished.add(index)
                return RetryAsked(step_id, "person", "again")
            truth = "happened" if stands else "did_not_happen"
            return ResolutionAnswered(step_id, truth, "person", "looked")
        has_undo = self.program.steps[index].undo
        tries = self.world.count("compensation", index)
        if self.program.person == "retry" and has_undo and tries < 4:
            return RetryAsked(step_id, "person", "again")
        if self.program.person == "left_in_place":
            self.world.left.add(index)
            return ResolutionAnswered(step_id, "left_in_place", "person", "so be it")
        self.world.standing.discard(index)
        return ResolutionAnswered(step_id, "undone", "person", "by hand")


@pytest.fixture(scope="session")
def simulate(outside, judging):
    """Live the life of a program on a store; raise `Violation` where an invariant breaks."""

    def run(store, program):
        return Simulation(outside, judging, store, program).run()

    run.violation = judging.Violation
    run.program = outside.Program
    run.step = outside.Step
    return run
