"""SIGKILL in a backup and in a restore leaves a whole one, or nothing that is taken for one.

A child does the one thing that is named by a line of Python. It counts the calls that touch a file
or a database, and dies at a chosen one: the first, the last, and some in between.
"""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from aumai_transactions import BackupError, StoreError, TransactionManager, restore
from aumai_transactions.stores import open_store

pytestmark = pytest.mark.crash

POINTS = 16
BACKUP = "TransactionManager(store=source).back_up(target)"
RESTORE = "restore(source, target)"
# Why a hook of the interpreter's own: it sees every call of a function in C that touches a file,
# on every system, and the child dies before the call or right behind it.
# Why forks: what is imported once need not be imported again before each death.
PROGRAM = """
import json, os, signal, sys
from aumai_transactions import TransactionManager, restore
import aumai_transactions.drivers.backups, aumai_transactions.stores.sqlite.filling
WATCHED = {
    "open", "write", "flush", "fsync", "link", "unlink", "rename", "execute", "executemany",
    "readline", "close", "connect",
}
work, source = sys.argv[1], sys.argv[2]

def run(target, wanted):
    seen = 0
    def watch(frame, event, function):
        nonlocal seen
        if event not in ("c_call", "c_return") or function.__name__ not in WATCHED:
            return
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)
    eval(work, globals() | {"target": target})
    sys.setprofile(None)
    return seen

for line in sys.stdin:
    target, wanted = json.loads(line)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"%d" % run(target, wanted))
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    told = os.read(read, 20)
    os.close(read)
    print(json.dumps([os.waitstatus_to_exitcode(status), int(told or 0)]), flush=True)
"""


@contextmanager
def nursery(work, source):
    """Give a function that does the work in a new process, which dies at a point of it."""
    command = [sys.executable, "-c", PROGRAM, work, str(source)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        to, back = process.stdin, process.stdout
        assert to is not None
        assert back is not None

        def run(target, wanted=0):
            to.write(json.dumps([str(target), wanted]) + "\n")
            to.flush()
            code, seen = json.loads(back.readline())
            assert code == (-signal.SIGKILL if wanted else 0), (wanted, code)
            return seen

        yield run
        to.close()


def points(total, count):
    """The first and the last of them, and an even choice between."""
    dice = random.Random(1)
    chosen = {*range(1, 4), *range(total - 5, total + 1)}
    return sorted(chosen | set(dice.sample(range(1, total + 1), count)))


def deaths(work, source, folder, name):
    """Die at each point of the work, each time with another target; yield point and target."""
    with nursery(work, source) as run:
        for number in points(run(folder / name.format("whole")), POINTS):
            target = folder / name.format(number)
            run(target, number)
            yield number, target


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


def test_a_backup_that_is_killed_is_whole_or_none(store, tmp_path):
    wholes = nones = 0
    for number, target in deaths(BACKUP, store, tmp_path, "backup-{}"):
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
    wholes = nones = 0
    for _number, target in deaths(RESTORE, tmp_path / "backup", tmp_path, "restored-{}.db"):
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
    nones = 0
    with nursery(RESTORE, tmp_path / "backup") as run:
        for number in points(run(postgres16.store()), 4):
            url = postgres16.store()
            run(url, number)
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
