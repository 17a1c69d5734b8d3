"""The proof of isolation finds what it is there for: locks that are off, fences that are off."""

import contextlib
import threading

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.history import problems_of


@pytest.fixture
def open_bank(bank_module, postgres16):
    def opened(**options):
        bank = bank_module.Bank(postgres16.place(), **options)
        bank.open(["a", "b"], 100)
        return bank

    return opened


def transfers(manager, number, barrier):
    """Move money back and forth, all at the same time."""

    def once(index):
        one, other = ("a", "b") if index % 2 else ("b", "a")
        barrier.wait()
        tx = manager.begin()
        manager.add_step(tx, "out", "move", {"account": one, "by": -1})
        manager.add_step(tx, "in", "move", {"account": other, "by": 1})
        manager.commit(tx)

    threads = [threading.Thread(target=once, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_was_locked_could_have_happened_one_after_the_other(bank_module, open_bank):
    bank, store = open_bank(), MemoryStore()
    with TransactionManager(store=store) as manager:
        bank_module.handlers_of(manager, bank)
        transfers(manager, 12, threading.Barrier(12))
    assert problems_of(store, bank.accesses()) == []
    assert sum(bank.balances().values()) == 200
    assert len(bank.accesses()) == 24


def test_without_locks_the_proof_fails(bank_module, open_bank):
    """Each of two transactions is held between its two steps until the other has begun."""
    bank, store = open_bank(), MemoryStore()
    both = threading.Barrier(2)
    with TransactionManager(store=store) as manager:
        bank_module.handlers_of(manager, bank, locks=False)

        def once(one, other):
            with manager.transaction(isolation="none") as tx:
                tx.execute("out", "move", {"account": one, "by": -1})
                both.wait()
                tx.execute("in", "move", {"account": other, "by": 1})

        threads = [threading.Thread(target=once, args=pair) for pair in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = problems_of(store, bank.accesses())
    assert any("no order of these explains" in problem for problem in found)
    assert any("never granted" in problem for problem in found)


@pytest.mark.parametrize("fences", [True, False])
def test_a_participant_that_looks_at_no_token_lets_a_late_call_of_the_dead_in(
    bank_module, open_bank, fences
):
    bank, store = open_bank(fences=fences, remembers=False), MemoryStore()
    called, go = threading.Event(), threading.Event()
    slow = TransactionManager(store=store)
    quick = TransactionManager(store=store)
    bank_module.handlers_of(quick, bank)
    arrived = []

    class Late:
        def call(self, context, account, kind, by):
            called.set()
            go.wait()
            try:
                return arrived.append(bank.call(context, account, kind, by))
            except Exception as error:
                arrived.append(error)
                raise

    bank_module.handlers_of(slow, Late())

    def program():
        with contextlib.suppress(Exception), slow.transaction() as tx:
            tx.execute("out", "move", {"account": "a", "by": -5})

    thread = threading.Thread(target=program)
    thread.start()
    called.wait()
    store.leave(slow._desk().driver_id)  # As if its lease had run out.
    (recovered,) = quick.recover()
    assert recovered.result is not None
    assert recovered.result.state == "rolled_back"
    with quick.transaction() as tx:
        tx.execute("out", "move", {"account": "a", "by": -7})
    assert quick.locks() == []
    go.set()
    thread.join()
    found = problems_of(store, bank.accesses())
    if fences:
        assert found == []
        assert "stale" in str(arrived[0])
        assert bank.balances() == {"a": 93, "b": 100}
    else:
        assert any("with a newer one" in problem for problem in found)
        assert any("in between" in problem or "still stands" in problem for problem in found)
        assert bank.balances() == {"a": 88, "b": 100}
    slow.close()
    quick.close()
