"""A child of fork is refused by name, whatever its parent's threads hold, and hurts no parent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

PROGRAM = Path(__file__).with_name("fork_program.py")
CALLS = ("commit", "begin", "read", "recover", "submit", "worker")
CHILDREN = 6


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_children_of_a_manager_at_work_are_refused_by_name_and_its_work_goes_on(
    kind, tmp_path, request
):
    url = f"sqlite:///{tmp_path}/trips.db"
    if kind == "postgres":
        url = request.getfixturevalue("postgres16").store()
    # Why the warning is none: that threads run while it forks is what this is about.
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM), url, str(CHILDREN)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=140)
    assert done.returncode == 0, done.stderr
    seen, committed = json.loads(done.stdout)
    wanted = {f"{name}: told": CHILDREN for name in CALLS}
    assert seen == wanted | {"ended with 0": CHILDREN}
    assert committed > CHILDREN
