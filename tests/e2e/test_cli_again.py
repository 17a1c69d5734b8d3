"""The command line as a process, run again: with an idempotency key, and after a kill.

No test sleeps: steps tell over FIFOs that they run, and wait there to be let go.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATHS = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
# A process that a shell starts in the background ignores Ctrl-C; this one never does.
ATTENTIVE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from aumai_transactions.cli import main
main()
"""
PROGRAM = [sys.executable, "-c", ATTENTIVE]
SECONDS_MAX = 60
GATED_PLAN = '''
[actions.wait]
kind = "command"
argv = ["sh", "-c", """
echo once >> effects; test "$AUMAI_ATTEMPT" = 1 || exit 0; echo on > running; cat gate"""]
idempotent = true
compensating_action = "undo"
[actions.undo]
kind = "command"
argv = ["touch", "undone"]
[[steps]]
agent = "agent"
action = "wait"
'''
FLAKY_PLAN = """
[actions.flaky]
kind = "python"
call = "flaky:call"
idempotent = true
retry = { first_delay_seconds = 0.5, jitter = 0 }
[[steps]]
agent = "agent"
action = "flaky"
"""
FLAKY = """
def call(action, data, context):
    if context.attempt == 1:
        raise ConnectionRefusedError("nobody there")
    return {"attempt": context.attempt}
"""


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    for name in ("running", "gate"):
        os.mkfifo(folder / name)
    (folder / "plan.toml").write_text(GATED_PLAN)
    (folder / "flaky.toml").write_text(FLAKY_PLAN)
    (folder / "flaky.py").write_text(FLAKY)
    return folder


@pytest.fixture
def popen(here, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUMAI_")}
    environment = kept | {"HOME": str(tmp_path / "home"), "PYTHONPATH": PATHS}

    @contextlib.contextmanager
    def start(*words):
        process = subprocess.Popen(
            [*PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=here,
            text=True,
        )
        with process:
            yield process
            process.kill()

    return start


@pytest.fixture
def at(popen):
    def run(*words, code=0):
        with popen(*words) as process:
            out, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == code, out + err
        assert "Traceback" not in out + err
        return out

    return run


def said(process, text):
    """Read until a process says this."""
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it ended without saying {text!r}")


def the_only(at):
    (item,) = json.loads(at("list", "--json"))["items"]
    return item


KEYED = ("run", "plan.toml", "--idempotency-key", "order-4711")


def test_a_second_run_waits_for_the_first_and_tells_its_outcome(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        with popen(*KEYED) as second:
            said(second, "the key belongs to transaction")
            (here / "gate").write_text("go")
            told, _ = second.communicate(timeout=SECONDS_MAX)
        first.communicate(timeout=SECONDS_MAX)
    assert (first.returncode, second.returncode) == (0, 0)
    assert ": committed" in told
    assert (here / "effects").read_text() == "once\n"
    assert the_only(at)["state"] == "committed"


def test_a_second_run_that_does_not_wait_long_enough_ends_with_5(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        assert "not finished: it is under way" in at(*KEYED, "--wait-max", "0", code=5)
        (here / "gate").write_text("go")
        first.communicate(timeout=SECONDS_MAX)
    assert first.returncode == 0


def test_ctrl_c_in_a_second_run_leaves_the_first_alone(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        with popen(*KEYED) as second:
            said(second, "the key belongs to transaction")
            second.send_signal(signal.SIGINT)
            out, err = second.communicate(timeout=SECONDS_MAX)
        assert second.returncode == 130, out + err
        (here / "gate").write_text("go")
        first.communicate(timeout=SECONDS_MAX)
    assert first.returncode == 0
    assert not (here / "undone").exists()


def test_a_second_run_goes_on_where_the_first_was_killed(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=SECONDS_MAX)
    out = at(*KEYED)
    assert "attempt 2" in out
    assert the_only(at)["state"] == "committed"
    (here / "gate").write_text("go")  # For what the killed one had started.


def test_a_wait_ends_when_whoever_has_it_is_done(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        name = the_only(at)["transaction_id"]
        at("wait", name, "--timeout", "0", code=5)
        with popen("wait", name) as waiter:
            said(waiter, "somebody has it")
            (here / "gate").write_text("go")
            out, err = waiter.communicate(timeout=SECONDS_MAX)
        first.communicate(timeout=SECONDS_MAX)
    assert (first.returncode, waiter.returncode) == (0, 0), out + err


def test_ctrl_c_in_a_wait_ends_the_waiting_alone(at, here, popen):
    with popen(*KEYED) as first:
        assert (here / "running").read_text() == "on\n"
        with popen("wait", the_only(at)["transaction_id"]) as waiter:
            said(waiter, "somebody has it")
            waiter.send_signal(signal.SIGINT)
            out, err = waiter.communicate(timeout=SECONDS_MAX)
        assert waiter.returncode == 130, out + err
        assert "it stands as it stood" in err
        (here / "gate").write_text("go")
        first.communicate(timeout=SECONDS_MAX)
    assert first.returncode == 0


def test_a_process_killed_between_two_attempts_is_recovered(at, popen):
    with popen("run", "flaky.toml") as run:
        said(run, "next try")
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=SECONDS_MAX)
    assert run.returncode == -signal.SIGKILL
    assert "finished" in at("recover")
    assert the_only(at)["state"] == "committed"
