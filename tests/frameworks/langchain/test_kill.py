"""A real SIGKILL in the midst of an agent's second tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(what: str, folder: Path, on_crash: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.frameworks.langchain.trip_program"]
    return subprocess.run(
        [*command, what, folder, on_crash], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "on_crash, then, state, more",
    [
        ("roll_back", "recover", "rolled_back", ["cancel flight {'room': 'flight 7'}"]),
        ("wait", "resume", "committed", ["book hotel"]),
    ],
)
def test_what_a_killed_agent_has_done_is_undone_or_gone_on_with_by_another_process(
    tmp_path, on_crash, then, state, more
):
    assert run("run", tmp_path, on_crash).returncode == -signal.SIGKILL
    next_one = run(then, tmp_path, on_crash)
    assert next_one.stdout.split() == [state], next_one.stderr
    assert (tmp_path / "world").read_text("utf-8").splitlines() == [
        "book flight",
        "book hotel",
        "cancel hotel None",
        *more,
    ]
