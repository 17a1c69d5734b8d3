"""What may be opened, and with which settings."""

import os
import sqlite3

import pytest

from aumai_transactions.errors import (
    SchemaVersionError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
)
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.stores.sqlite.connection import APPLICATION_ID, apply_settings, store_error
from aumai_transactions.testing.journals import plan


def foreign_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE books (title)")
    connection.close()


def database_with_a_log(path):
    """A foreign database whose last commit is in its log, as after a crash."""
    foreign_database(path.with_name("live.db"))
    connection = sqlite3.connect(path.with_name("live.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO books VALUES ('in the log')")
    for suffix in ("", "-wal"):
        source = path.with_name("live.db" + suffix)
        path.with_name(path.name + suffix).write_bytes(source.read_bytes())
    connection.close()
    path.with_name("live.db").unlink()


def newer_store(path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def damaged_store(path):
    SqliteStore(path).close()
    content = bytearray(path.read_bytes())
    content[:16] = b"\0" * 16
    path.write_bytes(content)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    "make,error,problem",
    [
        (lambda path: path.write_text("Dear diary,\n" * 200), StoreFormatError, "not a store"),
        (lambda path: path.write_bytes(b"x"), StoreFormatError, "not a store"),
        (lambda path: path.touch(), StoreFormatError, "is empty"),
        (foreign_database, StoreFormatError, "of another program"),
        (database_with_a_log, StoreFormatError, "of another program"),
        (damaged_store, StoreFormatError, "damaged"),
        (newer_store, SchemaVersionError, "schema version 9; this release knows"),
    ],
)
def test_what_is_not_our_store_is_refused_and_left_alone(path, make, error, problem, create):
    make(path)
    before = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry.is_file()}
    with pytest.raises(error, match=problem) as caught:
        SqliteStore(path, create=create)
    assert str(path) in str(caught.value)
    after = {entry.name: entry.read_bytes() for entry in path.parent.iterdir() if entry.is_file()}
    assert after == before


@pytest.mark.parametrize("create", [False, True])
def test_a_directory_and_a_pipe_are_no_stores(tmp_path, create):
    with pytest.raises(StoreFormatError, match="is a directory"):
        SqliteStore(tmp_path, create=create)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreFormatError, match="not a regular file"):
        SqliteStore(tmp_path / "pipe", create=create)


def test_a_store_that_is_not_there_is_not_made_unless_asked_for(path):
    with pytest.raises(StoreNotFound, match=f"no store {path}"):
        SqliteStore(path, create=False)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_a_missing_folder_is_named(tmp_path, create):
    with pytest.raises(StoreNotFound, match=f"folder {tmp_path}/missing") as caught:
        SqliteStore(tmp_path / "missing" / "store.db", create=create)
    assert f"{tmp_path}/missing/store.db" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, create):
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotFound, match=f"folder {tmp_path}/file"):
        SqliteStore(tmp_path / "file" / "store.db", create=create)


def test_a_store_without_identity_or_tables_is_refused(path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM store")
    connection.commit()
    with pytest.raises(StoreFormatError, match="lost its identity"):
        SqliteStore(path)
    connection.execute("DROP TABLE store")
    connection.commit()
    connection.close()
    with pytest.raises(StoreFormatError, match="no such table"):
        SqliteStore(path)


def test_every_connection_has_the_settings_that_durability_needs(store):
    store.append([plan("t")])
    second = store._database.extra_connection()
    for connection in (store._database.connection(), second):
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "wal_autocheckpoint",
                "trusted_schema",
                "cell_size_check",
                "mmap_size",
                "foreign_keys",
                "application_id",
            )
        }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "wal_autocheckpoint": 0,
            "trusted_schema": 0,
            "cell_size_check": 1,
            "mmap_size": 0,
            "foreign_keys": 1,
            "application_id": APPLICATION_ID,
        }
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 5000
        assert connection.isolation_level is None
    second.close()


def test_a_weaker_setting_is_refused_by_name():
    # A database in memory knows no write-ahead log.
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreUnavailable, match="journal_mode is 'memory' where 'wal'"):
        apply_settings(connection, "here")
    connection.close()


def test_settings_that_do_not_take_are_refused_by_name(path):
    class Stubborn(sqlite3.Connection):
        def execute(self, sql, *arguments):
            return super().execute("PRAGMA synchronous" if "synchronous =" in sql else sql)

    SqliteStore(path).close()
    connection = sqlite3.connect(path, factory=Stubborn)
    sqlite3.Connection.execute(connection, "PRAGMA synchronous = NORMAL")
    with pytest.raises(StoreUnavailable, match="synchronous is 1 where 2"):
        apply_settings(connection, path)
    connection.close()


@pytest.mark.parametrize(
    "code,kind,unknown",
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailable, False),
        (sqlite3.SQLITE_FULL, StoreUnavailable, False),
        (sqlite3.SQLITE_CORRUPT, StoreFormatError, False),
        (sqlite3.SQLITE_CORRUPT, StoreUnavailable, True),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable, True),
        (sqlite3.SQLITE_CONSTRAINT, StoreFormatError, False),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable, False),
        (None, StoreUnavailable, False),
    ],
)
def test_each_error_of_sqlite_means_one_of_ours(path, code, kind, unknown):
    error = sqlite3.OperationalError("it said this")
    if code is not None:
        error.sqlite_errorcode = code
    found = store_error(error, path, outcome_unknown=unknown)
    assert type(found) is kind
    assert str(path) in str(found)
    assert getattr(found, "outcome_unknown", False) is unknown
