"""Workers that may open only so many files, or start only so many threads.

Each says so in an error of ours, or works with what it has; and leaves nothing half done.
"""

from pathlib import Path

import pytest
from tests.crash.test_workers import Yard

from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("worker_program.py")
FILES_MAX = {"sqlite": range(0, 13, 2), "postgres": (0, 20)}
"""Why not what lies between on a server: its worker has a session and wants another, for ever."""
THREADS_MAX = (0, 3)
"""None; or the one that renews the lease, the one that listens for news, and one that works."""


@pytest.fixture(scope="module")
def workers():
    with Nursery([str(PROGRAM)]) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
def yard(request, tmp_path, workers):
    url = f"sqlite:///{tmp_path}/trips.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres16").store(connect_timeout=5)
    made = Yard(tmp_path, workers, url)
    made.producer.action("act", compensating_action="undo", idempotent=True)(print)
    made.producer.action("undo", idempotent=True)(print)
    yield made
    made.producer.close()


def under(yard, **limit):
    """Let one worker do what it can; return what it told, and the state it has left."""
    name = yard.submit({}, {})
    worker = yard.start(until_idle=True, stops=False, concurrency=3, **limit)
    said = worker.finish()
    told = said[-1]
    before = yard.keys()
    calls = [before[f"{name}/{step}/action"] for step in ("s1", "s2")]
    state = yard.state(name)
    yard.finish()
    assert yard.state(name) in ("committed", "rolled_back"), limit
    assert max(yard.keys().values(), default=0) <= 4
    return told, state, calls


def check(found):
    """Hold what a limit led to against the law; return how many were refused and how many not."""
    refused = worked = 0
    for told, state, calls in found:
        if told == "left":
            worked += state == "committed"
        else:
            refused += 1
            kind, _, why = told.partition(": ")
            assert kind in ("StoreError", "StoreUnavailable"), told
            assert why
            assert (state, calls) == ("pending", [0, 0]), told
    return refused, worked


def test_a_worker_without_files_says_so_or_works_with_those_that_it_has(yard):
    kind = "sqlite" if yard.url.startswith("sqlite") else "postgres"
    refused, worked = check([under(yard, files_max=most) for most in FILES_MAX[kind]])
    assert refused
    assert worked
    assert yard.producer.verify().problems == {}


def test_a_worker_without_threads_says_so_or_works_with_those_that_it_has(yard):
    refused, worked = check([under(yard, threads_max=most) for most in THREADS_MAX])
    assert (refused, worked) == (1, 1)
    assert yard.producer.verify().problems == {}
