"""The rig of the crash tests: real processes, real SIGKILL, one SQLite store.

Owns: what a kill is, how it is looked at before anybody recovers, and how it is recovered.
"""

import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions import TransactionManager, TransactionState
from aumai_transactions.core.journal import Journal
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.kill_checks import (
    by_transaction,
    continues,
    lost,
    problems_of,
    without_intent,
)
from aumai_transactions.testing.kill_effects import Effect, read_effects
from aumai_transactions.testing.kill_nursery import Nursery, Victim
from aumai_transactions.testing.kill_windows import (
    INSIDE_RECOVERY,
    OpenCall,
    marks_of,
    open_call,
    window_of,
)

VICTIM = Path(__file__).with_name("victim.py")
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
PAGE = 1_000


@dataclass
class Found:
    """What a kill left: the unfinished journals, and the calls that were under way."""

    journals: dict[str, Journal]
    calls: list[OpenCall]
    windows: Counter[str]


@dataclass
class Tally:
    """How many kills hit which window, and how many transactions were in it."""

    kills: Counter[str] = field(default_factory=Counter)
    transactions: Counter[str] = field(default_factory=Counter)

    def add(self, windows: Counter[str]) -> None:
        self.kills.update(set(windows))
        self.transactions.update(windows)


class Scene:
    """One store, its effect file, and the processes that work on them."""

    def __init__(self, folder: Path, nursery: Nursery, seed: int):
        self.folder = folder
        self.nursery = nursery
        self.random = random.Random(seed)
        self.tally = Tally()
        self.drivers: dict[int, str] = {}
        self.folder.mkdir()

    @property
    def store(self) -> Path:
        return self.folder / "store.db"

    @property
    def effects(self) -> list[Effect]:
        return read_effects(self.folder / "effects")

    @property
    def outcomes(self) -> dict[str, str]:
        """What callers were told, by transaction."""
        file = self.folder / "outcomes"
        return dict(line.split() for line in file.read_text().splitlines()) if file.exists() else {}

    def start(self, role: str, **orders: Any) -> Victim:
        defaults = {
            "role": role,
            "folder": str(self.folder),
            "is_async": False,
            "in_flight": 0,
            "pause_seconds": 0.002 if role == "drive" else 0,
            "seed": self.random.random(),
            "label": "agent",
        }
        return self.nursery.start(**defaults | orders)

    def driver_of(self, victim: Victim) -> str:
        """Return the victim's driver id, which is the first thing that it says."""
        if victim.pid not in self.drivers:
            line = victim.next_line()
            assert line is not None, "it ended before it joined the store"
            self.drivers[victim.pid] = line.removeprefix("driver ")
        return self.drivers[victim.pid]

    def journals(self, states=(), *, path: Path | None = None) -> dict[str, Journal]:
        """Read journals through a handle of our own; of all transactions, or in some states."""
        found: dict[str, Journal] = {}
        with SqliteStore(path or self.store, create=False) as store:
            after = None
            while page := store.find(Query(states=states, after=after, limit=PAGE)):
                for listed in page:
                    name = listed.summary.transaction_id
                    journal = store.read(name)
                    assert journal is not None
                    found[name] = journal
                after = page[-1].position
        return found

    def look(self, killed: list[Victim], *, nobody_lives: bool = True) -> Found:
        """Look at what was killed, before anybody else does, and count the windows.

        Where nobody is left, a copy is looked at, for opening a database is its recovery, and
        that is the recovering process's to do.
        """
        drivers = {self.driver_of(victim) for victim in killed}
        unfinished = self.copied(UNFINISHED) if nobody_lives else self.journals(UNFINISHED)
        journals = {name: j for name, j in unfinished.items() if j.driver_id in drivers}
        effects = self.effects
        marks = marks_of(effects)
        seen = by_transaction(effects)
        calls, windows, wrong = [], Counter(), []
        for name, journal in journals.items():
            wrong += without_intent(journal, seen.get(name, []))
            call = open_call(journal)
            if call is None:
                wrong.append(f"{name}: unfinished, and no call is announced: a window of its own")
                continue
            calls.append(call)
            windows[window_of(call, marks)] += 1
            windows[INSIDE_RECOVERY] += call.is_recovery
        assert wrong == []
        found = Found(journals, calls, +windows)
        self.tally.add(found.windows)
        return found

    def copied(self, states) -> dict[str, Journal]:
        """Read journals from a copy of the store and its write-ahead log."""
        place = self.folder / "copy"
        place.mkdir()
        for name in ("store.db", "store.db-wal"):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, place / name)
        try:
            return self.journals(states, path=place / "store.db")
        finally:
            shutil.rmtree(place)

    def recover(self, count: int = 1, **orders: Any) -> list[dict[str, str]]:
        """Let fresh processes recover, at once; return what each says became of what."""
        recoverers = [self.start("recover", **orders) for _ in range(count)]
        for victim in recoverers:
            self.driver_of(victim)
        reports = []
        for victim in recoverers:
            lines = [line.split() for line in victim.finish()]
            reports.append({name: outcome for outcome, name in lines})
        finished = [
            name for report in reports for name, outcome in report.items() if outcome == "finished"
        ]
        assert len(finished) == len(set(finished)), "two recoverers finished one transaction"
        return reports

    def recovered(self, found: Found) -> None:
        """Check that what a kill left was continued, and that nothing is left unfinished."""
        journals = self.journals(UNFINISHED)
        assert {name: load_state(journal) for name, journal in journals.items()} == {}
        with SqliteStore(self.store, create=False) as store:
            broken = [
                name
                for name, before in found.journals.items()
                if not continues(before, store.read(name))
            ]
        assert broken == []

    def judge(self) -> dict[str, Journal]:
        """Check everything that must hold at the end, of every transaction; return them."""
        journals = self.journals()
        effects = self.effects
        seen = by_transaction(effects)
        wrong = lost(self.outcomes, journals, effects)
        for name, journal in journals.items():
            wrong += problems_of(journal, seen.get(name, []))
        assert wrong == []
        with TransactionManager(store=str(self.store)) as manager:
            verification = manager.verify()
            assert manager.find(Query(attention=True)) == []
        assert verification.problems == {}
        assert verification.transactions == len(journals)
        return journals


def load_state(journal: Journal) -> str:
    return f"token {journal.token}, {len(journal.entries)} entries"


@pytest.fixture(scope="session")
def nursery():
    with Nursery([str(VICTIM)]) as started:
        yield started


@pytest.fixture
def scene(tmp_path, nursery):
    return Scene(tmp_path / "scene", nursery, seed=1)
