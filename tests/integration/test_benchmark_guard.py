"""The guard against decay says what needs more than was recorded. What it counts is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command):
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "benchmarks/check.py", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def checked(tmp_path, recorded, *options):
    """How the guard ends that compares the replay's ratio with what was recorded."""
    file = tmp_path / "recorded.json"
    if recorded is not None:
        file.write_text(json.dumps(recorded), "utf-8")
    scale = ("replay", "--ratio", "--scale", "0.01")
    return run(*scale, "--file", str(file), *options)


def test_the_guard_compares_with_what_was_recorded(tmp_path):
    ran = checked(tmp_path, None)
    assert ran.returncode == 2
    assert "Run it with --record." in ran.stdout

    ran = checked(tmp_path, None, "--record")
    assert ran.returncode == 0
    recorded = json.loads((tmp_path / "recorded.json").read_text("utf-8"))
    assert recorded["ratios"]["replay of a journal"] > 0

    ran = checked(tmp_path, recorded | {"ratios": {"replay of a journal": 0.01}})
    assert ran.returncode == 1
    assert "Slower: replay of a journal." in ran.stdout

    ran = checked(tmp_path, recorded | {"ratios": {"replay of a journal": 1e9}})
    assert ran.returncode == 0
    assert "record it" in ran.stdout

    ran = checked(tmp_path, recorded | {"versions": {"python": "3.0"}})
    assert ran.returncode == 2
    assert "Not judged: recorded with python 3.0" in ran.stdout


def test_what_is_recorded_names_every_path_of_the_guard():
    recorded = json.loads((ROOT / "benchmarks" / "recorded.json").read_text("utf-8"))
    listed = run("--list").stdout.splitlines()
    assert len(listed) == 5
    assert list(recorded["instructions"]) == listed
    assert list(recorded["ratios"]) == listed
