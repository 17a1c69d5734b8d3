"""Real signals to real programs with an open transaction: the undo is finished, then it ends."""

# mypy: disable-error-code="union-attr, var-annotated"

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("interactive_program.py")
SECONDS_MAX = 60
MANY = 302

KINDS = ("sync", "async")
STORES = ("memory", "sqlite")
# How a program ends of a signal: KeyboardInterrupt as the signal itself, SIGTERM as its code.
CODES = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])


class Program:
    """One running program."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, wanted):
        line = self._process.stdout.readline().strip()
        assert line == wanted, (line, self._process.stderr.read() if not line else "")

    def send(self, number):
        self._process.send_signal(number)

    def ended(self, *, releases=True):
        """Let it go on, and return its exit code and what it said."""
        said, errors = self._process.communicate("\n" if releases else None, SECONDS_MAX)
        return self._process.returncode, said.split("\n")[:-1], errors

    @property
    def standing(self):
        standing = set()
        for line in (self.folder / "world").read_text().splitlines():
            verb, it = line.split()
            (standing.add if verb == "put" else standing.discard)(it)
        return standing

    @property
    def calls(self):
        return (self.folder / "world").read_text().splitlines()

    def close(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path):
    started = []

    def make(*arguments):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Program(folder, *arguments))
        return started[-1]

    yield make
    for program in started:
        program.close()


@BOTH
@pytest.mark.parametrize("place", ["body", "handler"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
def test_a_signal_in_a_block_undoes_all_of_it_and_ends_the_program(
    start, kind, store, place, number
):
    program = start(kind, store, place)
    program.wait_for("ready")
    program.send(number)
    code, said, _ = program.ended(releases=False)
    assert (code, said) == (CODES[number], ["rolled_back rolled_back cancelled True"])
    assert program.standing == set()
    assert program.calls[-2:] == ["take b", "take a"]


@BOTH
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", STORES)
def test_a_signal_during_the_undo_does_not_stop_it(start, kind, store, number):
    program = start(kind, store, "undo")
    program.wait_for("ready")
    program.send(number)
    code, said, _ = program.ended()
    assert code == CODES[number]
    assert said[-1] == "rolled_back rolled_back requested True"
    assert program.standing == set()


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_at_any_moment_of_a_long_undo_does_not_stop_it(start, kind, number):
    # Several at once: whichever moment a signal hits, the same must hold.
    programs = [start(kind, "memory", "many") for _ in range(4)]
    for program in programs:
        program.wait_for("ready")
        program.send(number)
    for program in programs:
        code, said, _ = program.ended(releases=False)
        # It may have come after the last undo; then the program had ended by its own error, or
        # the signal meant what it always means.
        assert code in (CODES[number], 1, -number)
        # It may even have come before the program could tell, or before it gave up by itself.
        assert [line.replace("cancelled", "requested") for line in said] in (
            [],
            ["rolled_back rolled_back requested True"],
        )
        assert program.standing == set()
        assert len(program.calls) >= 2 * MANY


@pytest.mark.parametrize("store", STORES)
def test_an_interrupt_while_two_steps_of_a_graph_run_undoes_both(start, store):
    program = start("sync", store, "graph")
    program.wait_for("ready")
    program.send(signal.SIGINT)
    code, said, _ = program.ended()
    assert (code, said) == (-signal.SIGINT, ["rolled_back rolled_back cancelled True"])
    assert sorted(program.calls) == ["put a", "put b", "take a", "take b"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_s_own_handler_is_kept(start, kind):
    program = start(kind, "memory", "own handler")
    program.wait_for("ready")
    program.send(signal.SIGTERM)
    program.wait_for("mine")
    code, said, _ = program.ended()
    assert (code, said) == (0, ["committed committed None True", "kept"])
    assert program.standing == {"a", "b"}


def test_a_block_that_ends_first_leaves_the_others_terminable(start):
    program = start("async", "sqlite", "overlap")
    program.wait_for("ready")
    program.send(signal.SIGTERM)
    code, said, _ = program.ended(releases=False)
    assert (code, said) == (143, ["rolled_back rolled_back cancelled True"])
    assert program.standing == {"kept"}
