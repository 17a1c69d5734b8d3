"""What a driver asks before it makes a call: nothing, unless its lease may have run out.

That one which was replaced makes no call is shown with real processes: tests/crash/test_leases.py.
"""

import time
from types import SimpleNamespace

import pytest

from aumai_transactions import clock
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.stores.sqlite import SqliteStore


class Asked:
    """A store in front of which it is noted what it is asked, and which may be away."""

    def __init__(self, store):
        self._store = store
        self.asked = []
        self.is_away = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    def renew(self, driver_id):
        self.asked.append("renew")
        if self.is_away:
            raise StoreUnavailable("the disk is away.")
        self._store.renew(driver_id)

    def read(self, transaction_id):
        self.asked.append("read")
        return self._store.read(transaction_id)


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "trips.db") as opened:
        yield Asked(opened)


@pytest.fixture
def stand_still(monkeypatch):
    """Let the process have stood still for an hour, as its wall clock tells afterwards."""

    def stand():
        later = SimpleNamespace(
            monotonic=time.monotonic, time=lambda: time.time() + 3600, time_ns=time.time_ns
        )
        monkeypatch.setattr(clock, "time", later)

    return stand


def trip(make_sync, store, **options):
    """A manager with two steps to make, and the calls that it makes."""
    manager, calls = make_sync(store=store, **options), []

    @manager.action("act", idempotent=True)
    def act(action, data, context):
        calls.append(context.step_id)

    tx = manager.begin()
    for _ in range(2):
        manager.add_step(tx, "agent", "act", {})
    return manager, tx, calls


def behind(kind, then):
    """Do something once, right behind an entry of this kind that is durable."""
    todo = [then]

    def on_event(event):
        if event.kind == kind and todo:
            todo.pop()()

    return on_event


def test_nothing_is_asked_while_nothing_is_late(make_sync, store):
    manager, tx, calls = trip(make_sync, store)
    assert manager.commit(tx).state.value == "committed"
    assert calls == ["s1", "s2"]
    assert store.asked == []


def test_who_stood_still_looks_once_and_goes_on_where_nobody_else_has_it(
    make_sync, store, stand_still
):
    manager, tx, calls = trip(make_sync, store, on_event=behind("step_started", stand_still))
    assert manager.commit(tx).state.value == "committed"
    assert calls == ["s1", "s2"]
    assert store.asked == ["renew", "read"]


def test_who_stood_still_and_cannot_look_makes_no_call(make_sync, store, stand_still):
    def away():
        stand_still()
        store.is_away = True

    manager, tx, calls = trip(make_sync, store, on_event=behind("step_started", away))
    with pytest.raises(StoreUnavailable, match="the disk is away"):
        manager.commit(tx)
    assert calls == []
    store.is_away = False
    assert [item.outcome for item in manager.recover()] == ["finished"]
    assert calls == ["s1", "s2"]
