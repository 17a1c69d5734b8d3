"""Processes that can die, and what the handlers in them do.

A process is a manager on a store handle of its own. It dies at a boundary of the journal: an
append that does not happen, or whose answer nobody hears. Nothing of it acts any more then, and
its driver is dead to the store: on SQLite its handle is closed and the file opened again, in memory
the driver leaves.
"""
# mypy: disable-error-code="arg-type, attr-defined, union-attr, var-annotated"

import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from aumai_transactions import (
    Done,
    NotDone,
    OutcomeUnknown,
    RetryPolicy,
    StepRejected,
    TransactionManager,
    Unknown,
)
from aumai_transactions.actions import Action
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.clock import ManualClock

T0 = 1_772_193_600_000_000
SECONDS_MAX = 20
TWICE = RetryPolicy(attempts_max=2, first_delay_seconds=0)
ONCE = RetryPolicy(attempts_max=1)


class Killed(BaseException):
    """The process is dead."""


class Mortal:
    """A store as one process sees it, until it dies.

    `doom` is (n, before): it dies at its n-th append from now, before or after that is durable.
    """

    def __init__(self, inner, require):
        self.inner = inner
        self.require = require
        self.is_blocking = inner.is_blocking
        self.is_durable = inner.is_durable
        self.is_dead = False
        self.doom = None
        self.driver_id = None
        self.watchers = []
        self.lock = threading.RLock()

    def append(self, appends):
        with self.lock:
            if self.is_dead:
                raise Killed
            if self.doom is not None:
                number, before = self.doom
                self.doom = number - 1, before
                if number <= 1:
                    if not before:
                        self.inner.append(appends)
                    self.is_dead = True
                    raise Killed
            answers = self.inner.append(appends)
            for append in appends:
                for watch in list(self.watchers):
                    watch(append)
            return answers

    def join(self):
        self.driver_id = self.inner.join()
        return self.driver_id

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def called(*arguments, **options):
            if self.is_dead:
                if name in ("renew", "leave", "close"):
                    return None
                raise Killed
            return found(*arguments, **options)

        return called


class Place:
    """Where journals are kept, whichever process comes and goes."""

    def __init__(self, path, require):
        self.path = path
        self.require = require
        self.memory = MemoryStore() if path is None else None

    def open(self):
        store = self.memory or open_store(f"sqlite:///{self.path}", create=True)
        return Mortal(store, self.require)

    def bury(self, store):
        store.is_dead = True
        if self.memory is None:
            store.inner.close()
        elif store.driver_id is not None:
            self.memory.leave(store.driver_id)

    def close(self):
        if self.path is not None:
            for one in self.path.parent.glob(self.path.name + "*"):
                one.unlink()


class Gate:
    """Hold a handler until it is let go, and tell when it has come."""

    def __init__(self):
        self.has_come = threading.Event()
        self.may_go = threading.Event()


class Process:
    """One manager, its handlers, and its death.

    What a handler does stands in the data of its step: `forward`, `back`, `probe` and `confirm`
    say it call by call, the last is repeated; `gate` names the gate that the action waits at.
    """

    def __init__(self, life, **options):
        self.life = life
        self.store = life.place.open()
        self.manager = TransactionManager(
            store=self.store, actions=list(self.actions()), clock=life.clock, **options
        )
        self.manager._open(create=True)

    @property
    def is_dead(self):
        return self.store.is_dead

    def die(self):
        self.life.place.bury(self.store)
        if self.manager._lease is not None:
            self.manager._lease.stop()
        self.manager._loop_thread.close()

    def read(self, transaction_id):
        return self.store.inner.read(transaction_id)

    def actions(self):
        undo = {"compensating_action": "undo"}
        same = {"identity": ("n",)}
        yield Action("plain", self.forward, **undo, **same)
        yield Action("idempotent", self.forward, idempotent=True, **undo, **same)
        asks = {"probe": self.probe, "probe_retry": ONCE}
        yield Action("probe", self.forward, **asks, **undo, **same)
        yield Action("ask", self.forward, on_unknown="ask", **undo, **same)
        yield Action("bare", self.forward, **same)
        yield Action("read", self.forward, effect="none", **same)
        reserve = {"confirming_action": "confirm"}
        yield Action("reserve", self.forward, **reserve, **undo, **same)
        yield Action("hold", self.forward, idempotent=True, retry=TWICE, **same)
        yield Action("undo", self.back, idempotent=True, retry=TWICE)
        yield Action("confirm", self.confirm, idempotent=True, retry=TWICE)

    def told(self, data, what, context):
        """Judge a call, and return what the handler does at it."""
        self.check_alive()
        try:
            self.life.judge.call(context, self.read)
        except self.life.violation as error:
            self.life.violations.append(error)
            raise
        number = self.life.world.number((context.operation, context.idempotency_key))
        behaviours = data.get(what) or ["ok"]
        return behaviours[min(number, len(behaviours) - 1)]

    def check_alive(self):
        if self.is_dead:
            raise Killed

    def forward(self, action, data, context):
        behaviour = self.told(data, "forward", context)
        gate = self.life.gates.get(data.get("gate"))
        if gate is not None:
            gate.has_come.set()
            if not gate.may_go.wait(SECONDS_MAX):
                raise AssertionError("nobody lets it go")
            self.check_alive()
        world, key = self.life.world, context.idempotency_key
        is_safe = action in ("idempotent", "hold")
        answer = {"tag": data["tag"], "key": key}
        if behaviour in ("ok", "lost"):
            if action != "read":
                world.apply(key, data["tag"], is_idempotent=is_safe)
            if behaviour == "ok":
                return answer
        if behaviour in ("lost", "void"):
            raise OutcomeUnknown("no answer")
        if behaviour == "error":
            raise ValueError("it cannot now")
        if is_safe and key in world.applied:
            return answer  # Under the same key it answers what it answered before.
        raise StepRejected("no")

    def back(self, action, data, context):
        behaviour = self.told(data, "back", context)
        if behaviour == "fail":
            raise ValueError("cannot be undone")
        self.life.world.undo(context.forward_key)
        if behaviour == "lost":
            raise OutcomeUnknown("no answer")

    def probe(self, data, context):
        behaviour = self.told(data, "probe", context)
        if behaviour == "unknown":
            return Unknown("who knows")
        key = context.forward_key
        if key in self.life.world.standing:
            return Done({"tag": data["tag"], "key": key})
        return NotDone("it is not there")

    def confirm(self, action, data, context):
        behaviour = self.told(data, "confirm", context)
        self.life.world.confirmed.add(context.forward_key)
        if behaviour == "fail":
            raise ValueError("cannot be confirmed")


class Life:
    """What outlives every process: the world, the clock, the place of the journals."""

    def __init__(self, lawful, path=None):
        self.violation = lawful.Violation
        self.require = lawful.require
        self.lawful = lawful
        self.world = lawful.World()
        self.clock = ManualClock(T0)
        self.place = Place(path, lawful.require)
        self.judge = None
        self.violations = []
        self.gates = {}
        self.patience = SECONDS_MAX
        self.look = lambda: None

    def judged(self, transaction_id):
        self.judge = self.lawful.Judge(transaction_id, self.world)

    def forget(self):
        """Let another transaction begin in a world in which nothing has happened."""
        self.world = self.lawful.World()
        self.gates = {}

    def carried_out(self, function, *, context):
        """Call a function in a thread of its own; return its value and what it raised."""
        outcome = []

        def work():
            try:
                outcome.append((context.run(function), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return lambda: self.ended(thread, outcome)

    def ended(self, thread, outcome):
        thread.join(self.patience)
        if not outcome:
            self.look()
        self.require(bool(outcome), "I2", "it waits for ever")
        if self.violations:
            raise self.violations[0]
        value, error = outcome[0]
        if isinstance(error, self.violation):
            raise error
        return value, error

    def close(self):
        for gate in self.gates.values():
            gate.may_go.set()
        with suppress(OSError):
            self.place.close()


@pytest.fixture(scope="session")
def living(lawful):
    """What programs live in."""
    return SimpleNamespace(
        Life=lambda path=None: Life(lawful, path),
        Process=Process,
        Killed=Killed,
        Gate=Gate,
        violation=lawful.Violation,
        require=lawful.require,
        kind_of=lawful.kind_of,
        T0=T0,
    )
