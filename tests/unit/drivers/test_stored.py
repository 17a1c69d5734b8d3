"""All transactions of a store, read as they are asked for, for threads."""
# mypy: disable-error-code="var-annotated"

import gc
import weakref

import pytest

from aumai_transactions import (
    TransactionManager,
)
from aumai_transactions.store import Query


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A store with 1,000 transactions."""
    folder = tmp_path_factory.mktemp("crowded")
    with TransactionManager(store=f"sqlite:///{folder}/journal.db") as manager:
        desk = manager._open(create=True)
        for _ in range(10):
            save_all(desk, [manager.begin() for _ in range(100)])
    return f"sqlite:///{folder}/journal.db"


def save_all(desk, transactions):
    """Save many with one durable write; one by one this takes a second for each hundred."""
    from aumai_transactions.core.entries import PlanRecorded
    from aumai_transactions.core.evolution import evolve
    from aumai_transactions.core.outcome import summary_of
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.freezing import frozen
    from aumai_transactions.store import Append

    appends = []
    for tx in transactions:
        saga = Saga(tx.transaction_id)
        entry = PlanRecorded(at=1, definition=frozen(tx, desk.registry, None))
        evolve(saga, entry)
        appends.append(Append(tx.transaction_id, 0, desk.append_id(), [entry], summary_of(saga)))
    desk.store.append(appends)


def test_a_thousand_stored_transactions_are_listed_lazily_and_not_kept_alive(crowded, make_sync):
    manager = make_sync(store=crowded)
    everything = manager.get_all_transactions()
    assert len(everything) == 1_000
    alive = weakref.WeakSet()
    most = 0
    names = []
    for tx in everything:
        names.append(tx.transaction_id)
        alive.add(Alive.of(tx))
        del tx
        most = max(most, len(alive))
    assert len(set(names)) == 1_000
    assert most <= 3
    listed = manager.find(Query(limit=1_000))
    assert names == [item.summary.transaction_id for item in listed]


class Alive:
    """Lives as long as the transaction it is put into; models cannot stand in a WeakSet."""

    @classmethod
    def of(cls, tx):
        token = cls()
        tx.__dict__["_alive"] = token
        return token


def test_a_lazy_list_has_indexes_and_slices(crowded, make_sync):
    manager = make_sync(store=crowded)
    everything = manager.get_all_transactions()
    names = [tx.transaction_id for tx in everything]
    assert everything[0].transaction_id == names[0]
    assert everything[-1].transaction_id == names[-1]
    assert [tx.transaction_id for tx in everything[5:20:5]] == names[5:20:5]
    assert [tx.transaction_id for tx in everything[-2:]] == names[-2:]
    for outside in (1_000, -1_001):
        with pytest.raises(IndexError, match="1000 transactions"):
            everything[outside]


def test_what_is_not_saved_yet_stands_at_the_end_of_the_list(crowded, make_sync):
    manager = make_sync(store=crowded)
    first, second = manager.begin(), manager.begin()
    everything = manager.get_all_transactions()
    assert len(everything) == 1_002
    assert everything[-2] is first
    assert everything[1_001] is second
    assert list(everything)[-2:] == [first, second]


def test_the_callers_object_is_the_one_in_the_list(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    manager.commit(tx)
    assert manager.get_all_transactions()[0] is tx
    assert manager.get_transaction(tx.transaction_id) is tx


def test_a_forgotten_transaction_is_read_from_the_store_again(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    name = manager.commit(tx).transaction_id
    before = tx.model_dump()
    del tx
    gc.collect()
    found = manager.get_transaction(name)
    assert found.model_dump() == before
    assert manager.get_transaction(name) is found


def test_a_copy_of_a_saved_transaction_can_be_committed_when_the_first_is_gone(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    manager.save(tx)
    copy = tx.model_copy(deep=True)
    manager.add_step(copy, "agent", "more", {})
    del tx
    gc.collect()
    assert manager.commit(copy).completed_steps == ["s1", "s2"]
