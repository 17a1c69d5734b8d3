"""The store as one file: what survives, what is refused, what is found out."""

import sqlite3
import stat
from pathlib import Path

import pytest

from aumai_transactions.errors import (
    JournalCorrupt,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
)
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import NOW, act, claim, loaded, plan, request

APPENDED = [AppendAnswer.appended]


def edit(path, *statements):
    """Change a closed store behind its back."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statements,entry,problem",
    [
        (
            ["UPDATE entries SET body = CAST(body || ' ' AS BLOB) WHERE sequence = 2"],
            2,
            "its hash does not fit",
        ),
        (["UPDATE entries SET hash = zeroblob(32) WHERE sequence = 2"], 2, "its hash does not fit"),
        (["DELETE FROM entries WHERE sequence = 2"], 2, "expected entry 2, found 3"),
        (["DELETE FROM entries WHERE sequence = 1"], 1, "expected entry 1, found 2"),
        (
            [
                "UPDATE entries SET sequence = 9 WHERE sequence = 2",
                "UPDATE entries SET sequence = 2 WHERE sequence = 3",
                "UPDATE entries SET sequence = 3 WHERE sequence = 9",
            ],
            2,
            "its hash does not fit",
        ),
        (["DELETE FROM entries WHERE sequence = 4"], 4, "the summary says 4 entries, found 3"),
        (["DELETE FROM entries"], 1, "the summary says 4 entries, found 0"),
        (
            ["DELETE FROM entries WHERE sequence = 4", "UPDATE transactions SET sequence = 3"],
            3,
            "its hash is not the one that the summary names",
        ),
    ],
)
def test_a_journal_that_was_tampered_with_is_found_out(path, statements, entry, problem):
    with SqliteStore(path) as store:
        store.append([plan("t"), request("t", 2), request("t", 3)])
    edit(path, *statements)
    with SqliteStore(path, create=False) as store, pytest.raises(JournalCorrupt) as caught:
        loaded(store, "t")
    assert (caught.value.transaction_id, caught.value.sequence) == ("t", entry)
    assert problem in caught.value.problem


def test_entries_of_one_transaction_do_not_fit_into_another(path):
    with SqliteStore(path) as store:
        store.append([plan("t", "p"), plan("u", "p")])
    edit(
        path,
        "UPDATE entries SET (body, hash) = (SELECT body, hash FROM entries AS e"
        " WHERE e.transaction_ordinal = 1 AND e.sequence = entries.sequence)"
        " WHERE transaction_ordinal = 2",
        "UPDATE transactions SET head_hash = (SELECT head_hash FROM transactions WHERE ordinal = 1)"
        " WHERE ordinal = 2",
    )
    with SqliteStore(path, create=False) as store, pytest.raises(JournalCorrupt):
        loaded(store, "u")


def test_a_head_that_was_set_back_stops_its_transaction_and_no_other(path):
    with SqliteStore(path) as store:
        store.append([plan("t"), request("t", 2), request("t", 3)])
    edit(path, "UPDATE transactions SET sequence = 2")
    with SqliteStore(path, create=False) as store:
        answers = store.append([request("t", 2, "other"), plan("u")])
        assert answers == [AppendAnswer.moved, AppendAnswer.appended]
        with pytest.raises(JournalCorrupt):
            loaded(store, "t")
        assert loaded(store, "u").sequence == 2


def test_an_append_that_meets_a_forged_entry_leaves_nothing_behind(path):
    with SqliteStore(path) as store:
        store.append([plan("t"), request("t", 2), request("t", 3)])
    edit(path, "DELETE FROM entries WHERE sequence = 3", "UPDATE transactions SET sequence = 2")
    with SqliteStore(path, create=False) as store:
        # Its first entry fits into the gap, its second one does not.
        two = request("t", 2, "other")
        two = two._replace(entries=[*two.entries, *two.entries])
        assert store.append([two, plan("u")]) == [AppendAnswer.moved, AppendAnswer.appended]
        journal = store.read("t")
        assert journal is not None
        assert [entry.sequence for entry in journal.entries] == [1, 2, 4]


def test_entries_without_a_transaction_are_named_as_damage(path):
    with SqliteStore(path) as store:
        store.append([plan("t")])
    # The next transaction would get this ordinal.
    edit(path, "UPDATE entries SET transaction_ordinal = 2")
    with SqliteStore(path, create=False) as store:
        with pytest.raises(StoreFormatError, match="contradict each other"):
            store.append([plan("u")])
        assert store.read("u") is None


@pytest.mark.parametrize(
    "statement",
    ["UPDATE transactions SET state = 'lost'", "UPDATE transactions SET agents = '[1'"],
)
def test_a_summary_that_cannot_be_read_is_listed_as_damaged_beside_the_others(path, statement):
    with SqliteStore(path) as store:
        store.append([plan("t"), plan("u")])
    edit(path, statement + " WHERE transaction_id = 't'")
    with SqliteStore(path, create=False) as store:
        damaged, sound = [line.summary for line in store.find(Query())]
        assert (damaged.transaction_id, damaged.attention) == ("t", "damaged")
        assert not damaged.runnable
        assert (sound.transaction_id, sound.attention) == ("u", None)
        assert loaded(store, "t").transaction_id == "t"


def test_a_full_disk_writes_nothing_and_is_over_when_there_is_space(store):
    store.append([plan("t")])
    connection = store._database.connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = plan("u", data={"big": "x" * 100_000})
    with pytest.raises(StoreUnavailable, match="full") as caught:
        store.append([request("t", 2), big])
    assert not caught.value.outcome_unknown
    assert loaded(store, "t").sequence == 2
    assert store.read("u") is None
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.append([request("t", 2), big]) == APPENDED * 2


class Failing(sqlite3.Connection):
    """A connection whose COMMIT works and then raises, or raises at once."""

    fail_before = False

    def execute(self, sql, *arguments):
        if sql == "COMMIT":
            if not self.fail_before:
                super().execute(sql)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *arguments)


@pytest.mark.parametrize("fail_before", [False, True])
def test_a_commit_that_raised_is_unknown_and_repeating_it_tells(path, store, fail_before):
    driver = store.join()
    database = store._database
    database._connection.close()
    failing = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing)
    failing.fail_before = fail_before
    database._connection = failing
    call = [plan("t"), claim("t", 2, 1, driver), act("t", 3, 1)]
    with pytest.raises(StoreUnavailable, match="very same entries again") as caught:
        store.append(call)
    assert caught.value.outcome_unknown
    wanted = AppendAnswer.appended if fail_before else AppendAnswer.already_ours
    assert store.append(call) == [wanted] * 3
    assert database._connection is not failing
    store.leave(driver)
    assert store.due(store.join(), 9, NOW) == ["t"]


@pytest.mark.parametrize("statement,unknown", [("BEGIN IMMEDIATE", False), ("COMMIT", True)])
def test_a_process_without_memory_is_named_and_only_a_commit_is_unknown(
    path, store, statement, unknown
):
    class Poor(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if sql == statement:
                raise MemoryError
            return super().execute(sql, *arguments)

    database = store._database
    store.append([plan("t")])
    database._connection.close()
    poor = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Poor)
    database._connection = poor
    with pytest.raises(StoreUnavailable, match="no more memory") as caught:
        store.append([request("t", 2)])
    assert caught.value.outcome_unknown is unknown
    assert database._connection is None
    assert store.append([request("t", 2)]) == APPENDED


def test_an_exception_inside_of_a_transaction_leaves_none_open(store):
    store.append([plan("t")])

    def interrupted(connection):
        connection.execute("UPDATE transactions SET sequence = 7")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._database.write(interrupted)
    assert store.append([request("t", 2)]) == APPENDED


@pytest.mark.parametrize("odd", [2**63, "\ud800"])
def test_a_value_that_sqlite_cannot_hold_is_refused_whole(store, odd):
    begun = plan("t")
    name, created_at = (odd, 1) if isinstance(odd, str) else (None, odd)
    summary = begun.summary._replace(name=name, created_at=created_at)
    with pytest.raises(StoreError):
        store.append([plan("u"), begun._replace(summary=summary)])
    assert store.count(Query()) == 0
    assert store.append([plan("t")]) == APPENDED


def test_an_entry_that_is_not_json_is_refused(store):
    with pytest.raises(StoreError, match="transaction t cannot be written"):
        store.append([plan("t", data={"x": float("nan")})])
    assert store.read("t") is None


def test_only_this_user_can_read_a_store(store, path):
    store.join()
    store.append([plan("t")])
    modes = {
        name.name: stat.S_IMODE(name.stat().st_mode)
        for name in [*path.parent.iterdir(), *path.with_name("store.db-drivers").iterdir()]
    }
    assert modes.pop("store.db-drivers") == 0o700
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}


def test_a_store_that_lost_its_name_takes_nothing_more(path, store):
    store.append([plan("t")])
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable, match=r"moved, removed or replaced.*Nothing was written"):
        store.append([request("t", 2)])
    with pytest.raises(StoreNotFound):
        store.append([request("t", 2)])
    path.with_name("elsewhere").rename(path)
    assert store.append([request("t", 2)]) == APPENDED


def test_a_store_that_was_swapped_is_not_written(path, store):
    store.append([plan("t")])
    other = path.with_name("other.db")
    SqliteStore(other).close()
    other.replace(path)
    with pytest.raises(StoreUnavailable, match="replaced"):
        store.append([request("t", 2)])
    content = path.read_bytes()
    with pytest.raises(StoreFormatError, match="-wal belongs to another store"):
        store.read("t")
    with pytest.raises(StoreFormatError, match="-wal belongs to another store"):
        SqliteStore(path)
    assert path.read_bytes() == content
    path.with_name("store.db-wal").unlink()
    with pytest.raises(StoreFormatError, match="has become another store"):
        store.read("t")


def test_what_a_killed_process_left_in_the_log_is_there(path, start):
    writer = start("""
store = SqliteStore(path)
store.append([plan("t")])
os.kill(os.getpid(), signal.SIGKILL)
""")
    assert writer.end() == -9
    assert path.with_name("store.db-wal").stat().st_size > 0
    path.with_name("store.db-shm").unlink()
    with SqliteStore(path, create=False) as store:
        assert loaded(store, "t").sequence == 2


def test_entries_in_a_log_that_was_removed_are_not_acknowledged(path, store):
    store.append([plan("t")])
    path.with_name("store.db-wal").unlink()
    with pytest.raises(StoreUnavailable, match="-wal was removed") as caught:
        store.append([request("t", 2)])
    assert caught.value.outcome_unknown


def test_one_store_has_one_set_of_files_whatever_it_is_called(path, store, monkeypatch):
    (path.parent / "folder").mkdir()
    link = path.parent / "folder" / "link.db"
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    me = store.join()
    for name in (link, "store.db", "folder/../store.db"):
        with SqliteStore(name, create=False) as other:
            assert other.path == path
            them = other.join()
            other.append([plan(str(name)), claim(str(name), 2, 1, them)])
            assert store.append([claim(str(name), 3, 2, me)]) == [AppendAnswer.held]
    assert [entry.name for entry in (path.parent / "folder").iterdir()] == ["link.db"]


def test_a_new_store_behind_a_dangling_link_stands_where_the_link_points(path):
    path.symlink_to("real.db")
    SqliteStore(path).close()
    assert path.is_symlink()
    assert path.with_name("real.db").is_file()


def test_a_name_full_of_odd_characters_is_a_name(tmp_path):
    path = tmp_path / "a b?c#d%20e'\"é.db"
    with SqliteStore(path) as store:
        store.append([plan("t")])
        assert store.info().url == str(path)
    with SqliteStore(path, create=False) as store:
        assert loaded(store, "t").sequence == 2


def test_dead_drivers_that_hold_nothing_are_forgotten(path, clock):
    with SqliteStore(path, clock=clock) as store:
        living = store.join()
        store.append([plan("t"), claim("t", 2, 1, living)])
        edit(
            path,
            "INSERT INTO drivers SELECT 'dead', boot_id, '00000000000000000000000000000000.lock',"
            " lock_inode, lock_device, pid, host, 0 FROM drivers",
        )
        folder = path.with_name("store.db-drivers")
        (folder / ("0" * 32 + ".lock")).touch()
        (folder / "notes.txt").touch()
        assert store.due(living, 9, NOW) == ["t"]
        assert store.info().checks["drivers"] == "1 alive, 0 dead"
        assert sorted(entry.name for entry in folder.iterdir()) == sorted(
            [f"{living}.lock", "notes.txt"]
        )
    assert [entry.name for entry in (folder).iterdir()] == ["notes.txt"]


def test_a_driver_that_never_claimed_anything_is_never_written(path, store):
    before = store.info().changes
    driver = store.join()
    store.renew(driver)
    store.leave(driver)
    assert store.info().changes == before
    assert list(path.with_name("store.db-drivers").iterdir()) == []


def test_leaving_while_the_store_is_busy_lets_go_all_the_same(path):
    with SqliteStore(path, writer_wait_seconds=0) as store:
        driver, me = store.join(), store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            store.leave(driver)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert store.due(me, 9, NOW) == ["t"]
        assert store.append([claim("t", 3, 2, me)]) == APPENDED


def test_closing_while_the_store_is_busy_lets_go_all_the_same(path):
    store = SqliteStore(path, writer_wait_seconds=0)
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store.close()
    blocker.execute("ROLLBACK")
    blocker.close()
    with SqliteStore(path, create=False) as again:
        assert again.due(again.join(), 9, NOW) == ["t"]


def test_a_store_is_where_it_was_when_the_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SqliteStore("relative.db") as store:
        monkeypatch.chdir("/")
        assert store.append([plan("t")]) == APPENDED
        assert store.path == tmp_path / "relative.db"
    assert not Path("/relative.db").exists()
