"""Runs spin on the models of this folder, and says in words what it found."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
SECONDS_MAX = 540


class Found(NamedTuple):
    """What a search has found.

    Args:
        states: How many different states there are, or were seen before the first error.
        broken: The rule that an error breaks; `liveness` for a run that never ends; None.
        reached: What is marked as happening sometimes, and did.
        is_complete: True where every state was looked at.
    """

    states: int
    broken: str | None
    reached: frozenset[str]
    is_complete: bool


def called(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    text = done.stdout + done.stderr
    # Why not the exit status alone: spin ends with 0 after a syntax error.
    assert done.returncode == 0, f"{' '.join(command)} said:\n{text[-2000:]}"
    assert "Error:" not in text, f"{' '.join(command)} said:\n{text[-2000:]}"
    return text


@pytest.fixture
def search(tmp_path):
    """Search a model for an error, with these definitions; all of it where there is none."""
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        pytest.skip("spin and gcc are not both installed; on Debian: apt-get install spin gcc")

    def searched(model, *defines, liveness=False, is_large=False):
        flags = [f"-D{define}" for define in defines]
        called(tmp_path, "spin", "-a", *(["-DLIVENESS"] if liveness else []), *flags, HERE / model)
        kind = ["-DNFAIR=3"] if liveness else ["-DSAFETY", "-DNOFAIR", "-DNOCLAIM"]
        # Why -O0: of a small search most is the compiler's.
        size = ["-O2", "-DCOLLAPSE", "-DMEMLIM=6000"] if is_large else ["-O0", "-DMEMLIM=2000"]
        called(tmp_path, "gcc", "-w", *size, *kind, "-o", "pan", "pan.c")
        how = ["-a", "-f"] if liveness else ["-E"]
        told = called(tmp_path, "./pan", "-m100000", "-w26" if is_large else "-w20", *how)
        return found_in(told)

    return searched


def found_in(told: str) -> Found:
    errors = re.search(r"errors: (\d+)", told)
    states = re.search(r"(\d+(?:\.\d+e\+\d+)?) states, stored", told)
    assert errors, told
    assert states, told
    broken = None
    if int(errors[1]):
        rule = re.search(r"assertion violated .*\|\|(\w+)\)", told)
        cycle = "acceptance cycle" in told.partition("Full statespace")[0]
        assert rule or cycle, told
        broken = rule[1] if rule else "liveness"
    incomplete = "Search not completed" in told or "max search depth too small" in told
    reached = frozenset(re.findall(r"reached: (\w+)", told))
    return Found(int(float(states[1])), broken, reached, not incomplete)
