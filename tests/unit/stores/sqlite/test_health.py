"""What `doctor` is told."""

import sqlite3
from pathlib import Path

import pytest

from aumai_transactions.stores.sqlite import health
from aumai_transactions.testing.journals import claim, plan


def test_the_facts_of_a_sound_store(store, path):
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    info = store.info(thorough=True)
    assert (info.url, info.durable, info.schema_version) == (f"sqlite:///{path}", True, 3)
    assert info.changes == 1
    wanted = {
        "sqlite_version": sqlite3.sqlite_version,
        "journal_mode": "wal",
        "synchronous": "FULL",
        "schema_version": "3 of 3",
        "last_checkpoint": "ok",
        "file_mode": "0600",
        "integrity": "ok",
        "drivers": "1 alive, 0 dead",
    }
    assert wanted.items() <= info.checks.items()
    assert int(info.checks["wal_bytes"].replace(",", "")) > 0
    assert "integrity" not in store.info().checks


def test_a_file_that_others_can_read_is_named(store, path):
    path.chmod(0o644)
    assert store.info().checks["file_mode"] == "0644 (others can read it)"


def test_a_large_file_is_not_checked_for_minutes(store, monkeypatch):
    monkeypatch.setattr(health, "QUICK_CHECK_BYTES_MAX", 10)
    assert store.info(thorough=True).checks["integrity"] == "not checked: larger than 10 bytes"


def test_a_damaged_page_is_found(store, path):
    store.append([plan(f"t{number}") for number in range(300)])
    store._database._checkpoint(store._database.connection())
    root = store._database.connection().execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'entries'"
    )
    offset = (root.fetchone()[0] - 1) * 4096
    store._database._connection.close()
    store._database._connection = None
    content = bytearray(path.read_bytes())
    content[offset + 8 : offset + 60] = b"\xff" * 52
    path.write_bytes(content)
    assert store.info(thorough=True).checks["integrity"] != "ok"


@pytest.mark.parametrize(
    "version,affected",
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_which_sqlite_has_the_bug(version, affected):
    assert health.wal_reset_bug(version).startswith("in this SQLite; worked round") is affected


@pytest.mark.parametrize(
    "mounts,wanted",
    [
        ("/dev/sda / ext4 rw 0 0\n", "ext4"),
        ("/dev/sda / ext4 rw 0 0\nhost:/x /home/me nfs4 rw 0 0\n", "nfs4 (a network file system"),
        ("/dev/sda / ext4 rw 0 0\nhost:/x /home/m nfs4 rw 0 0\n", "ext4"),
        ("overlay / overlay rw 0 0\ntmpfs / tmpfs rw 0 0\n", "tmpfs"),
        ("/dev/sda / ext4 rw 0 0\nx /home/me/my\\040files cifs rw 0 0\n", "ext4"),
        ("x /other ext4 rw 0 0\nnonsense\n", "unknown"),
    ],
)
def test_a_network_file_system_is_suspected(mounts, wanted, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_: mounts)
    assert health.file_system(Path("/home/me/store.db")).startswith(wanted)


def test_a_mount_point_with_a_space_is_understood(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_: "x /my\\040files cifs rw 0 0\n")
    assert health.file_system(Path("/my files/store.db")).startswith("cifs (a network")
