"""The rig of the storage tests: a real process, its system calls, and what it leaves on the disk.

Owns: how an operation is run with a fault in it, and what must hold afterwards.
"""

import importlib.util
import os
import re
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.kill_nursery import Nursery
from aumai_transactions.testing.promises import Promises
from aumai_transactions.testing.storage_calls import (
    CHANGING,
    LOCKING,
    Call,
    Fault,
    listen,
    why_not,
)

PROGRAM = Path(__file__).with_name("storage_program.py")
# What these hold means nothing after a crash.
FORGOTTEN = ("-shm", "-writer", ".lock")
SPACE_BYTES_MIN = 1 << 30
_RUN = re.compile(r".*/run-[0-9]+")
_RANDOM_NAME = re.compile(r"[0-9a-f]{32}")


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("storage_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program = load_program()


def pytest_generate_tests(metafunc):
    if "operation" in metafunc.fixturenames:
        metafunc.parametrize("operation", sorted(program.AT_EACH_CALL))


def role(path: str) -> str:
    """Name a file of a store without what differs from run to run."""
    return _RANDOM_NAME.sub("*", _RUN.sub("", path))


@dataclass(repr=False)
class Run:
    """What one process did, and where it left its store."""

    path: Path
    operation: str
    fault: Fault | None
    status: int
    promises: Promises
    lines: list[str]
    calls: list[Call]
    all_calls: list[Call]

    @property
    def hit(self) -> Call | None:
        for call in self.calls:
            if self.fault and (call.name, call.number) == (self.fault.name, self.fault.number):
                return call
        return None

    @property
    def errors(self) -> list[str]:
        return [line for line in self.lines if line.startswith("error ")]

    def __repr__(self) -> str:
        told = "\n  ".join(self.lines[-12:])
        place = None if self.hit is None else role(self.hit.path)
        return f"{self.operation}, {self.fault} ({place}), ended {self.status}:\n  {told}"


@dataclass
class Rig:
    """Run operations, each on its own copy of what it begins with."""

    nursery: Nursery
    folder: Path
    templates: dict[str, list[str]] = field(default_factory=dict)
    runs: int = 0

    def run(
        self,
        operation: str,
        fault: Fault | None = None,
        *,
        on_error: str = "die",
        sabotage: str = "",
        names: tuple[str, ...] = CHANGING,
    ) -> Run:
        """Run one operation, its calls counted from where it stands ready."""
        folder, lines = self._begin_with(self.template_of(operation))
        victim = self.nursery.start(
            operation=operation, folder=str(folder), on_error=on_error, sabotage=sabotage
        )
        lines += victim.wait_for("ready")
        with listen(victim.pid, fault, names=names) as listening:
            victim.release()
            while (line := victim.next_line()) is not None:
                lines.append(line)
                if line == "waits":
                    listening.let_go()
                    (folder / "go").write_bytes(b"")
            status = victim.reap()
        calls = [call for call in listening.calls if _is_about(call, folder)]
        path = folder / "store.db"
        return Run(path, operation, fault, status, Promises(lines), lines, calls, listening.calls)

    def do(self, operation: str, *, on_error: str = "skip", sabotage: str = "") -> Run:
        """Run one operation that nobody listens to."""
        folder, lines = self._begin_with(self.template_of(operation))
        victim = self.nursery.start(
            operation=operation, folder=str(folder), on_error=on_error, sabotage=sabotage
        )
        lines += victim.wait_for("ready")
        lines += victim.finish()
        path = folder / "store.db"
        return Run(path, operation, None, 0, Promises(lines), lines, [], [])

    def _begin_with(self, template: str) -> tuple[Path, list[str]]:
        made = self.folder / template
        if template not in self.templates:
            made.mkdir()
            self.templates[template] = program.make_template(template, made)
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        shutil.copytree(made, folder)
        os.mkfifo(folder / "go")
        return folder, list(self.templates[template])

    def points(self, operation: str, names: tuple[str, ...] = CHANGING) -> list[Call]:
        """Return every call of an operation that could change what is stored, in order."""
        run = self.run(operation, names=names)
        assert run.status == 0, run
        assert settle(run) == [], run
        self.remove(run)
        wanted = set(names) - set(CHANGING)
        found = [call for call in run.calls if call.changes or call.name in wanted]
        assert found
        return found

    @staticmethod
    def template_of(operation: str) -> str:
        """Name what an operation begins with."""
        return str(program.OPERATIONS[operation][1])

    @staticmethod
    def is_folder(call: Call) -> bool:
        """Tell whether a call is about the folder of the store."""
        return role(call.path) == ""

    @staticmethod
    def thinned(points: list[Call]) -> list[Call]:
        """Return one call of each kind on each file that matters after a crash, in the middle."""
        kinds: dict[tuple[str, str], list[Call]] = {}
        for call in points:
            if call.name not in LOCKING and not call.path.endswith(FORGOTTEN):
                kinds.setdefault((call.name, role(call.path)), []).append(call)
        chosen = [calls[len(calls) // 2] for calls in kinds.values()]
        return sorted(chosen, key=points.index)

    @staticmethod
    def same_place(one: Call, other: Call) -> bool:
        """Tell whether two calls are of one kind, on what is one file but for random names."""
        return (one.name, role(one.path)) == (other.name, role(other.path))

    @staticmethod
    def settle(run: Run) -> list[str]:
        """See `settle`."""
        return settle(run)

    @staticmethod
    def recovered(path: Path) -> list[str]:
        """See `recovered`."""
        return recovered(path)

    def remove(self, run: Run) -> None:
        shutil.rmtree(run.path.parent)


def _is_about(call: Call, folder: Path) -> bool:
    """Tell whether a call is about the store: its files, or the folder that they stand in."""
    return call.path.startswith(str(folder)) and not call.path.endswith("/go")


def settle(run: Run) -> list[str]:
    """Open what a process left, check all that was promised, settle what is open, and recover."""
    promises = run.promises
    must_exist = promises.store_id is not None or program.OPERATIONS[run.operation][1] != "nothing"
    with closing(SqliteStore(run.path, create=not must_exist)) as store:
        found = promises.problems(store)
        integrity = store.info(thorough=True).checks["integrity"]
        if integrity != "ok":
            found.append(f"SQLite finds: {integrity}")
        found += settled(store, promises)
    return found or recovered(run.path)


def settled(store: SqliteStore, promises: Promises) -> list[str]:
    """Append again what nobody knows the outcome of, and compare the answer with what was there."""
    found = []
    for append in promises.open_appends():
        name = append.transaction_id
        journal = store.read(name)
        last = 0 if journal is None else journal.head_sequence
        is_there = last >= append.expected_sequence + len(append.entries)
        if append.driver_id is not None:
            # A claim is its driver's; whoever comes later claims by a token of their own.
            continue
        if not is_there and last != append.expected_sequence:
            # It builds on a claim that did not become durable.
            continue
        wanted = AppendAnswer.already_ours if is_there else AppendAnswer.appended
        answers = [store.append([append])[0], store.append([append])[0]]
        if answers != [wanted, AppendAnswer.already_ours]:
            found.append(f"{append.append_id}: {is_there=}, and it answers {answers}")
    return found


def recovered(path: Path) -> list[str]:
    """Recover, and return what is not finished then, or not in order."""
    handlers: dict[str, Any] = {"act": lambda action, data: {}, "undo": lambda action, data: None}
    with TransactionManager(handlers, store=str(path)) as manager:
        verification = manager.verify()
        manager.recover()
        again = manager.verify()
        listed = manager.find(Query(limit=1_000))
    found = [f"verify: {problem}" for problem in verification.problems.values()]
    found += [f"verify after recovery: {problem}" for problem in again.problems.values()]
    for summary in (line.summary for line in listed):
        if not summary.state.is_final or summary.attention is not None:
            found.append(f"{summary.transaction_id} is {summary.state.value} after recovery")
    return found


def fast_folder() -> Path | None:
    """Return where a disk is not waited for: a kill and an image know no difference."""
    shared = Path("/dev/shm")
    try:
        is_roomy = shutil.disk_usage(shared).free > SPACE_BYTES_MIN
    except OSError:
        return None
    return shared if is_roomy and os.access(shared, os.W_OK) else None


@pytest.fixture
def bench_folder():
    with tempfile.TemporaryDirectory(prefix="aumai-storage-", dir=fast_folder()) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def storage_nursery():
    with Nursery([str(PROGRAM)]) as started:
        yield started


@pytest.fixture
def deaf_rig(storage_nursery, bench_folder):
    """A rig that runs anywhere; it listens to nobody."""
    return Rig(storage_nursery, bench_folder)


@pytest.fixture
def rig(deaf_rig):
    reason = why_not()
    if reason is not None:
        pytest.skip(f"system calls cannot be listened to: {reason}")
    return deaf_rig


@pytest.fixture
def say(capsys):
    """Say a figure to whoever runs a long check."""

    def said(text):
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return said
