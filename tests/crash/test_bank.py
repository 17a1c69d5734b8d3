"""Many processes work for one bank, and are killed and stopped at random; nothing is lost.

Transfers that workers carry out, audits, and interactive transfers that lock as they go and give
way where they meet. Then the proof: the journals and the bank's own record could have come from
one transaction after the other; no money has come or gone; no lock is left; everything is final.
`make nightly` runs 10,000 transactions by 8 processes, with the server killed as well, and
`make nightly` lets three work for 20 minutes while the server dies every few seconds.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.reliability.share import times

from aumai_transactions import TransactionState, open_store
from aumai_transactions.core.entries import CallReturnedLate, TransactionRolledBack
from aumai_transactions.core.journal import entries
from aumai_transactions.store import Query
from aumai_transactions.testing.history import problems_of

PROGRAM = Path(__file__).with_name("bank_program.py")
ACCOUNTS = [f"a{number}" for number in range(6)]
BALANCE = 1_000
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
LEASE_SECONDS = 1.5
TEN_YEARS = 10 * 365 * 86_400 * 1_000_000
CHAOS_SECONDS = times(1_200, least=60)
CHAOS_TRANSACTIONS = times(1_000, least=100)
RESTART_SECONDS = (5.0, 40.0)
"""How long a server lives; as in the chaos tests of DBOS."""
SETTLED_SECONDS_MAX = 30.0
"""How long it may take at most, after the last kill, until everything is final."""


class Staff:
    """The processes that work for the bank."""

    def __init__(self, arguments, number, folder, dice):
        self.arguments, self.folder, self.dice = arguments, folder, dice
        self.count = self.kills = self.stops = 0
        self.stopped = {}
        self.processes = [self._begun() for _ in range(number)]

    def _begun(self):
        self.count += 1
        argv = [sys.executable, PROGRAM, *self.arguments, f"p{self.count}", str(self.count)]
        with (self.folder / "errors").open("ab") as errors:
            return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=errors)

    def trouble(self, *, stops=True):
        """Kill somebody, or stop somebody for longer than a lease, in turns; let others go on."""
        now = time.monotonic()
        for index, until in list(self.stopped.items()):
            if now > until:
                self._wake(index)
        index = self.dice.randrange(len(self.processes))
        if index in self.stopped:
            return
        if not stops or self.kills <= self.stops:
            self.processes[index].kill()
            self.processes[index].wait()
            self.kills += 1
            self.processes[index] = self._begun()
        else:
            self.processes[index].send_signal(signal.SIGSTOP)
            self.stops += 1
            self.stopped[index] = now + 1.7 * LEASE_SECONDS

    def _wake(self, index):
        self.processes[index].send_signal(signal.SIGCONT)
        del self.stopped[index]

    def wake_all(self):
        for index in list(self.stopped):
            self._wake(index)

    def end(self):
        self.wake_all()
        for process in self.processes:
            if process.wait(60) != 0:
                raise AssertionError((self.folder / "errors").read_text())

    def kill_all(self):
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def employed(arguments, number, folder, dice):
    staff = Staff(arguments, number, folder, dice)
    try:
        yield staff
    finally:
        staff.kill_all()


def settles(store, seconds):
    """Wait until everything is final; tell whether it was, in time."""
    deadline = time.monotonic() + seconds
    while store.count(Query(states=UNFINISHED)):
        if time.monotonic() > deadline:
            return False
        store.wait_for_news(0.2)
    return True


def run_bank(url, bank, tmp_path, *, transactions, processes, trouble, seconds=0.0):
    """Let the bank work under trouble, so many transactions and so long, and hold it to the law."""
    bank.open(ACCOUNTS, BALANCE)
    begin, end = tmp_path / "begin", tmp_path / "end"
    begin.touch()
    dice = random.Random(transactions)
    until = time.monotonic() + seconds
    with closing(open_store(url, create=True)) as store:
        with employed([url, bank.place, tmp_path], processes, tmp_path, dice) as staff:
            while store.count(Query()) < transactions or time.monotonic() < until:
                store.wait_for_news(1.0)
                trouble(staff)
            begin.unlink()
            staff.wake_all()
            settled = settles(store, SETTLED_SECONDS_MAX)
            left = store.find(Query(states=UNFINISHED))
            assert settled, (left[:5], store.locks(None), (tmp_path / "errors").read_text()[-3000:])
            end.touch()
            staff.end()
        assert problems_of(store, bank.accesses()) == []
        assert sum(bank.balances().values()) == BALANCE * len(ACCOUNTS)
        assert store.locks(None).locks == []
        staff.late = [listed.summary.transaction_id for listed in store.find(Query(attention=True))]
        needless = [name for name in staff.late if not answered_late(store.read(name))]
        assert needless == []
        staff.committed = store.count(Query(states=(TransactionState.committed,)))
        staff.transactions = store.count(Query())
        assert staff.committed > max(transactions, staff.transactions) / 4
    return staff


def answered_late(journal):
    """Tell whether an action that had been given up answered behind the end that it succeeded.

    Whoever is stopped in the midst of a call is taken over, the step is called again under the same
    key and undone; when the first call then answers, nobody but the participant can know in which
    order the two arrived, so that it is a person's business (SEMANTICS C5).
    """
    written = [entry for _, entry in entries(journal)]
    ends = [n for n, entry in enumerate(written) if isinstance(entry, TransactionRolledBack)]
    return bool(ends) and any(
        isinstance(entry, CallReturnedLate) and entry.outcome == "succeeded"
        for entry in written[ends[0] :]
    )


def every(looks, *, stops=True):
    """Return trouble that comes with each so many looks at the store."""
    count = itertools.count(1)

    def trouble(staff):
        if next(count) % looks == 0:
            staff.trouble(stops=stops)

    return trouble


@pytest.mark.crash
def test_a_bank_loses_nothing_whoever_is_killed_or_stopped(bank_module, postgres16, tmp_path):
    url = f"{postgres16.store()}&lease_seconds={LEASE_SECONDS}"
    bank = bank_module.Bank(postgres16.place())
    staff = run_bank(url, bank, tmp_path, transactions=100, processes=4, trouble=every(10))
    assert staff.kills > 2
    assert staff.stops > 2


@pytest.mark.crash
def test_a_bank_on_one_machine_needs_no_server_for_its_journals(bank_module, postgres16, tmp_path):
    bank = bank_module.Bank(postgres16.place())
    url = f"sqlite:///{tmp_path}/bank.db"
    # Why nobody is stopped: who stops in the midst of a write holds up everybody who shares a file.
    trouble = every(10, stops=False)
    staff = run_bank(url, bank, tmp_path, transactions=60, processes=3, trouble=trouble)
    assert staff.kills > 2


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_bank_holds_with_a_clock_that_jumps_in_one_of_its_processes(
    bank_module, postgres16, tmp_path, kind
):
    """By an hour either way, to 1970 and to 2100: what time decides is only when it is tried."""
    url = f"sqlite:///{tmp_path}/bank.db"
    if kind == "postgres":
        url = postgres16.store(lease_seconds=LEASE_SECONDS)
    (tmp_path / "jumps").touch()
    bank = bank_module.Bank(postgres16.place())
    run_bank(url, bank, tmp_path, transactions=60, processes=3, trouble=lambda staff: None)
    with closing(open_store(url, create=False)) as store:
        begun = [listed.summary.created_at for listed in store.find(Query(limit=1_000))]
    assert max(begun) - min(begun) > TEN_YEARS, "no clock has jumped far"


@pytest.mark.torture
def test_ten_thousand_transactions_by_eight_processes(
    bank_module, durable_postgres, tmp_path, figures
):
    server = durable_postgres
    url = f"{server.store()}&lease_seconds={LEASE_SECONDS}"
    bank = bank_module.Bank(server.place())
    number = int(os.environ.get("AUMAI_TORTURE_TRANSACTIONS", "10000"))
    of_processes = every(20)
    done = Counter({"crashes of the server": 0, "times all sessions were ended": 0})

    def trouble(staff):
        of_processes(staff)
        if staff.dice.random() < 0.002:
            server.crash()
            done["crashes of the server"] += 1
        elif staff.dice.random() < 0.01:
            server.end_sessions()
            done["times all sessions were ended"] += 1

    staff = run_bank(url, bank, tmp_path, transactions=number, processes=8, trouble=trouble)
    figures(
        "bank",
        transactions=staff.transactions,
        committed=staff.committed,
        kills=staff.kills,
        stops=staff.stops,
        answers_behind_the_end_left_to_a_person=len(staff.late),
        **done,
        lost_doubled_half_or_stuck=0,
        violations_of_isolation=0,
    )


@pytest.mark.crash
@pytest.mark.deep
def test_a_bank_whose_server_dies_every_few_seconds(
    bank_module, durable_postgres, tmp_path, figures
):
    server = durable_postgres
    url = f"{server.store()}&lease_seconds={LEASE_SECONDS}"
    bank = bank_module.Bank(server.place())
    crashes = 0
    next_at = time.monotonic() + RESTART_SECONDS[0]

    def trouble(staff):
        nonlocal crashes, next_at
        if time.monotonic() < next_at:
            return
        server.crash()
        crashes += 1
        next_at = time.monotonic() + staff.dice.uniform(*RESTART_SECONDS)

    staff = run_bank(
        url,
        bank,
        tmp_path,
        transactions=CHAOS_TRANSACTIONS,
        processes=3,
        trouble=trouble,
        seconds=CHAOS_SECONDS,
    )
    assert crashes
    figures(
        "crashes",
        transactions=staff.transactions,
        committed=staff.committed,
        crashes_of_the_server=crashes,
        answers_behind_the_end_left_to_a_person=len(staff.late),
        lost_doubled_half_or_stuck=0,
        violations_of_isolation=0,
    )
