"""What becomes of appends when the server, a session or the way to it dies meanwhile.

Rules:
  1. Whoever gets no answer appends the very same again: that tells, and nothing else does.
  2. At the end each entry that was acknowledged is there, once, and no other.
"""

import itertools
import shutil
import socket
import tempfile
import threading
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.testing.journals import act, claim, loaded, plan, request

pytestmark = pytest.mark.crash

WRITERS = 6
CRASHES = 3
APPENDS_BETWEEN = 60
TRIES_MAX = 2_000
APPENDED, OURS = AppendAnswer.appended, AppendAnswer.already_ours


class Writers:
    """Threads that append to a transaction each, through one handle, and count what they are told.

    Each append is made again until it is answered.
    """

    def __init__(self, store):
        self.store = store
        self.acknowledged = [0] * WRITERS
        self.unknown = 0
        self.found_again = 0
        self.problems = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(WRITERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        try:
            name = f"t-{number}"
            self._append(number, plan(name))
            for sequence in itertools.count(2):
                if self._stop.is_set():
                    return
                self._append(number, request(name, sequence))
        except BaseException as error:
            self.problems.append(error)
            raise
        finally:
            with self._news:
                self._news.notify_all()

    def _append(self, number, append):
        is_unknown = False
        for _ in range(TRIES_MAX):
            try:
                [answer] = self.store.append([append])
            except StoreUnavailable as error:
                is_unknown = is_unknown or error.outcome_unknown
                self._stop.wait(0.01)
                continue
            break
        else:
            raise AssertionError("the store never came back")
        assert answer is APPENDED or (answer is OURS and is_unknown), answer
        with self._news:
            self.acknowledged[number] += len(append.entries)
            self.unknown += is_unknown
            self.found_again += answer is OURS
            self._news.notify_all()

    def wait_for(self, more):
        """Wait until so many more appends have been acknowledged."""
        with self._news:
            enough = sum(self.acknowledged) + more
            self._news.wait_for(lambda: self.problems or sum(self.acknowledged) >= enough, 60)
            assert self.problems == []

    def check(self, store):
        for number, count in enumerate(self.acknowledged):
            assert loaded(store, f"t-{number}").sequence == count


def test_a_server_that_dies_keeps_what_it_acknowledged_and_doubles_nothing(durable_postgres):
    url = durable_postgres.store(pool_size=WRITERS)
    with closing(PostgresStore(url)) as store, Writers(store) as writers:
        assert store.is_durable
        for _ in range(CRASHES):
            writers.wait_for(APPENDS_BETWEEN)
            durable_postgres.crash()
        writers.wait_for(APPENDS_BETWEEN)
    assert writers.unknown, "no append was under way when the server died"
    with closing(PostgresStore(url, create=False)) as store:
        writers.check(store)


def test_sessions_that_are_ended_while_they_append_lose_and_double_nothing(postgres16):
    url = postgres16.store(pool_size=WRITERS, application_name="ended")
    end = b"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'ended'"""
    with closing(PostgresStore(url)) as store, Writers(store) as writers:
        with psycopg.connect(postgres16.url, autocommit=True) as connection:
            for _ in range(10):
                writers.wait_for(APPENDS_BETWEEN // 2)
                assert connection.execute(end).rowcount
        writers.wait_for(APPENDS_BETWEEN)
    assert writers.unknown, "no append was under way when its session was ended"
    with closing(PostgresStore(url, create=False)) as store:
        writers.check(store)


def test_transactions_outlive_the_death_of_their_server(durable_postgres):
    calls: Counter[str] = Counter()
    ended = threading.Semaphore(0)
    begun = []
    url = durable_postgres.store()
    manager = TransactionManager(store=url)

    @manager.action("act", compensating_action="undo", idempotent=True)
    def act_(action, data, context):
        calls[context.forward_key] += 1

    @manager.action("undo")
    def undo(action, data, context):
        raise AssertionError("nothing is to be undone")

    def work():
        for _ in range(12):
            tx = manager.begin(600)
            for number in range(3):
                manager.add_step(tx, "agent", "act", {"number": number})
            begun.append(tx.transaction_id)
            try:
                manager.commit(tx)
            except StoreUnavailable:
                # The server was away for too long; recovery goes on with it, or it never began.
                continue
            finally:
                ended.release()

    threads = [threading.Thread(target=work) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        for _ in range(WRITERS * 3):
            ended.acquire()
        durable_postgres.crash()
    for thread in threads:
        thread.join()
    manager.recover()
    manager.close()
    with TransactionManager(store=url) as other:
        states = {tx.transaction_id: tx.state for tx in other.get_all_transactions()}
        assert other.verify().problems == {}
    assert len(begun) == WRITERS * 12
    # These had ended before the server died; of the others, some never began.
    assert len(states) >= WRITERS * 3
    assert set(states.values()) == {"committed"}
    wanted = {f"{name}/s{number}/action" for name in states for number in (1, 2, 3)}
    assert set(calls) == wanted


# --------------------------------------------------------------------------- lost on the way


class Proxy:
    """Stand between one client and the server, and cut the connection where it is told to.

    Args:
        server: The server's socket.
        folder: Where our own socket is.
    """

    def __init__(self, server, folder):
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        # How many more messages of the client are let through before the cut; None for no cut.
        self._left = None
        self._how = ""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self, how, after=0):
        """Cut at one of the client's next messages: before it is passed on, or its answer."""
        self._how, self._left = how, after

    def _run(self):
        while True:
            client, _ = self._listener.accept()
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(self._server)
                if self._serve(client, server) == "closed":
                    return

    def _serve(self, client, server):
        """Pass on messages in turn: the client asks, the server answers until it is ready."""
        while message := client.recv(1 << 20):
            if message == b"close":
                return "closed"
            is_cut = self._left == 0
            if self._left is not None:
                self._left -= 1
            if is_cut:
                self._left = None
            if is_cut and self._how == "request":
                return "cut"
            server.sendall(message)
            if message[:1] == b"X":
                return "ended"
            answer = b""
            # Z is "ready for query".
            while not answer[-6:].startswith(b"Z\0\0\0\5"):
                part = server.recv(1 << 20)
                if not part:
                    return "ended"
                answer += part
            if is_cut:
                return "cut"
            client.sendall(answer)
        return "ended"

    def close(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self._listener.getsockname())
            client.sendall(b"close")
            self._thread.join()
        self._listener.close()


@pytest.fixture
def behind_proxy(postgres16):
    """Open a store with one connection, which leads through a proxy."""

    @contextmanager
    def opened():
        folder = Path(tempfile.mkdtemp(prefix="aumai-proxy-"))
        url = postgres16.store(pool_size=1, connect_timeout=5)
        proxy = Proxy(str(postgres16.folder / ".s.PGSQL.5432"), folder)
        try:
            with closing(PostgresStore(url.replace(str(postgres16.folder), str(folder)))) as store:
                yield store, proxy, url
        finally:
            proxy.close()
            shutil.rmtree(folder)

    return opened


@pytest.mark.parametrize("how,wanted", [("answer", OURS), ("request", APPENDED)])
@pytest.mark.parametrize("kind", ["new", "act", "several"])
def test_an_append_without_an_answer_is_unknown_and_the_same_again_tells(
    behind_proxy, how, wanted, kind
):
    with behind_proxy() as (store, proxy, url):
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        lost = {
            "new": [plan("u")],
            "act": [act("t", 3, 1)],
            "several": [act("t", 3, 1), plan("u"), act("t", 4, 1)],
        }[kind]
        proxy.cut(how)
        with pytest.raises(StoreUnavailable, match="nobody knows") as caught:
            store.append(lost)
        assert caught.value.outcome_unknown
        assert store.append(lost) == [wanted] * len(lost)
        with closing(PostgresStore(url, create=False)) as other:
            sequences = {
                name: loaded(other, name).sequence for name in ("t", "u") if other.read(name)
            }
        assert (
            sequences
            == {"new": {"t": 3, "u": 2}, "act": {"t": 4}, "several": {"t": 5, "u": 2}}[kind]
        )


# BEGIN, the heads, the write, COMMIT.
@pytest.mark.parametrize("stage,is_unknown", [(0, False), (1, False), (2, False), (3, True)])
@pytest.mark.parametrize("how", ["answer", "request"])
def test_behind_locks_only_a_lost_commit_is_unknown(behind_proxy, how, stage, is_unknown):
    with behind_proxy() as (store, proxy, url):
        with closing(PostgresStore(url)) as other:
            other.append([plan("t")])
        lost = request("t", 2)
        proxy.cut(how, after=stage)
        if is_unknown:
            with pytest.raises(StoreUnavailable) as caught:
                store.append([lost])
            assert caught.value.outcome_unknown
        # Before the COMMIT nothing was written, so the store has tried again by itself.
        assert store.append([lost]) == [OURS if is_unknown and how == "answer" else APPENDED]
        assert loaded(store, "t").sequence == 3


@pytest.mark.parametrize("how", ["answer", "request"])
def test_a_question_whose_answer_was_lost_is_asked_again(behind_proxy, how):
    with behind_proxy() as (store, proxy, _):
        store.append([plan("t")])
        proxy.cut(how)
        assert store.count(Query()) == 1
        proxy.cut(how)
        assert loaded(store, "t").sequence == 2
        proxy.cut(how)
        assert len(store.find(Query())) == 1


def test_a_connection_that_was_ended_while_it_was_idle_is_not_used_again(postgres16):
    url = postgres16.store(pool_size=1, application_name="idle")
    with closing(PostgresStore(url)) as store:
        store.append([plan("t")])
        with psycopg.connect(postgres16.url, autocommit=True) as connection:
            ended = connection.execute(
                b"""SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                    WHERE application_name = 'idle'"""
            )
            assert ended.fetchall() == [(True,)]
        assert store.append([request("t", 2)]) == [APPENDED]


# ----------------------------------------------------------------------------- a lost standby


def until(connection, query, values=()):
    """Ask until the answer is true; the server waits in between."""
    for _ in range(2_000):
        if connection.execute(query, values).fetchone()[0]:
            return
        connection.execute(b"SELECT pg_sleep(0.01)")
    raise AssertionError(query)


@pytest.fixture
def waits_for_a_standby(postgres16):
    """The server acknowledges no commit before a standby has it, and there is none."""
    shown = b"SELECT current_setting('synchronous_standby_names') = %s"
    with psycopg.connect(postgres16.url, autocommit=True) as connection:
        connection.execute(b"SET synchronous_commit = local")

        def set_to(name):
            connection.execute(b"ALTER SYSTEM SET synchronous_standby_names = " + name)
            connection.execute(b"SELECT pg_reload_conf()")
            until(connection, shown, [name.decode().strip("'")])

        yield connection, set_to
        set_to(b"''")


def test_a_commit_that_a_standby_may_not_have_is_unknown(postgres16, waits_for_a_standby):
    connection, set_to = waits_for_a_standby
    waiting = b"""SELECT count(*) > 0 FROM pg_stat_activity
        WHERE application_name = 'replicated' AND wait_event = 'SyncRep'"""
    cancel = b"""SELECT pg_cancel_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'replicated'"""
    with closing(PostgresStore(postgres16.store(application_name="replicated"))) as store:
        set_to(b"'nobody'")
        errors = []

        def append():
            try:
                store.append([plan("t")])
            except StoreUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=append)
        thread.start()
        until(connection, waiting)
        connection.execute(cancel)
        thread.join()
        set_to(b"''")
        assert [error.outcome_unknown for error in errors] == [True]
        assert store.append([plan("t")]) == [OURS]
