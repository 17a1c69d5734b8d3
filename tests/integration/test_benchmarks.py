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
