"""Every call on a store's files fails once: a named error, an honest outcome, nothing lost.

A process that was refused either dies at once, and what it was told is compared with what is
there (`die`), or asks again through the same handle and goes on to the end (`again`).
"""

import os
import signal

import pytest

from aumai_transactions.testing.storage_calls import CHANGING, LOCKING, READING, Fault

pytestmark = pytest.mark.crash

KILLED = -signal.SIGKILL
FAILURES = ("EIO", "ENOSPC")
NAMES = CHANGING + LOCKING + READING
# An error that a file lock gives for "somebody else has it", which is nobody's failure.
LOG = "-wal"


def fail_at(rig, operation, points, failure, on_error, **options):
    """Let each point fail; return how many failures the process was told of."""
    told = 0
    for point in points:
        fault = Fault(point.name, point.number, failure)
        run = rig.run(operation, fault, on_error=on_error, names=NAMES, **options)
        assert rig.same_place(run.hit, point), run
        assert run.hit.tampered, run
        # Whatever else a process ends with, such as a bare error of sqlite3, is a traceback.
        assert run.status == (KILLED if run.errors and on_error == "die" else 0), run
        told += bool(run.errors)
        if on_error == "again":
            assert run.promises.open_appends() == [], run
            assert wrote_through_a_failed_handle(run) == [], run
        assert rig.settle(run) == [], run
        rig.remove(run)
    return told


def wrote_through_a_failed_handle(run):
    """Return the writes into the log by a connection that had failed there before (I13)."""
    is_failed = False
    found = []
    for call in run.calls:
        if not call.path.endswith(LOG):
            continue
        if call.tampered and call.name in ("fdatasync", "pwrite64", "ftruncate"):
            # SQLite undoes what it was refused for want of space by itself.
            is_failed = "ENOSPC" not in str(run.fault) or call.name == "fdatasync"
        elif call.creates:
            is_failed = False
        elif call.name == "pwrite64" and is_failed:
            found.append(call.number)
    return found


@pytest.mark.parametrize("failure,on_error", [("EIO", "again"), ("ENOSPC", "die")])
def test_a_failure_at_one_call_of_each_kind_is_named_and_loses_nothing(
    rig, operation, failure, on_error
):
    points = rig.thinned(rig.points(operation))
    assert fail_at(rig, operation, points, failure, on_error)


@pytest.mark.deep
@pytest.mark.parametrize("on_error", ["die", "again"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_every_call_is_named_and_loses_nothing(
    rig, operation, failure, on_error, say
):
    points = rig.points(operation, NAMES)
    if failure == "ENOSPC":
        points = [point for point in points if point.name in CHANGING]
    told = fail_at(rig, operation, points, failure, on_error)
    say(f"{operation}, {failure}, {on_error}: {len(points)} failures, {told} told, 0 lost")
