"""The examples tell a story, and it is the same story each time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS_MAX = 60


def told_by(example: str, home: Path, *arguments: str) -> list[str]:
    """What an example prints, as somebody sees it who runs it in a folder of their own."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUMAI_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py"), *arguments],
        capture_output=True,
        check=False,
        cwd=home,
        env={**kept, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert list(home.iterdir()) == [], "it leaves something behind"
    return ran.stdout.splitlines()


@pytest.mark.parametrize(
    "example",
    [
        "approval",
        "coding_agent",
        "commit_point",
        "parallel_graph",
        "research_pair",
        "resume",
        "step_in_a_script",
    ],
)
def test_an_example_tells_the_same_story_twice_and_leaves_nothing_behind(example, tmp_path):
    once = told_by(example, tmp_path / "once")
    assert once
    assert told_by(example, tmp_path / "twice") == once


def test_the_coding_agent_leaves_nothing_of_what_it_gave_up(tmp_path):
    told = "\n".join(told_by("coding_agent", tmp_path / "home"))
    assert told.count("undone to the byte: True") == 3
    assert told.count("the repository is as it was: True") == 2
    assert "False" not in told
    assert "attempt 2 passes, and is committed" in told
    assert "the commit is there: A discount is a share" in told


def test_the_research_pair_pays_once_and_gets_everything_back(tmp_path):
    told = told_by("research_pair", tmp_path / "home")
    assert [line.strip() for line in told if "cents are left, " in line] == [
        "40 cents are left, 960 are booked",
        "500 cents are left, 0 are booked",
    ]
    assert "  the transaction is rolled_back, and clean: True" in told


@pytest.mark.crash
def test_a_fleet_whose_workers_are_killed_loses_and_doubles_nothing(tmp_path):
    told = told_by("fleet/fleet", tmp_path / "home", "--orders", "40", "--kill-after", "8")
    counts: dict[str, int] = {}
    for line in told[told.index("") + 1 : -2]:
        for what, number in re.findall(r"^ *(.+?) +([\d,]+)(?:   .*)?$", line):
            counts[what] = int(number.replace(",", ""))
    assert counts["orders submitted"] == 40
    assert (counts["committed"], counts["rolled back: nobody delivers there"]) == (36, 4)
    assert counts["workers killed by SIGKILL"] >= 1
    assert counts["submitters killed by SIGKILL"] == 1
    # What was done: three effects of each that is committed, and two of each that went back twice.
    assert counts["effects in the shop's table, undos included"] == 36 * 3 + 4 * 2 * 2
    for wrong in ("double effects", "orders half done", "locks left", "violations of isolation"):
        assert counts[wrong] == 0
    assert told[-1].startswith("Nothing was lost, doubled or left half done, in ")
