"""The lock that lets one writer of all processes in."""

import errno
import fcntl
import os
import sqlite3

import pytest

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, writer
from aumai_transactions.stores.sqlite.writer import WriterLock
from aumai_transactions.testing.journals import plan, request


def test_one_writer_at_a_time(path):
    one, other = WriterLock(path, 0), WriterLock(path, 0)
    one.acquire()
    with pytest.raises(StoreUnavailable, match=f"written by process {os.getpid()}"):
        other.acquire()
    one.release()
    other.acquire()
    other.close()
    one.acquire()
    one.close()
    one.close()


def test_a_lock_that_is_closed_opens_again(path):
    lock = WriterLock(path, 0)
    for _ in range(2):
        lock.acquire()
        lock.close()
    lock.release()


def test_an_unreadable_mark_is_not_a_name(path):
    lock, other = WriterLock(path, 0), WriterLock(path, 0)
    lock.acquire()
    path.with_name("store.db-writer").write_bytes(b"\xff garbage")
    with pytest.raises(StoreUnavailable, match="written by another process"):
        other.acquire()
    lock.close()
    other.close()
    path.with_name("store.db-writer").unlink()
    assert other.holder() == ""


def test_a_lock_file_that_cannot_be_made_is_named(path):
    path.with_name("store.db-writer").mkdir()
    with (
        SqliteStore(path) as store,
        pytest.raises(StoreUnavailable, match=r"store\.db-writer cannot be opened"),
    ):
        store.append([plan("t")])


def test_a_full_disk_does_not_stop_a_lock(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    lock = WriterLock(path, 0)
    lock.acquire()
    lock.close()


def test_a_platform_without_flock_relies_on_sqlites_lock(path, monkeypatch):
    monkeypatch.setattr(writer, "fcntl", None)
    with SqliteStore(path, writer_wait_seconds=0) as store:
        assert store.append([plan("t")]) == [AppendAnswer.appended]
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="is locked by"):
            store.append([request("t", 2)])
        blocker.close()
        assert store.append([request("t", 2)]) == [AppendAnswer.appended]
    assert not path.with_name("store.db-writer").exists()


def test_a_file_system_without_flock_relies_on_sqlites_lock(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with SqliteStore(path) as store:
        assert store.append([plan("t")]) == [AppendAnswer.appended]
        driver = store.join()
        assert store._locks.own[driver].lock_name is None


@pytest.mark.parametrize("module,name", [(os, "pread"), (fcntl, "flock"), (os, "close")])
def test_a_lock_file_that_fails_behind_a_commit_hides_no_commit(path, monkeypatch, module, name):
    real = getattr(module, name)

    def fail(descriptor, *arguments):
        is_letting_go = name != "flock" or arguments == (fcntl.LOCK_UN,)
        if is_letting_go and os.path.samestat(os.fstat(descriptor), lock_file):
            if name == "close":
                real(descriptor)
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, *arguments)

    with SqliteStore(path) as store:
        store.append([plan("t")])
        lock_file = path.with_name("store.db-writer").stat()
        monkeypatch.setattr(module, name, fail)
        assert store.append([request("t", 2)]) == [AppendAnswer.appended]
        # Others have their turn all the same.
        with SqliteStore(path, writer_wait_seconds=0) as other:
            assert other.append([request("t", 3)]) == [AppendAnswer.appended]
