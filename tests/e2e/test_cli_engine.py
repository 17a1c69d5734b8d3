"""The worker on another engine, as a supervisor sees it."""

import os
import signal
import subprocess
import sys

import pytest

from aumai_transactions import TransactionManager

SECONDS_MAX = 120
APP = """
import os
from pathlib import Path
from aumai_transactions import TransactionManager
from aumai_transactions.engines.dbos import DbosEngine
manager = TransactionManager()
hosted = TransactionManager(store="trips.db", engine=DbosEngine("sqlite:///dbos.db"))
for one in (manager, hosted):
    @one.action("book", compensating_action="cancel", idempotent=True)
    def book(action, data, context):
        with open("calls", "a") as calls:
            print(context.idempotency_key, file=calls)
        if data.get("kills") and not Path("killed").exists():
            Path("killed").write_text("")
            os.kill(os.getpid(), 9)
    @one.action("cancel")
    def cancel(action, data):
        pass
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def submitted(folder, **data):
    with TransactionManager(store=folder / "trips.db") as manager:
        manager.action("book", idempotent=True)(print)
        tx = manager.begin()
        for number in range(3):
            step = data if number == 1 else {}
            manager.add_step(tx, "agent", "book", step, "cancel")
        manager.submit(tx)
        return tx.transaction_id


def worker(folder, *words, app="app:manager"):
    return subprocess.run(
        [
            *(sys.executable, "-m", "aumai_transactions", "worker", "--app", app),
            *("--store", str(folder / "trips.db"), *words),
        ],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def state(folder, name):
    with TransactionManager(store=folder / "trips.db") as manager:
        return manager.get_result(name).state.value


def test_a_worker_lets_an_engine_carry_out_what_was_submitted(folder):
    name = submitted(folder)
    ran = worker(folder, "--engine", "dbos", "--engine-url", "sqlite:///dbos.db", "--until-idle")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "engine: dbos carries them out" in ran.stderr
    assert state(folder, name) == "committed"
    assert (folder / "calls").read_text().count(name) == 3


def test_a_worker_uses_the_engine_of_the_apps_manager_and_goes_on_for_one_that_was_killed(folder):
    name = submitted(folder, kills=True)
    first = worker(folder, "--until-idle", app="app:hosted")
    assert first.returncode == -signal.SIGKILL
    second = worker(folder, "--until-idle", app="app:hosted")
    assert second.returncode == 0, second.stderr
    assert state(folder, name) == "committed"
    keys = (folder / "calls").read_text().split()
    # The one in which the process died is called again, with the same key; no other is.
    assert [keys.count(f"{name}/s{number}/action") for number in (1, 2, 3)] == [1, 2, 1]


def test_a_worker_says_what_is_wrong_with_an_engine(folder):
    submitted(folder)
    ran = worker(folder, "--engine", "dbos")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--engine-url" in ran.stderr
    ran = worker(folder, "--agents", "a", app="app:hosted")
    assert ran.returncode == 2
    assert "beside an engine" in ran.stderr
    ran = worker(folder, "--engine", "steam", "--engine-url", "x")
    assert ran.returncode == 1
    assert "there are: dbos" in ran.stderr
    ran = worker(folder, "--engine", "dbos", "--engine-url", "sqlite:////nowhere/at/all.db")
    assert ran.returncode == 1
    assert "DBOS cannot be started" in ran.stderr
    assert "Traceback" not in ran.stderr
