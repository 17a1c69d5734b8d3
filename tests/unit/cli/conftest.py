"""A command line to call in this process, at home in an empty folder."""

import contextlib
import io
import json
import shlex
from dataclasses import dataclass

import pytest

from aumai_transactions.cli import main


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
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return folder


@pytest.fixture
def folder(home):
    """Where the default store is."""
    return home / ".aumai" / "transactions"


@pytest.fixture
def cli(home):
    """Run a command line: a text as one would type it, or its words."""

    def run(*words, code=0):
        arguments = shlex.split(words[0]) if len(words) == 1 else list(words)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main(arguments)
        ran = Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())
        assert ran.code == code, f"exit code {ran.code}\n{ran.out}\n{ran.err}"
        assert "Traceback" not in ran.out + ran.err
        return ran

    return run


@pytest.fixture
def app(home, monkeypatch, tmp_path):
    """A module with handlers, in the current folder; what it did is in `calls`."""
    here = tmp_path / "here"
    name = f"app_{abs(hash(str(tmp_path)))}"
    (here / f"{name}.py").write_text(
        "from pathlib import Path\n"
        "import threading\n"
        "from aumai_transactions import *\n"
        "here = Path(__file__).parent\n"
        "def note(action, data):\n"
        "    with (here / 'calls').open('a') as calls:\n"
        "        calls.write(action + '\\n')\n"
        "    if (here / f'{action}.fails').exists():\n"
        "        raise RuntimeError((here / f'{action}.fails').read_text())\n"
        "    if (here / f'{action}.unknown').exists():\n"
        "        raise OutcomeUnknown('no answer')\n"
        "    if (here / f'{action}.later').exists():\n"
        "        raise RetryLater(3600, 'closed')\n"
        "    if (here / f'{action}.nothing').exists():\n"
        "        return NothingToUndo('answered 404 Not Found')\n"
        "    return {'did': action}\n"
        "names = ('pay', 'refund', 'send', 'unsend', 'mail')\n"
        "handlers = {name: note for name in names}\n"
        "manager = TransactionManager()\n"
        "for name in names:\n"
        "    manager.action(name)(note)\n"
        "hourly = RetryPolicy(attempts_max=2, first_delay_seconds=3600, delay_seconds_max=3600,"
        " jitter=0)\n"
        "def ask(data):\n"
        "    return Done({'found': 1}) if (here / 'charge.done').exists() else Unknown('later')\n"
        "def look(data):\n"
        "    return Residue({'seats': 2}) if (here / 'book.residue').exists() else Clean()\n"
        "def hang(action, data):\n"
        "    threading.Event().wait()\n"
        "def flake(action, data, context):\n"
        "    if context.attempt == 1:\n"
        "        raise ConnectionRefusedError('nobody there')\n"
        "soon = RetryPolicy(first_delay_seconds=0.2, jitter=0)\n"
        "manager.action('flaky', retry=soon)(flake)\n"
        "manager.action('charge', probe=ask, probe_retry=hourly)(note)\n"
        "manager.action('book', verify=look)(note)\n"
        "once = RetryPolicy(attempts_max=1)\n"
        "for name in ('post', 'settle'):\n"
        "    manager.action(name, idempotent=True, retry=once)(note)\n"
        "manager.action('wire', effect='irreversible')(note)\n"
        "manager.action('asked_briefly', requires_approval=True, approval_timeout_seconds=0.05)"
        "(note)\n"
        "manager.action('hang', timeout_seconds=0.01, abandon_after_seconds=0.01)(hang)\n"
        "manager.action('hang_long', timeout_seconds=0.01, abandon_after_seconds=3600)(hang)\n"
    )

    class App:
        option = f"--app {name}:manager"
        mapping = f"--app {name}:handlers"
        module = name

        def fails(self, action, text="it broke"):
            (here / f"{action}.fails").write_text(text)

        def works(self, action):
            (here / f"{action}.fails").unlink()

        def unknown(self, action):
            (here / f"{action}.unknown").touch()

        def says(self, word, action):
            """Let it be `later`, `nothing` to undo, `residue` or `done`, as the module has it."""
            (here / f"{action}.{word}").touch()

        def no_longer(self, word, action):
            (here / f"{action}.{word}").unlink()

        @property
        def calls(self):
            found = here / "calls"
            return found.read_text().split() if found.exists() else []

    return App()


@pytest.fixture
def made(cli):
    """Make a pending transaction with steps; each is (action, compensating action, options…)."""

    def make(*steps):
        name = cli("create").json["transaction_id"]
        for action, undo, *more in steps:
            extra = ["--compensating-action", undo] if undo else []
            cli("add-step", name, "--agent", "an_agent", "--action", action, *extra, *more)
        return name

    return make
