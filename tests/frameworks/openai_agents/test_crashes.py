"""Tests of a run whose process dies by a real SIGKILL inside of the second tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("dying_trip.py")


def run(folder: Path, what: str, code: int) -> str:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), what],
        capture_output=True,
        check=False,
        cwd=folder,
        text=True,
        timeout=60,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def test_a_run_that_was_killed_is_undone_by_a_process_that_has_made_the_same_rules(tmp_path):
    run(tmp_path, "die", -signal.SIGKILL)
    assert "rolled_back" in run(tmp_path, "recover", 0)
    assert (tmp_path / "log").read_text("utf-8").splitlines() == [
        "flight to Oslo",
        "hotel in Oslo",
        "cancel Oslo: None",
        "cancel Oslo: LH 861",
    ]
