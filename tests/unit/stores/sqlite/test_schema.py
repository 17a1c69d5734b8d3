"""How a schema comes up to date."""

import sqlite3
from threading import Thread

import pytest

from aumai_transactions.errors import InternalError, SchemaVersionError
from aumai_transactions.stores.sqlite.schema import (
    SCHEMA_VERSION,
    migrate,
    migrations,
    version_of,
)

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
