"""Threads that tell what they raised, clocks that do what a test says, and shared stores."""

import contextlib
import functools
import inspect
import threading
from datetime import UTC, datetime

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.clock import ManualClock

GUARD_SECONDS = 60


class Started:
    """A function that runs in a thread; `result()` returns or raises what it did."""

    def __init__(self, function, *arguments, **options):
        self._function = function
        self._arguments = arguments
        self._options = options
        self._value = None
        self._error = None
        # Why a daemon: a test that fails because something hangs must not hang the whole run.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._function(*self._arguments, **self._options)
        except BaseException as error:
            self._error = error

    @property
    def is_running(self):
        return self._thread.is_alive()

    def result(self):
        self._thread.join(GUARD_SECONDS)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._value


class Signal(threading.Event):
    """An event that is waited for with a guard against hanging."""

    def wait(self, timeout=GUARD_SECONDS):
        assert super().wait(timeout), "nobody came"
        return True


class WatchedClock(ManualClock):
    """A manual clock that does what it is told when somebody sleeps by it.

    `sleeps` holds how long each sleep was to be; `at[n]` is called at the n-th one, from 1: it may
    raise, or wait, and where it returns an awaitable, a task awaits it. Only then the time moves.
    """

    def __init__(self, now):
        super().__init__(now)
        self.sleeps = []
        self.at = {}

    def sleep(self, seconds):
        self._told(seconds)
        super().sleep(seconds)

    async def sleep_async(self, seconds):
        told = self._told(seconds)
        if inspect.isawaitable(told):
            await told
        await super().sleep_async(seconds)

    def _told(self, seconds):
        self.sleeps.append(seconds)
        return self.at.get(len(self.sleeps), lambda: None)()


class GatedStore:
    """A store that does what it is told before it is given an entry of some kind.

    `before[name]` is called, once, before the first append that holds an entry of this class.
    """

    def __init__(self, store):
        self._store = store
        self.before = {}

    def __getattr__(self, name):
        return getattr(self._store, name)

    def append(self, appends):
        for append in appends:
            for entry in append.entries:
                self.before.pop(type(entry).__name__, lambda: None)()
        return self._store.append(appends)


class World:
    """What was called, and how often `act` still fails; its managers have the same handlers."""

    def __init__(self, closing, failures=1, error=ValueError, **options):
        self.calls = []
        self.left = failures
        self.error = error
        self.options = options
        self._closing = closing

    def join(self, place, clock, **options):
        manager = TransactionManager(store=place, clock=clock, **options)
        self.register(manager)
        self._closing.callback(manager.close)
        return manager

    def register(self, manager):
        manager.action("act", compensating_action="undo", **self.options)(self.act)
        manager.action("ok", compensating_action="undo")(self.note)
        manager.action("undo")(self.note)

    def note(self, action, data):
        self.calls.append(action)

    def act(self, action, data, context):
        self.calls.append(f"act {context.attempt}")
        if self.left:
            self.left -= 1
            raise self.error("not now")


@pytest.fixture
def in_thread():
    return Started


@pytest.fixture
def signal():
    return Signal


@pytest.fixture
def make_clock():
    """Make a clock that starts at the same time as all others."""
    return lambda: WatchedClock(datetime(2026, 2, 27, 12, tzinfo=UTC))


@pytest.fixture
def clock(make_clock):
    return make_clock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request, tmp_path):
    """Where managers meet: a store in memory, or the name of one that each opens for itself."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return str(tmp_path / "trips.db")
    return request.getfixturevalue("durable_postgres").store()


@pytest.fixture
def gated(place):
    """The shared store behind a gate; every manager that is given it meets there."""
    store = open_store(place, create=True) if isinstance(place, str) else place
    yield GatedStore(store)
    store.close()


@pytest.fixture
def world():
    with contextlib.ExitStack() as closing:
        yield functools.partial(World, closing)
