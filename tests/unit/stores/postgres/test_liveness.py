"""What proves a process dead, with real processes."""

import os
import subprocess
import sys

import pytest

from aumai_transactions.stores.postgres.liveness import (
    DriverRow,
    Process,
    is_alive,
    is_proved_dead,
    this_process,
)

SAY = "from aumai_transactions.stores.postgres.liveness import this_process as t; print(*t()[1:])"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def other():
    """Another process, and what its row says."""
    code = f"import sys; {SAY}; sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, boot_id, namespace, started = process.stdout.readline().split()
        yield process, DriverRow("d", True, boot_id, namespace, int(pid), started)
        process.kill()


def test_a_process_that_is_there_is_alive_while_its_lease_lasts(other):
    _, row = other
    here = this_process()
    assert row.boot_id == here.boot_id
    assert is_alive(row, here)
    assert not is_alive(row._replace(is_leased=False), here)
    mine = DriverRow("d", True, here.boot_id, here.pid_namespace, here.pid, here.started)
    assert is_alive(mine, here)


@pytest.mark.crash
def test_a_killed_process_is_dead_before_and_after_its_parent_has_asked(other):
    process, row = other
    process.kill()
    # It is a zombie until then. Why waitid: it waits for the end and leaves the zombie.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_proved_dead(row, this_process())
    process.wait()
    assert is_proved_dead(row, this_process())
    assert not is_alive(row, this_process())


def test_a_process_of_the_same_id_that_was_started_at_another_time_is_another_one(other):
    _, row = other
    assert is_proved_dead(row._replace(started="1"), this_process())


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another boot"},
        {"pid_namespace": "4:1"},
        {"boot_id": None},
        {"pid_namespace": None},
        {"started": None},
        {"pid": None},
        {"pid": 0},
        {"pid": -1},
    ],
    ids=str,
)
def test_nothing_is_proved_where_the_two_cannot_be_compared(other, change):
    process, row = other
    process.kill()
    process.wait()
    assert not is_proved_dead(row._replace(**change), this_process())
    assert is_alive(row._replace(**change), this_process())


def test_a_machine_that_names_nothing_proves_nothing(other):
    _, row = other
    nowhere = Process("host", 1, None, None, None)
    row = row._replace(boot_id=None, pid_namespace=None, started=None)
    assert not is_proved_dead(row, nowhere)


def test_a_process_of_somebody_else_is_there():
    init = DriverRow("d", True, this_process().boot_id, this_process().pid_namespace, 1, "0")
    # Process 1 is there, whoever may signal it; what tells is when it was started.
    assert is_proved_dead(init._replace(started="no such time"), this_process())
