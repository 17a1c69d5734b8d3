"""kill -9 and power loss inside a checkpoint: the store opens again, and nothing is lost."""

import shutil

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import loaded, plan

PAGE_BYTES = 4096
SECTOR_BYTES = 512
pytestmark = pytest.mark.crash


def carry_out(manager, count):
    for number in range(count):
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {"number": number, "padding": "p" * 300})
        manager.commit(tx)


def opened(path):
    return TransactionManager({"act": lambda action, data: None}, store=str(path))


@pytest.fixture
def halves(tmp_path):
    """A store as it stood before a checkpoint, with its log, and the same store after it."""
    with opened(tmp_path / "store.db") as manager:
        carry_out(manager, 3)
    with opened(tmp_path / "store.db") as manager:
        carry_out(manager, 60)
        for name in ("store.db", "store.db-wal"):
            shutil.copyfile(tmp_path / name, tmp_path / name.replace("store", "killed"))
    return tmp_path / "killed.db", tmp_path / "store.db"


@pytest.mark.parametrize("pages", [0, 1, 2, 10])
def test_a_store_opens_after_a_kill_in_the_middle_of_a_checkpoint(halves, pages):
    before, after = halves
    # A checkpoint copies pages in ascending order, the header with the new size first.
    with after.open("rb") as done, before.open("r+b") as killed:
        assert before.stat().st_size < after.stat().st_size
        killed.write(done.read(pages * PAGE_BYTES))

    with opened(before) as manager:
        verification = manager.verify()

    assert verification.is_intact
    assert verification.transactions == 63


@pytest.fixture
def torn_identity(tmp_path):
    """A store before and after its first checkpoint; the row with its id has grown meanwhile."""
    with SqliteStore(tmp_path / "store.db") as store:
        for number in range(4):
            store.append([plan(f"t{number}")])
        for name in ("store.db", "store.db-wal"):
            shutil.copyfile(tmp_path / name, tmp_path / name.replace("store", "torn"))
    return tmp_path / "torn.db", (tmp_path / "store.db").read_bytes()


@pytest.mark.parametrize("is_end_new", [True, False])
@pytest.mark.parametrize("cut", range(SECTOR_BYTES, PAGE_BYTES, SECTOR_BYTES))
def test_a_page_that_was_torn_at_the_stores_id_is_no_other_store(torn_identity, cut, is_end_new):
    torn, after = torn_identity
    # The second page holds the id, and a count that changes with every commit.
    start, end = (
        (PAGE_BYTES + cut, 2 * PAGE_BYTES) if is_end_new else (PAGE_BYTES, PAGE_BYTES + cut)
    )
    with torn.open("r+b") as file:
        file.seek(start)
        file.write(after[start:end])

    with SqliteStore(torn, create=False) as store:
        assert [loaded(store, f"t{number}").sequence for number in range(4)] == [2] * 4
