"""The command line as several processes: steps side by side, approvals, and the commit point.

No test sleeps: steps meet at FIFOs, and what is waited for says so.
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
PROGRAM = [sys.executable, "-m", "aumai_transactions"]
SECONDS_MAX = 60
# Each of the two waits for the other at a FIFO, so they end only where they run side by side.
PLAN = """
name = "trip"
parallel_compensation = true
[actions.left]
kind = "command"
argv = ["sh", "-c", "echo left >> effects; echo here > there; cat back"]
compensating_action = "undo"
[actions.right]
kind = "command"
argv = ["sh", "-c", "echo right >> effects; cat there; echo here > back"]
compensating_action = "undo"
[actions.undo]
kind = "command"
argv = ["sh", "-c", "echo undo >> effects"]
idempotent = true
[actions.charge]
kind = "command"
argv = ["sh", "-c", "echo charge >> effects"]
effect = "irreversible"
requires_approval = true
[actions.mail]
kind = "command"
argv = ["sh", "-c", "test -e server && echo mail >> effects"]
idempotent = true
[[steps]]
name = "flight"
agent = "flight_agent"
action = "left"
after = []
[[steps]]
name = "hotel"
agent = "hotel_agent"
action = "right"
after = []
[[steps]]
name = "charge"
agent = "billing_agent"
action = "charge"
pivot = true
data = { hotel = { "$output" = "flight", type = "string" } }
[[steps]]
name = "mail"
agent = "mail_agent"
action = "mail"
on_commit = true
"""
RUN = ("run", "plan.toml", "--wait-max", str(SECONDS_MAX))


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    for name in ("there", "back"):
        os.mkfifo(folder / name)
    (folder / "plan.toml").write_text(PLAN)
    return folder


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUMAI_")}
    return kept | {"HOME": str(tmp_path / "home"), "PYTHONPATH": PATHS}


@pytest.fixture
def popen(here, environment):
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


def effects(here):
    return (here / "effects").read_text().split()


def the_only(at):
    (item,) = json.loads(at("list", "--json"))["items"]
    return item


def asked(process):
    """Read until a process waits for an approval, and return the command that it names."""
    for line in process.stderr:
        if line.startswith("allow it with: aumai-transactions "):
            return line.split()[4:]
    raise AssertionError("it ended without asking")


def test_steps_that_do_not_wait_for_each_other_run_side_by_side_and_are_undone(at, here):
    (here / "plan.toml").write_text(PLAN.replace("echo charge >> effects", "exit 1"))
    at("run", "plan.toml", "--wait-max", "0", code=5)
    assert sorted(effects(here)) == ["left", "right"]
    name = the_only(at)["transaction_id"]
    assert "rolled_back (step failed)" in at("approve", name, "charge", code=3)
    assert effects(here)[2:] == ["undo", "undo"]


def test_a_second_process_allows_what_a_first_one_waits_for(at, here, popen):
    (here / "server").touch()
    with popen(*RUN) as run:
        command = asked(run)
        assert effects(here)[2:] == []
        at(*command, "--note", "go", "--by", "alice")
        out, err = run.communicate(timeout=SECONDS_MAX)
    assert run.returncode == 0, out + err
    assert ": committed" in out
    assert "charge: allowed, by alice (go)" in err
    assert effects(here)[2:] == ["charge", "mail"]


def test_a_second_process_denies_what_a_first_one_waits_for(at, here, popen):
    with popen(*RUN) as run:
        _, name, step = asked(run)
        at("deny", name, step, "--note", "too dear", "--by", "bob", code=3)
        out, err = run.communicate(timeout=SECONDS_MAX)
    assert run.returncode == 3, out + err
    assert "rolled_back (denied)" in out
    assert effects(here)[2:] == ["undo", "undo"]


def test_a_first_process_goes_on_where_the_second_one_can_not(at, here, popen):
    """Whoever allows it has no handlers; the process that waits has them."""
    (here / "app.py").write_text(
        "from aumai_transactions import TransactionManager\n"
        "def pay(action, data):\n    open('effects', 'a').write('pay\\n')\n"
        "manager = TransactionManager({'pay': pay})\n"
    )
    name = json.loads(at("create"))["transaction_id"]
    at("add-step", name, "--agent", "a", "--action", "pay", "--requires-approval")
    with popen("commit", name, "--app", "app:manager", "--wait-max", str(SECONDS_MAX)) as commit:
        command = asked(commit)
        at(*command, code=5)
        out, err = commit.communicate(timeout=SECONDS_MAX)
    assert commit.returncode == 0, out + err
    assert effects(here) == ["pay"]


def test_a_process_killed_while_it_waits_leaves_a_question_that_is_answered_later(at, here, popen):
    (here / "server").touch()
    with popen(*RUN) as run:
        _, name, step = asked(run)
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=SECONDS_MAX)
    assert run.returncode == -signal.SIGKILL
    (here / "plan.toml").unlink()
    assert (the_only(at)["state"], the_only(at)["attention"]) == ("active", "approval")
    at("recover")
    assert effects(here)[2:] == []
    assert ": committed" in at("approve", name, step)
    assert effects(here)[2:] == ["charge", "mail"]
    assert "intact" in at("verify")


def test_recover_goes_on_with_what_was_allowed_where_nobody_could(at, here, popen):
    (here / "app.py").write_text("def pay(action, data):\n    pass\nhandlers = {'pay': pay}\n")
    name = json.loads(at("create"))["transaction_id"]
    at("add-step", name, "--agent", "a", "--action", "pay", "--requires-approval")
    with popen("commit", name, "--app", "app:handlers") as commit:
        asked(commit)
        commit.send_signal(signal.SIGKILL)
        commit.communicate(timeout=SECONDS_MAX)
    at("approve", name, "s1", code=5)
    assert "finished" in at("recover", "--app", "app:handlers")
    assert the_only(at)["state"] == "committed"


def test_what_is_stuck_behind_the_commit_point_goes_forward_when_it_is_tried_again(at, here):
    at("run", "plan.toml", "--wait-max", "0", code=5)
    name = the_only(at)["transaction_id"]
    at("approve", name, "charge", code=4)
    assert (the_only(at)["state"], the_only(at)["attention"]) == ("committing", "commit")
    at("rollback", name, code=7)
    at("retry", name, "mail", code=4)
    (here / "server").touch()
    assert ": committed" in at("retry", name, "mail")
    assert effects(here)[2:] == ["charge", "mail"]


def test_a_shell_completes_commands(here, environment):
    asked_for = {
        "_AUMAI_TRANSACTIONS_COMPLETE": "bash_complete",
        "COMP_WORDS": "aumai-transactions app",
        "COMP_CWORD": "1",
    }
    ran = subprocess.run(
        PROGRAM,
        env=environment | asked_for,
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS_MAX,
    )
    assert ran.stdout == "plain,approve\n"
