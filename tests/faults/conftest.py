"""What the tests of the fault matrix share."""

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def memory_folder(tmp_path):
    """A folder in memory where there is one: SIGKILL loses nothing that the system was given."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="aumai-faults-", dir=memory) as made:
        yield Path(made)
