"""Power loss on a real file system: whatever was acknowledged is there when the power is back.

Skipped by name where nobody may mount a file system; `test_crash_images.py` needs no rights.
"""

import random
from contextlib import closing

import pytest
from tests.reliability.share import times

from aumai_transactions.errors import StoreError
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.power_cut import CannotCut, CuttableDisk
from aumai_transactions.testing.promises import Promises

pytestmark = [pytest.mark.crash, pytest.mark.deep]

ROUNDS = times(40, least=5)
CONTROL_ROUNDS = 5
LINES_MAX = 400


@pytest.fixture
def disk(tmp_path, request):
    try:
        with CuttableDisk(tmp_path, request.param) as made:
            yield made
    except CannotCut as error:
        pytest.skip(f"no power can be cut here: {error}")


def one_round(nursery, disk, draw, promises, sabotage=""):
    """Work until a random moment, cut the power, and return what is wrong when it is back."""
    path = disk.mount_point / "store.db"
    victim = nursery.start(
        operation="endless_life",
        folder=str(disk.mount_point),
        on_error="die",
        sabotage=sabotage,
    )
    victim.wait_for("ready")
    victim.release()
    for _ in range(draw.randint(1, LINES_MAX)):
        promises.hear(victim.next_line())
    disk.cut(victim.pid)
    while (line := victim.next_line()) is not None:
        promises.hear(line)
    victim.reap()
    disk.bring_back()
    if not path.exists():
        return ["the store is gone"] if promises.store_id else []
    try:
        with closing(SqliteStore(path, create=False)) as store:
            integrity = store.info(thorough=True).checks["integrity"]
            return promises.problems(store) + ([] if integrity == "ok" else [integrity])
    except StoreError as error:
        return [f"does not open: {error}"]


@pytest.mark.parametrize("disk", ["ext4", "xfs"], indirect=True)
def test_no_power_cut_loses_what_was_acknowledged(disk, storage_nursery, deaf_rig, say, figures):
    draw, promises = random.Random(1), Promises()
    for number in range(ROUNDS):
        assert one_round(storage_nursery, disk, draw, promises) == [], f"round {number}"
    assert deaf_rig.recovered(disk.mount_point / "store.db") == []
    say(f"{ROUNDS} power cuts: {promises.acknowledged} acknowledged appends, 0 lost, 0 torn")
    appends = promises.acknowledged
    figures("power cuts", power_cuts=ROUNDS, acknowledged_appends=appends, lost=0, torn=0)


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
@pytest.mark.parametrize("sabotage", ["synchronous_off"])
def test_a_store_that_syncs_too_little_loses_it_when_the_power_is_cut(
    disk, storage_nursery, sabotage, say
):
    draw, promises, rounds = random.Random(1), Promises(), []
    for _ in range(CONTROL_ROUNDS):
        rounds.append(one_round(storage_nursery, disk, draw, promises, sabotage))
        if rounds[-1]:
            break
    say(f"{sabotage}: after {len(rounds)} power cuts {rounds[-1][:2]} …")
    assert rounds[-1] != []
