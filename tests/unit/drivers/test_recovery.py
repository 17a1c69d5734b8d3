"""Finishing what dead processes left."""
# mypy: disable-error-code="var-annotated"

import sqlite3
from contextlib import closing

import pytest

from aumai_transactions import OutcomeUnknown, TransactionNotFound
from aumai_transactions.core.journal import load

NAMES = ("first", "second", "undo_first", "undo_second")


def orphan(make_sync, store, *, after="first", handlers=None):
    """A transaction whose driver died while its step `after` was running."""

    class Died(BaseException):
        pass

    def act(action, data):
        if action == after:
            store.append = refuse
        return action

    def refuse(appends):
        raise Died

    append = store.append
    manager = make_sync(handlers or dict.fromkeys(NAMES, act), store=store)
    tx = manager.begin()
    manager.add_step(tx, "agent", "first", {}, "undo_first")
    manager.add_step(tx, "agent", "second", {}, "undo_second")
    with pytest.raises(Died):
        manager.commit(tx)
    store.append = append
    store.leave(manager._opened.driver_id)
    return tx.transaction_id


@pytest.fixture(params=["memory", "sqlite"])
def store(request, make_store):
    return make_store(request.param)


def recorder(calls):
    return dict.fromkeys(NAMES, lambda action, data, context: calls.append((action, context)))


def test_recovery_finishes_and_says_what_it_did(make_sync, store):
    name = orphan(make_sync, store, after="second")
    calls = []
    manager = make_sync(recorder(calls), store=store)
    (report,) = manager.recover()
    assert (report.transaction_id, report.outcome) == (name, "finished")
    assert report.detail == "rolled back"
    assert report.result.compensated_steps == ["s2", "s1"]
    assert [(action, context.in_doubt, context.token) for action, context in calls] == [
        ("undo_second", True, 2),
        ("undo_first", False, 2),
    ]
    assert calls[1][1].output == "first"
    assert manager.recover() == []
    assert manager.verify().is_intact


def test_an_idempotent_step_is_run_again_under_its_key_and_the_trip_goes_on(make_sync, store):
    first = make_sync(store=store)
    keys = []

    class Died(BaseException):
        pass

    append = store.append

    def refuse(appends):
        raise Died

    def note(action, data, context):
        keys.append((context.idempotency_key, context.attempt))
        store.append = refuse

    first.action("first", idempotent=True)(note)
    tx = first.begin()
    first.add_step(tx, "agent", "first", {})
    with pytest.raises(Died):
        first.commit(tx)
    store.append = append
    store.leave(first._opened.driver_id)
    second = make_sync(store=store)
    second.action("first", idempotent=True)(
        lambda action, data, context: keys.append((context.idempotency_key, context.attempt))
    )
    (report,) = second.recover()
    assert report.result.state.value == "committed"
    assert keys == [(f"{tx.transaction_id}/s1/action", 1), (f"{tx.transaction_id}/s1/action", 2)]


def test_a_transaction_whose_handlers_are_missing_is_parked_and_left_untouched(make_sync, store):
    name = orphan(make_sync, store)
    before = store.read(name).head_sequence
    manager = make_sync({"first": lambda action, data: None}, store=store)
    (report,) = manager.recover()
    assert report.outcome == "parked"
    assert "missing handler" in report.detail
    for missing in ("second", "undo_first", "undo_second"):
        assert missing in report.detail
    assert store.read(name).head_sequence == before


def test_the_transaction_of_a_living_driver_is_never_touched(make_sync, store, in_thread, signal):
    running, go = signal(), signal()
    calls = []

    def act(action, data):
        calls.append(action)
        running.set()
        go.wait()

    living = make_sync({"act": act}, store=store)
    tx = living.begin()
    living.add_step(tx, "agent", "act", {})
    committing = in_thread(living.commit, tx)
    running.wait()
    other = make_sync({"act": act}, store=store)
    assert other.recover() == []
    assert [report.outcome for report in living.recover()] == ["busy"]
    go.set()
    assert committing.result().state.value == "committed"
    assert calls == ["act"]


def test_a_step_that_asks_is_reported_as_waiting(make_sync, store):
    manager = make_sync(store=store)

    @manager.action("act", on_unknown="ask")
    def act(action, data):
        raise OutcomeUnknown("no answer")

    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    assert manager.commit(tx).waiting.reason == "in_doubt"
    assert make_sync(store=store).recover() == []


def test_a_damaged_transaction_is_reported_and_no_other_is_stopped(make_sync, make_store):
    store = make_store("sqlite")
    damaged = orphan(make_sync, store)
    sound = orphan(make_sync, store)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(
            "UPDATE entries SET body = CAST(replace(body, 'first', 'FIRST') AS BLOB) WHERE "
            "transaction_ordinal = (SELECT ordinal FROM transactions WHERE transaction_id = ?)",
            (damaged,),
        )
    manager = make_sync(dict.fromkeys(NAMES, lambda action, data: None), store=store)
    reports = {report.transaction_id: report for report in manager.recover()}
    assert reports[damaged].outcome == "unreadable"
    assert "damaged at entry" in reports[damaged].detail
    assert reports[sound].outcome == "finished"
    problems = manager.verify().problems
    assert list(problems) == [damaged]
    assert not manager.verify(damaged).is_intact
    assert manager.verify(sound).is_intact


def test_verify_counts_what_it_has_read(make_sync, store):
    manager = make_sync(store=store)
    for _ in range(3):
        manager.commit(manager.begin())
    report = manager.verify()
    assert (report.transactions, report.is_intact) == (3, True)
    assert report.entries == sum(
        load(store.read(tx.transaction_id)).sequence for tx in manager.get_all_transactions()
    )


def test_verify_of_nothing_is_refused(make_sync, store):
    with pytest.raises(TransactionNotFound):
        make_sync(store=store).verify("nowhere")


INSERT = "INSERT INTO locks (resource, transaction_id, mode, cost) "


@pytest.mark.parametrize(
    "tamper",
    [
        "DELETE FROM locks",
        "UPDATE locks SET token = token + 1",
        "UPDATE locks SET mode = 'shared'",
        INSERT + "SELECT 'stray', transaction_id, 'exclusive', 0 FROM locks",  # noqa: S608 (constants)
        INSERT + "VALUES ('stray', 'gone', 'shared', 0)",
    ],
)
def test_verify_finds_locks_that_no_journal_speaks_of(make_sync, tmp_path, tamper):
    path = tmp_path / "locks.db"
    manager = make_sync({"act": lambda action, data: None}, store=path)
    with manager.transaction() as tx:
        tx.execute("agent", "act", {}, resources=["account:42"])
        assert manager.verify().problems == {}
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(tamper)
        (problem,) = manager.verify().problems.values()
        assert "table of locks" in problem
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM locks")
    assert manager.verify().problems == {}
