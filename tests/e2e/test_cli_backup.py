"""A drill on the real command: a nightly backup, a disk that dies, and what a person does then."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
SECONDS_MAX = 60
PLAN = """
name = "trip"
[actions.reserve]
kind = "command"
argv = ["sh", "-c", "echo reserve >> effects"]
[actions.cancel]
kind = "command"
argv = ["sh", "-c", "echo cancel >> effects"]
[[steps]]
name = "flight"
agent = "flight_agent"
action = "reserve"
compensating_action = "cancel"
"""


@pytest.fixture
def aumai(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    environment.pop("AUMAI_TRANSACTIONS_STORE", None)

    def run(*words, code=0):
        ran = subprocess.run(
            [sys.executable, "-m", "aumai_transactions", *words],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=environment,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert ran.returncode == code, f"exit code {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stdout + ran.stderr
        return ran

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / ".aumai" / "transactions"


def test_a_disk_dies_and_a_person_goes_on_from_the_backup(aumai, folder, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    aumai("run", "plan.toml")
    submitted = json.loads(aumai("submit", "plan.toml", "--json").stdout)["transaction_id"]
    aumai("backup", "nightly")
    aumai("witness", "heads")
    late = json.loads(aumai("submit", "plan.toml", "--json").stdout)["transaction_id"]
    aumai("witness", "heads")
    # The disk dies; its snapshot goes with it.
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    assert "restore" in aumai("restore", "--help").stdout
    ran = aumai("restore", "nightly", "--note", "the disk died")
    assert "1 was not finished in it" in ran.stderr
    # What the backup lacks stands in the witness.
    told = json.loads(aumai("verify", "--witness", "heads", "--json", code=1).stdout)
    assert list(told["problems"]) == [late]
    assert "older copy" in told["store_problems"][0]
    assert aumai("verify").returncode == 0
    assert (tmp_path / "effects").read_text() == "reserve\n"
    assert "nothing to recover" in aumai("recover").stderr
    assert submitted in aumai("outstanding").stdout
    aumai("recover", "--trust", submitted, "--note", "the airline has no booking")
    assert (tmp_path / "effects").read_text() == "reserve\nreserve\n"
    assert json.loads(aumai("status", submitted).stdout)["state"] == "committed"
    aumai("outstanding")


def test_a_damaged_log_is_refused_by_every_command_and_changed_by_none(aumai, tmp_path):
    """A process that was killed leaves its log; one bit of it is turned."""
    store = tmp_path / "store.db"
    program = (
        "import os, signal, sys\n"
        "from aumai_transactions import TransactionManager\n"
        "manager = TransactionManager(store=sys.argv[1])\n"
        "for _ in range(5):\n"
        "    manager.save(manager.begin())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", program, str(store)], env=environment, check=False)
    log = store.with_name("store.db-wal")
    text = bytearray(log.read_bytes())
    text[200] ^= 4
    log.write_bytes(text)
    before = store.read_bytes(), log.read_bytes()
    for words in (["list"], ["verify"], ["doctor"], ["recover"], ["backup", "backup"]):
        ran = aumai(*words, "--store", str(store), code=1)
        assert "is damaged at frame 1, byte 32" in ran.stdout + ran.stderr
        assert "truncate -s 32" in ran.stdout + ran.stderr
    assert (store.read_bytes(), log.read_bytes()) == before
    assert not (tmp_path / "backup").exists()
    # What the message offers, for whoever has no backup.
    os.truncate(log, 32)
    assert aumai("verify", "--store", str(store)).stdout.startswith("0 transactions")
