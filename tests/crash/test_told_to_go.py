"""SIGTERM and SIGINT at random moments of workers and of programs that drive transactions.

Each goes within its grace, nothing is doubled, nothing is lost, and whoever comes next goes on at
once with whatever there is left to do.
"""

import random
import signal
from contextlib import closing
from pathlib import Path

import pytest
from tests.reliability.share import times

from aumai_transactions import TransactionManager, TransactionState, open_store
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries, load
from aumai_transactions.store import Query
from aumai_transactions.testing import kill_checks
from aumai_transactions.testing.kill_effects import read_effects
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("signalled_program.py")
TERM, INT = signal.SIGTERM, signal.SIGINT
GRACE_SECONDS = 30.0
NEWS_MAX = 12
NEWS_SECONDS_MAX = 0.03
OPEN_MIN = 8
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
HANDED_ON = "an append ends between"
"""Not looked at here: who is told to go lets go of a transaction there."""
WAYS = {
    ("worker", TERM): {"left 0"},
    ("worker", INT): {"interrupted"},
    ("plan", INT): {"interrupted"},
    ("plan_async", INT): {"interrupted"},
    ("block", TERM): {"exit 143", "killed"},
    ("block", INT): {"interrupted"},
    ("block_async", TERM): {"exit 143", "killed"},
    ("block_async", INT): {"interrupted"},
}
"""By which way who goes of what; SIGTERM between two blocks means what it always means."""
STORES = ("sqlite", "postgres")
FEW = 3
MANY = times(512 / len(WAYS) / len(STORES), least=4)
both_ways = pytest.mark.parametrize(
    "kind,number", WAYS, ids=lambda one: one if isinstance(one, str) else one.name
)


@pytest.fixture(scope="module")
def programs():
    with Nursery([str(PROGRAM)]) as started:
        yield started


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/trips.db"
    return request.getfixturevalue("postgres16").store()


class Office:
    """One store, and programs that are told to go, one after the other."""

    def __init__(self, folder, url, nursery):
        self.folder, self.url, self._nursery = folder, url, nursery
        self.dice = random.Random(1)
        self.ways = []

    def goes_on(self, store):
        """Wait until something was written a few times, and for a moment that nobody knows."""
        for _ in range(self.dice.randrange(NEWS_MAX)):
            store.wait_for_news(NEWS_SECONDS_MAX)
        store.wait_for_news(NEWS_SECONDS_MAX * self.dice.random())

    def told_to_go(self, store, kind, number):
        """Start one, tell it to go at a random moment, and return how it went."""
        victim = self._nursery.start(kind=kind, folder=str(self.folder), store=self.url)
        victim.wait_for("ready")
        self.goes_on(store)
        victim.send(number)
        said = []
        while (line := victim.next_line(GRACE_SECONDS)) is not None:
            if line == "dropped":
                victim.send(number)
            else:
                said.append(line)
        status = victim.reap()
        if status == -TERM:
            said.append("killed")
        assert status in (0, -TERM), (status, said)
        [way] = said
        assert way in WAYS[kind, number]
        self.ways.append(way)

    def finish(self):
        """Let somebody else do all that is left, at once."""
        victim = self._nursery.start(kind="recoverer", folder=str(self.folder), store=self.url)
        assert victim.finish() == []

    def judge(self, store):
        """Hold every journal against what the world saw; return them."""
        effects = read_effects(self.folder / "effects")
        seen = kill_checks.by_transaction(effects)
        outcomes = self.folder / "outcomes"
        told = dict(line.split() for line in outcomes.read_text().splitlines())
        journals, sagas, wrong = {}, {}, []
        for listed in store.find(Query(limit=10_000)):
            name = listed.summary.transaction_id
            journals[name] = journal = store.read(name)
            sagas[name] = load(journal)
            found = kill_checks.problems_of(journal, sagas[name], seen.get(name, []))
            wrong += [text for text in found if HANDED_ON not in text]
        wrong += kill_checks.lost(told, sagas, effects)
        assert wrong == []
        return journals, sagas


@pytest.fixture
def office(tmp_path, url, programs):
    return Office(tmp_path, url, programs)


def claims(journal):
    return [entry for _, entry in entries(journal) if isinstance(entry, Claimed)]


def keep_open(producer, store):
    """Submit until there is enough to do."""
    while store.count(Query(states=(TransactionState.pending, TransactionState.active))) < OPEN_MIN:
        tx = producer.begin(timeout_seconds=3_600)
        for number in range(3):
            producer.add_step(tx, "agent", "act", {"number": number}, "undo")
        producer.submit(tx)


def workers_are_told_to_go(office, number, signals):
    """Who is told to go hands back what it has: nobody is taken for dead, no call is made again."""
    with (
        TransactionManager(store=office.url) as producer,
        closing(open_store(office.url, create=True)) as store,
    ):
        producer.action("act", compensating_action="undo", idempotent=True)(print)
        producer.action("undo", idempotent=True)(print)
        for _ in range(signals):
            keep_open(producer, store)
            office.told_to_go(store, "worker", number)
        office.finish()
        journals, sagas = office.judge(store)
    assert {saga.state.value for saga in sagas.values()} == {"committed"}
    assert not any(claim.takeover for journal in journals.values() for claim in claims(journal))
    calls = [effect.key for effect in read_effects(office.folder / "effects")]
    assert len(calls) == len(set(calls)) == 3 * len(journals)
    return len(journals)


def drivers_are_told_to_go(office, kind, number, signals):
    """A caller who is told to go undoes what it was about: nothing is left for others to do."""
    with closing(open_store(office.url, create=True)) as store:
        for _ in range(signals):
            office.told_to_go(store, kind, number)
            unfinished = store.count(Query(states=UNFINISHED))
            assert unfinished == 0, office.ways
        journals, sagas = office.judge(store)
    assert {saga.state.value for saga in sagas.values()} <= {"committed", "rolled_back"}
    # Where the signal hits our own code, its driver begins anew; nobody else ever has to.
    assert all(len({claim.driver_id for claim in claims(one)}) == 1 for one in journals.values())
    return len(journals)


def tell_to_go(office, kind, number, signals):
    if kind == "worker":
        return workers_are_told_to_go(office, number, signals)
    return drivers_are_told_to_go(office, kind, number, signals)


@both_ways
def test_who_is_told_to_go_at_any_moment_loses_and_doubles_nothing(office, kind, number):
    assert tell_to_go(office, kind, number, FEW)


@pytest.mark.deep
@both_ways
def test_five_hundred_are_told_to_go_and_lose_and_double_nothing(office, kind, number, figures):
    ended = tell_to_go(office, kind, number, MANY)
    figures("told to go", signals=MANY, transactions=ended, lost_doubled_or_half=0)
