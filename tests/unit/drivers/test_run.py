"""The callers' objects, and what is being driven."""
# mypy: disable-error-code="arg-type, possibly-undefined, union-attr"

import gc

import pytest

from aumai_transactions import InvalidTransactionState, Transaction
from aumai_transactions.actions import ActionRegistry
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.run import Book, Run


def run_of(name="t"):
    return Run(name, Saga(name), ActionRegistry())


def test_a_run_can_be_entered_once_at_a_time():
    book, run = Book(keeps_all=False), run_of()
    book.enter(run, "commit")
    assert book.is_driving()
    assert book.run_of("t") is run
    with pytest.raises(InvalidTransactionState, match="cannot commit"):
        book.enter(run_of(), "commit")
    book.leave(run)
    assert run.is_over
    assert not book.is_driving()
    book.enter(run_of(), "commit")


def test_what_is_not_saved_is_kept_and_what_is_saved_only_while_somebody_holds_it():
    book = Book(keeps_all=False)
    tx = Transaction()
    name = tx.transaction_id
    book.hold(tx, 0)
    del tx
    gc.collect()
    held = book.get(name)
    assert held.sequence == 0
    assert book.unsaved() == [held.transaction]
    book.hold(held.transaction, 7)
    assert book.unsaved() == []
    assert book.get(name).sequence == 7
    del held
    gc.collect()
    assert book.get(name) is None


def test_without_a_durable_store_nothing_is_forgotten():
    book = Book(keeps_all=True)
    names = []
    for _ in range(3):
        tx = Transaction()
        names.append(tx.transaction_id)
        book.hold(tx, 5)
    del tx
    gc.collect()
    assert [kept.transaction_id for kept in book.all_kept()] == names
