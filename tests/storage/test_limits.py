"""Too little of something, or a store that is taken away: a named error, and no half step."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aumai_transactions.errors import StoreError, StoreNotFound, StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import loaded, plan, request
from aumai_transactions.testing.storage_calls import Fault

pytestmark = pytest.mark.crash

APPENDED = [AppendAnswer.appended]
# Why not brk as well: the kernel refuses it by returning the old break. An error number instead is
# taken for an address by the C library, which then writes where there is nothing.
MEMORY = ("mmap",)


@pytest.mark.parametrize(
    "doing,problem",
    [
        ("few_descriptors", "unable to open database file|Too many open files"),
        ("small_files", "disk I/O error"),
        ("little_memory", "no more memory|disk I/O error"),
    ],
)
def test_a_limit_of_the_process_is_named_and_what_was_asked_works_without_it(
    deaf_rig, doing, problem
):
    if not Path("/proc/self/statm").exists():
        pytest.skip("nothing here tells how much this process has: there is no /proc")
    run = deaf_rig.do(doing)
    assert any(re.search(problem, error) for error in run.errors), run.errors
    # Nobody says that a store is damaged because a process has too little of something.
    assert [e for e in run.errors if not e.startswith(("error StoreUn", "error MemoryE"))] == []
    assert run.promises.open_appends() == []
    assert deaf_rig.settle(run) == []


def test_a_permission_that_is_lost_is_named_and_the_handle_works_when_it_is_back(deaf_rig):
    deaf_rig.folder.chmod(0o755)
    run = deaf_rig.do("without_permission")
    assert len(run.errors) == 2
    assert all("cannot be" in error for error in run.errors), run.errors
    assert deaf_rig.settle(run) == []


def test_a_request_for_memory_that_is_refused_loses_nothing(rig):
    asked = rig.run("reopen", names=MEMORY).all_calls
    assert asked
    for call in asked[:: max(1, len(asked) // 12)]:
        fault = Fault(call.name, call.number, "ENOMEM")
        run = rig.run("reopen", fault, names=MEMORY, on_error="again")
        assert run.status == 0, run
        assert run.promises.open_appends() == [], run
        assert rig.settle(run) == [], run


# ------------------------------------------------------------------------- a store that is gone


@pytest.fixture
def place(bench_folder):
    folder = bench_folder / "place"
    folder.mkdir()
    return folder / "store.db"


def other_store(folder):
    folder.mkdir()
    with SqliteStore(folder / "store.db") as other:
        other.append([plan("other")])
    return folder / "store.db"


def remove_the_folder(path):
    shutil.rmtree(path.parent)


def move_the_folder(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def remove_every_file(path):
    for file in path.parent.iterdir():
        if file.is_file():
            file.unlink()


def put_another_store_there(path):
    other = other_store(path.parent.with_name("other"))
    remove_every_file(path)
    other.replace(path)


def put_another_folder_there(path):
    other = other_store(path.parent.with_name("other"))
    move_the_folder(path)
    other.parent.rename(path.parent)


def put_a_copy_there(path):
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


@pytest.mark.parametrize(
    "take_away",
    [
        remove_the_folder,
        move_the_folder,
        remove_every_file,
        put_another_store_there,
        put_another_folder_there,
        put_a_copy_there,
    ],
)
@pytest.mark.parametrize("use", ["append", "read", "info"])
def test_a_store_that_was_taken_away_from_a_living_process_is_not_used(place, take_away, use):
    with closing(SqliteStore(place)) as store:
        store.append([plan("t")])
        calls: dict[str, Callable[[], object]] = {
            "append": lambda: store.append([request("t", 2)]),
            "read": lambda: store.read("t"),
            "info": store.info,
        }
        take_away(place)
        with pytest.raises(StoreUnavailable, match="was moved, removed or replaced") as caught:
            calls[use]()
        assert not caught.value.outcome_unknown
        # What it says next depends on what is there now; it never writes into another store.
        if take_away is not put_a_copy_there:
            with pytest.raises(StoreError):
                calls[use]()
    if place.exists() and "another" in take_away.__name__:
        with SqliteStore(place, create=False) as there:
            assert there.read("t") is None
            assert loaded(there, "other").sequence == 2


def test_a_store_that_comes_back_has_what_was_acknowledged(place):
    elsewhere = place.parent.with_name("elsewhere")
    with SqliteStore(place) as store:
        store.append([plan("t")])
        place.parent.rename(elsewhere)
        with pytest.raises(StoreUnavailable):
            store.append([request("t", 2)])
        with pytest.raises(StoreNotFound):
            store.append([request("t", 2)])
        elsewhere.rename(place.parent)
        assert loaded(store, "t").sequence == 2
        assert store.append([request("t", 2)]) == APPENDED


def test_nothing_is_acknowledged_that_went_into_a_file_without_its_name(deaf_rig):
    run = deaf_rig.do("append", on_error="again", sabotage="is_swapped_while_it_commits")
    acknowledged = [line for line in run.lines if line.startswith("did append t")]
    assert acknowledged == [line for line in acknowledged if line.endswith("already_ours")]
    assert len(run.errors) >= 2
    assert all("was moved, removed or replaced" in error for error in run.errors), run.errors


# ------------------------------------------------------------------------------------- full disks


def test_a_disk_that_fills_up_at_any_write_leaves_all_readable_and_works_when_there_is_space(rig):
    points = [call for call in rig.points("append_together") if call.name == "pwrite64"]
    points = [call for call in points if call.path.endswith("-wal")]
    for point in points[:: len(points) // 4]:
        fault = Fault("pwrite64", point.number, "ENOSPC", lasting=True)
        run = rig.run("append_together", fault, on_error="wait")
        assert "waits" in run.lines, run
        assert "reads 10" in run.lines, run
        assert any("disk or the quota is full" in error for error in run.errors), run
        assert run.status == 0, run
        assert run.promises.open_appends() == []
        assert rig.settle(run) == [], run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; its size can be changed."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    done = mount("size=2m")
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder, lambda: mount("remount,size=16m").check_returncode()
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_refuses_by_name_and_the_same_handle_writes_when_it_has_grown(
    small_disk,
):
    folder, grow = small_disk
    with SqliteStore(folder / "store.db") as store:
        written = 0

        def fill():
            nonlocal written
            while True:
                store.append([plan(f"t{written}", data={"big": "x" * 30_000})])
                written += 1

        with pytest.raises(StoreUnavailable, match="disk or the quota is full") as caught:
            fill()
        assert not caught.value.outcome_unknown
        assert written > 10
        assert store.read(f"t{written}") is None
        assert all(loaded(store, f"t{number}").sequence == 2 for number in range(written))
        with SqliteStore(folder / "store.db", create=False) as second:
            assert loaded(second, "t0").sequence == 2
        grow()
        assert store.append([plan(f"t{written}", data={"big": "x" * 30_000})]) == APPENDED
        assert loaded(store, f"t{written}").sequence == 2
