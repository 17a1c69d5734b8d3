"""Handlers that take their process with them, or all of its memory, or never come back.

What kills again and again is left to a person with the reason; what can be told is told; and nobody
else waits for it.
"""

import signal
from pathlib import Path

import pytest
from tests.crash.test_workers import Yard
from tests.crash.worker_program import DEATHS, ERRORS

from aumai_transactions import TransactionManager
from aumai_transactions.testing.kill_nursery import Nursery

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).with_name("worker_program.py")
MEMORY_MEBIBYTES = 300
DEATHS_MAX = 6


@pytest.fixture(scope="module")
def workers():
    with Nursery([str(PROGRAM)]) as started:
        yield started


@pytest.fixture
def yard(tmp_path, workers):
    made = Yard(tmp_path, workers)
    made.producer.action("act", compensating_action="undo", idempotent=True)(print)
    made.producer.action("undo")(print)
    yield made
    made.producer.close()


def deaths_of(yard):
    """Let workers die until one is left; return of what each has died."""
    found: list[int] = []
    while len(found) < DEATHS_MAX:
        worker = yard.worker(until_idle=True)
        if worker.next_line() is not None:
            worker.finish()
            break
        found.append(worker.reap())
    return found


SIGNALS = {"abort": -signal.SIGABRT, "segfault": -signal.SIGSEGV, "killed": -signal.SIGKILL}
"""What each is seen to die of; test_workers.py has the one that exits."""


@pytest.mark.parametrize("way", [way for way in DEATHS if way != "exit"])
def test_what_no_process_survives_is_left_to_a_person_and_others_go_on(yard, way):
    before = yard.submit({}, {})
    name = yard.submit({}, {"dies": way}, {}, crashes_max=3)
    behind = yard.submit({}, {})

    assert deaths_of(yard) == [SIGNALS[way]] * 3

    assert (yard.state(before), yard.state(behind)) == ("committed", "committed")
    waiting = yard.producer.get_result(name).waiting
    assert (waiting.reason, waiting.step_ids) == ("poisoned", ["s2"])
    assert "3 processes in a row" in waiting.detail
    keys = yard.keys()
    assert keys.pop(f"{name}/s2/action") == 3
    assert f"{name}/s3/action" not in keys
    # Others were in hand when a worker died; a call of theirs was made once more then.
    assert all(times <= 1 + 3 for times in keys.values())
    assert keys[f"{name}/s1/action"] == 1

    with TransactionManager(store=f"sqlite:///{yard.folder}/trips.db") as person:
        person.rollback(name, wait_max_seconds=0)
    yard.finish(dies=False)
    assert yard.state(name) == "rolled_back"
    assert yard.keys()[f"{name}/s1/compensation"] == 1


@pytest.mark.parametrize("way", ERRORS)
def test_what_a_process_survives_is_an_outcome_and_its_worker_goes_on(yard, way):
    name = yard.submit({}, {"dies": way}, {})
    behind = yard.submit({}, {})

    worker = yard.worker(until_idle=True, concurrency=1, memory_mebibytes=MEMORY_MEBIBYTES)
    assert worker.finish() == ["left"]

    assert (yard.state(name), yard.state(behind)) == ("rolled_back", "committed")
    result = yard.producer.get_result(name)
    assert result.failed_step == "s2"
    assert result.outstanding == []
    keys = yard.keys()
    assert keys[f"{name}/s1/action"] == keys[f"{name}/s1/compensation"] == 1
    assert f"{name}/s3/action" not in keys
    assert yard.producer.verify().problems == {}


def test_a_worker_without_any_memory_left_leaves_no_half_step_behind(yard):
    """It may do no more, or die; what it has written is whole, and others go on with it."""
    name = yard.submit({}, {"dies": "hoard"}, {}, crashes_max=1)
    behind = [yard.submit({}, {}) for _ in range(5)]
    worker = yard.worker(memory_mebibytes=MEMORY_MEBIBYTES, concurrency=2)
    while not yard.keys()[f"{name}/s2/action"]:
        yard.producer._desk().store.wait_for_news(0.05)
    worker.send(signal.SIGKILL)
    worker.reap()

    yard.finish(dies=False)

    assert {yard.state(each) for each in behind} == {"committed"}
    result = yard.producer.get_result(name)
    told = (result.state.value, result.waiting.reason if result.waiting else None)
    assert told in {("rolled_back", None), ("active", "poisoned"), ("compensating", "poisoned")}
    assert all(times <= 2 for times in yard.keys().values())
    assert yard.producer.verify().problems == {}


def test_a_handler_that_never_returns_holds_up_one_thread_and_no_more(yard):
    name = yard.submit({"dies": "never"}, {}, crashes_max=2)
    behind = [yard.submit({}, {}) for _ in range(10)]
    for _ in range(2):
        worker = yard.worker(concurrency=2, drain=0.05)
        for each in behind:
            with TransactionManager(store=f"sqlite:///{yard.folder}/trips.db") as waiter:
                assert waiter.wait(each, timeout_seconds=60).state.value == "committed"
        while yard.keys()[f"{name}/s1/action"] < 1 + _:
            yard.producer._desk().store.wait_for_news(0.05)
        worker.send(signal.SIGTERM)
        # It does not come back for that either, so whoever told it to go kills it.
        assert worker.wait_for(f"left {name}") == ["stopping"]
        worker.reap()
    yard.finish()
    waiting = yard.producer.get_result(name).waiting
    assert (waiting.reason, waiting.step_ids) == ("poisoned", ["s1"])
    keys = yard.keys()
    assert keys.pop(f"{name}/s1/action") == 2
    assert set(keys.values()) == {1}
