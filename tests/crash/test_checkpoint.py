"""kill -9 inside a checkpoint: the store opens again, and nothing is lost."""

import shutil

import pytest

from aumai_transactions import TransactionManager

PAGE_BYTES = 4096
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
