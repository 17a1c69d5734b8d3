"""The examples tell a story, and it is the same story each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS_MAX = 60


def told_by(example: str, home: Path) -> list[str]:
    """What an example prints, as somebody sees it who runs it in a folder of their own."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUMAI_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py")],
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
