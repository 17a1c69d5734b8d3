"""Group commit: one durable write for everybody who came meanwhile."""
# mypy: disable-error-code="arg-type, attr-defined"

import pytest

from aumai_transactions import StoreUnavailable, TransactionManager
from aumai_transactions.drivers.append_queue import BATCH_MAX, AppendQueue


class Wishes:
    """Appends are passed on unread: any value will do."""

    def __init__(self, signal):
        self.writing, self.go = signal(), signal()
        self.batches = []
        self.errors = {}
        self.is_blocking = True

    def append(self, appends):
        self.batches.append(list(appends))
        if len(self.batches) == 1:
            self.writing.set()
            self.go.wait()
        error = self.errors.get(len(self.batches))
        if error is not None:
            raise error
        return [f"answer to {append}" for append in appends]


def gathered(queue, store, in_thread, count):
    """One append under way, and `count` more behind it."""
    first = in_thread(queue.append, "first")
    store.writing.wait()
    others = [in_thread(queue.append, number) for number in range(count)]
    while len(queue._waiting) < count:
        pass
    store.go.set()
    return first, others


def test_what_gathers_behind_a_write_shares_the_next_one(signal, in_thread):
    store = Wishes(signal)
    queue = AppendQueue(store)
    first, others = gathered(queue, store, in_thread, 20)
    assert first.result() == "answer to first"
    assert [other.result() for other in others] == [f"answer to {number}" for number in range(20)]
    assert [len(batch) for batch in store.batches] == [1, 20]


def test_a_batch_has_a_limit(signal, in_thread):
    store = Wishes(signal)
    queue = AppendQueue(store)
    queue._waiting = []
    first = in_thread(queue.append, "first")
    store.writing.wait()
    from aumai_transactions.drivers.append_queue import _Waiting

    with queue._guard:
        queue._waiting.extend(_Waiting(number) for number in range(BATCH_MAX))
    last = in_thread(queue.append, "last")
    while len(queue._waiting) < BATCH_MAX + 1:
        pass
    store.go.set()
    assert first.result() == "answer to first"
    assert last.result() == "answer to last"
    assert [len(batch) for batch in store.batches] == [1, BATCH_MAX, 1]


def test_a_write_that_fails_fails_for_each_member_with_an_exception_of_its_own(signal, in_thread):
    store = Wishes(signal)
    store.errors[2] = StoreUnavailable("the disk is full", outcome_unknown=True)
    queue = AppendQueue(store)
    first, others = gathered(queue, store, in_thread, 3)
    assert first.result() == "answer to first"
    caught = []
    for other in others:
        with pytest.raises(StoreUnavailable, match="disk is full") as one:
            other.result()
        caught.append(one.value)
    assert len({id(error) for error in caught}) == 3
    assert all(error.outcome_unknown for error in caught)


def test_an_interrupt_of_the_one_who_writes_is_unknown_to_the_others(signal, in_thread):
    store = Wishes(signal)
    store.errors[2] = KeyboardInterrupt()
    queue = AppendQueue(store)
    _first, others = gathered(queue, store, in_thread, 3)
    raised = []
    for other in others:
        try:
            other.result()
        except (KeyboardInterrupt, StoreUnavailable) as error:
            raised.append(type(error))
    assert sorted(kind.__name__ for kind in raised) == [
        "KeyboardInterrupt",
        "StoreUnavailable",
        "StoreUnavailable",
    ]
    # The queue is not broken by it.
    assert queue.append("next") == "answer to next"


def test_transactions_of_many_threads_share_durable_writes_on_a_real_store(
    make_store, in_thread, signal
):
    count = 10
    store = make_store("sqlite")
    writing, go = signal(), signal()
    sizes = []
    append = store.append

    def counted(appends):
        sizes.append(len(appends))
        if len(sizes) == 1:
            writing.set()
            go.wait()
        return append(appends)

    store.append = counted
    with TransactionManager(store=store) as manager:
        txs = [manager.begin() for _ in range(count)]
        threads = [in_thread(manager.commit, txs[0])]
        writing.wait()
        threads += [in_thread(manager.commit, tx) for tx in txs[1:]]
        queue = manager._desk()._queue
        assert queue is not None
        while len(queue._waiting) < count - 1:
            pass
        go.set()
        assert {thread.result().state.value for thread in threads} == {"committed"}
        assert sizes == [1, count - 1]
        assert manager.verify().is_intact
