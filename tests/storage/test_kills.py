"""SIGKILL at every call that could change a store: nothing acknowledged is lost, nothing is half.

A kill comes before the call does anything, so that a kill at the next one is a kill behind it.
What the kernel has been given is kept: `test_crash_images.py` takes that away as well.
"""

import re
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest
from tests.reliability.share import some

from aumai_transactions.stores.sqlite.schema import SCHEMA_VERSION
from aumai_transactions.testing.storage_calls import CHANGING, LOCKING, Fault

pytestmark = pytest.mark.crash

KILLED = -signal.SIGKILL
# A kill between two locks is a kill between two looks at memory that processes share.
NAMES = CHANGING + LOCKING


def kill_at(rig, operation, points, look=None, **options):
    """Kill at each point; return how many kills left something of which nobody knew the outcome."""
    unknown = 0
    for point in points:
        fault = Fault(point.name, point.number, "KILL")
        run = rig.run(operation, fault, names=NAMES, **options)
        assert run.status == KILLED, run
        assert rig.same_place(run.hit, point), run
        assert run.hit.result is None, run
        unknown += bool(run.promises.open_appends())
        if look is not None:
            look(run)
        assert rig.settle(run) == [], run
        rig.remove(run)
    return unknown


def runs_through_behind(rig, operation, points):
    """Show that there is no point more: the call behind the last one of its name changes nothing.

    It may be on something else, such as a pipe, or only look; the process dies there all the same.
    """
    last = {point.name: point.number for point in points}
    for name, number in some(last.items()):
        run = rig.run(operation, Fault(name, number + 1, "KILL"), names=NAMES)
        assert run.hit is None or not run.hit.changes, run
        assert run.status in (0, KILLED), run
        assert rig.settle(run) == [], run
        rig.remove(run)


def test_a_kill_at_one_call_of_each_kind_loses_nothing(rig, operation):
    kill_at(rig, operation, rig.thinned(rig.points(operation, NAMES)))


@pytest.mark.deep
def test_a_kill_at_every_call_loses_nothing(rig, operation, figures):
    points = rig.points(operation, NAMES)
    chosen = list(some(points))
    unknown = kill_at(rig, operation, chosen)
    runs_through_behind(rig, operation, points)
    counts = {"operations": 1, "kills": len(chosen), "unknown_outcomes": unknown}
    figures("storage kills", **counts, acknowledged_lost=0, half=0)


# ------------------------------------------------------------------------------------ migrations


def schema_of(path, folder):
    """Return version and tables of a store, looked at in a copy."""
    folder.mkdir()
    for name in ("store.db", "store.db-wal"):
        if path.with_name(name).exists():
            shutil.copyfile(path.with_name(name), folder / name)
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        rows = sorted(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
    shutil.rmtree(folder)
    return version, rows


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_a_kill_while_migrating_leaves_the_old_schema_or_the_new_one(rig, tmp_path, every):
    points = [call for call in rig.points("migrate", NAMES) if call.name == "pwrite64"]
    run = rig.run("migrate")
    new = schema_of(run.path, tmp_path / "copy")
    old = schema_of(rig.folder / "version_1" / "store.db", tmp_path / "copy")
    assert (old[0], new[0]) == (1, SCHEMA_VERSION)
    seen = []

    def look(run):
        found = schema_of(run.path, tmp_path / "copy")
        assert found in (old, new), run
        seen.append(found[0])

    kill_at(rig, "migrate", list(some(points)) if every else points[:: len(points) // 6], look)
    assert set(seen) == {1, SCHEMA_VERSION}


# -------------------------------------------------------------------- what these tests would see


@pytest.mark.parametrize(
    "sabotage,doing,problem",
    [
        ("commits_each_statement", "append_together", "is not what|half of|summary|damaged"),
        ("never_commits", "append", "acknowledged .* and gone"),
    ],
)
def test_a_store_that_breaks_its_promise_is_seen_by_a_kill(rig, sabotage, doing, problem):
    problems = []
    for number in (8, 12, 16, 20, 24, 28):
        run = rig.run(doing, Fault("pwrite64", number, "KILL"), sabotage=sabotage)
        problems += rig.settle(run)
    assert any(re.search(problem, text) for text in problems), problems
