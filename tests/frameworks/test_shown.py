"""What the documentation of a framework shows works: the blocks of its page, and its examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.meta.blocks import blocks_of, programs_of

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = os.environ["AUMAI_FRAMEWORK"]
SECONDS_MAX = 120
LINES_MAX = 40

PROGRAMS = [
    pytest.param(block.code, id=f"{page.stem}-{block}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in programs_of(blocks_of(page.read_text("utf-8")), FRAMEWORK)
]
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples" / "integrations").glob("*.py"))
    if path.name.startswith(FRAMEWORK.replace("-", "_"))
]


def run(program: Path, folder: Path) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AUMAI_")}
    home = folder / "home"
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        check=False,
        cwd=folder,
        env=kept | {"HOME": str(home)},
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_a_framework_has_a_page_and_an_example():
    assert PROGRAMS
    assert EXAMPLES


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_block_of_a_page_runs(code, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(code, "utf-8")
    run(program, tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_books_fails_and_is_undone(example, tmp_path):
    lines = [one for one in example.read_text("utf-8").splitlines() if one.strip()]
    assert len(lines) <= LINES_MAX, "an example is as short as it can honestly be"
    told = run(example, tmp_path)
    assert "rolled_back" in told
