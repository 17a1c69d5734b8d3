"""The command line as a process: exit codes, pipes, signals, and what a kill leaves.

No test sleeps: a step tells over a FIFO that it runs, and then waits until it is killed.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PROGRAM = [sys.executable, "-m", "aumai_transactions"]
# A process that a shell starts in the background ignores Ctrl-C; this one never does.
ATTENTIVE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from aumai_transactions.cli import main
main()
"""
INTERRUPTIBLE = [sys.executable, "-c", ATTENTIVE]
PATHS = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
SECONDS_MAX = 60
WAITING_PLAN = """
name = "slow-trip"
[actions.reserve]
kind = "command"
argv = ["sh", "-c", "echo reserve >> effects"]
[actions.cancel]
kind = "command"
argv = ["sh", "-c", "echo cancel >> effects"]
[actions.wait]
kind = "command"
argv = ["sh", "-c", "echo wait >> effects; echo $$ > running; exec sleep 600"]
[actions.give_up]
kind = "command"
argv = ["sh", "-c", "echo give_up >> effects"]
[[steps]]
name = "flight"
agent = "flight_agent"
action = "reserve"
compensating_action = "cancel"
[[steps]]
name = "hotel"
agent = "hotel_agent"
action = "wait"
compensating_action = "give_up"
"""


@pytest.fixture
def environment(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AUMAI_") and name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    return kept | {"HOME": str(home), "PYTHONPATH": PATHS}


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def at(here, environment):
    """Run a command to its end."""

    def run(*words, code=0, **options):
        given = {"stdin": subprocess.DEVNULL, "env": environment, "cwd": here} | options
        ran = subprocess.run(
            [*PROGRAM, *words],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
            **given,
        )
        assert ran.returncode == code, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stdout + ran.stderr
        return ran

    return run


@pytest.fixture
def started(here, environment):
    """Start the waiting plan; give the process once its second step runs."""
    (here / "plan.toml").write_text(WAITING_PLAN)
    os.mkfifo(here / "running")
    left = []

    @contextlib.contextmanager
    def start(program=PROGRAM):
        process = subprocess.Popen(
            [*program, "run", "plan.toml"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=here,
            text=True,
        )
        with process:
            # Why a guard: should the process end too early, nobody would ever open the FIFO.
            guard = threading.Timer(SECONDS_MAX, lambda: (here / "running").write_text("0"))
            guard.start()
            left.append(int((here / "running").read_text()))
            guard.cancel()
            assert left[-1], process.communicate()
            yield process
            process.kill()

    yield start
    for number in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def effects(here):
    return (here / "effects").read_text().split()


def the_only(at):
    (item,) = json.loads(at("list", "--json").stdout)["items"]
    return item


def test_a_killed_run_is_undone_by_recover(at, here, started):
    with started() as process:
        process.kill()
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL
    found = the_only(at)
    assert found["state"] == "active"
    assert said.splitlines()[0] == f"transaction {found['transaction_id']}"

    (here / "plan.toml").unlink()
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    ran = at("recover", cwd=elsewhere)
    assert found["transaction_id"] in ran.stdout
    assert the_only(at)["state"] == "rolled_back"
    assert effects(here) == ["reserve", "wait", "give_up", "cancel"]
    assert "nothing to recover" in at("recover").stderr
    assert "intact" in at("verify").stdout


def test_a_living_run_is_not_touched_by_recover(at, here, started):
    with started() as process:
        assert "nothing to recover" in at("recover").stderr
        assert process.poll() is None
    assert effects(here) == ["reserve", "wait"]


def test_a_rollback_of_a_living_run_is_carried_out_by_that_run(at, here, environment):
    (here / "plan.toml").write_text("""
[actions.wait]
kind = "command"
argv = ["sh", "-c", "echo on > running; cat gate"]
compensating_action = "undo"
[actions.undo]
kind = "command"
argv = ["touch", "undone"]
[[steps]]
agent = "agent"
action = "wait"
""")
    os.mkfifo(here / "running")
    os.mkfifo(here / "gate")
    popen = functools.partial(
        subprocess.Popen,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=here,
        text=True,
    )
    with popen([*PROGRAM, "run", "plan.toml"]) as run:
        assert (here / "running").read_text() == "on\n"
        asking = [*PROGRAM, "rollback", the_only(at)["transaction_id"]]
        with popen(asking) as asker:
            assert asker.stderr is not None
            assert any("rollback requested" in line for line in asker.stderr)
            assert not (here / "undone").exists()
            (here / "gate").write_text("go")
            told, _ = asker.communicate(timeout=SECONDS_MAX)
        run.communicate(timeout=SECONDS_MAX)
    assert (asker.returncode, run.returncode) == (0, 3)
    assert (here / "undone").exists()
    assert "undone: s1" in told
    assert "running" not in told


def test_an_interrupted_run_ends_with_130_after_everything_is_undone(at, here, started):
    with started(INTERRUPTIBLE) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert effects(here) == ["reserve", "wait", "give_up", "cancel"]
    assert the_only(at)["state"] == "rolled_back"
    assert "rolled_back (cancelled)" in out
    assert "interrupted" in err


def test_a_second_interrupt_ends_at_once_and_recover_goes_on(at, here, started):
    plan = here / "plan.toml"
    plan.write_text(
        WAITING_PLAN.replace(
            "echo give_up >> effects", "echo $$ > running; echo give_up >> effects; exec sleep 600"
        )
    )
    with started(INTERRUPTIBLE) as process:
        process.send_signal(signal.SIGINT)
        stuck = int((here / "running").read_text())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS_MAX)
        os.kill(stuck, signal.SIGKILL)
    assert process.returncode == 130
    assert "stopped at once" in err
    assert the_only(at)["state"] == "compensating"


def test_two_runs_at_once_share_the_store_and_its_snapshot(at, here, environment):
    (here / "quick.toml").write_text(
        '[actions.a]\nkind = "command"\nargv = ["true"]\n[[steps]]\nagent = "x"\naction = "a"\n'
    )
    running = [
        subprocess.Popen(
            [*PROGRAM, "run", "-q", "quick.toml"],
            env=environment,
            cwd=here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in running:
        _, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0, err
    path = Path(environment["HOME"], ".aumai", "transactions", "transactions.json")
    snapshot = json.loads(path.read_text())
    assert snapshot["total"] == 4
    assert {item["state"] for item in snapshot["transactions"].values()} == {"committed"}
    assert not list(path.parent.glob("*.orig*"))


@pytest.mark.parametrize("command", [["list"], ["--help"], ["show", "--help"], ["doctor"]])
def test_a_reader_that_leaves_causes_no_noise(at, here, environment, command):
    at("create")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [*PROGRAM, *command],
            stdout=writing,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=here,
            timeout=SECONDS_MAX,
            check=False,
        )
    finally:
        os.close(writing)
    assert ran.returncode == 0
    assert ran.stderr == b""


def test_a_run_goes_on_when_nobody_reads_it(at, here, environment):
    (here / "plan.toml").write_text(
        WAITING_PLAN.replace("echo $$ > running; exec sleep 600", "exit 1")
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [*PROGRAM, "run", "plan.toml"],
            stdout=writing,
            stderr=writing,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=here,
            timeout=SECONDS_MAX,
            check=False,
        )
    finally:
        os.close(writing)
    assert ran.returncode == 3
    assert the_only(at)["state"] == "rolled_back"
    assert effects(here) == ["reserve", "wait", "cancel"]


def test_a_full_disk_behind_stdout_is_told(at, here, environment):
    at("create")
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        ran = subprocess.run(
            [*PROGRAM, "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=here,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert ran.returncode == 1
    assert "could not be written" in ran.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_damage_nothing(at, here, environment, closed):
    command = f'"{sys.executable}" -m aumai_transactions create {closed}'
    for _ in range(2):
        subprocess.run(
            ["sh", "-c", command],
            env=environment,
            cwd=here,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS_MAX,
        )
    assert "2 transactions, 2 entries: intact" in at("verify").stdout


def test_an_argument_that_is_no_text_is_echoed_harmlessly(at):
    at("create")
    ran = at("status", os.fsdecode(b"\xff\x1b[2J"), code=6)
    assert "\x1b" not in ran.stderr


def test_an_ascii_terminal_gets_escapes_instead_of_an_error(at, here, environment):
    (here / "plan.toml").write_text(
        'name = "Zürich→東京"\n[actions.a]\nkind = "command"\nargv = ["true"]\n'
        '[[steps]]\nagent = "x"\naction = "a"\n',
        "utf-8",
    )
    ran = at("run", "plan.toml", env=environment | {"PYTHONIOENCODING": "ascii"})
    assert r"Z\xfcrich\u2192" in ran.stderr


def test_help_names_every_exit_code(at):
    said = at("--help").stdout
    for code in ("0 done", "1 error", "2 usage", "3 rolled back", "6 not found", "7 conflict"):
        assert code in " ".join(said.split())
