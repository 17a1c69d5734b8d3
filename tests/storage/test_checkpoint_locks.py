"""The log is brought home behind the writer lock, as the system calls of a real process show.

Why it matters: SQLite 3.7.0 to 3.51.2 can lose committed pages where a checkpoint races a commit.
"""

import re

import pytest

from aumai_transactions.testing.storage_calls import CHANGING, LOCKING

pytestmark = pytest.mark.crash

NAMES = CHANGING + LOCKING
# Where SQLite keeps its locks: the write lock of the log in the -shm, the others in the database.
WRITE_LOCK = 120
PENDING_LOCK, SHARED_LOCKS = 0x40000000, 0x40000002
_LOCK = re.compile(r"F_SETLK, \{l_type=(F_\w+), l_whence=SEEK_SET, l_start=(\d+), l_len=(\d+)\}")
SABOTAGES = ["checkpoints_by_itself", "checkpoints_unguarded"]


class Locks:
    """Follow which locks a process holds."""

    def __init__(self):
        self._exclusive = {}
        self.has_turn = False

    def follow(self, call):
        if call.name == "flock" and call.path.endswith("-writer") and call.result == 0:
            self.has_turn = "LOCK_EX" in call.arguments
        found = _LOCK.search(call.arguments)
        if call.name != "fcntl" or call.result != 0 or found is None:
            return
        kind, start, length = found[1], int(found[2]), int(found[3])
        held = self._exclusive.setdefault(call.path, set())
        end = start + length if length else 1 << 63
        for byte in (WRITE_LOCK, PENDING_LOCK, SHARED_LOCKS):
            if start <= byte < end:
                held.discard(byte)
                if kind == "F_WRLCK":
                    held.add(byte)

    def may_write(self, path):
        """Tell whether nobody can commit now: we hold the writer's locks, or the whole file."""
        in_log = self._exclusive.get(f"{path}-shm", set())
        in_file = self._exclusive.get(path, set())
        return (self.has_turn and WRITE_LOCK in in_log) or SHARED_LOCKS in in_file


def writes(run):
    """Return how many writes into the database file there were, and how many without the locks."""
    locks, path, guarded, bare = Locks(), str(run.path), 0, 0
    for call in run.calls:
        if call.path == path and call.name in ("pwrite64", "ftruncate"):
            guarded += locks.may_write(path)
            bare += not locks.may_write(path)
        locks.follow(call)
    return guarded, bare


def test_nothing_is_written_into_the_database_file_without_the_writers_locks(rig, operation):
    guarded, bare = writes(rig.run(operation, names=NAMES))
    assert bare == 0
    if operation in ("checkpoint", "close"):
        assert guarded > 0


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_checkpoint_without_the_locks_is_seen(rig, sabotage):
    _, bare = writes(rig.run("checkpoint", sabotage=sabotage, names=NAMES))
    assert bare > 0


@pytest.mark.parametrize("doing", ["short_life", "checkpoint", "close", "migrate", "purge"])
def test_every_connection_that_may_commit_checkpoints_nothing_by_itself(deaf_rig, doing):
    run = deaf_rig.do(doing, sabotage="tells_of_autocheckpoints")
    told = [line for line in run.lines if line.startswith("autocheckpoint ")]
    assert set(told) == {"autocheckpoint 0"}
    assert len(told) >= 2
