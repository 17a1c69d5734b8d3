"""Many calls of one key at the same moment, and participants that are killed: real databases.

Each connection of these stories belongs to a thread of its own, and all of them begin together.
"""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest

from aumai_transactions.answers import Done, NotDone
from aumai_transactions.errors import RetryLater, StepRejected
from aumai_transactions.participants.barrier import (
    BarrierCall,
    CallRefused,
    CallUndone,
    StaleDriver,
    barrier,
    barrier_probe,
    create_barrier_table,
)

AT_ONCE = 8
ROUNDS = 12
SECONDS_MAX = 60
CHILD = """
import sys, {driver}
from aumai_transactions.participants.barrier import BarrierCall, barrier
connection = {driver}.connect(sys.argv[1])
with barrier(connection, BarrierCall("k")) as call:
    connection.execute("UPDATE seats SET free = free - 1")
    call.answer = "seat 1"
    {in_the_block}
{after_the_block}
"""
SAY_AND_WAIT = "print('here', flush=True); sys.stdin.read()"


@dataclass
class Seats:
    """A participant's database, and the truth about it."""

    driver: object
    place: str

    def connect(self):
        if self.driver is sqlite3:
            return sqlite3.connect(self.place, timeout=SECONDS_MAX, check_same_thread=False)
        return psycopg.connect(self.place)

    def make(self):
        with closing(self.connect()) as connection:
            # The effects by key: more than one of a key is what must never be.
            connection.execute("CREATE TABLE seats (free integer NOT NULL)")
            connection.execute("INSERT INTO seats VALUES (0)")
            connection.execute("CREATE TABLE effects (key text NOT NULL, what text NOT NULL)")
            connection.commit()
            create_barrier_table(connection)
        return self

    def run(self, connection, statement, *values):
        """Run the participant's own SQL; a question mark is a value."""
        mark = "?" if self.driver is sqlite3 else "%s"
        return connection.execute(statement.replace("?", mark), values)

    def effects(self, key):
        with closing(self.connect()) as connection:
            found = self.run(connection, "SELECT what FROM effects WHERE key = ?", key)
            return sorted(what for (what,) in found)

    @property
    def free(self):
        with closing(self.connect()) as connection:
            return connection.execute("SELECT free FROM seats").fetchone()[0]


@pytest.fixture(params=["sqlite", "PostgreSQL 16", "PostgreSQL 18"])
def seats(request, tmp_path):
    if request.param == "sqlite":
        return Seats(sqlite3, str(tmp_path / "seats.db")).make()
    server = request.getfixturevalue(request.param.lower().replace("postgresql ", "postgres"))
    return Seats(psycopg, server.place()).make()


def together(jobs):
    """Run all jobs at the same moment, each in its own thread; return what they return."""
    gate = threading.Barrier(len(jobs))

    def run(job):
        gate.wait(SECONDS_MAX)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def do(seats, connection, key, token=0):
    call = BarrierCall(key, transaction_id="tx" if token else "", token=token)
    try:
        with barrier(connection, call, request={"seat": key}) as admission:
            if admission.is_due:
                connection.execute("UPDATE seats SET free = free - 1")
                seats.run(connection, "INSERT INTO effects VALUES (?, 'done')", key)
                admission.answer = {"by": threading.get_ident()}
    except (CallUndone, StaleDriver) as error:
        return type(error).__name__
    return admission.answer


def undo(seats, connection, key, name="undo"):
    call = BarrierCall(f"{key}/{name}", "compensation", key)
    with barrier(connection, call) as admission:
        if admission.is_due:
            connection.execute("UPDATE seats SET free = free + 1")
            seats.run(connection, "INSERT INTO effects VALUES (?, 'undone')", key)
            admission.answer = admission.forward_answer
    return admission.answer


def rounds(seats, jobs_of):
    """Play several rounds on the same eight connections, each with a key of its own."""
    connections = [seats.connect() for _ in range(AT_ONCE)]
    try:
        for number in range(ROUNDS):
            key = f"k{number}"
            jobs = jobs_of(number, key)
            yield (
                key,
                together(
                    [
                        partial(job, seats, connection, key)
                        for job, connection in zip(jobs, connections, strict=True)
                    ]
                ),
            )
    finally:
        for connection in connections:
            connection.close()


# ------------------------------------------------------------------------------- at the same moment


def test_without_a_barrier_rivals_corrupt_the_participant(seats):
    def naive(seats, connection, key):
        # What people write first: look, then act.
        look = "SELECT count(*) FROM effects WHERE key = ?"
        seen = seats.run(connection, look, key).fetchone()[0]
        gate.wait(SECONDS_MAX)
        if not seen:
            seats.run(connection, "INSERT INTO effects VALUES (?, 'done')", key)
        connection.commit()

    gate = threading.Barrier(AT_ONCE)
    connections = [seats.connect() for _ in range(AT_ONCE)]
    together([lambda c=c: naive(seats, c, "k") for c in connections])
    for connection in connections:
        connection.close()
    assert seats.effects("k") == ["done"] * AT_ONCE


def test_rivals_of_one_key_make_one_effect_and_hear_one_answer(seats):
    for key, answers in rounds(seats, lambda number, key: [do] * AT_ONCE):
        assert seats.effects(key) == ["done"]
        assert len({answer["by"] for answer in answers}) == 1
    assert seats.free == -ROUNDS


def test_calls_and_undos_of_one_key_leave_nothing_whoever_is_first(seats):
    def mixed(number, key):
        jobs = [do] * 5 + [undo] * 2 + [partial(undo, name="another undo")]
        random.Random(number).shuffle(jobs)
        return jobs

    seen = set()
    for key, answers in rounds(seats, mixed):
        effects = seats.effects(key)
        seen.add(tuple(effects))
        assert effects in ([], ["done", "undone"])
        done = [answer for answer in answers if isinstance(answer, dict)]
        assert len({answer["by"] for answer in done}) == bool(effects)
        assert "CallUndone" in answers or effects
    assert seats.free == 0


def test_a_probe_among_rivals_is_never_wrong(seats):
    def look(seats, connection, key):
        return barrier_probe(connection, BarrierCall(f"{key}/probe", "probe", key))

    for key, answers in rounds(seats, lambda number, key: [do] * 4 + [look] * 4):
        looked = [answer for answer in answers if isinstance(answer, Done | NotDone)]
        assert len(looked) == 4
        assert len({type(answer) for answer in looked}) == 1
        assert seats.effects(key) == (["done"] if isinstance(looked[0], Done) else [])


def test_a_new_driver_and_a_stale_one_make_one_effect(seats):
    def of(token):
        return lambda seats, connection, key: do(seats, connection, key, token)

    for number, (key, answers) in enumerate(
        rounds(seats, lambda number, key: [of(2 * number + 1)] * 4 + [of(2 * number + 2)] * 4)
    ):
        assert seats.effects(key) == ["done"]
        assert len({answer["by"] for answer in answers if answer != "StaleDriver"}) == 1
        with closing(seats.connect()) as connection:
            assert do(seats, connection, f"late {number}", 2 * number + 1) == "StaleDriver"


def test_a_refusal_among_rivals_is_one_refusal(seats):
    ran = []

    def refuse(seats, connection, key):
        try:
            with barrier(connection, BarrierCall(key)):
                ran.append(key)
                seats.run(connection, "INSERT INTO effects VALUES (?, 'done')", key)
                raise StepRejected(f"no, says {threading.get_ident()}")
        except StepRejected as error:
            return str(error)

    for key, answers in rounds(seats, lambda number, key: [refuse] * AT_ONCE):
        assert len(set(answers)) == 1
        assert seats.effects(key) == []
    assert len(ran) == ROUNDS
    with closing(seats.connect()) as connection, pytest.raises(CallRefused, match="no, says"):
        barrier(connection, BarrierCall("k0")).__enter__()


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_at_higher_isolation_levels_rivals_make_one_effect_and_the_others_come_again(
    postgres16, level
):
    seats = Seats(psycopg, postgres16.place()).make()

    def careful(seats, connection, key):
        connection.isolation_level = psycopg.IsolationLevel[level]
        while True:
            try:
                return do(seats, connection, key)
            except RetryLater:
                continue

    for key, answers in rounds(seats, lambda number, key: [careful] * AT_ONCE):
        assert seats.effects(key) == ["done"]
        assert len({answer["by"] for answer in answers}) == 1


# -------------------------------------------------------------------------------------- kill -9


def started(seats, **parts):
    program = CHILD.format(driver=seats.driver.__name__, **parts)
    return subprocess.Popen(
        [sys.executable, "-c", program, seats.place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.crash
def test_a_participant_that_is_killed_in_the_block_leaves_nothing(seats):
    with started(seats, in_the_block=SAY_AND_WAIT, after_the_block="") as child:
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
        child.wait(SECONDS_MAX)
    assert seats.free == 0
    with closing(seats.connect()) as connection:
        assert "by" in do(seats, connection, "k")  # It waits for the dead one's transaction.
    assert seats.free == -1


@pytest.mark.crash
def test_a_participant_that_is_killed_after_the_block_leaves_all_of_it(seats):
    with started(seats, in_the_block="pass", after_the_block=SAY_AND_WAIT) as child:
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
        child.wait(SECONDS_MAX)
    with closing(seats.connect()) as connection, barrier(connection, BarrierCall("k")) as call:
        assert (call.is_due, call.answer) == (False, "seat 1")
    assert seats.free == -1
