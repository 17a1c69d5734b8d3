"""A simulated life of one transaction, and a plain model that judges it.

The program says what each handler does, when the driver's process dies, how far the clock jumps
then, and when somebody else asks to roll back. The simulation drives the product's own procedures
operation by operation; at each moment before and after an operation the process may die: the
generator is abandoned, its driver leaves the store, and another manager recovers.

After each append the journal is read back and judged by `Judge`, which shares no code with the
core: it knows the program and the invariants, nothing else.
"""
# mypy: disable-error-code="arg-type, assignment, attr-defined"
# mypy: disable-error-code="possibly-undefined, union-attr, var-annotated"

from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.actions import Action, call, raised, returned
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import entries as entries_of
from aumai_transactions.core.observations import ResolutionAnswered, RetryAsked, RollbackCalled
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.drivers import procedures, recovery
from aumai_transactions.drivers.desk import read_result
from aumai_transactions.drivers.operations import DoAppend, DoBlocking, DoCall
from aumai_transactions.errors import (
    InvalidTransactionState,
    JournalCorrupt,
    OutcomeUnknown,
    StepRejected,
    TransactionNotFound,
)
from aumai_transactions.testing.clock import ManualClock

T0 = 1_772_193_600_000_000
ROUNDS_MAX = 60


class Violation(Exception):
    """An invariant does not hold."""


class Killed(Exception):
    """The process of the driver is dead."""


@dataclass(frozen=True)
class Step:
    """What is declared about a step, and what its handlers do at each call.

    forward: `ok`, `fail` (not done), `lost` and `late` (done, and the answer is lost), `void` (not
    done, and the answer is lost). back: `ok`, `fail`. The last one is repeated.
    """

    after: tuple[int, ...] | None = None
    idempotent: bool = False
    undo: bool = True
    on_unknown: str | None = None
    effect: str | None = None
    forward: tuple[str, ...] = ("ok",)
    back: tuple[str, ...] = ("ok",)


@dataclass(frozen=True)
class Program:
    steps: tuple[Step, ...]
    start: str = "commit"
    timeout_scope: str = "start"
    on_crash: str | None = None
    on_compensation_failure: str = "continue"
    kills: tuple[int, ...] = ()
    jumps: tuple[int, ...] = (0,)
    wish: int | None = None
    person: str = "retry"

    def before(self, index):
        """All steps that this one depends on, directly or not."""
        after = self.steps[index].after
        direct = range(index) if after is None else after
        return {*direct, *(far for near in direct for far in self.before(near))}

    def behind(self, index):
        return {other for other in range(len(self.steps)) if index in self.before(other)}


@dataclass
class World:
    """What really happened outside."""

    program: Program
    standing: set = field(default_factory=set)
    by_hand: set = field(default_factory=set)
    left: set = field(default_factory=set)
    calls: list = field(default_factory=list)
    keys: dict = field(default_factory=dict)

    def count(self, operation, index):
        return sum(1 for call in self.calls if call == (operation, index))


def number_of(step_id):
    return int(step_id.removeprefix("s")) - 1


def kind_of(entry):
    return type(entry).__name__


class Judge:
    """Hold a journal and the world against the invariants."""

    def __init__(self, program, world):
        self.program = program
        self.world = world

    def require(self, holds, invariant, what):
        if not holds:
            raise Violation(f"{invariant}: {what}")

    def journal(self, entries):  # noqa: PLR0915 (one branch for each kind of entry)
        """Judge a journal as it stands."""
        has_back = has_ended = has_committed = False
        may_be_done, is_open, stuck = set(), set(), set()
        ran = False
        starts, retries = {}, {}
        for entry in entries:
            kind = kind_of(entry)
            index = number_of(entry.step_id) if getattr(entry, "step_id", None) else None
            requests = ("RollbackRequested", "CommitRequested", "ResolutionGiven", "RetryRequested")
            if kind in ("Claimed", *requests):
                if kind == "RetryRequested":
                    retries[index] = retries.get(index, 0) + 1
                    if has_back:
                        is_open.add(index)
                        stuck.discard(index)
                if kind == "ResolutionGiven":
                    stuck.discard(index)
                    if entry.answer == "did_not_happen":
                        may_be_done.discard(index)
                continue
            self.require(not has_committed, "I8", f"{kind} follows the commit")
            if kind == "StepStarted":
                ran = True
                self.require(not has_back, "I4", f"{entry} follows the rollback")
                starts[index] = starts.get(index, 0) + 1
                again = starts[index] - 1 - retries.get(index, 0)
                safe = self.program.steps[index].idempotent
                self.require(safe or again <= 0, "I5", f"{entry} starts again")
                ready = all(before in may_be_done for before in self.program.before(index))
                self.require(ready, "I3", f"{entry} starts before what it waits for")
            elif kind in ("StepSucceeded", "StepInDoubt"):
                may_be_done.add(index)
            elif kind == "StepFailed":
                may_be_done.discard(index)
            elif kind == "RollbackStarted":
                has_back = True
                undoable = {i for i, step in enumerate(self.program.steps) if step.undo}
                is_open = (may_be_done if ran else set(range(len(self.program.steps)))) & undoable
            elif kind == "CompensationStarted":
                self.require(has_back, "I3", f"{entry} without a rollback")
                blocking = self.program.behind(index) & (is_open | stuck)
                self.require(not blocking, "I3", f"{entry} before the undo of {blocking}")
            elif kind in ("CompensationSucceeded", "CompensationFailed", "StepOutstanding"):
                if getattr(entry, "will_retry", False):
                    continue
                is_open.discard(index)
                halts = self.program.on_compensation_failure == "halt" and ran and not has_ended
                if halts and kind != "CompensationSucceeded":
                    stuck.add(index)
            elif kind == "TransactionRolledBack":
                self.require(not is_open and not stuck, "I2", f"ends with {is_open} not undone")
                has_ended = True
            elif kind == "TransactionCommitted":
                everything = set(range(len(self.program.steps)))
                self.require(may_be_done == everything, "I2", "commits over what is not done")
                has_committed = True

    def call(self, entries, context):
        """Judge one call of a handler, before it has an effect."""
        index = number_of(context.step_id)
        what = f"{context.operation} of step {context.step_id}, attempt {context.attempt}"
        start = "StepStarted" if context.operation == "action" else "CompensationStarted"
        own = [
            entry
            for entry in entries
            if getattr(entry, "step_id", None) == context.step_id and hasattr(entry, "attempt")
        ]
        last = own[-1] if own else None
        intended = kind_of(last) == start and last.attempt == context.attempt
        self.require(intended, "I1", f"{what} is called behind {last}")
        known = self.world.keys.setdefault((context.operation, index), context.idempotency_key)
        self.require(known == context.idempotency_key, "I9", f"{what} has another key")
        keys = list(self.world.keys.values())
        self.require(len(set(keys)) == len(keys), "I9", f"{what} has the key of another")
        self.require(
            not any(kind_of(entry) == "TransactionCommitted" for entry in entries),
            "I8",
            f"{what} is called behind the commit",
        )
        if context.operation == "action":
            back = any(kind_of(entry) == "RollbackStarted" for entry in entries)
            undoing = any(operation == "compensation" for operation, _index in self.world.calls)
            self.require(not back and not undoing, "I4", f"{what} is called while going back")
            if not self.program.steps[index].idempotent:
                self.require(
                    self.world.count("action", index) == 0, "I5", f"{what} is called twice"
                )
        else:
            outcomes = ("StepSucceeded", "StepInDoubt", "ResolutionGiven")
            told = [
                entry
                for entry in entries
                if getattr(entry, "step_id", None) == context.step_id and kind_of(entry) in outcomes
            ]
            in_doubt = bool(told) and kind_of(told[-1]) == "StepInDoubt"
            self.require(context.in_doubt == in_doubt, "I13", f"{what}: in_doubt is wrong")
            self.require(context.ran == bool(told), "D5", f"{what}: ran is wrong")

    def end(self, result):
        """Judge the outcome against the world."""
        steps = self.program.steps
        standing = {i for i in self.world.standing if steps[i].effect != "none"}
        state = result.state.value
        if state == "failed":
            self.require(self.world.calls == [], "I2", "failed, and something ran")
        elif state == "committed":
            effects = {i for i, step in enumerate(steps) if step.effect != "none"}
            self.require(standing >= effects, "I2", f"committed without {effects - standing}")
            undone = [index for operation, index in self.world.calls if operation != "action"]
            self.require(not undone, "I2", f"committed, and undid {undone}")
        else:
            self.require(state == "rolled_back", "I2", f"ends as {state}")
            said = {number_of(item.step_id) for item in result.outstanding}
            said |= {number_of(step_id) for step_id in result.uncompensated}
            silent = standing - said - self.world.left
            self.require(not silent, "I2", f"{silent} stand and nobody says so")
            if result.clean:
                self.require(standing <= self.world.left, "I12", "clean, and something stands")


class Simulation:
    def __init__(self, store, program):
        self.store = store
        self.program = program
        self.clock = ManualClock(T0)
        self.world = World(program)
        self.judge = Judge(program, self.world)
        self.kills = list(program.kills)
        self.jumps = list(program.jumps)
        self.ticks = 0
        self.all_ticks = 0
        self.transaction_id = None
        self.managers = []

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
            )
            if step.undo:
                yield Action(f"undo_{index}", self.back, idempotent=True)

    def forward(self, action, data, context):
        self.judge.call(self.entries(), context)
        index = number_of(context.step_id)
        behaviours = self.program.steps[index].forward
        behaviour = behaviours[min(self.world.count("action", index), len(behaviours) - 1)]
        self.world.calls.append(("action", index))
        if behaviour in ("ok", "lost", "late"):
            self.world.standing.add(index)
        elif behaviour == "fail" and index not in self.world.standing:
            # Why not otherwise: under the same key it answers what it answered before.
            raise StepRejected("no")
        if behaviour in ("lost", "void"):
            raise OutcomeUnknown("no answer")
        if behaviour == "late":
            raise TimeoutError("no answer in time")
        return {"by": index}

    def back(self, action, data, context):
        self.judge.call(self.entries(), context)
        index = number_of(context.step_id)
        behaviours = self.program.steps[index].back
        behaviour = behaviours[min(self.world.count("compensation", index), len(behaviours) - 1)]
        self.world.calls.append(("compensation", index))
        if behaviour == "fail":
            raise ValueError("cannot be undone")
        self.world.standing.discard(index)

    def read_back(self):
        """Return the journal, each entry checked by its chain and by what stands before it."""
        saga = Saga(self.transaction_id)
        told = []
        try:
            for entry in self.entries():
                evolve(saga, entry)
                told.append(entry)
        except (IllegalEntry, JournalCorrupt) as error:
            raise Violation(f"I11: behind {told[-1:]}: {error}") from error
        return told

    def entries(self):
        journal = self.store.read(self.transaction_id)
        return [] if journal is None else [entry for _id, entry in entries_of(journal)]

    # -------------------------------------------------------------------------------- the driver

    def manager(self):
        made = TransactionManager(actions=list(self.actions()), store=self.store, clock=self.clock)
        self.managers.append(made)
        return made

    def desk(self):
        return self.manager()._open(create=True)

    def tick(self, procedure):
        self.ticks += 1
        self.all_ticks += 1
        if self.all_ticks == self.program.wish:
            self.interfere()
        if self.kills and self.ticks >= self.kills[0]:
            self.kills.pop(0)
            procedure.close()
            raise Killed

    def drive(self, desk, procedure, *, mortal=True):
        try:
            operation = next(procedure)
            while True:
                if mortal:
                    self.tick(procedure)
                try:
                    answer = self.perform(desk, operation)
                except (Violation, Killed):
                    raise
                except Exception as error:
                    operation = procedure.throw(error)
                    continue
                if mortal:
                    self.tick(procedure)
                operation = procedure.send(answer)
        except StopIteration as done:
            return done.value

    def perform(self, desk, operation):
        if isinstance(operation, DoAppend):
            (answer,) = self.store.append((operation.append,))
            self.judge.journal(self.read_back())
            return answer
        if isinstance(operation, DoCall):
            return self.call(operation)
        if isinstance(operation, DoBlocking):
            return operation.function()
        self.clock.advance(operation.seconds)
        return None

    def call(self, operation):
        step, kind, callee = operation.step, operation.operation, operation.callee
        try:
            value = call(callee, operation.run.saga, step, kind)
        except Violation:
            raise
        except Exception as error:
            return raised(step, kind, callee.action, error), error
        return returned(step, kind, value), None

    def interfere(self):
        """Somebody else asks to roll back."""
        desk = self.desk()
        wish = procedures.ask(desk, self.transaction_id, RollbackCalled("other"), wait=False)
        with suppress(TransactionNotFound, InvalidTransactionState):
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
        manager = self.manager()
        desk = manager._open(create=True)
        tx = self.begun(manager)
        self.transaction_id = tx.transaction_id
        start = procedures.commit if self.program.start == "commit" else procedures.rollback
        self.until_alive(desk, lambda _desk: start(_desk, tx), then=recovery.recover)
        if self.store.read(self.transaction_id) is None:
            self.judge.require(self.world.calls == [], "I1", "something ran without a journal")
            return None
        for _ in range(ROUNDS_MAX):
            result = self.result()
            if result.is_final:
                break
            self.judge.require(result.waiting is not None, "I2", "neither final nor waiting")
            self.ask_a_person(result.waiting)
        else:
            raise Violation(f"I2: it never ends: {result.waiting}")
        verification = self.drive(
            desk, recovery.verify(self.desk(), self.transaction_id), mortal=False
        )
        self.judge.require(verification.is_intact, "I11", str(verification.problems))
        self.judge.end(result)
        return result

    def begun(self, manager):
        options = {
            "timeout_scope": self.program.timeout_scope,
            "on_crash": self.program.on_crash,
            "on_compensation_failure": self.program.on_compensation_failure,
        }
        tx = manager.begin(60, **options)
        tx.created_at = tx.created_at.fromtimestamp(T0 / 1_000_000, tx.created_at.tzinfo)
        for index, step in enumerate(self.program.steps):
            added = manager.add_step(tx, "agent", f"do_{index}", {"n": index})
            if step.after is not None:
                added.after = [f"s{before + 1}" for before in step.after]
        return tx

    def until_alive(self, desk, make, *, then):
        """Drive a procedure; whenever the process dies, another one recovers."""
        self.ticks = 0
        while True:
            try:
                return self.drive(desk, make(desk))
            except Killed:
                self.store.leave(desk.driver_id)
                self.clock.advance(self.jumps.pop(0) if self.jumps else 0)
                desk, make = self.desk(), then
                self.ticks = 0

    def result(self):
        return self.drive(self.desk(), read_result(self.desk(), self.transaction_id), mortal=False)

    def ask_a_person(self, waiting):
        if waiting.reason == "running":
            # Somebody's wish stands in the journal, and nobody has taken it up yet.
            self.until_alive(self.desk(), recovery.recover, then=recovery.recover)
            return
        step_id = waiting.step_ids[0]
        wish = self.answer(waiting.reason, step_id)

        def ask(desk):
            return procedures.ask(desk, self.transaction_id, wish)

        with suppress(InvalidTransactionState):
            self.until_alive(self.desk(), ask, then=recovery.recover)

    def answer(self, reason, step_id):
        index = number_of(step_id)
        if reason == "in_doubt":
            truth = "happened" if index in self.world.standing else "did_not_happen"
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
def simulate():
    """Live the life of a program on a store; raise `Violation` where an invariant breaks."""

    def run(store, program):
        return Simulation(store, program).run()

    run.violation = Violation
    run.program = Program
    run.step = Step
    return run
