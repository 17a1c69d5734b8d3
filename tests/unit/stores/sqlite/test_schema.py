"""How a schema comes up to date."""

import sqlite3
from contextlib import closing
from threading import Thread

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    ErrorRecord,
    PlanRecorded,
    StepInDoubt,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.errors import InternalError, SchemaVersionError
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import SqliteStore, labelling
from aumai_transactions.stores.sqlite.schema import (
    SCHEMA_VERSION,
    migrate,
    migrations,
    version_of,
)
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.journals import definition_of, plan
from aumai_transactions.testing.old_stores import write_version_1

FIRST = "CREATE TABLE a (x); -- a; b\nINSERT INTO a VALUES (';');\nPRAGMA user_version = 1;\n"
SECOND = "ALTER TABLE a ADD COLUMN y;\nUPDATE a SET y = 'new';\nPRAGMA user_version = 2;\n"


@pytest.fixture
def connection(path):
    opened = sqlite3.connect(path, isolation_level=None)
    yield opened
    opened.close()


def test_the_newest_migration_is_the_version_that_this_release_knows():
    assert list(migrations()) == list(range(1, SCHEMA_VERSION + 1))


def test_an_old_schema_is_brought_up_to_date_step_by_step(connection):
    assert migrate(connection, "here", {1: FIRST}) == 0
    assert version_of(connection) == 1
    assert migrate(connection, "here", {1: FIRST, 2: SECOND}) == 1
    assert version_of(connection) == 2
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(";", "new")]
    assert migrate(connection, "here", {1: FIRST, 2: SECOND}) == 2


def test_all_of_it_or_nothing(connection):
    broken = "CREATE TABLE b (x);\nINSERT INTO missing VALUES (1);\nPRAGMA user_version = 2;\n"
    migrate(connection, "here", {1: FIRST})
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, "here", {1: FIRST, 2: broken})
    assert not connection.in_transaction
    assert version_of(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    migrate(connection, "here", {1: FIRST, 2: SECOND})
    assert version_of(connection) == 2


def test_a_newer_schema_is_refused_and_left_alone(connection):
    migrate(connection, "here", {1: FIRST, 2: SECOND})
    with pytest.raises(SchemaVersionError, match="here has schema version 2") as caught:
        migrate(connection, "here", {1: FIRST})
    assert (caught.value.found, caught.value.known) == (2, 1)
    assert version_of(connection) == 2


@pytest.mark.parametrize(
    "script,problem",
    [
        ("CREATE TABLE a (x);\n", "does not set user_version 1"),
        ("PRAGMA user_version = 1;\nCREATE TABLE a (x", "ends inside of a statement"),
    ],
)
def test_a_migration_that_is_written_wrongly_is_our_bug(connection, script, problem):
    with pytest.raises(InternalError, match=problem):
        migrate(connection, "here", {1: script})
    assert version_of(connection) == 0
    assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == []


def test_of_several_migrators_one_migrates(path, connection):
    migrate(connection, "here", {1: FIRST})
    found = []

    def run():
        own = sqlite3.connect(path, isolation_level=None, timeout=60)
        found.append(migrate(own, "here", {1: FIRST, 2: SECOND}))
        own.close()

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1, 2, 2, 2]
    assert version_of(connection) == 2


def test_the_schema_refuses_values_of_another_type(connection):
    migrate(connection, "here", migrations())
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value"):
        connection.execute("INSERT INTO entries VALUES (1, 1, 'text', x'00')")


# ------------------------------------------------------------------------ a store of version 1


BEGUN = 1_700_000_000_000_000
STEPS = (
    StepDefinition("s1", "agent", "act", {"n": 1}, "undo"),
    StepDefinition("s2", "agent", "act", {"n": 2}, "undo"),
)
PLAN = PlanRecorded(BEGUN, Definition(BEGUN, 60, STEPS))
STARTED = (
    PLAN,
    CommitRequested(BEGUN),
    Claimed(BEGUN, 1, "gone"),
    TransactionActivated(BEGUN),
    StepStarted(BEGUN, "s1", 1),
)
DONE = (StepSucceeded(BEGUN, "s1", 1, {"by": 1}), StepStarted(BEGUN, "s2", 1))
DOUBT = StepInDoubt(BEGUN, "s2", 1, "crash", ErrorRecord("ProcessDied", "it died"))
JOURNALS = {
    "pending": (PLAN,),
    "running": (*STARTED, *DONE),
    "doubtful": (*STARTED, *DONE, DOUBT),
    "committed": (*STARTED, *DONE, StepSucceeded(BEGUN, "s2", 1), TransactionCommitted(BEGUN)),
}


@pytest.fixture
def version_1(path):
    journals = {
        name: [(f"e.{number}", entry) for number, entry in enumerate(entries, 1)]
        for name, entries in JOURNALS.items()
    }
    write_version_1(path, journals)
    return path


def test_a_store_of_version_1_is_opened_brought_up_to_date_and_verified(version_1, make_sync):
    manager = make_sync(store=f"sqlite:///{version_1}")
    verification = manager.verify()
    assert (verification.transactions, verification.problems) == (len(JOURNALS), {})
    assert manager.get_result("committed").outputs == {"s1": {"by": 1}}
    manager.action("act", effect="none", resources=["r"])(lambda *_: None)
    with manager.transaction() as tx:
        tx.execute("agent", "act", {})
        assert [lock.token for lock in manager.locks()] == [1]
    with closing(sqlite3.connect(version_1)) as connection:
        assert version_of(connection) == SCHEMA_VERSION
        assert connection.execute("SELECT DISTINCT due_at FROM transactions").fetchall() == [
            (None,)
        ]


def test_what_a_store_of_version_1_holds_is_carried_on(version_1, make_sync):
    undone = []

    def undo(action, data):
        undone.append(data["n"])

    handlers = {"act": lambda action, data: None, "undo": undo}
    manager = make_sync(handlers, store=version_1, clock=ManualClock(BEGUN + 1))
    report = {one.transaction_id: one.outcome for one in manager.recover()}
    assert report == {"running": "finished", "doubtful": "finished"}
    assert undone == [2, 1, 2, 1]
    pending = manager.get_transaction("pending")
    assert manager.commit(pending).state.value == "committed"
    assert manager.verify().is_intact


def test_a_store_of_version_1_is_read_by_many_that_open_it_at_once(version_1):
    found = []

    def run():
        with TransactionManager(store=version_1) as manager:
            found.append(manager.get_result("committed").state.value)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["committed"] * 4


def test_what_an_older_release_has_written_is_searched_like_all_else(version_1):
    with closing(sqlite3.connect(version_1)) as connection:
        # What cannot be read is left out of it, and stops nothing.
        connection.execute("UPDATE entries SET body = x'ff' WHERE transaction_ordinal = 2")
        connection.commit()
    with closing(SqliteStore(version_1)) as store:
        found = [line.summary for line in store.find(Query(actions=("act",)))]
        assert [one.transaction_id for one in found] == ["pending", "doubtful", "committed"]
        assert {one.actions for one in found} == {("act",)}
        assert store.count(Query(agents=("agent",))) == len(JOURNALS)


def test_what_an_older_process_writes_later_is_found_as_well(path):
    with closing(SqliteStore(path)) as store:
        many = labelling.AT_ONCE + 1
        store.append([named(f"t{number}") for number in range(many)])
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE transactions SET terms = NULL, words = NULL")
            connection.commit()
        query = Query(text="T1", metadata=(("team", "red"),), limit=2)
        assert [line.summary.metadata for line in store.find(query)] == [{"team": "red"}] * 2
        assert store.count(Query(actions=("act",))) == many


def named(name):
    begun = plan(name)
    recorded = PlanRecorded(1, definition_of(begun)._replace(metadata={"team": "red"}))
    return begun._replace(entries=[recorded, begun.entries[1]])
