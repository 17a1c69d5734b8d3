"""What a PostgreSQL store is, beyond the contract that all stores keep."""

import subprocess
import sys
import threading
from contextlib import closing
from functools import partial

import pytest

from aumai_transactions.core.journal import chain_hash
from aumai_transactions.errors import (
    JournalCorrupt,
    SchemaVersionError,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
)
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.stores.postgres.schema import SCHEMA_VERSION
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.journals import (
    NOW,
    act,
    claim,
    in_threads,
    loaded,
    plan,
    race,
    request,
)

APPENDED, HELD, MOVED = AppendAnswer.appended, AppendAnswer.held, AppendAnswer.moved

# ------------------------------------------------------------------------------- durability


def test_a_server_without_fsync_works_and_is_not_called_durable(store):
    assert store.append([plan("t")]) == [APPENDED]
    info = store.info()
    assert (store.is_durable, info.durable, info.checks["fsync"]) == (False, False, "off")


def test_a_server_with_fsync_is_durable(durable_postgres):
    with closing(PostgresStore(durable_postgres.store())) as store:
        info = store.info()
        assert (store.is_durable, info.durable) == (True, True)
        assert info.checks["synchronous_commit"] == "on"


@pytest.mark.parametrize("asked,found", [("off", "on"), ("local", "on"), ("remote_apply",) * 2])
def test_a_commit_waits_for_the_disk_whatever_the_session_was_told(url, asked, found):
    with closing(PostgresStore(f"{url}&options=-c%20synchronous_commit%3D{asked}")) as store:
        assert store.info().checks["synchronous_commit"] == found


def test_timeouts_are_set_and_a_url_may_say_other_ones(url):
    show = b"""SELECT current_setting('lock_timeout'), current_setting('statement_timeout'),
        current_setting('idle_in_transaction_session_timeout')"""
    with closing(PostgresStore(url)) as store:
        assert store._pool.run(lambda lent: lent.read(show).fetchone()) == ("5s", "30s", "10s")
    with closing(PostgresStore(f"{url}&options=-c%20lock_timeout%3D100ms")) as store:
        assert store._pool.run(lambda lent: lent.read(show).fetchone()) == ("100ms", "30s", "10s")


# --------------------------------------------------------------------------- what stands there


def test_a_store_that_is_not_there_is_named_with_server_database_and_schema(postgres16):
    url = postgres16.store(password="hush", schema="nowhere")
    with pytest.raises(StoreNotFound) as caught:
        PostgresStore(url, create=False)
    text = str(caught.value)
    assert f"{postgres16.folder}, database postgres, schema nowhere" in text
    assert "hush" not in text


def test_a_database_that_is_not_there_is_named(postgres16):
    url = postgres16.store(password="hush").replace("/postgres?", "/no_such_one?")
    with pytest.raises(StoreNotFound, match='"no_such_one" does not exist') as caught:
        PostgresStore(url)
    assert "hush" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        PostgresStore(f"postgresql://me:hush@/db?host={tmp_path}")
    assert "hush" not in str(caught.value)
    assert not caught.value.outcome_unknown


def test_tables_of_another_program_are_left_alone(database, url):
    schema = url.rpartition("=")[2]
    database.execute(f"CREATE SCHEMA {schema} CREATE TABLE store (id int)".encode())
    with pytest.raises(StoreFormatError, match="schema=NAME"):
        PostgresStore(url)
    database.execute(b"DROP TABLE store; CREATE TABLE transactions (id int)")
    with pytest.raises(StoreError, match="already exists"):
        PostgresStore(url)
    tables = database.execute(b"SELECT count(*) FROM pg_tables WHERE schemaname = %s", [schema])
    assert tables.fetchone() == (1,)


def test_a_store_that_a_newer_release_has_changed_is_refused_by_its_version(store, url, database):
    database.execute(b"UPDATE store SET schema_version = 9, usable_from = 8")
    with pytest.raises(SchemaVersionError) as caught:
        PostgresStore(url)
    assert (caught.value.found, caught.value.known) == (9, SCHEMA_VERSION)
    database.execute(b"UPDATE store SET usable_from = 1")
    with closing(PostgresStore(url, create=False)) as other:
        assert other.info().schema_version == 9


def test_a_store_in_another_encoding_is_refused(postgres16, database):
    database.execute(
        b"CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    with pytest.raises(StoreError, match="encoding is LATIN1"):
        PostgresStore(postgres16.store().replace("/postgres?", "/latin?"))


def test_creators_at_once_make_one_store(url):
    found = []

    def create():
        with closing(PostgresStore(url)) as store:
            found.append(store.info().store_id)

    in_threads([create] * 6)
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_role_needs_what_the_page_lists_and_no_more(postgres16, url, database):
    with closing(PostgresStore(url)) as owner:
        owner.append([plan("t")])
    schema = url.rpartition("=")[2]
    database.execute(b"CREATE ROLE worker LOGIN")
    as_worker = url.replace("postgres@/", "worker@/")
    with pytest.raises(StoreError, match="may not do that"):
        PostgresStore(as_worker)
    database.execute(
        f"""GRANT USAGE ON SCHEMA {schema} TO worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO worker;
        GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO worker""".encode()
    )
    with closing(PostgresStore(as_worker)) as store:
        driver = store.join()
        assert store.append([claim("t", 2, 1, driver), plan("u")]) == [APPENDED] * 2
        assert store.due(driver, 9, NOW, reserve_seconds=1) == ["t", "u"]
        assert store.purge(NOW, 9) == 0
        assert store.info(thorough=True).changes == 3


def test_a_password_is_in_no_url_and_no_error(postgres16):
    with closing(PostgresStore(postgres16.store(password="hush%2F1"))) as store:
        assert "hush" not in store.info().url
        store.close()
        with pytest.raises(StoreError) as caught:
            store.read("t")
        assert "hush" not in str(caught.value)


# ------------------------------------------------------------------------------------ drivers


def test_a_lease_goes_by_the_clock_of_the_server(url, database):
    slow, fast = ManualClock(0), ManualClock(2**60)
    with (
        closing(PostgresStore(url, clock=slow)) as one,
        closing(PostgresStore(url, clock=fast)) as other,
    ):
        holder, me = one.join(), other.join()
        one.append([plan("t"), claim("t", 2, 1, holder)])
        assert other.append([claim("t", 3, 2, me)]) == [HELD]
        database.execute(b"UPDATE drivers SET lease_until = clock_timestamp() - interval '1 ms'")
        assert other.due(me, 9, NOW) == ["t"]
        one.renew(holder)
        assert other.due(me, 9, NOW) == []
        database.execute(b"UPDATE drivers SET lease_until = clock_timestamp() - interval '1 ms'")
        assert other.append([claim("t", 3, 2, me)]) == [APPENDED]


def test_a_url_says_how_long_a_lease_lasts(url, database):
    with closing(PostgresStore(f"{url}&lease_seconds=5")) as store:
        assert store.lease_seconds == 5
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        left = database.execute(
            b"SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM drivers"
        ).fetchone()
        assert 0 < left[0] <= 5


def test_who_was_long_dead_is_forgotten(store, database):
    me, old, older = store.join(), store.join(), store.join()
    store.append([plan(n) for n in "ab"])
    store.append([claim("a", 2, 1, old), claim("b", 2, 1, older)])
    database.execute(
        b"UPDATE drivers SET lease_until = clock_timestamp() - interval '2 days' "
        b"WHERE driver_id = %s",
        [older],
    )
    store.due(me, 9, NOW)
    rows = database.execute(b"SELECT driver_id FROM drivers").fetchall()
    assert rows == [(old,)]


CHILD = """
import os, sys
from aumai_transactions.errors import StoreError
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.testing.journals import loaded, plan, request
store = PostgresStore(sys.argv[1])
store.append([plan("t")])
store.wait_for_news(0)
child = os.fork()
if child == 0:
    try:
        store.append([request("t", 2)])
    except StoreError as error:
        store.close()
        os._exit(7 if "child" in str(error) else 8)
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.append([request("t", 2)])
store.wait_for_news(0)
assert loaded(store, "t").sequence == 3
store.close()
"""


def test_a_child_of_fork_is_told_to_open_its_own_store_and_hurts_no_session(url):
    ran = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", CHILD, url],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# --------------------------------------------------------------------------------- appending


def test_a_handle_that_remembers_a_head_of_old_is_not_fooled(url):
    with closing(PostgresStore(url)) as one, closing(PostgresStore(url)) as other:
        driver = one.join()
        one.append([plan("t"), claim("t", 2, 1, driver)])
        assert other.append([request("t", 3)]) == [APPENDED]
        assert one.append([act("t", 3, 1), plan("u")]) == [MOVED, APPENDED]
        assert one.append([act("t", 4, 1), act("t", 5, 1)]) == [APPENDED] * 2
        assert one.append([act("t", 3, 1)]) == [MOVED]


def test_a_store_that_was_set_back_is_not_written_over(store, database):
    """The same sequence and token with another hash: as after a restore."""
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    database.execute(b"UPDATE transactions SET head_hash = %s", [bytes(32)])
    assert store.append([act("t", 3, 1)]) == [APPENDED]
    last = store.read("t").entries[-1]
    # It stands on what is there, not on what was remembered.
    assert last.hash == chain_hash("t", 4, bytes(32), last.body)
    with pytest.raises(JournalCorrupt):
        loaded(store, "t")


def test_entries_behind_a_head_are_never_replaced(store, database):
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver), plan("u")])
    database.execute(
        b"INSERT INTO entries SELECT transaction_ordinal, 4, body, hash FROM entries "
        b"WHERE sequence = 3"
    )
    assert store.append([act("t", 3, 1), request("u", 2)]) == [MOVED, APPENDED]
    assert store.append([act("t", 3, 1)]) == [MOVED]
    with pytest.raises(JournalCorrupt):
        loaded(store, "t")


def test_who_is_kept_from_a_row_is_told_after_a_while_and_nothing_is_written(url, database):
    with closing(PostgresStore(f"{url}&options=-c%20lock_timeout%3D20ms")) as store:
        store.append([plan("t")])
        with database.transaction():
            database.execute(b"SELECT 1 FROM transactions FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="others kept holding") as caught:
                store.append([request("t", 2)])
        assert not caught.value.outcome_unknown
        assert store.append([request("t", 2)]) == [APPENDED]


def test_a_call_of_which_a_part_is_durable_is_unknown_as_a_whole(url, database):
    with closing(PostgresStore(url)) as other:
        other.append([plan("t")])
    with closing(PostgresStore(f"{url}&options=-c%20lock_timeout%3D20ms")) as store:
        call = [plan("new"), request("t", 2)]
        with database.transaction():
            database.execute(b"SELECT 1 FROM transactions FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="Others of the same call") as caught:
                store.append(call)
        assert caught.value.outcome_unknown
        assert store.append(call) == [AppendAnswer.already_ours, APPENDED]


def test_a_session_that_may_not_write_any_more_is_given_up(url):
    """As after a failover: the server that we are connected to has become a standby."""
    with closing(PostgresStore(f"{url}&pool_size=1")) as store:
        store.append([plan("t")])
        store._pool.run(lambda lent: lent.read(b"SET default_transaction_read_only = on"))
        with pytest.raises(StoreUnavailable, match="takes no writes") as caught:
            store.append([request("t", 2)])
        assert not caught.value.outcome_unknown
        assert store.append([request("t", 2)]) == [APPENDED]


def test_batches_in_any_order_do_not_wait_for_each_other_for_ever(url):
    names = [f"t-{number}" for number in range(12)]
    with closing(PostgresStore(url)) as store:
        store.append([plan(name) for name in names])

        def run(number):
            with closing(PostgresStore(url)) as own:
                for round_ in range(8):
                    order = names if (number + round_) % 2 else names[::-1]
                    fresh = [plan(f"new-{round_}-{name}") for name in order]
                    last = {name: loaded(own, name).sequence for name in order}
                    late = [request(name, last[name], f"{number}-{round_}") for name in order]
                    own.append([*late, *fresh])

        in_threads([partial(run, number) for number in range(4)])
        assert store.count(Query()) == 12 + 12 * 8
        for name in names:
            loaded(store, name)


def test_threads_share_no_more_connections_than_the_url_allows(url, database):
    count = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'"
    with closing(PostgresStore(f"{url}&pool_size=2&application_name=counted")) as store:
        store.append([plan("shared")])
        in_threads([partial(race, store, f"own-{number}") for number in range(6)])
        assert database.execute(count).fetchone() == (2,)


def test_what_postgres_cannot_hold_is_an_error_of_ours_and_hurts_nothing(store):
    for wrong in ("nul\0", "lone\ud800"):
        with pytest.raises(StoreError):
            store.append([plan("t")._replace(transaction_id=wrong)])
        with pytest.raises(StoreError):
            store.read(wrong)
    assert store.append([plan("t")]) == [APPENDED]


# ------------------------------------------------------------------------------------- others


def test_what_is_reserved_is_offered_to_nobody_else_for_so_long(url, database):
    with closing(PostgresStore(url)) as one, closing(PostgresStore(url)) as other:
        a, b, dead = one.join(), other.join(), other.join()
        one.append([plan(f"t-{number}") for number in range(4)])
        other.append([plan("held"), claim("held", 2, 1, dead)])
        other.leave(dead)
        assert one.due(a, 3, NOW, reserve_seconds=60) == ["t-0", "t-1", "t-2"]
        assert other.due(b, 9, NOW, reserve_seconds=60) == ["t-3", "held"]
        assert other.due(b, 9, NOW, reserve_seconds=60) == ["t-3", "held"]
        database.execute(b"UPDATE transactions SET offered_until = clock_timestamp()")
        assert len(other.due(b, 9, NOW, reserve_seconds=60)) == 5
        assert one.due(a, 9, NOW, reserve_seconds=60) == []
        assert len(one.due(a, 9, NOW)) == 5


def test_those_who_reserve_at_once_are_told_of_different_ones(url):
    with closing(PostgresStore(url)) as store:
        store.append([plan(f"t-{number}") for number in range(60)])
        found = []

        def ask():
            found.extend(store.due(store.join(), 10, NOW, reserve_seconds=60))

        in_threads([ask] * 6)
        assert found
        assert len(found) == len(set(found))
        commit = store._pool.run(lambda lent: lent.read(b"SHOW synchronous_commit").fetchone())
        assert commit == ("on",)


def test_several_threads_that_wait_share_one_listening_session(url, database):
    count = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'listening'"
    with closing(PostgresStore(f"{url}&application_name=listening")) as store:
        for _ in range(100):
            if not store.wait_for_news(0.01):
                break
        before = database.execute(count).fetchone()
        told = []
        threads = [
            threading.Thread(target=lambda: told.append(store.wait_for_news(60))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        with closing(PostgresStore(url)) as other:
            number = 0
            while len(told) < 4 and number < 1_000:
                other.append([plan(f"t-{number}")])
                number += 1
        for thread in threads:
            thread.join()
        assert told == [True] * 4
        assert database.execute(count).fetchone() == before == (2,)


def test_news_that_came_while_nobody_waited_is_not_lost(url):
    with closing(PostgresStore(url)) as store, closing(PostgresStore(url)) as other:
        me = store.join()
        for _ in range(100):
            if not store.wait_for_news(0.01):
                break
        other.append([plan("t")])
        # This reads the socket, so that the server can get rid of what it has to tell.
        store.renew(me)
        assert store.wait_for_news(60)


def test_a_listening_session_that_is_ended_is_made_again(url, database):
    with (
        closing(PostgresStore(f"{url}&application_name=cut")) as store,
        closing(PostgresStore(url)) as other,
    ):
        for _ in range(100):
            if not store.wait_for_news(0.01):
                break
        database.execute(
            b"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            b"WHERE application_name = 'cut'"
        )
        told = [store.wait_for_news(0.01) for _ in range(100)]
        # It is told that there may be news, for there may have been.
        assert True in told
        assert not told[-1]
        other.append([plan("t")])
        assert store.wait_for_news(60)
        assert not told[-1]


def test_a_wait_ends_when_the_handle_is_closed(url):
    store = PostgresStore(url)
    store.wait_for_news(0)
    told = []
    thread = threading.Thread(target=lambda: told.append(store.wait_for_news(60)))
    thread.start()
    store.close()
    thread.join(30)
    assert not thread.is_alive()
    # It may have begun only after that, and then it is an error of its own.
    assert told in ([False], [])
