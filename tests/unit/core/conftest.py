"""A transaction in the hands of a test: the core alone, no driver and no store.

Whatever a test plays, `Play` checks along the way: that the journal so far, written and read
again, says the same saga (invariants I14, I16), and that the transaction is never stuck: something
is under way, or it is finished, or a time or a person moves it.
"""

# mypy: disable-error-code="assignment, union-attr"

import inspect

import pytest

from aumai_transactions.core.codec import decode, describe, encode
from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import (
    Definition,
    Policy,
    Retry,
    ScopeDefinition,
    StepDefinition,
)
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    ApprovalAnswered,
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    LateReturn,
    PlanGiven,
    ProbeReturned,
    RereadReturned,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    ScopeEnded,
    StepAsked,
    UndoAsked,
    VerificationReturned,
)
from aumai_transactions.core.outcome import (
    attention_of,
    is_runnable,
    needed_actions,
    result_of,
    summary_of,
)
from aumai_transactions.core.planning import plan, timer_at, wake_at
from aumai_transactions.core.saga import Saga
from aumai_transactions.models import StepState

T0 = 1_772_193_600_000_000
SECOND = 1_000_000
STEADY = Retry(attempts_max=3, first_delay_seconds=1.0, delay_factor=2.0, jitter=0.0)


def step(name, policy=None, **options):
    """A step; `policy` holds the fields of its `Policy`."""
    options.setdefault("compensating_action", f"undo_{name}")
    options.setdefault("data", {})
    made = Policy(**(policy or {}))
    return StepDefinition(
        step_id=name, agent_id="agent", action=f"do_{name}", policy=made, **options
    )


def attributes_of(thing):
    """All attributes, whether they stand in slots, in the class, or in the instance."""
    kind = type(thing)
    names = [*getattr(kind, "__slots__", ()), *inspect.get_annotations(kind)]
    return {name: getattr(thing, name) for name in names} | getattr(thing, "__dict__", {})


def whole(saga):
    """All that a saga holds, but for what somebody has yet to look at."""
    fields = attributes_of(saga)
    del fields["touched"]
    fields["steps"] = [one(each) for each in saga.steps]
    fields["by_id"] = list(saga.by_id)
    by_intent = saga.by_intent.items()
    fields["by_intent"] = {name: [each.index for each in found] for name, found in by_intent}
    fields["scopes"] = {name: group(scope) for name, scope in saga.scopes.items()}
    locks = saga.locks
    if locks is not None:
        fields["locks"] = locks.held, locks.queued, locks.reads, locks.readers
    return fields


def one(step):
    fields = attributes_of(step)
    fields["scope"] = None if step.scope is None else step.scope.definition.scope_id
    fields["left_behind"] = dict(step.left_behind)
    del fields["rereading"]  # Known to the driver alone.
    return fields


def group(scope):
    fields = attributes_of(scope)
    fields["children"] = [group(child) for child in scope.children]
    fields["parent"] = None if scope.parent is None else scope.parent.definition.scope_id
    return fields


def is_busy(saga):
    return bool(saga.running) or any(
        each.undo_running
        or each.probing
        or each.verifying
        or each.confirming
        or (each.rereading and each.index not in saga.rereads)
        for each in saga.steps
    )


class Play:
    """Play a transaction: say what is seen, look at what is recorded and what is to be called."""

    def __init__(self, *steps, parallel_max=1, **options):
        options.setdefault("timeout_seconds", 60)
        self.definition = Definition(created_at=T0, steps=tuple(steps), **options)
        self.parallel_max = parallel_max
        self.now = T0
        self.saga = Saga("tx")
        self.recorded = []
        self.entries = []
        self.calls = []
        self.made = []

    def see(self, *seen):
        entries, calls = advance(self.saga, seen, self.now, self.parallel_max)
        self.recorded = [self._short(entry) for entry in entries]
        self.entries += entries
        self.calls = [f"{call.operation}:{call.step.step_id}" for call in calls]
        self.made += self.calls
        self._check_replay()
        self._check_not_stuck()
        return self

    def _check_replay(self):
        again = Saga("tx")
        for number, entry in enumerate(self.entries, 1):
            _id, read = decode(encode(entry, f"e.{number}"), "tx", number)
            evolve(again, read)
        assert whole(again) == whole(self.saga)
        assert summary_of(again) == summary_of(self.saga)
        assert result_of(again, durable=True) == result_of(self.saga, durable=True)

    def _check_not_stuck(self):
        saga = self.saga
        assert saga.running == sum(1 for each in saga.steps if each.state is StepState.running)
        assert saga.undoing == sum(each.undo_running or each.verifying for each in saga.steps)
        assert saga.undo_awaits == sum(each.undo_wanted for each in saga.steps)
        assert saga.waiting == {
            each.index: each.due_at for each in saga.steps if each.due_at is not None
        }
        if saga.state.value == "pending":
            return
        if is_busy(saga):
            return
        assert not plan(saga, self.now, self.parallel_max)
        self._check_wakes()

    def _check_wakes(self):
        """Nothing is under way: a time moves it, or a person, or its living program."""
        saga = self.saga
        if saga.waiting:
            assert timer_at(saga, self.now) is not None
        is_its_programs = saga.is_interactive and not saga.commit_requested
        if is_its_programs and saga.awaiting_since is None and saga.state.value == "active":
            assert is_runnable(saga), "its program may die at any time"
            return
        wake = wake_at(saga)
        if wake is not None:
            assert wake > self.now
            assert is_runnable(saga)
            waking = plan(saga, wake, self.parallel_max)
            assert waking, "it wakes, and nothing is to be done"
        elif not saga.state.is_final:
            if result_of(saga, durable=True).waiting.reason == "resume":
                assert not is_runnable(saga)
                return
            attention = attention_of(saga)
            assert attention in ("in_doubt", "halted", "approval", "commit", "poisoned", "restored")
            assert not is_runnable(saga)
            reason = result_of(saga, durable=True).waiting.reason
            reasons = {"commit": ("committing", "in_doubt")}.get(attention, (attention,))
            assert reason in reasons

    def commit(self):
        return self.see(PlanGiven(self.definition), CommitCalled(), DriverArrived("d1"))

    def rollback_pending(self):
        return self.see(PlanGiven(self.definition), RollbackCalled(), DriverArrived("d1"))

    def returned(self, name, output=None, **options):
        return self.see(HandlerReturned(name, self._operation(name), output, **options))

    def raised(self, name, outcome="not_done", **options):
        error = ErrorRecord("Problem", f"{name} raised")
        return self.see(HandlerRaised(name, self._operation(name), outcome, error, **options))

    def missing(self, name):
        return self.see(HandlerMissing(name, self._operation(name)))

    def missing_of(self, name, operation):
        return self.see(HandlerMissing(name, operation))

    def probed(self, name, answer="unknown", output=None, **options):
        return self.see(ProbeReturned(name, answer, output, **options))

    def verified(self, name, answer="unknown", left=None, **options):
        return self.see(VerificationReturned(name, answer, left, **options))

    def late(self, name, outcome, attempt=1, output=None, operation="action"):
        error = ErrorRecord("Late", "it raised late") if outcome == "not_done" else None
        return self.see(LateReturn(name, operation, attempt, outcome, output, error))

    def left_behind(self, name):
        return self.raised(name, "timeout", left_behind=True)

    def crash(self, after_seconds=0):
        self.now += int(after_seconds * SECOND)
        needed = needed_actions(self.saga)
        self.see(DriverArrived("d2", takeover=True))
        called = [call.split(":") for call in self.calls]
        assert {
            self.saga.step(name).definition.action for kind, name in called if kind == "action"
        } <= {*needed}
        return self

    def rollback(self):
        return self.see(RollbackCalled())

    def retry(self, name):
        return self.see(RetryAsked(name), DriverArrived("d3"))

    def resolve(self, name, answer):
        return self.see(ResolutionAnswered(name, answer, "somebody", "a note"), DriverArrived("d3"))

    def claim(self):
        return self.see(DriverArrived("d3"))

    def wait(self, seconds):
        self.now += round(seconds * SECOND)
        return self.see()

    def wake(self):
        """Let it be the time that it waits for."""
        self.now = wake_at(self.saga)
        return self.see()

    @property
    def wakes_after(self):
        """In how many seconds time alone gives something to do; None where it does not."""
        wake = wake_at(self.saga)
        return None if wake is None else (wake - self.now) / SECOND

    @property
    def state(self):
        return self.saga.state.value

    @property
    def result(self):
        return result_of(self.saga, durable=True)

    @property
    def states(self):
        return {one.step_id: one.state.value for one in self.saga.steps}

    def reread(self, name, *, holds=True):
        error = None if holds else ErrorRecord("ReadConflict", f"{name} has changed")
        return self.see(RereadReturned(name, holds, error))

    def approve(self, name, **options):
        return self.see(ApprovalAnswered(name, True, "ann", **options))

    def deny(self, name, **options):
        return self.see(ApprovalAnswered(name, False, "ann", **options))

    def outcome(self):
        """What the summary says: attention, runnable, and after how many seconds it is due."""
        told = summary_of(self.saga)
        due = None if told.due_at is None else (told.due_at - self.now) / SECOND
        return told.attention, told.runnable, due

    def _operation(self, name):
        step = self.saga.step(name)
        if step.confirming:
            return "confirmation"
        return "compensation" if step.undo_running else "action"

    @staticmethod
    def _short(entry):
        kind, fields = describe(entry)
        return f"{kind}:{fields['step_id']}" if "step_id" in fields else kind


class Program(Play):
    """Play an interactive transaction: a program asks for its steps one by one."""

    def __init__(self, **options):
        options = {"shape": "interactive", "timeout_scope": "transaction"} | options
        super().__init__(**options)
        self.see(PlanGiven(self.definition), DriverArrived("d1"))

    def ask(self, name="", *scopes, fork=None, **options):
        """Ask for a step that depends on nothing but what is said."""
        options.setdefault("after", ())
        if scopes:
            options["scope_id"] = scopes[-1].scope_id
        asked = step(name, **options)
        if not name:
            asked = asked._replace(action="do", compensating_action="undo")
        return self.see(StepAsked(asked, scopes, fork))

    def did(self, name, *scopes, output=None, **options):
        """Ask for steps that succeed; several may be named with one string."""
        return self.ask(name, *scopes, **options).returned(name, output)

    def undo(self, name, **options):
        return self.see(UndoAsked(step_id=name, **options))

    def undo_scope(self, scope, **options):
        return self.see(UndoAsked(scope_id=scope.scope_id, **options))

    def release(self, *scopes):
        return self.see(ScopeEnded(scopes))

    def commit(self):
        return self.see(CommitCalled())

    def rollback(self, reason="requested", error=None):
        return self.see(RollbackCalled(reason=reason, error=error))

    def resume(self, after_seconds=0):
        self.now += int(after_seconds * SECOND)
        return self.see(DriverArrived("d2", takeover=True, resumes=True))


def scope(scope_id, kind="savepoint", parent=None, **options):
    return ScopeDefinition(scope_id, kind, parent, **options)


@pytest.fixture(scope="session")
def play():
    return Play


@pytest.fixture(scope="session")
def program():
    """An interactive transaction in the hands of a test."""
    return Program


@pytest.fixture(scope="session")
def make_scope():
    return scope


@pytest.fixture(scope="session")
def make_step():
    return step


@pytest.fixture(scope="session")
def steady():
    """Three attempts, after 1 s and after 2 s more, nothing drawn."""
    return STEADY
