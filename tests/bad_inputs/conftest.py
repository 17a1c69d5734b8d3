"""Bad input, from every side: what this folder's tests share.

The numbers in the tests' names and ids are the rows of one table of bad inputs, so that a reader
can check them off. Rows that are about what does not exist yet are in `LEFT_OUT`.

Owns: commands to call, in this process or as a real one, and the proof that files are unchanged.
"""

import contextlib
import gc
import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import aumai_transactions
from aumai_transactions.cli import main
from aumai_transactions.stores.sqlite import SqliteStore

SOURCE = Path(aumai_transactions.__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-m", "aumai_transactions"]
SECONDS_MAX = 60
PLAN = """
[actions.do]
kind = "command"
argv = ["true"]
[[steps]]
agent = "an_agent"
action = "do"
"""
# Rows of the table that no test here can be about.
LEFT_OUT = {
    9: "a network file system cannot be mounted in a test; `doctor` names its type (test_health)",
    15: "there is no `serve` yet",
    16: "there is no `serve` yet",
    **dict.fromkeys(range(38, 51), "there is no REST interface yet"),
    66: "there is no `import` of journals yet",
    70: "what participants answer is tested in unit/participants and in tests/faults",
    71: "there is no MCP server yet",
}


@pytest.fixture(scope="session")
def left_out():
    return LEFT_OUT


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("AUMAI_TRANSACTIONS_STORE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def here(tmp_path, home, monkeypatch):
    """The current folder; it holds a plan that works."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(folder)
    return folder


def refused_well(ran: Ran, *named: str) -> None:
    """Check what every refusal has: no traceback, no bug of ours, what, where and what next."""
    assert "Traceback" not in ran.out + ran.err
    assert "bug in aumai-transactions" not in ran.err
    assert ran.out == ""
    assert "error:" in ran.err
    for text in named:
        assert text in ran.err, ran.err
    raw = ran.err.replace("\n", "")
    assert raw.isprintable(), ascii(raw)


@contextlib.contextmanager
def no_garbage_collection():
    """Let nothing be finalized meanwhile that other tests have left behind.

    Why: hundreds of calls deep, in data that is nested too deep, a finalizer fails and says so.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def cli(here):
    """Run a command in this process; check its exit code, and what a refusal names."""

    def run(*words, code=0, named=()):
        out, err = io.StringIO(), io.StringIO()
        with (
            no_garbage_collection(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main(list(words))
        ran = Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())
        assert ran.code == code, f"exit code {ran.code}\n{ran.out}\n{ran.err}"
        if code:
            refused_well(ran, *named)
        return ran

    return run


@pytest.fixture
def process(here):
    """Run a command as a process; a word may be bytes. Check its exit code, and what it names."""

    def run(*words, code=0, named=(), python=(), changed=None, **options):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AUMAI_")}
        environment = kept | {"PYTHONPATH": str(SOURCE)} | (changed or {})
        given = {"stdin": subprocess.DEVNULL, "cwd": here} | options
        ended = subprocess.run(
            [sys.executable, *python, *PROGRAM[1:], *words],
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
            env=environment,
            **given,
        )
        ran = Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
        assert ran.code == code, f"exit code {ran.code}\n{ran.out}\n{ran.err}"
        assert "Traceback" not in ran.out + ran.err
        if code:
            refused_well(ran, *named)
        return ran

    return run


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        # The file that writers lock is made, and changed, by whoever is about to write.
        if path.is_file() and not path.name.endswith("-writer")
    }


@pytest.fixture
def unchanged(here):
    """Check that a block adds, removes and changes no file in the current folder."""

    @contextlib.contextmanager
    def check():
        before = hashes(here)
        yield
        assert hashes(here) == before

    return check


@pytest.fixture
def store(here):
    """A store with one pending transaction; its name, and the transaction's id."""
    path = here / "store.db"
    SqliteStore(path).close()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        main(["create", "--store", str(path)])
    return str(path), json.loads(out.getvalue())["transaction_id"]
