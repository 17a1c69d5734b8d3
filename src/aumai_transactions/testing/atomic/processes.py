"""Runs whose processes are real, and die by SIGKILL.

Owns: how a process of a run is started, what it is told, and how its end is read. What it does
stands in `victim.py`.
Rules:
  1. Nothing but the store's file, the record's file and the user's own world passes from one
     process to the next.
  2. A process that ends in any other way than by itself, or as it was told to die, is an error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.stores import open_store
from aumai_transactions.testing.atomic.lives import (
    CannotRun,
    Ended,
    MakeManager,
    Work,
    has_open_ends,
    read_ended,
)
from aumai_transactions.testing.atomic.record import Happening, Record

if TYPE_CHECKING:
    from aumai_transactions.testing.atomic.faults import Fault

PROCESS_SECONDS_MAX = 120
STDERR_CHARACTERS_MAX = 2_000


class Place(NamedTuple):
    """Say where another process finds a function.

    Args:
        module: The name of its module.
        name: Its name in there, with dots.
        file: The file of that module, where it cannot be imported by its name.
    """

    module: str
    name: str
    file: str

    @classmethod
    def of(cls, function: Any, what: str) -> Place:
        """Return where a function stands.

        Raises:
            TypeError: Another process could not find it.
        """
        module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        where = sys.modules.get(module)
        found: Any = where
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not function or not name:
            raise TypeError(
                f"{what}= must be a function of a module where crash='process', for each process "
                f"imports it; {name or type(function).__name__} cannot be found again. Move it to "
                "the top of its module (a lambda, a nested function or a partial will not do)."
            )
        return cls(module, name, str(getattr(where, "__file__", "") or ""))

    def find(self) -> Any:
        """Return the function."""
        found: Any = self._module()
        for part in self.name.split("."):
            found = getattr(found, part)
        return found

    def _module(self) -> Any:
        if self.module != "__main__":
            try:
                return importlib.import_module(self.module)
            except ModuleNotFoundError:
                if not self.file:
                    raise
        import importlib.util as by_file

        known = sys.modules.get(self.module) if self.module != "__main__" else None
        if known is not None:
            return known
        name = "aumai_atomic_main" if self.module == "__main__" else self.module
        if name in sys.modules:
            return sys.modules[name]
        spec = by_file.spec_from_file_location(name, self.file)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(self.file)
        module = by_file.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


@dataclass(slots=True)
class InProcesses:
    """Carry out runs in processes of their own.

    Args:
        saga: Where the user's transaction stands.
        make_manager: Where what makes the manager stands.
        recover: Where what is done after a crash stands.
        folder: Where files may be put.
    """

    saga: Place
    make_manager: Place
    recover: Place
    folder: Path
    runs: int = 0

    @classmethod
    def of(cls, saga: Work, make_manager: MakeManager, recover: Work, folder: Path) -> InProcesses:
        """Return the stage for these functions.

        Raises:
            TypeError: One of them cannot be found by another process.
        """
        return cls(
            Place.of(saga, "saga"),
            Place.of(make_manager, "manager"),
            Place.of(recover, "recover"),
            folder,
        )

    def run(self, faults: Sequence[Fault]) -> Ended:
        """Carry out one run, with these faults."""
        self.runs += 1
        store, lines = self.folder / f"run-{self.runs}.db", self.folder / f"run-{self.runs}.jsonl"
        work, struck = self.saga, 0
        for number in range(len(faults) + 2):
            begins = Happening("begins", "" if number == 0 else "recovery")
            Record(lines).add(begins)
            has_died = self._live(store, lines, work, faults[struck:], number)
            struck = len(Record(lines).struck)
            if not has_died and (number > 0 or not self._has_open_ends(store)):
                break
            work = self.recover
        ended = Ended(Record(lines), left=list(faults[struck:]))
        raised = [line.text for line in ended.record.happenings if line.what == "raised"]
        if raised and not faults:
            ended.raised = CannotRun(raised[0])
        if not store.exists():
            return ended
        opened = open_store(store, create=False)
        try:
            return read_ended(opened, ended)
        finally:
            opened.close()

    def _live(
        self, store: Path, lines: Path, work: Place, faults: Sequence[Fault], number: int
    ) -> bool:
        """Run one process to its end, and tell whether it was killed."""
        order = {
            "store": str(store),
            "lines": str(lines),
            "work": work,
            "make_manager": self.make_manager,
            "faults": faults,
            "number": number,
        }
        ran = subprocess.run(
            [sys.executable, "-m", "aumai_transactions.testing.atomic.victim"],
            input=json.dumps(order),
            capture_output=True,
            check=False,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            timeout=PROCESS_SECONDS_MAX,
        )
        happenings = Record(lines).happenings
        has_died = bool(happenings) and happenings[-1].what == "died"
        if has_died and ran.returncode == -signal.SIGKILL:
            return True
        if ran.returncode != 0 or has_died:
            said = ran.stderr[-STDERR_CHARACTERS_MAX:].strip()
            raise CannotRun(f"a process of the saga ended with {ran.returncode}: {said}")
        return False

    @staticmethod
    def _has_open_ends(store: Path) -> bool:
        if not store.exists():
            return False
        opened = open_store(store, create=False)
        try:
            return has_open_ends(opened)
        finally:
            opened.close()
