"""Very many at once: processes whose transactions all have to be taken over, and one resource.

The long run has a thousand of the one and five hundred of the other.
"""
# mypy: disable-error-code="union-attr"

from collections import Counter
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from tests.crash.test_workers import Yard
from tests.reliability.share import times

from aumai_transactions.core.entries import Claimed
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("worker_program.py")
WORKERS = 3
THREADS = 8
FEW, HERD = (3, 10), (10, times(100, least=10))
"""How many victims there are, and how many transactions each of them has in hand."""
FEW_WAIT, QUEUE = 30, times(500, least=60)
SECONDS_MAX = 600.0
# As where they run on another machine: nothing but the lease tells whether they live.
IS_OVER = b"UPDATE drivers SET boot_id = NULL, lease_until = clock_timestamp()"


@pytest.fixture(scope="module")
def workers():
    with Nursery([str(PROGRAM)]) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
def yard(request, tmp_path, workers):
    url = None
    if request.param == "postgres":
        # Why two: ten processes have to do with what the server has for everybody.
        url = request.getfixturevalue("postgres16").store(pool_size=2)
    made = Yard(tmp_path, workers, url)
    made.producer.action("act", compensating_action="undo", idempotent=True)(print)
    made.producer.action("undo")(print)
    yield made
    made.producer.close()


@pytest.fixture
def leases_run_out(yard, request):
    """Let nobody's lease last any longer; of one file, the locks of the dead are free at once."""

    def run_out():
        if not yard.url.startswith("postgresql:"):
            return
        schema = yard.url.rpartition("schema=")[2].partition("&")[0]
        place = request.getfixturevalue("postgres16").url
        options = f"-c search_path={schema}"
        with psycopg.connect(place, options=options, autocommit=True) as eye:
            eye.execute(IS_OVER)

    return run_out


def all_left(yard, **orders):
    """Let several workers do all that is left, at once."""
    crew = [yard.worker(until_idle=True, stops=False, **orders) for _ in range(WORKERS)]
    for worker in crew:
        assert worker.finish(SECONDS_MAX) == ["left"]


def most_in_hand(yard, names, dead):
    """Return how many transactions one of the living had in hand at a time, at most."""
    changes: dict[str, list[tuple[int, int]]] = {}
    for name in names:
        written = yard.entries(name)
        for entry in written:
            if isinstance(entry, Claimed) and entry.driver_id not in dead:
                changes.setdefault(entry.driver_id, []).append((entry.at, 1))
                changes[entry.driver_id].append((written[-1].at, -1))
    most = 0
    for each in changes.values():
        in_hand = 0
        for _, change in sorted(each):
            in_hand += change
            most = max(most, in_hand)
    return most


# -------------------------------------------------------------------------- all their drivers dead


def herd(yard, number, each, leases_run_out):
    """Kill processes with so many transactions in hand, all at once; return how many it were."""
    names = [yard.submit({}, {"stops": True}, {}) for _ in range(number * each)]
    victims = [yard.worker(concurrency=each) for _ in range(number)]
    for victim in victims:
        for _ in range(each):
            assert victim.next_line().startswith("there ")
    for victim in victims:
        victim.kill()
    dead = {yard.claims(name)[-1].driver_id for name in names}
    assert len(dead) == number
    leases_run_out()
    all_left(yard, concurrency=THREADS)
    assert {yard.state(name) for name in names} == {"committed"}
    assert {len(yard.claims(name)) for name in names} == {2}
    assert most_in_hand(yard, names, dead) <= THREADS
    # The call that was under way was made once more, under the same key, and no other was.
    assert Counter(yard.keys().values()) == {1: 2 * len(names), 2: len(names)}
    assert yard.producer.verify().problems == {}
    return len(names)


def test_transactions_whose_drivers_all_died_at_once_are_taken_over_a_few_at_a_time(
    yard, leases_run_out
):
    herd(yard, *FEW, leases_run_out)


@pytest.mark.deep
def test_a_thousand_transactions_whose_drivers_all_died_at_once_end(yard, leases_run_out, figures):
    ended = herd(yard, *HERD, leases_run_out)
    figures("herd", processes=HERD[0], transactions=ended, doubled_or_stuck=0)


# -------------------------------------------------------------------------------- one resource


def queue_up(yard, number):
    """Let so many wait for what somebody has, in a known order."""
    names = []
    with yard.producer.transaction() as holder:
        holder.execute("an_agent", "act", {}, resources=["the one"])
        for position in range(number):
            tx = yard.producer.begin(timeout_seconds=3_600, lock_timeout_seconds=3_600)
            data = {"stops": position == number // 2}
            yard.producer.add_step(tx, "an_agent", "act", data, "undo", resources=["the one"])
            assert yard.producer.commit(tx, wait_max_seconds=0).waiting.reason == "lock"
            names.append(tx.transaction_id)
    return names


def all_want_one(yard, number, leases_run_out):
    """Let workers do what waits for one resource; the first of them dies in the midst."""
    names = queue_up(yard, number)
    victim = yard.worker(concurrency=2)
    victim.wait_for(f"there {names[number // 2]}", SECONDS_MAX)
    victim.kill()
    leases_run_out()
    all_left(yard, concurrency=2)
    assert {yard.state(name) for name in names} == {"committed"}
    lines = [(key.partition("/")[0], int(token)) for _, key, token in yard.effects]
    order = [name for name, _ in lines]
    # First come, first served; the call that was under way was made once more, before any other.
    assert order == [*names[: number // 2 + 1], *names[number // 2 :]]
    assert all(one < other for (_, one), (_, other) in pairwise(dict(lines).items()))
    assert yard.producer.locks() == []
    assert yard.producer.verify().problems == {}


def test_all_that_want_one_resource_get_it_one_by_one_in_the_order_in_which_they_came(
    yard, leases_run_out
):
    all_want_one(yard, FEW_WAIT, leases_run_out)


@pytest.mark.deep
def test_five_hundred_that_want_one_resource_get_it_one_by_one(yard, leases_run_out, figures):
    all_want_one(yard, QUEUE, leases_run_out)
    figures("one resource", transactions=QUEUE, out_of_turn=0, stuck=0)
