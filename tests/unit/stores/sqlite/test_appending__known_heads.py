"""What a handle remembers of the heads that it has written, and when it must not."""

import sqlite3
from contextlib import closing

import pytest

from aumai_transactions import TransactionState
from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, statements
from aumai_transactions.testing.journals import act, claim, loaded, plan, request, waiting

APPENDED = AppendAnswer.appended


@pytest.fixture
def store(path):
    with SqliteStore(path) as store:
        yield store


@pytest.fixture
def other(store, path):
    with SqliteStore(path) as other:
        yield other


@pytest.fixture
def asked(store):
    """The statements that the store's connection carries out from now on."""
    found: list[str] = []
    store._database.connection().set_trace_callback(found.append)
    return found


def looked_up(asked):
    return [sql for sql in asked if sql.lstrip().startswith("SELECT ordinal, sequence")]


def begun(store, name="t"):
    driver_id = store.join()
    assert store.append([plan(name)]) == [APPENDED]
    assert store.append([claim(name, 2, 1, driver_id)]) == [APPENDED]
    return driver_id


def test_a_head_that_was_written_here_is_not_looked_up_again(store, asked):
    begun(store)
    assert store.append([act("t", 3, 1)]) == [APPENDED]
    assert len(looked_up(asked)) == 1
    assert loaded(store, "t").sequence == 4


def test_what_another_handle_wrote_is_seen(store, other):
    begun(store)
    assert other.append([request("t", 3)]) == [APPENDED]
    assert store.append([act("t", 3, 1)]) == [AppendAnswer.moved]
    assert store.append([act("t", 4, 1)]) == [APPENDED]
    assert loaded(other, "t").sequence == 5


def test_a_driver_that_another_handle_has_replaced_is_fenced(store, other):
    driver_id = begun(store)
    store.leave(driver_id)
    assert other.append([claim("t", 3, 2, other.join())]) == [APPENDED]
    assert store.append([act("t", 4, 1)]) == [AppendAnswer.fenced]


def test_what_this_handle_has_purged_is_not_remembered(store):
    begun(store)
    ended = act("t", 3, 1, state=TransactionState.committed, runnable=False)
    assert store.append([ended]) == [APPENDED]
    assert store.append([plan("u")]) == [APPENDED]
    assert store.purge(10, 10) == 1
    assert store.append([plan("t")]) == [APPENDED]
    assert loaded(store, "t").sequence == 2


def test_a_driver_whose_row_another_handle_took_away_is_recorded_again(store, other):
    driver_id = begun(store)
    connection = other._database.connection()
    connection.execute(statements.FORGET_DRIVER, (driver_id,))
    assert store.append([plan("u"), claim("u", 2, 1, driver_id)]) == [APPENDED, APPENDED]
    rows = connection.execute("SELECT driver_id FROM drivers").fetchall()
    assert (driver_id,) in rows


def test_nothing_of_a_write_that_failed_is_remembered(store):
    begun(store)
    connection = store._database.connection()
    connection.execute(
        "CREATE TEMP TRIGGER no BEFORE UPDATE ON store BEGIN SELECT RAISE(ABORT, ''); END"
    )
    with pytest.raises(StoreError):
        store.append([act("t", 3, 1)])
    connection.execute("DROP TRIGGER no")
    assert loaded(store, "t").sequence == 3
    assert store.append([act("t", 3, 1)]) == [APPENDED]
    assert loaded(store, "t").sequence == 4


def test_more_heads_than_are_remembered_are_looked_up(store, asked, monkeypatch):
    monkeypatch.setattr("aumai_transactions.stores.sqlite.appending.HEADS_MAX", 3)
    for number in range(5):
        assert store.append([plan(f"t{number}")]) == [APPENDED]
    assert [store.append([request(f"t{number}", 2)]) for number in range(5)] == [[APPENDED]] * 5
    assert len(looked_up(asked)) > 5
    assert all(loaded(store, f"t{number}").sequence == 3 for number in range(5))


def test_one_journal_with_entries_behind_its_head_does_not_hold_up_the_batch(store, other):
    begun(store)
    assert store.append([plan("u")]) == [APPENDED]
    connection = other._database.connection()
    row = connection.execute("SELECT * FROM entries WHERE sequence = 2 LIMIT 1").fetchone()
    connection.execute("INSERT INTO entries VALUES (?, 4, ?, ?)", (row[0], row[2], row[3]))
    answers = store.append([request("u", 2), act("t", 3, 1), plan("v"), request("u", 3)])
    assert answers == [APPENDED, AppendAnswer.moved, APPENDED, APPENDED]
    assert loaded(store, "u").sequence == 4
    assert loaded(store, "v").sequence == 2


def test_who_waits_for_a_time_is_remembered_with_it(store):
    assert store.append([waiting("t", 5)]) == [APPENDED]
    driver_id = store.join()
    assert store.due(driver_id, 10, 4) == []
    assert store.append([claim("t", 2, 1, driver_id), act("t", 3, 1)]) == [APPENDED, APPENDED]
    assert store.due(driver_id, 10, 4) == ["t"]


# ------------------------------------------------------------------- writes that wait for nobody


def test_a_write_at_once_is_durable_like_any_other(store, other):
    assert store.append([plan("t")]) == [APPENDED]
    assert store.append_at_once([request("t", 2)]) == [APPENDED]
    assert loaded(other, "t").sequence == 3


def test_a_write_at_once_waits_for_no_other_process(store, other):
    assert store.append([plan("t")]) == [APPENDED]
    other._database.writer.acquire()
    try:
        assert store.append_at_once([request("t", 2)]) is None
    finally:
        other._database.writer.release()
    assert store.append_at_once([request("t", 2)]) == [APPENDED]


def test_a_write_at_once_waits_for_no_program_that_does_not_know_our_lock(store, path):
    assert store.append([plan("t")]) == [APPENDED]
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        assert store.append_at_once([request("t", 2)]) is None
        shell.execute("ROLLBACK")
    assert store.append_at_once([request("t", 2)]) == [APPENDED]
    # And a write that may wait does so again.
    assert store.append([request("t", 3)]) == [APPENDED]
    timeout = store._database.connection().execute("PRAGMA busy_timeout").fetchone()
    assert timeout == (5000,)


def test_a_write_at_once_waits_for_no_thread_that_is_in_the_store(store):
    assert store.append([plan("t")]) == [APPENDED]
    with store._lock:
        assert store.append_at_once([request("t", 2)]) is None


def test_the_first_write_and_one_that_must_checkpoint_are_not_made_at_once(path):
    with SqliteStore(path) as store:
        assert store.append_at_once([plan("t")]) is None
        assert store.append([plan("t")]) == [APPENDED]
        big = {"big": "x" * 400_000}
        for number in range(12):
            store._database.checkpoints._threshold = 10**9
            assert store.append([plan(f"u{number}", data=big)]) == [APPENDED]
        store._database.checkpoints._threshold = 4_000_000
        assert store.append_at_once([request("t", 2)]) is None
        assert store.append([request("t", 2)]) == [APPENDED]
        assert store.append([request("t", 3)]) == [APPENDED]
        assert store.append_at_once([request("t", 4)]) == [APPENDED]


def test_a_store_that_was_taken_away_is_not_written_at_once(store, path):
    assert store.append([plan("t")]) == [APPENDED]
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="moved, removed or replaced"):
        store.append_at_once([request("t", 2)])
