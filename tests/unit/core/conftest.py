"""A transaction in the hands of a test: the core alone, no driver and no store.

Whatever a test plays, `Play` checks along the way: that the journal so far, written and read
again, says the same saga (invariants I14, I16), and that the transaction is never stuck: something
is under way, or it is finished, or a time or a person moves it.
"""

# mypy: disable-error-code="assignment, union-attr"

import pytest

from aumai_transactions.core.codec import decode, describe, encode
from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import Definition, Policy, Retry, StepDefinition
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    LateReturn,
    PlanGiven,
    ProbeReturned,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    VerificationReturned,
)
from aumai_transactions.core.outcome import attention_of, is_runnable, result_of, summary_of
from aumai_transactions.core.planning import plan, wake_at
from aumai_transactions.core.saga import Saga, SagaStep
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


def whole(saga):
    """All that a saga holds, but for what somebody has yet to look at."""
    fields = {name: getattr(saga, name) for name in Saga.__annotations__}
    fields |= {name: value for name, value in vars(saga).items() if name != "touched"}
    fields["steps"] = [one(each) for each in saga.steps]
    fields["by_id"] = list(saga.by_id)
    return fields


def one(step):
    return {name: getattr(step, name) for name in SagaStep.__annotations__} | vars(step)


def is_busy(saga):
    return bool(saga.running) or any(
        each.undo_running or each.probing or each.verifying for each in saga.steps
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
        assert saga.waiting == {
            each.index: each.due_at for each in saga.steps if each.due_at is not None
        }
        if saga.state.value == "pending":
            return
        if is_busy(saga):
            return
        assert plan(saga, self.now, self.parallel_max) == ()
        wake = wake_at(saga)
        if wake is not None:
            assert wake > self.now
            assert is_runnable(saga)
            waking = plan(saga, wake, self.parallel_max)
            assert waking != (), "it wakes, and nothing is to be done"
        elif not saga.state.is_final:
            assert attention_of(saga) in ("in_doubt", "halted")
            assert not is_runnable(saga)
            assert result_of(saga, durable=True).waiting.reason == attention_of(saga)

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
        return self.see(DriverArrived("d2", takeover=True))

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

    def _operation(self, name):
        step = self.saga.step(name)
        return "compensation" if step.undo_running else "action"

    @staticmethod
    def _short(entry):
        kind, fields = describe(entry)
        return f"{kind}:{fields['step_id']}" if "step_id" in fields else kind


@pytest.fixture(scope="session")
def play():
    return Play


@pytest.fixture(scope="session")
def make_step():
    return step


@pytest.fixture(scope="session")
def steady():
    """Three attempts, after 1 s and after 2 s more, nothing drawn."""
    return STEADY
