"""Workers that are killed, stopped and told to go: nothing is lost, and nothing is done twice."""
# mypy: disable-error-code="union-attr, var-annotated, arg-type"

import signal
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries
from aumai_transactions.stores import open_store
from aumai_transactions.stores.sqlite import liveness
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("worker_program.py")


@pytest.fixture(scope="module")
def workers():
    with Nursery([str(PROGRAM)]) as started:
        yield started


class Yard:
    """One store, its workers in processes of their own, and a producer that has no handlers."""

    def __init__(self, folder, nursery, url=None):
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/trips.db"
        self._nursery = nursery
        self.producer = TransactionManager(store=self.url)
        # A store of no use yet: so that workers find one.
        self.producer.begin()

    def start(self, **orders):
        return self._nursery.start(folder=str(self.folder), store=self.url, **orders)

    def worker(self, **orders):
        started = self.start(**orders)
        started.wait_for("ready")
        return started

    def submit(self, *steps, **options):
        """Submit steps, each the data of an `act`, or an agent and that."""
        tx = self.producer.begin(timeout_seconds=600, **options)
        for step in steps:
            agent, data = step if isinstance(step, tuple) else ("an_agent", step)
            self.producer.add_step(tx, agent, "act", data, "undo")
        # Why here: a producer knows that it is idempotent only where it has the action.
        self.producer.submit(tx)
        return tx.transaction_id

    def finish(self, **orders):
        """Let a worker do all that is left."""
        return self.worker(until_idle=True, stops=False, **orders).finish()

    @property
    def effects(self):
        file = self.folder / "effects"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def keys(self):
        """How often each key was called."""
        return Counter(key for _, key, *_ in self.effects)

    def state(self, name):
        return self.producer.get_result(name).state.value

    def entries(self, name):
        with closing(open_store(self.url, create=False)) as store:
            return [entry for _, entry in entries(store.read(name))]

    def claims(self, name):
        return [entry for entry in self.entries(name) if isinstance(entry, Claimed)]


@pytest.fixture
def yard(tmp_path, workers):
    made = Yard(tmp_path, workers)
    made.producer.action("act", compensating_action="undo", idempotent=True)(print)
    made.producer.action("undo")(print)
    yield made
    made.producer.close()


def test_two_workers_finish_everything_once(yard):
    names = [yard.submit({}, {}) for _ in range(40)]
    both = [yard.worker(until_idle=True) for _ in range(2)]
    for worker in both:
        assert worker.finish() == ["left"]
    yard.finish()
    assert {yard.state(name) for name in names} == {"committed"}
    assert set(yard.keys().values()) == {1}
    assert len(yard.keys()) == 80


def test_what_a_killed_worker_had_in_hand_is_finished_by_another_at_once(yard):
    """Nobody waits for a lease: the lock of the dead one's file is free."""
    names = [yard.submit({}, {"stops": True}, {}) for _ in range(3)]
    waiting = [yard.submit({}) for _ in range(5)]
    victim = yard.worker(concurrency=3)
    stand = {victim.next_line() for _ in names}
    assert stand == {f"there {name}" for name in names}
    victim.kill()
    yard.finish()
    assert {yard.state(name) for name in (*names, *waiting)} == {"committed"}
    keys = yard.keys()
    assert sum(keys.values()) == 3 * 3 + 3 + 5, "each stopped call was made once more, no other"
    assert len(keys) == 3 * 3 + 5


def test_every_worker_is_killed_at_once_with_everything_in_flight(yard):
    names = [yard.submit({}, {"stops": True}) for _ in range(50)]
    victims = [yard.worker(concurrency=4) for _ in range(2)]
    for victim in victims:
        for _ in range(4):
            assert victim.next_line().startswith("there ")
    for victim in victims:
        victim.kill()
    begun = [name for name in names if yard.claims(name)]
    assert len(begun) == 8, "no worker takes more than it has threads for"
    after = [yard.worker(until_idle=True, stops=False, concurrency=2) for _ in range(3)]
    for worker in after:
        worker.finish()
    yard.finish()
    assert {yard.state(name) for name in names} == {"committed"}
    keys = yard.keys()
    assert len(keys) == 100
    assert sum(keys.values()) == 100 + 8
    assert yard.producer.verify().problems == {}


# ------------------------------------------------------------------------------------ told to go


def test_a_worker_that_is_told_to_go_hands_back_between_two_calls(yard):
    name = yard.submit({}, {"stops": True}, {})
    worker = yard.worker(concurrency=1)
    worker.wait_for(f"there {name}")
    later = yard.submit({})
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    assert worker.finish() == ["left"]
    result = yard.producer.get_result(name)
    assert (result.state.value, result.completed_steps) == ("active", ["s1", "s2"])
    assert yard.state(later) == "pending"
    yard.finish()
    assert (yard.state(name), yard.state(later)) == ("committed", "committed")
    assert set(yard.keys().values()) == {1}
    assert not any(claim.takeover for claim in yard.claims(name)), "nobody had to die"


def test_what_is_not_handed_back_in_time_is_named_and_anybodys_once_the_process_is_gone(yard):
    name = yard.submit({"stops": True}, {})
    worker = yard.worker(drain=0.05)
    worker.wait_for(f"there {name}")
    worker.send(signal.SIGTERM)
    assert worker.wait_for(f"left {name}") == ["stopping"]
    assert worker.reap() == 0
    yard.finish()
    assert yard.state(name) == "committed"
    assert sorted(yard.keys().values()) == [1, 2]


# ------------------------------------------------------------------------------- stopped and fenced


def test_a_worker_that_stands_still_keeps_what_it_has_for_its_lock_says_that_it_lives(yard):
    name = yard.submit({"stops": True})
    worker = yard.worker()
    worker.wait_for(f"there {name}")
    worker.send(signal.SIGSTOP)
    yard.finish()
    assert yard.state(name) == "active"
    worker.send(signal.SIGCONT)
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    worker.finish()
    yard.finish()
    assert yard.state(name) == "committed"
    assert set(yard.keys().values()) == {1}


def test_a_worker_that_stood_still_past_its_lease_is_refused_and_its_answer_is_late(
    yard, monkeypatch
):
    """Where no lock proves that it lives, its lease decides, by the clock of whoever looks."""
    monkeypatch.setattr(liveness, "fcntl", None)
    name = yard.submit({"stops": True}, {})
    victim = yard.worker(leases=True, label="old")
    victim.wait_for(f"there {name}")
    victim.send(signal.SIGSTOP)
    ahead = ManualClock(yard.producer._desk().clock.now() + 300 * 1_000_000)
    calls = []
    with TransactionManager(store=str(yard.folder / "trips.db"), clock=ahead) as other:

        @other.action("act", idempotent=True)
        def act(action, data):
            calls.append(action)
            return "new"

        other.action("undo")(lambda action, data: calls.append(action))
        Worker(other, poll_seconds=0.02).run(until_idle=True)
    assert yard.state(name) == "committed"
    assert calls == ["act", "act"]
    victim.send(signal.SIGCONT)
    victim.send(signal.SIGTERM)
    victim.wait_for("stopping")
    assert victim.finish() == ["left"]
    result = yard.producer.get_result(name)
    assert result.outputs == {"s1": "new", "s2": "new"}
    late = [event for event in yard.producer.get_events(name) if event.kind == "call_returned_late"]
    assert [(event.step_id, event.fields["output"]) for event in late] == [("s1", "old")]
    assert len(yard.effects) == 1, "the old one acts no more"
    assert yard.producer.verify(name).problems == {}


# ---------------------------------------------------------------------------------------- poison


def test_what_kills_its_workers_is_left_to_a_person_and_nothing_else_is(yard):
    other = yard.submit({}, {})
    name = yard.submit({}, {"dies": "exit"}, crashes_max=3)
    for _ in range(3):
        assert yard.worker(until_idle=True).reap() == 9
    assert yard.finish() == ["left"]
    result = yard.producer.get_result(name)
    assert (result.state.value, result.waiting.reason) == ("active", "poisoned")
    assert result.waiting.step_ids == ["s2"]
    assert "3 processes in a row" in result.waiting.detail
    assert yard.state(other) == "committed"
    assert [item.summary.attention for item in yard.producer.find()] == [None, "poisoned"]

    # Why another manager: the producer's has handlers, and would do it itself.
    with TransactionManager(store=f"sqlite:///{yard.folder}/trips.db") as person:
        person.retry(name, "s2", note="repaired", wait_max_seconds=0)
    assert yard.finish(dies=False) == ["left"]
    assert yard.state(name) == "committed"


def test_what_kills_its_workers_can_be_rolled_back(yard):
    name = yard.submit({}, {"dies": "exit"}, crashes_max=1)
    assert yard.worker(until_idle=True).reap() == 9
    yard.finish()
    assert yard.producer.get_result(name).waiting.reason == "poisoned"
    with TransactionManager(store=f"sqlite:///{yard.folder}/trips.db") as person:
        person.rollback(name, wait_max_seconds=0)
    yard.finish(dies=False)
    assert yard.state(name) == "rolled_back"


def test_workers_that_are_killed_between_two_calls_do_not_count(yard):
    """As a deploy does."""
    name = yard.submit({"stops": True}, crashes_max=1)
    idle = [yard.worker(agents=["somebody_else"]) for _ in range(3)]
    for worker in idle:
        worker.kill()
    yard.finish()
    assert yard.state(name) == "committed"


# --------------------------------------------------------------------------------------- routing


def test_steps_of_two_agents_are_made_by_two_processes(yard):
    names = [yard.submit(("a", {}), ("b", {}), ("a", {})) for _ in range(10)]
    both = [yard.worker(agents=[agent], label=agent) for agent in ("a", "b")]
    for name in names:
        with TransactionManager(store=f"sqlite:///{yard.folder}/trips.db") as waiter:
            assert waiter.wait(name, timeout_seconds=60).state.value == "committed"
    for worker in both:
        worker.send(signal.SIGTERM)
        assert worker.finish() == ["stopping", "left"]
    assert Counter(label for _, _, label in yard.effects) == {"a": 20, "b": 10}
    assert set(yard.keys().values()) == {1}
    outputs = [yard.producer.get_result(name).outputs for name in names]
    assert outputs == [{"s1": "a", "s2": "b", "s3": "a"}] * 10
