"""What storage faults hit: a process that does one operation on a store, and tells each answer.

An operation is a function with `@operation`. What it does before `bench.ready()` is preparation;
what it does behind it is what is killed and made to fail, call by call.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

from aumai_transactions.core.entries import Entry
from aumai_transactions.errors import StoreError
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, connection, creation, statements
from aumai_transactions.stores.sqlite import checkpoint as checkpoint_module
from aumai_transactions.stores.sqlite.database import Database
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.kill_nursery import Reporter, serve
from aumai_transactions.testing.lives import BEGUN_AT, STAGES, Life
from aumai_transactions.testing.old_stores import write_version_1
from aumai_transactions.testing.storage_calls import may_be_traced

LONG_AGO = 1_600_000_000_000_000
LEASE_MICROSECONDS = 30_000_000
TRIES_MAX = 3
OPERATIONS = {}
SABOTAGES = {}
TEMPLATES = {}


def template(make):
    TEMPLATES[make.__name__] = make
    return make


def operation(on="worn"):
    """Take a function into the list of what is killed and made to fail at each of its calls."""

    def add(function):
        OPERATIONS[function.__name__] = (function, on)
        return function

    return add


def sabotage(function):
    SABOTAGES[function.__name__] = function
    return function


class Bench:
    """One store, what is asked of it, and what it answers."""

    def __init__(self, folder, say, wait=None, on_error="die"):
        self.path = Path(folder, "store.db")
        self.clock = ManualClock(LONG_AGO)
        self.driver_id = ""
        self.store = None
        self._say = say
        self._wait = wait
        self._on_error = on_error

    def ready(self):
        self._say("ready")
        self._wait()

    def open(self, *, create=False):
        def opened():
            self.store = SqliteStore(self.path, create=create, clock=self.clock)
            return self.store.info().store_id

        self.ask("create" if create else "open", opened)

    def join(self):
        self.ask("join", self._join)

    def _join(self):
        self.driver_id = self.store.join()
        return self.driver_id

    def append(self, *names):
        """Make appends in one call; `t1/begin` is the first one of a transaction called t1."""
        whats, appends = [], []
        for name in names:
            transaction_id, stage = name.split("/")
            life = Life(transaction_id, self.driver_id or "nobody")
            appends.append(life.appends[stage])
            whats.append(f"append {transaction_id} {stage} {self.driver_id or 'nobody'}")
        self.ask(whats, lambda: self.store.append(appends))

    def ask(self, what, call):
        """Ask for something, and tell what was answered; after a failure die, or try again."""
        whats = [what] if isinstance(what, str) else what
        for _ in range(TRIES_MAX):
            for each in whats:
                self._say(f"will {each}")
            try:
                answer = call()
            except StoreError as error:
                self._failed(whats, error)
                continue
            answers = [answer] if isinstance(what, str) else answer
            for each, given in zip(whats, answers, strict=True):
                self._say(f"did {each} {given}")
            return
        raise AssertionError(f"{what} has failed {TRIES_MAX} times")

    def _failed(self, whats, error):
        known = "unknown" if getattr(error, "outcome_unknown", False) else "sure"
        for each in whats:
            self._say(f"failed {each} {known}")
        self._say(f"error {type(error).__name__}: {error}".replace("\n", " "))
        if self._on_error == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._on_error == "wait":
            # The disk is full: what is there can be read all the same.
            if self.store is not None and not self.store._is_closed:
                self._say(f"reads {len(self.store.read('old4').entries)}")
            self._say("waits")
            # Reading a pipe ends when whoever opened it for writing closes it.
            self.path.with_name("go").read_bytes()
            self._on_error = "again"

    def close(self):
        self.ask("close", self.store.close)


# -------------------------------------------------------------------- what operations begin with


@template
def nothing(bench):
    """No store at all."""


@template
def worn(bench):
    """A store in use: transactions in every stage, and a log that no checkpoint has seen yet."""
    bench.open(create=True)
    bench.join()
    for number in range(len(STAGES) + 1):
        for stage in STAGES[:number]:
            bench.append(f"old{number}/{stage}")


@template
def version_1(bench):
    """A store of an earlier release; its transactions are finished, or nobody has begun them."""
    wanted = {"old1": STAGES[:1], "old4": STAGES, "old4big": STAGES}
    journals: dict[str, list[tuple[str, Entry]]] = {}
    for name, stages in wanted.items():
        appends = Life(name, "nobody").appends
        for stage in stages:
            append = appends[stage]
            bench._say(f"will append {name} {stage} nobody")
            bench._say(f"did append {name} {stage} nobody {AppendAnswer.appended}")
            named = [(f"{append.append_id}.{i}", e) for i, e in enumerate(append.entries)]
            journals.setdefault(name, []).extend(named)
    write_version_1(bench.path, journals)


def make_template(name, folder):
    """Make what an operation begins with; return what was promised in the making."""
    making = folder / "making"
    making.mkdir(parents=True)
    lines: list[str] = []
    bench = Bench(making, lines.append)
    TEMPLATES[name](bench)
    # Order matters: while the store is open, its log is still there.
    for file in ("store.db", "store.db-wal"):
        if (making / file).exists():
            shutil.copyfile(making / file, folder / file)
            (folder / file).chmod(0o600)
    if bench.store is not None:
        bench.store.close()
    shutil.rmtree(making)
    return lines


# ------------------------------------------------------------------------------------ operations


@operation(on="nothing")
def create(bench):
    bench.ready()
    bench.open(create=True)
    bench.append("t1/begin")


@operation()
def reopen(bench):
    bench.ready()
    bench.open()
    bench.append("t1/begin")


@operation(on="version_1")
def migrate(bench):
    bench.ready()
    bench.open()
    bench.append("t1/begin")


@operation()
def append(bench):
    bench.open()
    bench.ready()
    bench.append("t1/begin")
    bench.append("t2big/begin")


@operation()
def append_together(bench):
    bench.open()
    bench.join()
    bench.append("t1/begin")
    bench.ready()
    bench.append("t1/claim", "t2/begin", "t1/go_on", "t3big/begin", "t1/finish")


@operation()
def claim(bench):
    bench.open()
    bench.append("t1/begin")
    bench.ready()
    bench.join()
    # The life goes by the driver's id, so its first append is asked for again, and is there.
    bench.append("t1/claim")


@operation()
def renew(bench):
    bench.open()
    bench.join()
    bench.append("t1/begin")
    bench.append("t1/claim")
    bench.clock.advance(LEASE_MICROSECONDS)
    bench.ready()
    bench.ask("renew", lambda: bench.store.renew(bench.driver_id))
    bench.append("t1/go_on")


@operation()
def finish(bench):
    bench.open()
    bench.join()
    for stage in STAGES[:3]:
        bench.append(f"t1/{stage}")
    bench.ready()
    bench.append("t1/finish")
    bench.ask("leave", lambda: bench.store.leave(bench.driver_id))


@operation()
def checkpoint(bench):
    """The log comes home, starts over, and goes on."""
    bench.open()
    bench.append("t1big/begin")
    bench.store._database.checkpoints._threshold = 0
    bench.ready()
    bench.append("t2/begin")
    bench.append("t3/begin")
    bench.append("t4/begin")


@operation()
def purge(bench):
    bench.open()
    bench.join()
    for stage in STAGES:
        bench.append(f"t1big/{stage}")
    bench.ready()
    bench.ask("purge", lambda: bench.store.purge(BEGUN_AT + 10, 100))
    bench.append("t2/begin")


@operation()
def close(bench):
    bench.open()
    bench.join()
    bench.append("t1/begin")
    bench.append("t1/claim")
    bench.ready()
    bench.close()


def life_of_a_store(bench, transactions):
    """Everything in one: made, used, checkpointed, used again, purged, closed, opened, used."""
    bench.ready()
    bench.open(create=True)
    bench.join()
    for number in range(transactions):
        name = f"t{number}" + ("big" if number % 3 == 2 else "")
        for stage in STAGES[: 1 + number % 4]:
            bench.append(f"{name}/{stage}")
        if number % 4 == 1:
            # The next append finds the log long enough.
            bench.store._database.checkpoints._threshold = 0
        if number == transactions // 2:
            bench.ask("purge", lambda: bench.store.purge(BEGUN_AT + 10, 100))
            bench.clock.advance(LEASE_MICROSECONDS)
            bench.ask("renew", lambda: bench.store.renew(bench.driver_id))
    bench.close()
    bench.open()
    bench.append("last1/begin")
    bench.join()
    bench.append("last1big/begin", "last1big/claim", "last2/begin")
    bench.close()


@operation(on="nothing")
def short_life(bench):
    life_of_a_store(bench, 4)


@operation(on="nothing")
def long_life(bench):
    life_of_a_store(bench, 24)


@operation(on="nothing")
def endless_life(bench):
    """Goes on until it is killed."""
    bench.ready()
    bench.open(create=True)
    bench.join()
    number = 0
    while True:
        number += 1
        name = f"{os.getpid()}-{number}" + ("big" if number % 7 == 0 else "")
        for stage in STAGES[: 1 + number % 4]:
            bench.append(f"{name}/{stage}")
        if number % 20 == 0:
            bench.store._database.checkpoints._threshold = 0


# --------------------------------------------------------------------- what checks must find out


def weaker(name, value, wanted):
    """Give every connection another setting than the product's."""
    change = f"PRAGMA {name} = {value}"
    connection._SETTINGS[:] = [
        (key, change, question, wanted) if key == name else (key, old, question, was)
        for key, old, question, was in connection._SETTINGS
    ]


@sabotage
def synchronous_normal():
    weaker("synchronous", "NORMAL", 1)


@sabotage
def synchronous_off():
    weaker("synchronous", "OFF", 0)


@sabotage
def checkpoints_by_itself():
    weaker("wal_autocheckpoint", "1", 1)


@sabotage
def checkpoints_unguarded():
    checkpoint_module.statements = SimpleNamespace(BEGIN="SELECT 1")


@sabotage
def made_without_sync():
    creation._sync = lambda path, flags: None


@sabotage
def made_without_sync_of_names():
    creation._sync_names = lambda folder: None


@sabotage
def commits_each_statement():
    statements.BEGIN = statements.COMMIT = "SELECT 1"


@sabotage
def never_commits():
    statements.COMMIT = "SELECT 1"


@sabotage
def goes_on_after_an_error():
    Database._poison = lambda self: None


@sabotage
def takes_unknown_for_undone():
    real = connection.store_error
    connection.store_error = lambda error, path, **_: real(error, path)


@sabotage
def lets_errors_through():
    Database._failed = lambda self, error, **_: error


def run(reporter: Reporter, orders) -> None:
    may_be_traced()
    if orders["sabotage"]:
        SABOTAGES[orders["sabotage"]]()
    bench = Bench(orders["folder"], reporter.say, reporter.wait, orders["on_error"])
    # No close behind it: that is an operation of its own, and a process may end without it.
    OPERATIONS[orders["operation"]][0](bench)


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
