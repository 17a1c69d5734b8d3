"""Real processes that die by a real SIGKILL."""

import pytest
from tests.unit.testing.atomic import agency

from aumai_transactions.testing import NotAtomic, NothingToProve, assert_atomic
from aumai_transactions.testing.worlds import FolderWorld

pytestmark = pytest.mark.crash

KILLED = "s1.action#1:crash_after"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "agency"
    place.mkdir()
    monkeypatch.setenv("AGENCY_FOLDER", str(place))
    return place


def one_step(manager):
    tx = manager.begin()
    manager.add_step(tx, "agent", "book", {"what": "flight"})
    manager.commit(tx)


def atomic(folder, **options):
    given = {"manager": agency.file_manager, "saga": one_step} | options
    saga = given.pop("saga")
    return assert_atomic(saga, world=FolderWorld(folder), crash="process", **given)


def test_a_process_that_is_killed_is_recovered_by_another_one_that_is_killed_too(folder):
    report = atomic(folder, only=f"{KILLED} s1.action#2:crash_before")
    # Two clean runs, one that finds the second moment, and the one with both.
    assert (report.runs, report.crashes, report.crashes_in_recovery) == (4, 3, 1)
    assert report.outcomes["committed"] == 4
    assert (report.store, report.crash, report.not_reached) == ("sqlite", "process", [])
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_leaves_behind_is_found(folder):
    with pytest.raises(NotAtomic) as told:
        atomic(folder, manager=agency.careless_file_manager, only=KILLED)
    text = str(told.value)
    assert told.value.left == ("world['flight'] should not be there; it is 's1'",)
    assert "!!!  the process dies right after the action of s1 (book)" in text
    assert ">>>  a new process recovers" in text
    assert "s1: undoing it with cancel" in text


def test_a_world_inside_of_the_process_proves_nothing():
    with pytest.raises(NothingToProve, match="must be outside"):
        assert_atomic(
            one_step, world=agency.BOOKED, manager=in_memory, crash="process", pairs=False
        )


def in_memory(**given):
    return agency.maker()(**given)


def broken_manager(**given):
    raise RuntimeError("no such thing")


def test_a_process_that_cannot_begin_is_told_of_with_what_it_said(folder):
    with pytest.raises(NothingToProve, match="no such thing"):
        atomic(folder, manager=broken_manager)
