"""Workers that call a service over real HTTP are killed and stopped at random, a thousand times.

The service has the product's barrier in a database of its own. At the end its database and the
journals have to agree: nothing that was acknowledged is lost, nothing happened twice, nothing is
half done, and what is not final is with a person, for a reason that has a name.
"""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.crash.http_worker import actions_of
from tests.reliability.share import times

from aumai_transactions import TransactionManager, TransactionState, open_store
from aumai_transactions.core.journal import load
from aumai_transactions.store import Query
from aumai_transactions.testing import history, kill_checks
from aumai_transactions.testing.kill_effects import Effect
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

HERE = Path(__file__).parent
KILLS = times(1_000, least=50)
FEW_KILLS = 15
WORKERS = 3
ROOMS = [f"r{number}" for number in range(8)]
OPEN_MIN = 24
LEASE_SECONDS = 1.5
CHANGES_MAX = 16
STILL_SECONDS_MAX = 30.0
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
NAMED = {"poisoned", "outstanding", "in_doubt"}
HANDED_ON = "an append ends between"
"""Not looked at here: who waits for another attempt, or a room, lets go of a transaction there."""
KINDS: dict[str, history.Kind] = {"action": "write", "compensation": "undo"}


@pytest.fixture(scope="module")
def workers():
    with Nursery([str(HERE / "http_worker.py")]) as started:
        yield started


class Hotel:
    """The service, in a process of its own, and what its database says."""

    def __init__(self, place, process):
        self.place = place
        self.port = int(process.stdout.readline())

    def _rows(self, query):
        with closing(sqlite3.connect(self.place)) as database:
            return database.execute(query).fetchall()

    def effects(self):
        rows = self._rows(
            "SELECT transaction_id, step_id, operation, attempt, key FROM effects ORDER BY position"
        )
        return [Effect("effect", *row) for row in rows]

    def accesses(self):
        rows = self._rows(
            "SELECT position, resource, transaction_id, step_id, operation, token FROM effects"
        )
        return [
            history.Access(position, resource, name, step_id, KINDS[operation], token)
            for position, resource, name, step_id, operation, token in rows
        ]

    def guests(self):
        return dict(self._rows("SELECT name, guests FROM rooms WHERE guests <> 0"))


@pytest.fixture
def hotel(tmp_path):
    place = tmp_path / "hotel.db"
    argv = [sys.executable, HERE / "hotel_service.py", place]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Hotel(place, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


class Crew:
    """Three workers, of which one is killed or stopped at a time."""

    def __init__(self, nursery, orders, dice):
        self.nursery, self.orders, self.dice = nursery, orders, dice
        self.kills = self.stops = 0
        self.ended: Counter[str] = Counter()
        self.stopped = {}
        self.workers = [self._begun() for _ in range(WORKERS)]

    def _begun(self):
        worker = self.nursery.start(**self.orders)
        worker.wait_for("ready")
        return worker

    def trouble(self, *, stops):
        now = time.monotonic()
        for index, until in list(self.stopped.items()):
            if now > until:
                self._wake(index)
        index = self.dice.randrange(WORKERS)
        may_stop = stops and not self.stopped and index not in self.stopped
        if may_stop and self.dice.random() < 0.2:
            self.workers[index].send(signal.SIGSTOP)
            self.stopped[index] = now + 1.5 * LEASE_SECONDS
            self.stops += 1
            return
        self.workers[index].kill()
        self.stopped.pop(index, None)
        self.kills += 1
        self.workers[index] = self._begun()

    def _wake(self, index):
        self.workers[index].send(signal.SIGCONT)
        del self.stopped[index]

    def end(self):
        for worker in self.workers:
            assert worker.finish() == []

    def wake_all(self):
        for index in list(self.stopped):
            self._wake(index)


def submitted(producer, dice):
    """Submit a trip; return its id once that is acknowledged."""
    tx = producer.begin(timeout_seconds=3_600, lock_timeout_seconds=600)
    rooms = dice.sample(ROOMS, dice.randint(1, 3))
    for room in rooms:
        producer.add_step(tx, "agent", "book", {"room": room})
    if dice.random() < 0.3:
        producer.add_step(tx, "agent", "refuse", {"room": rooms[0]})
    producer.submit(tx)
    return tx.transaction_id


@contextmanager
def produced(url, hotel):
    """A producer: it has the actions, so that what it submits says what they are."""
    with TransactionManager(store=url) as producer:
        for action in actions_of(hotel.port):
            producer.actions.add(action)
        yield producer


def moving(store):
    """Those that are neither final nor with a person."""
    found = store.find(Query(states=UNFINISHED, limit=1_000))
    return [listed for listed in found if listed.summary.attention is None]


def settle(store, producer):
    """Wait until nothing moves any more; nobody is killed now, so that something has to happen."""
    changes, until = -1, 0.0
    while left := moving(store):
        now = time.monotonic()
        if (seen := store.info().changes) != changes:
            changes, until = seen, now + STILL_SECONDS_MAX
        if now > until:
            names = [listed.summary.transaction_id for listed in left]
            stand = [(name, str(producer.get_result(name).waiting)) for name in names]
            raise AssertionError((stand, store.locks(None).locks, time.time()))
        store.wait_for_news(0.2)


def goes_on(store, dice):
    """Wait until workers have written a few times more, so that kills do not outrun the work."""
    wanted = store.info().changes + dice.randint(0, CHANGES_MAX)
    until = time.monotonic() + STILL_SECONDS_MAX
    while store.info().changes < wanted and time.monotonic() < until:
        store.wait_for_news(0.02)


def torment(url, hotel, nursery, *, kills, stops):
    """Let three workers work, kill them so often, and hold what happened against the law."""
    dice = random.Random(kills)
    acknowledged: dict[str, str | None] = {}
    with produced(url, hotel) as producer, closing(open_store(url, create=True)) as store:
        acknowledged[submitted(producer, dice)] = None
        crew = Crew(nursery, {"store": url, "port": hotel.port}, dice)
        while crew.kills < kills:
            while store.count(Query(states=UNFINISHED)) < OPEN_MIN:
                acknowledged[submitted(producer, dice)] = None
            goes_on(store, dice)
            for listed in store.find(Query(newest_first=True, limit=40)):
                if listed.summary.state.is_final:
                    # Whoever looked was told this, and it must not change any more.
                    acknowledged[listed.summary.transaction_id] = listed.summary.state.value
            crew.trouble(stops=stops)
        crew.wake_all()
        settle(store, producer)
        crew.end()
        told = judge(store, hotel, acknowledged, producer)
        assert producer.verify().problems == {}
    print(f"{crew.kills} kills, {crew.stops} stops, {dict(told)}")
    assert told["committed"] > kills / 2
    assert told["rolled_back"] > kills / 8
    crew.ended = told
    return crew


def judge(store, hotel, acknowledged, producer):
    """Compare the journals with the hotel's database; return how many ended how."""
    effects = hotel.effects()
    seen = kill_checks.by_transaction(effects)
    told: Counter[str] = Counter()
    guests: Counter[str] = Counter()
    sagas, wrong, with_a_person = {}, [], []
    for listed in every(store):
        name = listed.summary.transaction_id
        journal = store.read(name)
        sagas[name] = saga = load(journal)
        mine = seen.get(name, [])
        wrong += twice(mine)
        if listed.summary.attention is not None:
            told[listed.summary.attention] += 1
            with_a_person.append(name)
            assert listed.summary.attention in NAMED
            result = producer.get_result(name)
            print(name, result.waiting, result.outstanding)
            assert result.outstanding or (result.waiting and result.waiting.detail)
            continue
        told[saga.state.value] += 1
        found = kill_checks.problems_of(journal, saga, mine)
        wrong += [text for text in found if HANDED_ON not in text]
        if saga.state is TransactionState.committed:
            guests.update(step.definition.data["room"] for step in saga.steps)
    outcomes = {name: state for name, state in acknowledged.items() if state}
    wrong += kill_checks.lost(outcomes, sagas, effects)
    wrong += [f"{name}: its submission was acknowledged" for name in acknowledged.keys() - sagas]
    for text in history.problems_of(store, hotel.accesses()):
        # What a person has to look at is not ended, and may have left its guests.
        wrong += [] if any(name in text for name in with_a_person) else [text]
    if not with_a_person:
        assert hotel.guests() == guests
        assert store.locks(None).locks == []
    assert wrong == []
    return told


def every(store):
    query = Query(limit=500)
    while page := store.find(query):
        yield from page
        query = query._replace(after=page[-1].position)


def twice(effects):
    times = Counter((e.transaction_id, e.step_id, e.operation) for e in effects)
    return [f"{call} took effect {count} times" for call, count in times.items() if count > 1]


def test_workers_on_one_file_that_are_killed_lose_double_and_halve_nothing(
    hotel, workers, tmp_path
):
    # Why nobody is stopped: who stops in the midst of a write holds up everybody who shares a file.
    torment(f"sqlite:///{tmp_path}/trips.db", hotel, workers, kills=FEW_KILLS, stops=False)


def test_workers_on_a_server_that_are_killed_and_stopped_lose_double_and_halve_nothing(
    hotel, workers, postgres16
):
    url = postgres16.store(lease_seconds=LEASE_SECONDS)
    crew = torment(url, hotel, workers, kills=FEW_KILLS, stops=True)
    assert crew.stops


@pytest.fixture(params=["sqlite", "postgres"])
def durable_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/trips.db"
    return request.getfixturevalue("durable_postgres").store(lease_seconds=LEASE_SECONDS)


@pytest.mark.deep
def test_a_thousand_kills_of_workers_that_call_over_http(hotel, workers, durable_url, figures):
    stops = durable_url.startswith("postgresql:")
    crew = torment(durable_url, hotel, workers, kills=KILLS, stops=stops)
    figures(
        "http kills",
        kills=crew.kills,
        stops=crew.stops,
        transactions=crew.ended.total(),
        left_to_a_person_for_a_named_reason=sum(crew.ended[reason] for reason in NAMED),
        lost_doubled_or_half=0,
        violations_of_isolation=0,
    )
