"""What storage faults hit: a process that does one operation on a store, and tells each answer.

An operation is a function with `@operation`. What it does before `bench.ready()` is preparation;
what it does behind it is what is killed and made to fail, call by call.
"""
# mypy: disable-error-code="method-assign, var-annotated, union-attr"

import os
import resource
import shutil
import signal
import sqlite3
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from aumai_transactions.core.entries import Entry
from aumai_transactions.errors import StoreError
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, connection, names, statements
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
AT_EACH_CALL = set()
SABOTAGES = {}
TEMPLATES = {}


def template(make):
    TEMPLATES[make.__name__] = make
    return make


def operation(on="worn", *, each_call=True):
    """Take a function into the list of what is killed and made to fail at each of its calls.

    Args:
        on: The template that it begins with.
        each_call: False where it is there for something else.
    """

    def add(function):
        OPERATIONS[function.__name__] = (function, on)
        if each_call:
            AT_EACH_CALL.add(function.__name__)
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
        self.others = []
        self._say = say
        self._wait = wait
        self._on_error = on_error

    def ready(self):
        self._say("ready")
        self._wait()

    def open(self, *, create=False, tries=TRIES_MAX):
        def opened():
            self.store = SqliteStore(self.path, create=create, clock=self.clock)
            return self.store.info().store_id

        return self.ask("create" if create else "open", opened, tries)

    def join(self):
        self.ask("join", self._join)

    def _join(self):
        self.driver_id = self.store.join()
        return self.driver_id

    def append(self, *names, tries=TRIES_MAX):
        """Make appends in one call; `t1/begin` is the first one of a transaction called t1."""
        whats, appends = [], []
        for name in names:
            transaction_id, stage = name.split("/")
            life = Life(transaction_id, self.driver_id or "nobody")
            appends.append(life.appends[stage])
            whats.append(f"append {transaction_id} {stage} {self.driver_id or 'nobody'}")
        return self.ask(whats, lambda: self.store.append(appends), tries)

    def ask(self, what, call, tries=TRIES_MAX):
        """Ask for something, and tell what was answered; after a failure die, or try again."""
        whats = [what] if isinstance(what, str) else what
        for _ in range(tries):
            for each in whats:
                self._say(f"will {each}")
            try:
                answer = call()
            except (StoreError, MemoryError) as error:
                # A bare MemoryError comes from before the store was asked anything.
                self._failed(whats, error)
                continue
            answers = [answer] if isinstance(what, str) else answer
            for each, given in zip(whats, answers, strict=True):
                self._say(f"did {each} {given}")
            return True
        if tries == TRIES_MAX:
            raise AssertionError(f"{what} has failed {tries} times")
        return False

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
    """Several at once, while another handle keeps the log open: what failed may come back."""
    bench.open()
    bench.others.append(SqliteStore(bench.path, create=False, clock=bench.clock))
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


@operation(on="nothing", each_call=False)
def short_life(bench):
    life_of_a_store(bench, 4)


@operation(on="nothing", each_call=False)
def long_life(bench):
    life_of_a_store(bench, 24)


@operation(on="nothing", each_call=False)
def endless_life(bench):
    """Goes on until it is killed."""
    bench.ready()
    bench.open(create=not bench.path.exists())
    bench.join()
    number = 0
    while True:
        number += 1
        name = f"{os.getpid()}-{number}" + ("big" if number % 7 == 0 else "")
        for stage in STAGES[: 1 + number % 4]:
            bench.append(f"{name}/{stage}")
        if number % 20 == 0:
            bench.store._database.checkpoints._threshold = 0


# ---------------------------------------------------------------------------- limits of a process


@contextmanager
def limited(kind, soft):
    """Let this process have no more than that; whoever may raise it again gets it back."""
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def under(bench, kind, limit, number):
    """Open a store, join and append under a limit; then without it, through the same handle."""
    name = f"t{number}big"
    bench.store, bench.driver_id = None, ""
    with limited(kind, limit()):
        if bench.open(tries=1):
            bench.append(f"{name}/begin", tries=1)
    if bench.store is None:
        bench.open()
    bench.append(f"{name}/begin")
    bench.join()
    bench.append(f"{name}/claim")
    bench.store.close()


@operation(each_call=False)
def few_descriptors(bench):
    bench.ready()
    for number in range(12):
        names_of_taken = os.listdir("/proc/self/fd")  # noqa: PTH208 (names are all that is needed)
        taken = [int(name) for name in names_of_taken]
        under(bench, resource.RLIMIT_NOFILE, lambda taken=taken, n=number: max(taken) + n, number)


@operation(each_call=False)
def small_files(bench):
    bench.ready()
    for number in range(24):
        # The database is larger than most of these, the log is not.
        under(bench, resource.RLIMIT_FSIZE, lambda n=number: 100 + n * n * 400, number)


@operation(each_call=False)
def little_memory(bench):
    bench.ready()
    for number in range(20):

        def limit(number=number):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            return pages * resource.getpagesize() + number * 65_536

        under(bench, resource.RLIMIT_AS, limit, number)


@operation(each_call=False)
def without_permission(bench):
    """The right to open the store is taken away from a process that has it open, and given back."""
    bench.open()
    bench.append("t1/begin")
    bench.ready()
    bench.path.chmod(0)
    with somebody_else():
        bench.store._database._poison()
        assert not bench.append("t2/begin", tries=1)
        assert not bench.open(tries=1)
    bench.path.chmod(0o600)
    bench.append("t2/begin")


@contextmanager
def somebody_else():
    """Give up the rights of root, who may open everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


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
    unguarded = SimpleNamespace(BEGIN="SELECT 1")
    vars(checkpoint_module)["statements"] = unguarded


@sabotage
def made_without_sync_of_names():
    names.sync_names = lambda folder: None


@sabotage
def trusts_sqlite_with_names():
    Database._make_names_durable = lambda self: None


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


SEEN: list[str] = []


@sabotage
def tells_of_autocheckpoints():
    """Breaks nothing: each connection says, where it begins to write, whether it checkpoints."""
    real = sqlite3.connect

    class Telling(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if sql == statements.BEGIN:
                (mode,) = super().execute("PRAGMA journal_mode").fetchone()
                (pages,) = super().execute("PRAGMA wal_autocheckpoint").fetchone()
                if mode == "wal":
                    SEEN.append(f"autocheckpoint {pages}")
            return super().execute(sql, *arguments)

    vars(sqlite3)["connect"] = lambda *words, **options: real(*words, factory=Telling, **options)


@sabotage
def is_swapped_while_it_commits():
    """Not the product's doing: another file takes the store's place before a commit is told of."""
    real = Database._transact

    def transact(self, *arguments, **how):
        done = real(self, *arguments, **how)
        other = self.path.with_name("other.db")
        shutil.copyfile(self.path, other)
        other.replace(self.path)
        return done

    Database._transact = transact


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
    for line in SEEN:
        reporter.say(line)


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
