"""A transaction that waits an hour for its next attempt costs nothing, and misses no moment.

Time is a manual clock; nothing here waits for it.
"""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from tests.faults.scene import NOON

from aumai_transactions import AsyncTransactionManager, RetryLater, TransactionState
from aumai_transactions.store import Query
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.clock import ManualClock

HOUR = 3_600
PARKED = 1_000
DUE_EARLIER = range(0, PARKED, 100)
# A look at 1,000 transactions, or one at each turn of a loop, takes many times as long.
CPU_SECONDS_MAX = 0.02
WINDOW_SECONDS = 0.2


class Counted:
    """A store, and which of its methods were called, and for which transactions."""

    def __init__(self, store):
        self._store = store
        self.calls = []

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def called(*arguments, **more):
            ids = [getattr(item, "transaction_id", item) for item in flat(arguments)]
            self.calls.append((name, [item for item in ids if isinstance(item, str)]))
            return found(*arguments, **more)

        return called

    def touched(self):
        """The transactions that were read or written."""
        return {item for name, ids in self.calls if name in ("read", "append") for item in ids}


def flat(arguments):
    for argument in arguments:
        if isinstance(argument, (list, tuple)) and not hasattr(argument, "transaction_id"):
            yield from argument
        else:
            yield argument


class Ferry:
    """A handler that says "later" at its first calls of each step, and when."""

    def __init__(self):
        self.calls = []
        self.refusals = 1

    def cross(self, action, data, context):
        self.calls.append((data["number"], context.attempt))
        if context.attempt <= self.refusals:
            raise RetryLater(data["seconds"])

    async def cross_async(self, action, data, context):
        self.cross(action, data, context)


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def opened(memory_folder, make_manager, manager_kind, clock):
    """Open a manager with a ferry on a store that is counted; again for a new process's sake."""
    kept = MemoryStore() if manager_kind.endswith("memory") else None

    def open_one():
        store = Counted(kept or SqliteStore(memory_folder / "trips.db", clock=clock))
        manager = make_manager(store=store, clock=clock)
        ferry = Ferry()
        is_async = manager_kind.startswith("async")
        manager.action("cross")(ferry.cross_async if is_async else ferry.cross)
        return manager, ferry, store

    return open_one


def park(manager, number=0, seconds=HOUR):
    tx = manager.begin(86_400)
    manager.add_step(tx, "agent", "cross", {"number": number, "seconds": seconds})
    result = manager.commit(tx)
    assert (result.state, result.waiting.reason) == (TransactionState.active, "retry")
    assert result.waiting.until == result.started_at + timedelta(seconds=seconds)
    return tx


def test_it_is_not_tried_a_microsecond_early_and_is_tried_when_it_is_due(opened, clock):
    manager, ferry, _ = opened()
    tx = park(manager)

    clock.advance(HOUR - 0.000_001)
    assert manager.recover() == []
    assert manager.wait(tx, timeout_seconds=0).waiting.reason == "retry"
    assert ferry.calls == [(0, 1)]

    clock.advance(0.000_001)
    assert [item.outcome for item in manager.recover()] == ["finished"]
    assert ferry.calls == [(0, 1), (0, 2)]
    assert manager.get_result(tx).state is TransactionState.committed


def test_waiting_for_it_lets_just_that_time_pass(opened, clock):
    manager, ferry, _ = opened()
    tx = park(manager)

    assert manager.wait(tx).state is TransactionState.committed

    started = [event for event in manager.get_events(tx) if event.kind == "step_started"]
    assert [event.at for event in started] == [NOON, NOON + timedelta(seconds=HOUR)]
    assert ferry.calls == [(0, 1), (0, 2)]


def test_whoever_waits_for_it_holds_nothing_meanwhile(opened, clock, monkeypatch):
    manager, ferry, store = opened()
    ferry.refusals = 2
    tx = park(manager)
    holders: list[str | None] = []
    sleep, sleep_async = clock.sleep, clock.sleep_async

    def look(seconds):
        holders.extend(item.driver_id for item in store.find(Query()))
        sleep(seconds)

    async def look_async(seconds):
        holders.extend(item.driver_id for item in store.find(Query()))
        await sleep_async(seconds)

    monkeypatch.setattr(clock, "sleep", look)
    monkeypatch.setattr(clock, "sleep_async", look_async)

    assert manager.wait(tx).state is TransactionState.committed

    assert ferry.calls == [(0, 1), (0, 2), (0, 3)]
    assert set(holders) == {None}


def test_a_new_manager_on_the_same_store_keeps_the_time(opened, clock):
    manager, _, _ = opened()
    tx = park(manager)
    manager.close()

    for early in (0, HOUR - 1):
        clock.advance(early)
        manager, ferry, _ = opened()
        assert manager.recover() == []
        assert ferry.calls == []
        manager.close()

    clock.advance(1)
    manager, ferry, _ = opened()
    assert [item.outcome for item in manager.recover()] == ["finished"]
    assert ferry.calls == [(0, 2)]
    assert manager.get_result(tx.transaction_id).state is TransactionState.committed


def test_a_parked_transaction_costs_no_thread_no_task_no_cpu_and_no_look(opened):
    manager, _, store = opened()
    running = what_runs(manager)
    park(manager)
    costs_nothing(manager, store, running)


def test_a_thousand_cost_no_more_and_only_those_that_are_due_are_touched(opened, clock):
    manager, ferry, store = opened()
    running = what_runs(manager)
    txs = [park(manager, number, 60 if number in DUE_EARLIER else HOUR) for number in range(PARKED)]
    costs_nothing(manager, store, running)
    ferry.calls.clear()
    store.calls.clear()

    clock.advance(60)
    report = manager.recover()

    due = {txs[number].transaction_id for number in DUE_EARLIER}
    assert {item.transaction_id for item in report} == due
    assert {item.outcome for item in report} == {"finished"}
    assert sorted(ferry.calls) == [(number, 2) for number in DUE_EARLIER]
    assert store.touched() == due


def what_runs(manager):
    """Let a manager start whatever it keeps running, and return the threads."""
    manager.wait(park(manager, -1, 60))
    return threads()


def costs_nothing(manager, store, running):
    assert threads() == running
    assert tasks(manager) == []
    looks, used = len(store.calls), time.process_time()
    nothing_happens(manager)
    assert time.process_time() - used < CPU_SECONDS_MAX
    assert store.calls[looks:] == []


def threads():
    """The threads but those of the event loop's pool, which come and go with its work."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def nothing_happens(manager):
    """Let a little time pass: no wait for anything, but the window in which nothing may be done."""
    if isinstance(manager.wrapped, AsyncTransactionManager):
        manager._runner.run(asyncio.sleep(WINDOW_SECONDS))
    else:
        threading.Event().wait(WINDOW_SECONDS)


def tasks(manager):
    """What the event loop of an async manager still has to do."""

    async def others():
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    return manager._runner.run(others())
