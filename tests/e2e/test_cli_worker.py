"""The worker as a supervisor sees it: signals, exit codes, and what others see meanwhile."""

import os
import signal
import subprocess
import sys

import pytest

from aumai_transactions import TransactionManager

SECONDS_MAX = 60
APP = """
import sys
from aumai_transactions import TransactionManager
manager = TransactionManager()
@manager.action("hold", compensating_action="unhold", idempotent=True)
def hold(action, data):
    print("there", flush=True)
    open("go").read()
@manager.action("unhold")
def unhold(action, data):
    pass
@manager.action("quick")
def quick(action, data):
    pass
"""


class Here:
    """A folder with an app, a store with one submitted transaction, and commands."""

    def __init__(self, folder):
        self.folder = folder
        self.store = folder / "trips.db"
        (folder / "app.py").write_text(APP)
        os.mkfifo(folder / "go")
        with TransactionManager(store=self.store) as manager:
            # Why here too: what a plan says of its actions is what its producer knows of them.
            manager.action("hold", idempotent=True)(print)
            tx = manager.begin()
            for action in ("hold", "quick"):
                manager.add_step(tx, "agent", action, {}, "unhold")
            manager.submit(tx)
            self.name = tx.transaction_id

    def start(self, *words):
        environment = os.environ | {"HOME": str(self.folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "aumai_transactions", *words, "--store", str(self.store)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker(self, *options):
        """Start a worker, and wait until its call has begun."""
        found = self.start("worker", "--app", "app:manager", *options)
        told_until(found, "there")
        return found

    def go(self):
        (self.folder / "go").write_text("go")

    def state(self):
        with TransactionManager(store=self.store) as manager:
            return manager.get_result(self.name)


def told_until(process, text, stream="stderr"):
    told = []
    for line in getattr(process, stream):
        told.append(line)
        if text in line:
            return told
    raise AssertionError(f"it ended without {text!r}: {told} {process.communicate()}")


def ended(process):
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out, err


@pytest.fixture
def here(tmp_path):
    return Here(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_end_is_0(here, number):
    worker = here.worker()
    worker.send_signal(number)
    told_until(worker, "stopping: waiting for the calls that run, at most 30 s; again: at once")
    here.go()
    code, out, err = ended(worker)
    assert (code, out) == (0, "")
    assert "everything is handed back" in err
    result = here.state()
    assert (result.state.value, result.completed_steps) == ("active", ["s1"])


def test_a_worker_can_be_stopped_in_order_as_soon_as_it_has_said_a_word(here):
    for _ in range(3):
        worker = here.start("worker", "--app", "app:manager", "--agents", "somebody_else")
        told_until(worker, "worker on")
        worker.send_signal(signal.SIGTERM)
        code, _, err = ended(worker)
        assert (code, "everything is handed back" in err) == (0, True)


def test_the_second_signal_ends_it_at_once_and_another_goes_on(here):
    worker = here.worker()
    worker.send_signal(signal.SIGTERM)
    told_until(worker, "stopping")
    worker.send_signal(signal.SIGTERM)
    code, _, err = ended(worker)
    assert code == 128 + signal.SIGTERM
    assert "stopped at once" in err
    other = here.worker("--until-idle")
    here.go()
    assert ended(other)[0] == 0
    assert here.state().state.value == "committed"


def test_what_is_not_handed_back_in_time_is_named_and_the_end_is_5(here):
    worker = here.worker("--drain", "0.05")
    worker.send_signal(signal.SIGTERM)
    code, _, err = ended(worker)
    assert code == 5
    assert f"not handed back, for a call still runs: {here.name}" in err
    other = here.worker("--until-idle")
    here.go()
    assert ended(other)[0] == 0
    assert here.state().state.value == "committed"


def test_others_watch_and_wait_while_a_worker_works(here):
    worker = here.worker("--until-idle")
    watcher = here.start("watch", here.name, "--wait")
    seen = told_until(watcher, "agent starts hold", "stdout")
    assert "commit requested" in "".join(seen)
    here.go()
    code, out, _ = ended(watcher)
    assert code == 0
    assert out.splitlines()[-1].endswith("committed")
    assert ended(worker)[0] == 0
