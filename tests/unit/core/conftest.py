"""A transaction in the hands of a test: the core alone, no driver and no store."""

import pytest

from aumai_transactions.core.codec import describe
from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerMissing,
    HandlerRaised,
    HandlerReturned,
    PlanGiven,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
)
from aumai_transactions.core.outcome import result_of
from aumai_transactions.core.saga import Saga

T0 = 1_772_193_600_000_000
SECOND = 1_000_000


def step(name, **options):
    options.setdefault("compensating_action", f"undo_{name}")
    options.setdefault("data", {})
    return StepDefinition(step_id=name, agent_id="agent", action=f"do_{name}", **options)


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

    def see(self, *seen):
        entries, calls = advance(self.saga, seen, self.now, self.parallel_max)
        self.recorded = [self._short(entry) for entry in entries]
        self.entries += entries
        self.calls = [f"{call.operation}:{call.step.step_id}" for call in calls]
        return self

    def commit(self):
        return self.see(PlanGiven(self.definition), CommitCalled(), DriverArrived("d1"))

    def rollback_pending(self):
        return self.see(PlanGiven(self.definition), RollbackCalled(), DriverArrived("d1"))

    def returned(self, name, output=None):
        return self.see(HandlerReturned(name, self._operation(name), output))

    def raised(self, name, outcome="not_done"):
        error = ErrorRecord("Problem", f"{name} raised")
        return self.see(HandlerRaised(name, self._operation(name), outcome, error))

    def missing(self, name):
        return self.see(HandlerMissing(name, self._operation(name)))

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
        for call in self.calls:
            if call.endswith(f":{name}"):
                return call.partition(":")[0]
        return "compensation" if self.saga.step(name).undo_running else "action"

    @staticmethod
    def _short(entry):
        kind, fields = describe(entry)
        return f"{kind}:{fields['step_id']}" if "step_id" in fields else kind


@pytest.fixture
def play():
    return Play


@pytest.fixture
def make_step():
    return step
