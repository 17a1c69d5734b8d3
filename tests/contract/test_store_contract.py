"""Every store keeps the one contract."""

import pytest

from aumai_transactions.store import Store
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.store_contract import CHECKS, SHARED_CHECKS, ContractBroken
from aumai_transactions.testing.store_locks import LOCK_CHECKS
from aumai_transactions.testing.store_outbox import OUTBOX_CHECKS


def by_name(check):
    return check.__name__


@pytest.mark.parametrize("check", [*CHECKS, *OUTBOX_CHECKS], ids=by_name)
def test_the_memory_store_keeps_the_contract(check):
    check(MemoryStore)


@pytest.mark.parametrize("check", [*CHECKS, *SHARED_CHECKS, *OUTBOX_CHECKS], ids=by_name)
def test_the_sqlite_store_keeps_the_contract(check, tmp_path):
    check(lambda: SqliteStore(tmp_path / "contract.db"))


@pytest.mark.parametrize("check", [*CHECKS, *SHARED_CHECKS, *OUTBOX_CHECKS], ids=by_name)
def test_the_postgres_store_keeps_the_contract_on_16(check, postgres16):
    url = postgres16.store()
    check(lambda: PostgresStore(url))


@pytest.mark.parametrize("check", [*CHECKS, *SHARED_CHECKS, *OUTBOX_CHECKS], ids=by_name)
def test_the_postgres_store_keeps_the_contract_on_18(check, postgres18):
    url = postgres18.store()
    check(lambda: PostgresStore(url))


class Forgetful(MemoryStore):
    """A store that acknowledges and then drops every append but the first."""

    def append(self, appends):
        return super().append(appends) if self.info().changes == 0 else ["appended"] * len(appends)


def test_a_store_that_breaks_the_contract_is_found_out():
    found = 0
    for check in CHECKS:
        try:
            check(Forgetful)
        except ContractBroken:
            found += 1
    assert found > len(CHECKS) / 2


class Generous(MemoryStore):
    """A store that takes no notice of locks."""

    def append(self, appends):
        return super().append([each._replace(holdings=None, reads=()) for each in appends])


@pytest.mark.parametrize("check", LOCK_CHECKS, ids=by_name)
def test_each_check_of_locks_finds_a_store_that_has_none(check):
    with pytest.raises(ContractBroken):
        check(Generous)


def test_both_stores_have_the_shape_of_the_contract(tmp_path):
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path / "shape.db")]
    assert [(store.is_blocking, store.is_durable) for store in stores] == [
        (False, False),
        (True, True),
    ]
    for store in stores:
        store.close()
