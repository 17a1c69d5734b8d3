"""Threads that tell what they raised, and stores that fail when they are told to."""

import threading

import pytest

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.stores.memory import MemoryStore

GUARD_SECONDS = 30


class Started:
    """A function that runs in a thread; `result()` returns or raises what it did."""

    def __init__(self, function, *arguments):
        self._function = function
        self._arguments = arguments
        self._value = None
        self._error = None
        # Why a daemon: a test that fails because something hangs must not hang the whole run.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:
            self._error = error

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


class ScriptedStore(MemoryStore):
    """A memory store that does what it is told before or after its n-th append.

    `before[n]` and `after[n]` are called around the n-th call of `append`, from 1; what they raise
    is raised. `calls` holds how many appends each call had.
    """

    def __init__(self, *, blocking=False):
        super().__init__()
        self.is_blocking = blocking
        self.before = {}
        self.after = {}
        self.calls = []

    def append(self, appends):
        self.calls.append(len(appends))
        number = len(self.calls)
        self.before.get(number, lambda: None)()
        answers = super().append(appends)
        self.after.get(number, lambda: None)()
        return answers


def unavailable(*, outcome_unknown=False):
    def fail():
        raise StoreUnavailable("the disk is full. Make room.", outcome_unknown=outcome_unknown)

    return fail


@pytest.fixture
def in_thread():
    return Started


@pytest.fixture
def signal():
    return Signal


@pytest.fixture
def scripted_store():
    return ScriptedStore


@pytest.fixture
def failing():
    return unavailable


@pytest.fixture
def make_store(tmp_path):
    """A store by its name, memory or sqlite; closed in the end."""
    from aumai_transactions.stores import open_store

    made = []

    def make(name):
        url = "memory:" if name == "memory" else f"sqlite:///{tmp_path}/journal.db"
        made.append(open_store(url, create=True))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def make_sync(make_store, make_sync):
    """The same, closed before the stores are."""
    return make_sync
