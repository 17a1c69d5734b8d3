"""An agent in a process of its own, which is killed inside its second tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("dying_trip.py")


def test_what_a_killed_agent_did_is_undone_by_recovery_in_another_process(tmp_path):
    world = tmp_path / "world"
    arguments = [f"sqlite:///{tmp_path / 'trips.db'}", str(world)]

    def program(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROGRAM), what, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    assert program("run").returncode == -signal.SIGKILL
    assert world.read_text("utf-8").splitlines() == ["book Oslo", "book Kill"]
    recovered = program("recover")
    assert recovered.stdout.strip() == "rolled back", recovered.stderr
    undone = world.read_text("utf-8").splitlines()[2:]
    assert undone == ["cancel Kill, which may not have happened", "remove a.txt", "cancel Oslo"]
