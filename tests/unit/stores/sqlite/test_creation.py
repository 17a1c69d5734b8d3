"""How a store comes into being; what a crash leaves is in test_store__processes.py."""

import errno
import os
import stat

import pytest

from aumai_transactions.errors import StoreNotFound, StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import plan

APPENDED = [AppendAnswer.appended]


def test_a_new_store_is_one_complete_file(path):
    SqliteStore(path).close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["store.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_store_that_exists_is_used(path):
    with SqliteStore(path) as store:
        store.append([plan("t")])
        identity = store.info().store_id
    with SqliteStore(path, create=True) as store:
        assert store.info().store_id == identity
        assert store.read("t") is not None


def test_a_folder_is_made_only_when_asked_for(tmp_path):
    path = tmp_path / "a" / "b" / "store.db"
    with pytest.raises(StoreNotFound):
        SqliteStore(path)
    with SqliteStore(path, make_parent=True) as store:
        assert store.append([plan("t")]) == APPENDED
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with SqliteStore(path, make_parent=True) as store:
        assert store.read("t") is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((StoreUnavailable, StoreNotFound), match=f"{tmp_path}/file"):
        SqliteStore(tmp_path / "file" / "folder" / "store.db", make_parent=True)


def test_a_file_system_without_links_gets_a_store_too(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with SqliteStore(path) as store:
        assert store.append([plan("t")]) == APPENDED
    with SqliteStore(path) as store:
        assert store.read("t") is not None
    assert list(path.parent.glob(".*.new")) == []


def test_without_links_the_slower_creator_uses_the_store_of_the_faster(path, monkeypatch):
    def refuse_and_be_slow(*_):
        monkeypatch.undo()
        with SqliteStore(path) as faster:
            faster.append([plan("t")])
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse_and_be_slow)
    with SqliteStore(path) as slower:
        assert slower.read("t") is not None


def test_a_creator_whose_file_was_tidied_away_uses_the_store_of_another(path, monkeypatch):
    real = os.fsync

    def be_slow(descriptor):
        monkeypatch.setattr(os, "fsync", real)
        SqliteStore(path).close()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", be_slow)
    with SqliteStore(path) as store:
        assert store.append([plan("t")]) == APPENDED
    assert list(path.parent.glob(".*.new")) == []


def test_a_disk_that_takes_no_file_is_named(path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreUnavailable, match=f"{path} cannot be made: No space left"):
        SqliteStore(path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == []


def test_leftovers_of_another_store_are_left_alone(path):
    other = path.with_name(".store.db2.abc.new")
    own = path.with_name(".store.db.abc.new")
    other.touch()
    own.touch()
    SqliteStore(path).close()
    assert other.exists()
    assert not own.exists()
