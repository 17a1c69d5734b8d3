"""Somebody else's store is checked with one call, or check by check, and can be proved with."""

import pytest
from tests.contract.shelf_store import Shelf, ShelfStore
from tests.unit.testing.atomic.agency import BOOKED, maker, planned

from aumai_transactions.testing import assert_atomic, check_store
from aumai_transactions.testing.store_contract import CHECKS, SHARED_CHECKS


def new_shelf(kind=ShelfStore):
    shelf = Shelf()
    return lambda: kind(shelf)


@pytest.mark.parametrize("check", [*CHECKS, *SHARED_CHECKS], ids=lambda check: check.__name__)
def test_a_store_of_somebody_else_keeps_the_contract(check):
    check(new_shelf())


def test_one_call_makes_every_check_each_with_a_store_of_its_own():
    made = []

    def new():
        made.append(new_shelf())
        return made[-1]

    assert check_store(new, is_shared=True) == {}
    assert len(made) == len(CHECKS) + len(SHARED_CHECKS)


class NoFence(ShelfStore):
    """A store that lets a driver act that was replaced."""

    def append(self, appends):
        row = self.shelf.rows.get(appends[0].transaction_id) if appends else None
        if row is not None and appends[0].token and appends[0].driver_id is None:
            appends = [appends[0]._replace(token=row.token), *appends[1:]]
        return super().append(appends)


class Broken(ShelfStore):
    """A store that raises what no store may raise."""

    def read(self, transaction_id):
        raise KeyError(transaction_id)


def test_what_a_store_does_not_keep_is_told_by_the_name_of_the_check():
    broken = check_store(lambda: new_shelf(NoFence), is_shared=False)
    assert "fenced comes before already_ours" in broken["check_a_stale_driver_is_fenced"]
    raised = check_store(lambda: new_shelf(Broken), is_shared=False)
    assert raised["check_a_new_transaction_is_kept_and_read_back"].startswith("KeyError")


def test_transactions_on_a_store_of_somebody_else_are_proved_like_others():
    report = assert_atomic(
        planned, world=BOOKED, manager=maker(), store=lambda: ShelfStore(Shelf()), pairs=False
    )
    assert report.crashes == 10
