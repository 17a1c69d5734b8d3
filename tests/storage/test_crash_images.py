"""Power loss, without any privilege: what a disk may hold then, rebuilt from recorded calls.

Every call of a real process on its store is recorded, and replayed into what the disk may hold at
each moment between two of them (`aumai_transactions.testing.crash_images` has the rules). Each
image is opened by the product: no acknowledged append is missing, and none is half there.
"""

import os
import re
import shutil
from collections import Counter
from contextlib import closing

import pytest
from tests.reliability.share import ALL, SHARE, some

from aumai_transactions.errors import StoreError
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.crash_images import Disk, Recorder
from aumai_transactions.testing.promises import Promises
from aumai_transactions.testing.storage_calls import Fault

pytestmark = pytest.mark.crash

SEED = 1
FEW = {"corners_max": 4, "samples": 0, "images_max": 16}
MANY = {"corners_max": 40, "samples": 3, "images_max": 64}


def is_forgotten(name):
    """Tell whether nothing that a file holds means anything after a crash."""
    return name.endswith(("-shm", "-writer", ".lock", "go"))


def images_of(rig, run, sizes):
    """Return the images that a run's calls leave, and what counts them.

    The operation must be one that stands ready before it has done anything.
    """
    disk = Disk(str(run.path.parent), is_forgotten)
    begun = rig.folder / rig.template_of(run.operation)
    disk.begin_with({file.name: file.read_bytes() for file in begun.iterdir()})
    disk.lines += rig.templates[rig.template_of(run.operation)]
    recorder = Recorder(seed=SEED, **sizes)
    return recorder.images(disk, run.all_calls), recorder.tally


def problems_of(image, folder):
    """Lay an image out, open it, and return what it does not keep."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    image.write(folder)
    promises = Promises(image.lines)
    path = folder / "store.db"
    if not path.exists():
        return ["the store is gone"] if promises.store_id else []
    try:
        return found_in(path, promises)
    except StoreError as error:
        advised = re.search(r"truncate -s (\d+) ", str(error))
        if advised is None:
            return [f"does not open: {error}"]
    # The last page of the last commit, left in part as an older one that differs by a bit, cannot
    # be told from a flipped bit. It is refused, and what it is said to do then loses nothing.
    os.truncate(path.with_name("store.db-wal"), int(advised[1]))
    try:
        return found_in(path, promises)
    except StoreError as error:
        return [f"does not open even so: {error}"]


def found_in(path, promises):
    with closing(SqliteStore(path, create=False)) as store:
        return promises.problems(store)


def look_at(rig, run, sizes, *, enough=None, share=ALL):
    """Check every image; return the wrong ones with what is wrong, and the count of them all."""
    images, tally = images_of(rig, run, sizes)
    wrong = []
    for image in some(images, share):
        tally["looked at"] += 1
        found = problems_of(image, rig.folder / "image")
        if found:
            wrong.append((image.story, image.lines[-1:], found))
            if enough is not None and len(wrong) >= enough:
                break
    return wrong, tally


def test_no_image_that_a_power_loss_may_leave_has_lost_or_torn_anything(rig):
    run = rig.run("short_life")
    assert run.status == 0, run
    wrong, tally = look_at(rig, run, FEW)
    assert wrong == []
    assert tally["different images"] > 300
    assert tally["moments with all images, 4096"] > 0


@pytest.mark.deep
@pytest.mark.parametrize("doing", ["migrate", "reopen", "short_life", "long_life"])
def test_no_image_of_many_has_lost_or_torn_anything(rig, doing, figures):
    wrong, tally = look_at(rig, rig.run(doing), MANY, share=SHARE)
    assert wrong == []
    print(dict(tally))
    counts = {"moments": tally["moments"], "crash_images": tally["looked at"]}
    figures("crash images", **counts, acknowledged_lost=0, torn=0)


def kinds_of(wrong):
    kinds: Counter[str] = Counter()
    for _, _, found in wrong:
        for text in found:
            kinds["lost" if text.endswith("gone") else "torn"] += 1
    return kinds


@pytest.mark.parametrize(
    "sabotage,kind",
    [
        ("synchronous_normal", "lost"),
        ("synchronous_off", "lost"),
        ("made_without_sync_of_names", "lost"),
    ],
)
def test_a_store_that_syncs_too_little_is_found_out(rig, sabotage, kind):
    run = rig.run("short_life", sabotage=sabotage)
    assert run.status == 0, run
    wrong, _ = look_at(rig, run, FEW, enough=20)
    assert kinds_of(wrong)[kind] > 0


@pytest.mark.deep
@pytest.mark.parametrize("sabotage", ["synchronous_normal", "synchronous_off"])
def test_how_many_images_lose_what_was_acknowledged_where_too_little_is_synced(rig, sabotage, say):
    run = rig.run("short_life", sabotage=sabotage)
    wrong, tally = look_at(rig, run, MANY, share=SHARE)
    kinds = kinds_of(wrong)
    say(f"{sabotage}: {len(wrong)} of {tally['looked at']} images wrong; {dict(kinds)}")
    assert kinds["lost"] > 0
    # Without any sync, the log and the file that it goes into come apart as well.
    assert (kinds["torn"] > 0) is (sabotage == "synchronous_off")


# ------------------------------------------------------------------------------ named regressions


def test_a_sync_of_the_folder_that_fails_unseen_by_sqlite_loses_nothing(rig):
    """SQLite syncs the folder of a new log, and goes on where that fails."""
    syncs = [
        call for call in rig.run("create").calls if call.name == "fdatasync" and rig.is_folder(call)
    ]
    fault = Fault("fdatasync", syncs[-1].number, "EIO")
    for sabotage in ("", "trusts_sqlite_with_names"):
        run = rig.run("create", fault, sabotage=sabotage)
        assert run.hit.tampered, run
        assert (run.status, run.errors) == (0, []), run
        wrong, _ = look_at(rig, run, FEW)
        assert bool(wrong) is bool(sabotage)
