"""Connections that are cut at any byte, sessions that are killed, and news that never come."""

import random
import threading
from collections import Counter
from contextlib import closing

import psycopg
import pytest
from tests.crash.test_postgres_server import APPENDS_BETWEEN, WRITERS, Writers
from tests.crash.wire import Wire
from tests.reliability.share import times

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.testing.journals import act, claim, loaded, plan, request

pytestmark = pytest.mark.crash

CUTS = times(200, least=60)
FEW_CUTS = 10
TRIES_MAX = 20


@pytest.fixture
def wire(postgres16):
    with Wire(str(postgres16.folder / ".s.PGSQL.5432")) as wire:
        yield wire


def over(wire, url, postgres16, **options):
    """The same store, reached over the wire."""
    more = "".join(f"&{name}={value}" for name, value in options.items())
    place = f"host={postgres16.folder}"
    assert place in url
    return url.replace(place, f"host=127.0.0.1&port={wire.port}&sslmode=disable") + more


class Appender:
    """Append through a wire that is cut meanwhile, and tell what became of each."""

    def __init__(self, wire, near, far, seed):
        self.wire, self.near, self.far = wire, near, far
        self.dice = random.Random(seed)
        self.seen: Counter[str] = Counter()
        near.append([plan("t")])
        far.append([claim("t", 2, 1, far.join())])
        self.sequence = 3

    def _append(self, *, is_long):
        """Append once, and return how many bytes went each way."""
        if is_long:
            # What the far handle remembers is of yesterday then, and it has to take locks.
            assert self.near.append([request("t", self.sequence)]) == [AppendAnswer.appended]
            self.sequence += 1
        before = dict(self.wire.passed)
        assert self.far.append([act("t", self.sequence, 1)]) == [AppendAnswer.appended]
        self.sequence += 1
        return {way: self.wire.passed[way] - before[way] for way in before}

    def append_under_a_cut(self, number):
        """Cut once; append the very same until that is answered."""
        way = "to server" if number % 2 else "to client"
        is_long = number // 2 % 2 == 1
        # Why a few first: a connection that was just made says more than one that is in use.
        size = [self._append(is_long=is_long)[way] for _ in range(3)][-1]
        if is_long:
            self.near.append([request("t", self.sequence)])
            self.sequence += 1
        append = act("t", self.sequence, 1)
        self.wire.cut(way, self.dice.randrange(size))
        is_unknown, answer = False, None
        for _ in range(TRIES_MAX):
            try:
                [answer] = self.far.append([append])
                break
            except StoreUnavailable as error:
                is_unknown = is_unknown or error.outcome_unknown
        self.sequence += 1
        assert not self.wire.is_to_cut(), "nothing was cut"
        assert answer is AppendAnswer.appended or (
            answer is AppendAnswer.already_ours and is_unknown
        )
        self.seen[f"{'unknown' if is_unknown else 'known'}, {answer.value}"] += 1
        assert loaded(self.near, "t").sequence == self.sequence


@pytest.fixture
def cut(wire, postgres16):
    """Cut so often, at bytes that a seed chooses; return what was seen."""

    def run(times):
        url = postgres16.store()
        far = over(wire, url, postgres16, pool_size=1, connect_timeout=5)
        with closing(PostgresStore(url)) as near, closing(PostgresStore(far)) as other:
            appender = Appender(wire, near, other, seed=times)
            for number in range(times):
                appender.append_under_a_cut(number)
        print(dict(appender.seen))
        return appender.seen

    return run


def test_an_append_whose_connection_is_cut_at_any_byte_stands_once(cut):
    seen = cut(FEW_CUTS)
    assert seen["unknown, already_ours"]


@pytest.mark.deep
def test_appends_are_cut_hundreds_of_times(cut, figures):
    seen = cut(CUTS)
    # Cut before the server had all of it, behind its COMMIT, and where nothing was written yet.
    assert seen["unknown, appended"]
    assert seen["unknown, already_ours"]
    assert seen["known, appended"]
    figures("cuts", cuts=CUTS, lost_or_doubled=0)


def test_a_session_that_is_killed_takes_the_server_down_and_nothing_is_lost_or_doubled(
    durable_postgres,
):
    """As the kernel does where memory is short: the server ends every session, and starts anew."""
    url = durable_postgres.store(pool_size=WRITERS, application_name="killed")
    with closing(PostgresStore(url)) as store, Writers(store) as writers:
        for _ in range(2):
            writers.wait_for(APPENDS_BETWEEN)
            durable_postgres.kill_session("killed")
        writers.wait_for(APPENDS_BETWEEN)
    assert writers.unknown, "no append was under way when the session was killed"
    with closing(PostgresStore(url, create=False)) as store:
        writers.check(store)


def test_a_worker_whose_news_never_come_finds_work_by_looking(wire, postgres16):
    """The listening connection dies as in a network that lost it: neither side hears of it."""
    url = postgres16.store()
    ended = threading.Semaphore(0)
    listens = b"""SELECT count(*) > 0 FROM pg_stat_activity
        WHERE application_name = 'worker' AND query LIKE 'LISTEN %'"""

    def submitted():
        tx = producer.begin()
        producer.add_step(tx, "agent", "act", {})
        producer.submit(tx)
        return tx.transaction_id

    with (
        TransactionManager(store=url) as producer,
        TransactionManager(store=over(wire, url, postgres16, application_name="worker")) as manager,
        psycopg.connect(postgres16.url, autocommit=True) as eye,
    ):
        producer.begin(idempotency_key="so that there is a store")
        manager.action("act", idempotent=True)(lambda action, data: ended.release())
        with Worker(manager, poll_seconds=0.3) as worker:
            while eye.execute(listens).fetchone() != (True,):
                eye.execute(b"SELECT pg_sleep(0.01)")
            assert wire.freeze(b"LISTEN ") == 1
            for _ in range(4):
                name = submitted()
                assert ended.acquire(timeout=60)
                # What was acted upon is durable only a moment later, and then it looks once more.
                assert producer.wait(name, timeout_seconds=60).state.value == "committed"
                while worker._busy:
                    eye.execute(b"SELECT pg_sleep(0.01)")
                eye.execute(b"SELECT pg_sleep(0.05)")
