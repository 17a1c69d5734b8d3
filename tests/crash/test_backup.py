"""SIGKILL in a backup and in a restore leaves a whole one, or nothing that is taken for one.

A child does the one thing that is named by a line of Python; it is killed at chosen points, which
a trace of its own system calls counts, so that every point is reached, and at random ones.
"""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aumai_transactions import BackupError, StoreError, TransactionManager, restore
from aumai_transactions.stores import open_store

pytestmark = pytest.mark.crash

SECONDS_MAX = 60
POINTS = 24
BACKUP = "TransactionManager(store=source).back_up(target)"
RESTORE = "restore(source, target)"
# Why a hook of the interpreter's own: it sees every call of a function in C that touches a file,
# on every system, and the child dies before the call or right behind it.
PROGRAM = """
import os, signal, sys
work, source, target, wanted = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
from aumai_transactions import TransactionManager, restore
import aumai_transactions.drivers.backups, aumai_transactions.stores.sqlite.filling
WATCHED = {
    "open", "write", "flush", "fsync", "link", "unlink", "rename", "execute", "executemany",
    "readline", "close", "connect",
}
seen = 0
def watch(frame, event, function):
    global seen
    if event not in ("c_call", "c_return") or function.__name__ not in WATCHED:
        return
    seen += 1
    if seen == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(watch)
eval(work)
sys.setprofile(None)
print(seen)
"""


def child(work, source, target, wanted=0):
    command = [sys.executable, "-c", PROGRAM, work, str(source), str(target), str(wanted)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def points(total, count):
    """The first and the last of them, and an even choice between."""
    dice = random.Random(1)
    chosen = {*range(1, 4), *range(total - 5, total + 1)}
    return sorted(chosen | set(dice.sample(range(1, total + 1), count)))


def planned(manager):
    tx = manager.begin()
    manager.add_step(tx, "agent", "book", {}, "cancel")
    return tx


HANDLERS = {"book": lambda name, data: 1, "cancel": lambda name, data: None}


@pytest.fixture
def store(tmp_path):
    """A store with ten transactions, the last of them not finished."""
    path = tmp_path / "store.db"
    with TransactionManager(HANDLERS, store=str(path)) as manager:
        for _ in range(9):
            manager.commit(planned(manager))
        manager.submit(planned(manager))
    return path


def counted(work, source, target):
    ran = child(work, source, target)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def test_a_backup_that_is_killed_is_whole_or_none(store, tmp_path):
    total = counted(BACKUP, store, tmp_path / "whole")
    wholes = nones = 0
    for number in points(total, POINTS):
        target = tmp_path / f"backup-{number}"
        ran = child(BACKUP, store, target, number)
        assert ran.returncode == -signal.SIGKILL, (number, ran.stderr)
        if target.exists():
            wholes += 1
            made = restore(target, tmp_path / f"restored-{number}.db")
            assert (made.transactions, len(made.waiting)) == (10, 1)
        else:
            nones += 1
            for left in tmp_path.glob("*.unfinished-backup"):
                with pytest.raises(BackupError):
                    restore(left, tmp_path / "never.db")
    assert wholes >= 1
    assert nones >= POINTS / 2
    # The next one removes what the killed ones have left, and the store is none the worse.
    with TransactionManager(HANDLERS, store=str(store)) as manager:
        manager.back_up(tmp_path / "last")
        assert manager.verify().is_intact
    assert list(tmp_path.glob(".*.unfinished-backup")) == []


def test_a_restore_that_is_killed_makes_a_whole_store_or_none(store, tmp_path):
    with TransactionManager(store=str(store)) as manager:
        manager.back_up(tmp_path / "backup")
    total = counted(RESTORE, tmp_path / "backup", tmp_path / "whole.db")
    wholes = nones = 0
    for number in points(total, POINTS):
        target = tmp_path / f"restored-{number}.db"
        ran = child(RESTORE, tmp_path / "backup", target, number)
        assert ran.returncode == -signal.SIGKILL, (number, ran.stderr)
        if target.exists():
            wholes += 1
        else:
            nones += 1
            with pytest.raises(StoreError, match="no store"):
                open_store(target, create=False)
            restore(tmp_path / "backup", target)
        with TransactionManager(HANDLERS, store=str(target)) as manager:
            found = manager.verify()
            assert found.is_intact
            assert found.transactions == 10
            assert [line.summary.attention for line in manager.find()].count("restored") == 1
            assert manager.recover() == []
    assert wholes >= 1
    assert nones >= POINTS / 2


def test_a_restore_into_postgresql_that_is_killed_makes_a_whole_store_or_none(
    store, tmp_path, postgres16
):
    with TransactionManager(store=str(store)) as manager:
        manager.back_up(tmp_path / "backup")
    total = counted(RESTORE, tmp_path / "backup", postgres16.store())
    nones = 0
    for number in points(total, 6):
        url = postgres16.store()
        ran = child(RESTORE, tmp_path / "backup", url, number)
        assert ran.returncode == -signal.SIGKILL, (number, ran.stderr)
        try:
            open_store(url, create=False).close()
        except StoreError:
            nones += 1
            restore(tmp_path / "backup", url)
        with TransactionManager(HANDLERS, store=url) as manager:
            assert manager.verify().transactions == 10
    assert nones


WORKER = """
import sys
from aumai_transactions import TransactionManager
manager = TransactionManager(
    {"book": lambda name, data: 1, "cancel": lambda name, data: None}, store=sys.argv[1]
)
print("ready", flush=True)
while True:
    tx = manager.begin()
    manager.add_step(tx, "agent", "book", {}, "cancel")
    manager.commit(tx)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_backup_taken_while_processes_commit_holds_whole_journals(kind, tmp_path, request):
    if kind == "sqlite":
        url = str(tmp_path / "busy.db")
    else:
        url = request.getfixturevalue("postgres16").store()
    with TransactionManager(HANDLERS, store=url) as manager:
        manager.commit(planned(manager))
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            reports = [manager.back_up(tmp_path / f"{kind}-{n}") for n in range(6)]
            manager.write_witness(tmp_path / "witness")
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        assert manager.verify(witness=tmp_path / "witness").is_intact
    counts = [report.transactions for report in reports]
    assert counts == sorted(counts)
    for number, report in enumerate(reports):
        target = tmp_path / f"{kind}-{number}.db"
        made = restore(tmp_path / f"{kind}-{number}", target)
        assert made.entries == report.entries
        # At most what each worker had in hand at that moment.
        assert len(made.waiting) <= len(workers)
        with TransactionManager(store=str(target)) as again:
            assert again.verify().is_intact


WITNESS = """
import sys
from aumai_transactions import TransactionManager
manager = TransactionManager(
    {"book": lambda name, data: 1}, store=sys.argv[1]
)
print("ready", flush=True)
while True:
    tx = manager.begin()
    manager.add_step(tx, "agent", "book", {})
    manager.commit(tx)
    manager.write_witness(sys.argv[2])
"""


def test_a_witness_whose_writer_is_killed_says_nothing_wrong_and_goes_on(tmp_path):
    path, witness = tmp_path / "store.db", tmp_path / "witness"
    dice = random.Random(1)
    for _ in range(6):
        command = [sys.executable, "-c", WITNESS, str(path), str(witness)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        size, grown = witness.stat().st_size if witness.exists() else 0, dice.randrange(1, 4_000)
        while not witness.exists() or witness.stat().st_size < size + grown:
            os.sched_yield()
        writer.kill()
        writer.communicate()
        with TransactionManager(HANDLERS, store=str(path)) as manager:
            assert manager.verify(witness=witness).is_intact
            manager.write_witness(witness)
    looks = [line for line in Path(witness).read_bytes().splitlines() if b'"witness"' in line]
    assert len(looks) >= 12
    assert json.loads(looks[-1])["changes"] >= json.loads(looks[0])["changes"]
