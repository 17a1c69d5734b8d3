"""Every call on a store's files fails once: a named error, an honest outcome, nothing lost.

A process that was refused either dies at once, and what it was told is compared with what is
there (`die`), or asks again through the same handle and goes on to the end (`again`).
"""

import signal

import pytest
from tests.reliability.share import some

from aumai_transactions.testing.storage_calls import CHANGING, LOCKING, READING, Fault

pytestmark = pytest.mark.crash

KILLED = -signal.SIGKILL
FAILURES = ("EIO", "ENOSPC")
NAMES = CHANGING + LOCKING + READING
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
        # A disk that fails is no damaged store; but to SQLite a file that cannot be read is one.
        if point.name not in READING:
            assert [e for e in run.errors if not e.startswith("error StoreUnavailable")] == [], run
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


def test_an_error_at_one_call_of_each_kind_is_named_and_loses_nothing(rig, operation):
    points = rig.thinned(rig.points(operation))
    told = fail_at(rig, operation, points, "EIO", "again")
    # Closing hides what fails: all is in the log, and the free locks say that nobody lives.
    assert told > 0 or operation == "close"


@pytest.mark.parametrize("doing", ["append_together", "checkpoint", "create", "migrate"])
def test_no_space_at_one_call_of_each_kind_is_named_and_loses_nothing(rig, doing):
    points = rig.thinned(rig.points(doing))
    assert fail_at(rig, doing, points, "ENOSPC", "die") > 0


@pytest.mark.deep
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_at_every_call_is_named_and_loses_nothing(rig, operation, failure, figures):
    # Letting go of a record lock fails on no local disk; SQLite waits for it ten seconds.
    points = [call for call in rig.points(operation, NAMES) if "F_UNLCK" not in call.arguments]
    if failure == "ENOSPC":
        points = [point for point in points if point.name in CHANGING]
    chosen = list(some(points))
    told = sum(fail_at(rig, operation, chosen, failure, how) for how in ("die", "again"))
    counts = {"operations": 1, "failures": 2 * len(chosen), "told": told}
    figures(f"storage {failure}", **counts, acknowledged_lost=0, half=0)


# -------------------------------------------------------------------- what these tests would see


def failing_sync(rig, on_error, sabotage):
    """Let the sync of the first commit of an append fail, in a store that is sabotaged."""
    syncs = [
        call
        for call in rig.points("append_together")
        if call.name == "fdatasync" and call.path.endswith(LOG)
    ]
    fault = Fault("fdatasync", syncs[0].number, "EIO")
    run = rig.run("append_together", fault, on_error=on_error, sabotage=sabotage, names=NAMES)
    assert run.hit.tampered, run
    return run


def test_a_handle_that_goes_on_after_an_error_is_seen(rig):
    assert wrote_through_a_failed_handle(failing_sync(rig, "again", "")) == []
    run = failing_sync(rig, "again", "goes_on_after_an_error")
    assert wrote_through_a_failed_handle(run) != []


def test_an_unknown_outcome_that_is_called_known_is_seen(rig):
    run = failing_sync(rig, "die", "takes_unknown_for_undone")
    assert any("certainly not written" in problem for problem in rig.settle(run))


def test_a_bare_error_of_sqlite_is_seen(rig):
    run = failing_sync(rig, "die", "lets_errors_through")
    assert run.status == 1
