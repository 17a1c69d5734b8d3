"""Resources between processes on one SQLite file: nobody's death loses a lock, or breaks one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("locks_program.py")
GUARD_SECONDS = 60


@pytest.fixture
def counter(tmp_path):
    path = tmp_path / "counter"
    path.write_text("0", "utf-8")
    return path


@pytest.fixture
def start(tmp_path, counter):
    started = []

    def start(times):
        command = [sys.executable, PROGRAM, tmp_path / "trips.db", counter, str(times)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=GUARD_SECONDS)


@pytest.fixture
def manager(make_sync, tmp_path):
    made = make_sync(store=str(tmp_path / "trips.db"))
    made.action("count", compensating_action="undo", resources=["counter"])(lambda *_: None)
    made.action("undo")(lambda *_: None)
    return made


def tokens(*outputs):
    return [int(line.split()[1]) for output in outputs for line in output.split("\n") if line]


def test_processes_never_use_a_resource_at_the_same_time(start, counter):
    running = [start(5) for _ in range(4)]
    outputs = [process.communicate(timeout=GUARD_SECONDS)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert counter.read_text("utf-8") == "20"
    assert sorted(tokens(*outputs)) == list(range(1, 21))
    for output in outputs:
        assert tokens(output) == sorted(tokens(output))


def test_a_killed_holder_keeps_its_lock_until_somebody_finishes_it(start, counter, manager):
    process = start(0)
    assert process.stdout.readline() == "token 1\n"
    assert process.stdout.readline() == "has it\n"
    process.send_signal(signal.SIGKILL)
    process.wait(GUARD_SECONDS)
    (held,) = manager.locks("counter")
    plan = manager.begin()
    manager.add_step(plan, "agent", "count", {})
    waiting = manager.commit(plan, wait_max_seconds=0).waiting
    assert waiting.reason == "lock"
    assert held.transaction_id in waiting.detail
    reports = {report.transaction_id: report for report in manager.recover(wait_max_seconds=5)}
    assert reports[held.transaction_id].result.reason == "crash"
    assert manager.wait(plan).state.value == "committed"
    assert manager.locks() == []
    assert start(1).communicate(timeout=GUARD_SECONDS)[0] == "token 3\n"
