"""The benchmark runs, and says what it is there to say. What it measures is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_prints_both_ratios(tmp_path):
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    ran = subprocess.run(
        [sys.executable, "benchmarks/overhead.py", "--quick", "--json", "--folder", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    report = json.loads(ran.stdout)
    assert report["machine"].startswith("aumai-transactions ")
    units = [figure["unit"] for figure in report["figures"] if figure["target"] is not None]
    assert "us a step over a loop" in units
    assert "x 4 bare commits" in units
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in report["figures"])
    assert list(tmp_path.iterdir()) == []


def report_of(tmp_path, *command):
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    ran = subprocess.run(
        [sys.executable, *command, "--json", "--folder", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    report = json.loads(ran.stdout)
    assert report["machine"].startswith("aumai-transactions ")
    return report["figures"]


def test_the_benchmark_of_growth_asks_both_stores_the_same(tmp_path):
    figures = report_of(tmp_path, "benchmarks/growth.py", "--most", "1000", "--times", "3")
    asked: dict[str, list[str]] = {store: [] for store in ("postgresql", "sqlite")}
    for figure in figures:
        assert figure["finished"] == 1_000
        asked[figure["store"]].append(figure["question"])
    assert asked["postgresql"] == asked["sqlite"]
    assert "claim (due, read, load, append)" in asked["sqlite"]


def test_the_benchmark_of_a_fleet_compares_with_one_worker(tmp_path):
    figures = report_of(tmp_path, "benchmarks/fleet.py", "--quick", "--only", "sqlite")
    assert [figure["workers"] for figure in figures] == [1, 2, 4] * 3
    for figure in figures:
        assert figure["rate_low"] <= figure["rate"] <= figure["rate_high"]
        assert figure["workers"] > 1 or figure["ratio"] == 1


def test_the_benchmark_of_deadlocks_has_one_victim_in_each_circle(tmp_path):
    figures = report_of(tmp_path, "benchmarks/deadlock.py", "--rounds", "2", "--only", "sqlite")
    assert [figure["transactions"] for figure in figures] == [2, 3, 5]
    for figure in figures:
        assert figure["victims"] == 1
        assert figure["told_low"] <= figure["told"] <= figure["told_high"]
        assert figure["told"] <= figure["over"]


def test_the_benchmark_of_histories_checks_what_it_has_made(tmp_path):
    figures = report_of(tmp_path, "benchmarks/history.py", "--transactions", "300")
    assert [figure["transactions"] for figure in figures] == [300, 300]
    assert [figure["problems"] for figure in figures] == [0, 0]
    assert all(figure["accesses"] > 300 for figure in figures)
