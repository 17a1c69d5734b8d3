"""A block whose commit waits, and whose store goes away meanwhile: somebody can go on with it."""

from contextlib import contextmanager, suppress

import pytest

from aumai_transactions import (
    ApprovalPending,
    StoreUnavailable,
    TransactionError,
    TransactionManager,
)
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.clock import ManualClock


class Going(MemoryStore):
    """A store that is not there any more, for calls of one kind, after so many of them."""

    def __init__(self):
        super().__init__()
        self.left = {"append": 1_000, "read": 1_000}

    def _reach(self, call):
        self.left[call] -= 1
        if self.left[call] < 0:
            raise StoreUnavailable("the store is not there", outcome_unknown=False)

    def append(self, appends):
        self._reach("append")
        return super().append(appends)

    def read(self, transaction_id):
        self._reach("read")
        return super().read(transaction_id)


@pytest.fixture
def clock():
    return ManualClock(1_772_193_600_000_000)


@pytest.fixture
def store():
    return Going()


@pytest.fixture
def done():
    return []


@pytest.fixture
def manager(clock, store, done):
    handlers = {"undo": lambda action, data: done.append("undone")}
    with TransactionManager(handlers, store=store, clock=clock) as manager:

        @manager.action("act", compensating_action="undo")
        def act(action, data):
            done.append("done")

        @manager.action("pay", requires_approval=True, approval_timeout_seconds=60)
        def pay(action, data):
            done.append("paid")

        yield manager


@contextmanager
def spoiled(manager, store, spoil):
    """Ask for a payment, and let the commit find that the store is not there."""
    # Leaving the block says what has become of it.
    with suppress(TransactionError), manager.transaction() as block:
        block.execute("agent", "act")
        with pytest.raises(ApprovalPending):
            block.execute("agent", "pay", wait_max_seconds=0)
        spoil(block)
        with pytest.raises(StoreUnavailable):
            block.commit(wait_max_seconds=0)
        store.left = {"append": 1_000, "read": 1_000}
        yield block.transaction_id


def test_a_commit_that_could_not_be_let_go_of_is_seen_through_by_recovery(
    manager, store, clock, done
):
    # The wish to commit is recorded, and nothing behind it.
    with spoiled(manager, store, lambda block: store.left.update(append=1)) as name:
        clock.advance(61)
        (report,) = manager.recover()
    assert (report.transaction_id, report.outcome) == (name, "finished")
    assert done == ["done", "undone"]


def test_a_commit_that_could_not_look_at_its_news_is_left_to_whoever_comes(manager, store, done):
    def spoil(block):
        block._shared.hear()
        store.left["read"] = 0

    with spoiled(manager, store, spoil) as name:
        result = manager.rollback(name)
    assert result.state.value == "rolled_back"
    assert done == ["done", "undone"]


def test_what_is_decided_is_seen_through_where_another_thread_finds_that_the_store_is_away(
    manager, done
):
    @manager.action("hold", compensating_action="undo", confirming_action="confirm")
    def hold(action, data):
        done.append("held")

    @manager.action("confirm", idempotent=True)
    def confirm(action, data):
        done.append("confirmed")
        if done.count("confirmed") == 1:
            block._shared.lose(StoreUnavailable("the store is not there"))

    with manager.transaction() as block:
        block.execute("agent", "hold")
    assert block.result is not None
    assert block.result.state.value == "committed"
    assert done == ["held", "confirmed", "confirmed"]
