"""What the tests of the SQLite store share: a store, a clock by hand, and real processes.

Owns: starting a Python process on a piece of code, and seeing to its end.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aumai_transactions
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.clock import ManualClock

SOURCE = str(Path(aumai_transactions.__file__).resolve().parents[1])
PROLOGUE = """
import os, signal, sqlite3, sys
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import act, claim, plan, race, request
path = sys.argv[1]
"""


@dataclass
class Child:
    """A Python process. It prints lines that `hear` returns, and waits for what `say` sends."""

    process: Any

    def hear(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            pytest.fail(f"the child ended: {self.process.stderr.read()}")
        return line.strip()

    def say(self, line: str = "") -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        self.process.communicate()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.end()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000)


@pytest.fixture
def store(path, clock):
    with SqliteStore(path, clock=clock) as opened:
        yield opened


@pytest.fixture
def start(path):
    """Start processes on `PROLOGUE` and more code; kill what is left of them afterwards."""
    children = []

    def run(code: str, *arguments: str) -> Child:
        process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + code, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": "1"},
        )
        children.append(Child(process))
        return children[-1]

    yield run
    for child in children:
        if child.process.poll() is None:
            child.kill()
        for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
            if not stream.closed:
                stream.close()
