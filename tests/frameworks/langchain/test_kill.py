"""A real SIGKILL in the midst of an agent's second tool."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_what_a_killed_agent_has_done_is_undone_by_a_process_with_the_same_rules(tmp_path):
    def run(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.frameworks.langchain.trip_program", what, tmp_path]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run("run").returncode == -signal.SIGKILL
    recovered = run("recover")
    assert recovered.stdout.split() == ["rolled_back"], recovered.stderr
    assert (tmp_path / "world").read_text("utf-8").splitlines() == [
        "book flight",
        "book hotel",
        "cancel hotel None",
        "cancel flight {'room': 'flight 7'}",
    ]
