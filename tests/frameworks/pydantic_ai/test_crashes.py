"""Tests of runs whose process dies by a real SIGKILL inside of the second tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("dying_trip.py")


def run(folder: Path, *arguments: str) -> str:
    """Run the trip; return what it printed. The log of the world is begun anew."""
    (folder / "log").write_text("", "utf-8")
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        text=True,
        timeout=60,
    )
    wanted = -signal.SIGKILL if "die" in arguments else 0
    assert ran.returncode == wanted, ran.stderr
    return ran.stdout


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text("utf-8").splitlines()


DIED = ["model 0", "flight to Oslo", "model 1", "hotel in Oslo"]


def test_a_run_that_was_killed_is_undone_by_a_process_that_has_made_the_same_rules(tmp_path):
    run(tmp_path, "die")
    assert log(tmp_path) == DIED
    assert "rolled_back" in run(tmp_path, "recover")
    assert log(tmp_path) == ["cancel Oslo: None", "cancel Oslo: LH 861"]


@pytest.mark.parametrize("how", [(), ("streamed",)])
def test_a_durable_run_goes_on_where_it_was(tmp_path, how):
    run(tmp_path, "die", "waiting", *how)
    assert log(tmp_path) == DIED
    told = run(tmp_path, "resume", *how)
    assert "done: room 7" in told
    assert "committed" in told
    # Neither the model nor the flight again; the hotel, of which nobody knew, was undone first.
    assert log(tmp_path) == ["cancel Oslo: None", "hotel in Oslo", "model 2"]


def test_an_agent_that_another_one_asks_goes_on_where_it_was(tmp_path):
    run(tmp_path, "die", "waiting", "delegated")
    assert log(tmp_path) == ["desk 0", *DIED]
    told = run(tmp_path, "resume", "delegated")
    assert "asked: done: room 7" in told
    assert "committed" in told
    assert log(tmp_path) == ["cancel Oslo: None", "hotel in Oslo", "model 2", "desk 1"]


def test_a_durable_run_can_be_undone_instead(tmp_path):
    run(tmp_path, "die", "waiting")
    assert "rolled_back" in run(tmp_path, "undo")
    assert log(tmp_path) == ["cancel Oslo: None", "cancel Oslo: LH 861"]
