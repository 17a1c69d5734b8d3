"""A PostgreSQL server whose disk is full: a clear error, no call without its intent, and on again.

A full disk is a small file system in memory, with a file in it that takes all that is left. Only
root can mount one.
"""

import contextlib
import os
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.core.entries import StepStarted
from aumai_transactions.core.journal import entries, load
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import Query

pytestmark = pytest.mark.crash

PIECE = b"x" * 65_536
ROUNDS_MAX = 400


class Disk:
    """A small disk, and the file that takes what is left of it."""

    def __init__(self, folder):
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self):
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(PIECE)

    def free(self):
        self._ballast.unlink()


@contextmanager
def mounted(megabytes):
    """Mount a disk.

    Raises:
        pytest.skip.Exception: Nothing can be mounted here; the reason says why.
    """
    folder = Path(tempfile.mkdtemp(prefix="aumai-disk-"))
    argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")
    try:
        (folder / "place").mkdir(mode=0o700)
        yield Disk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


class Work:
    """Transactions that fill a store, and what their handlers did."""

    def __init__(self, url):
        self.manager = TransactionManager(store=url)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.begun: list[str] = []
        self.told: dict[str, str] = {}
        self.errors: list[str] = []
        self.manager.action("act", compensating_action="undo", idempotent=True)(self.act)
        self.manager.action("undo", idempotent=True)(self.act)

    def act(self, action, data, context):
        self.calls[context.transaction_id, f"{context.operation} {context.step_id}"] += 1
        # What is random cannot be pressed, so that a journal takes its room.
        return os.urandom(4_000).hex()

    def one(self):
        """Carry one transaction out; tell whether the store let it."""
        tx = self.manager.begin(3_600)
        for _ in range(3):
            self.manager.add_step(tx, "agent", "act", {}, "undo")
        self.begun.append(tx.transaction_id)
        try:
            self.told[tx.transaction_id] = self.manager.commit(tx).state.value
        except StoreUnavailable as error:
            self.errors.append(str(error))
            return False
        return True

    def until_full(self, disk):
        for _ in range(ROUNDS_MAX):
            # Why again: the server removes files as well.
            disk.fill()
            if not self.one():
                return
        raise AssertionError("the disk was never full")

    def check(self):
        """Recover, and compare what was done with what is written."""
        for _ in range(ROUNDS_MAX):
            try:
                self.manager.recover()
                break
            except StoreUnavailable as error:
                self.errors.append(str(error))
        store = self.manager._desk().store
        states = {}
        for listed in store.find(Query(limit=1_000)):
            name = listed.summary.transaction_id
            journal = store.read(name)
            assert journal is not None
            states[name] = load(journal).state.value
            intents = {
                (name, f"action {entry.step_id}")
                for _, entry in entries(journal)
                if isinstance(entry, StepStarted)
            }
            assert {call for call in self.calls if call[0] == name} <= intents
        assert set(states.values()) == {"committed"}
        assert self.told.items() <= states.items()
        # A call of which no journal knows would be one without an intent.
        assert {name for name, _ in self.calls} <= states.keys()
        assert self.manager.verify().problems == {}
        assert self.one()


@contextmanager
def working(server):
    work = Work(server.store(connect_timeout=2))
    try:
        yield work
    finally:
        work.manager.close()


def test_a_full_data_disk_is_told_and_all_goes_on_when_there_is_room(postgres_on):
    with mounted(64) as disk, mounted(64) as log:
        places = {"data": disk.folder / "place", "wal": log.folder / "place"}
        with postgres_on(16, places) as server, working(server) as work:
            assert work.one()
            work.until_full(disk)
            assert "no room" in work.errors[0]
            disk.free()
            work.check()


@pytest.mark.deep
def test_a_full_disk_of_the_log_ends_the_server_and_all_goes_on_when_there_is_room(postgres_on):
    settings = {"fsync": "on", "max_wal_size": "4MB", "min_wal_size": "2MB", "wal_recycle": "off"}
    with mounted(24) as disk:
        places = {"wal": disk.folder / "place"}
        with postgres_on(16, places, **settings) as server, working(server) as work:
            assert work.one()
            work.until_full(disk)
            print(work.errors)
            assert "lost" in work.errors[0] or "reached" in work.errors[0]
            disk.free()
            work.check()
            print(len(work.begun), "transactions,", len(work.told), "acknowledged")
