"""Decorated functions and SIGKILL: undone by another process, or gone on with by the next one."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aumai_transactions import TransactionManager

pytestmark = pytest.mark.crash

SECONDS_MAX = 120
BOOKED = [
    ("Fare", "Booking", "2026-03-01T12:30:00+00:00"),
    "10.50",
    ("Fare", "Booking", "2026-03-01T12:30:00+00:00"),
    "11.50",
]
GIVEN = [*BOOKED, "held T", "2 for S"]


class Place:
    """A folder in which programs run, and are killed."""

    def __init__(self, folder):
        self.folder = folder
        self.store = folder / "trips.db"
        self._running = contextlib.ExitStack()

    def start(self, function, *arguments, main="", **environment):
        """Start `steps_program` as a module that the main program imports."""
        given = ", ".join(map(repr, map(str, arguments)))
        program = main or f"import steps_program; steps_program.{function}({given})"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": self.path, "HOME": str(self.folder)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.enter_context(process)
        self._running.callback(process.kill)
        return process

    @property
    def path(self):
        return os.pathsep.join([str(Path(__file__).parent), *sys.path])

    def said(self, function, *arguments, **options):
        """Return what a program says that runs to its end."""
        out, err = self.start(function, *arguments, **options).communicate(timeout=SECONDS_MAX)
        assert err == ""
        return out.splitlines()

    def killed(self, function, *arguments):
        """Kill a program where it was told to stand still; return what it had said."""
        process = self.start(function, *arguments)
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == "there":
                break
        else:
            raise AssertionError(process.stderr.read())
        process.send_signal(signal.SIGKILL)
        assert process.wait(SECONDS_MAX) == -signal.SIGKILL
        return lines[:-1]

    def died(self, stop_at, on_crash="roll_back", *flights):
        (name,) = self.killed("run", self.store, stop_at, on_crash, *(flights or ("F1", "F2")))
        return name

    def effects(self):
        return (self.folder / "effects").read_text("utf-8").splitlines()

    def close(self):
        self._running.close()


@pytest.fixture
def place(tmp_path):
    with contextlib.closing(Place(tmp_path)) as made:
        yield made


# ------------------------------------------------------------------------------- by its name alone


def test_another_process_undoes_by_what_the_module_has_decorated(place):
    place.died("before the end")
    assert place.said("recover", place.store) == ["finished rolled back clean=True"]
    assert [line for line in place.effects() if line.startswith(("un", "rel"))] == [
        "release S 2 for S",
        "release T held T",
        "unbook F2 ref F2 Booking doubt=False",
        "unbook F1 ref F1 Booking doubt=False",
    ]
    assert place.said("recover", place.store) == []


@pytest.mark.parametrize(
    "stop_at,undone",
    [
        ("before book F1", ["unbook F1 None NoneType doubt=True"]),
        ("after book F1", ["unbook F1 None NoneType doubt=True"]),
        ("durable step_succeeded s2", ["unbook F1 ref F1 Booking doubt=False"]),
        (
            "durable step_added s4",
            ["unbook F2 None NoneType doubt=True", "unbook F1 ref F1 Booking doubt=False"],
        ),
    ],
)
def test_wherever_it_was_killed_what_may_have_been_done_is_undone(place, stop_at, undone):
    place.died(stop_at)
    (said,) = place.said("recover", place.store)
    assert said.startswith("finished rolled back")
    assert [line for line in place.effects() if line.startswith("un")] == undone


def test_a_process_that_does_not_know_the_functions_leaves_it_alone(place):
    name = place.died("before the end")
    before = place.effects()
    with TransactionManager(store=place.store) as manager:
        (report,) = manager.recover()
        assert (report.transaction_id, report.outcome) == (name, "parked")
        assert "missing handler steps_program:" in report.detail
    assert place.effects() == before
    assert place.said("recover", place.store) == ["finished rolled back clean=True"]


def test_without_a_manager_it_is_on_the_command_lines_store(place):
    name, *_ = place.killed("without_manager", "before the end", "F1")
    listed = place.start("", main="from aumai_transactions.cli import main; main(['list'])")
    out, _ = listed.communicate(timeout=SECONDS_MAX)
    assert name[:8] in out
    program = """
import steps_program
from aumai_transactions.drivers.default import default_manager
steps_program.say([one.outcome for one in default_manager().recover()])
"""
    assert place.said("", main=program) == ["['finished']"]
    assert "unbook F1 ref F1 Booking doubt=False" in place.effects()


# ------------------------------------------------------------------------------------- run again


@pytest.mark.parametrize(
    "stop_at",
    [
        "durable step_succeeded s1",
        "durable step_added s3",
        "durable step_succeeded s4",
        "before the end",
    ],
)
def test_the_program_run_again_does_nothing_twice_and_gets_everything_with_its_type(place, stop_at):
    name = place.died(stop_at, "wait")
    done = place.effects()
    assert place.said("resume", place.store, "", name, "F1", "F2") == [f"committed {GIVEN}"]
    assert place.effects()[: len(done)] == done
    assert [line.rpartition(" ")[0] if "hold" in line else line for line in place.effects()] == [
        *("price F1", "book F1", "price F2", "book F2", "hold T", "reserve S 2")
    ]


def test_what_nobody_knows_is_called_again_with_the_same_key_where_that_is_safe(place):
    name = place.died("after hold T", "wait")
    assert place.said("resume", place.store, "", name, "F1", "F2") == [f"committed {GIVEN}"]
    held = [line for line in place.effects() if line.startswith("hold")]
    assert len(held) == 2
    assert len(set(held)) == 1


def test_what_nobody_knows_is_undone_and_done_anew_where_it_is_not(place):
    name = place.died("after book F1", "wait")
    assert place.said("resume", place.store, "", name, "F1", "F2") == [f"committed {GIVEN}"]
    assert place.effects()[:4] == [
        "price F1",
        "book F1",
        "unbook F1 None NoneType doubt=True",
        "book F1",
    ]


def test_a_program_that_has_changed_goes_its_own_way_and_the_journal_says_so(place):
    name = place.died("before the end", "wait")
    said = place.said("resume", place.store, "", name, "F1", "F3")
    assert said == [f"committed {GIVEN}"]
    assert [line for line in place.effects() if line.startswith(("book", "price"))] == [
        *("price F1", "book F1", "price F2", "book F2", "price F3", "book F3")
    ]
    with TransactionManager(store=place.store) as manager:
        added = [one for one in manager.get_events(name) if one.kind == "step_added"]
    assert [one.fields.get("fork") for one in added] == [*([None] * 6), "s3", "s3"]


def test_it_may_be_killed_again_and_again(place):
    name = place.died("durable step_succeeded s1", "wait")
    for stop_at in ("after book F1", "durable step_succeeded s5"):
        assert place.killed("resume", place.store, stop_at, name, "F1", "F2") == []
    assert place.said("resume", place.store, "", name, "F1", "F2") == [f"committed {GIVEN}"]
    counted = [line.partition(" ")[0] for line in place.effects()]
    counts = {kind: counted.count(kind) for kind in counted}
    assert counts == {"price": 2, "book": 3, "unbook": 1, "hold": 1, "reserve": 1}


def test_a_transaction_that_waits_for_its_program_is_left_alone_by_recovery(place):
    name = place.died("before the end", "wait")
    (said,) = place.said("recover", place.store)
    assert said.startswith("waiting")
    assert not [line for line in place.effects() if line.startswith("un")]
    assert place.said("resume", place.store, "", name, "F1", "F2") == [f"committed {GIVEN}"]
    assert len(place.effects()) == 6
