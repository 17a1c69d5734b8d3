"""Tests against real frameworks run only in the environment that `run.py` makes for them."""

from __future__ import annotations

import os
from pathlib import Path

WANTED = os.environ.get("AUMAI_FRAMEWORK", "").replace("-", "_")

collect_ignore = [
    one.name
    for one in Path(__file__).parent.iterdir()
    if one.name != WANTED and not (WANTED and one.name == "test_shown.py")
]
"""Why by a name and not by what is installed: what is run must not depend on what happens to be
there, or a missing framework would look like a success."""
