"""The rig of the crash tests: real processes, real SIGKILL, one store that they share.

Owns: what a kill is, how it is looked at before anybody recovers, and how it is recovered.
"""

import random
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions import TransactionManager, TransactionState
from aumai_transactions.core.journal import Journal, entries, load
from aumai_transactions.core.saga import Saga
from aumai_transactions.store import Query
from aumai_transactions.stores import open_store
from aumai_transactions.testing.kill_checks import (
    by_transaction,
    continues,
    lost,
    problems_of,
    without_intent,
)
from aumai_transactions.testing.kill_effects import LINE_BYTES, Effect, read_effects
from aumai_transactions.testing.kill_nursery import Nursery, Victim
from aumai_transactions.testing.kill_windows import (
    INSIDE_RECOVERY,
    WINDOWS,
    OpenCall,
    marks_of,
    open_call,
    window_of,
)

VICTIM = Path(__file__).with_name("victim.py")
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
PAGE = 1_000
A_DAY_SECONDS = 86_400


@dataclass
class Found:
    """What a kill left: the unfinished journals, and the calls that were under way."""

    journals: dict[str, Journal]
    calls: list[OpenCall]
    windows: Counter[str]


@dataclass
class Tally:
    """How many kills hit which window, and how many transactions were in it.

    A kill at a random moment and one at a chosen point are counted apart.
    """

    random: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    transactions: Counter[str] = field(default_factory=Counter)

    def add(self, windows: Counter[str], *, is_chosen: bool) -> None:
        (self.chosen if is_chosen else self.random).update({"kills", *windows})
        self.transactions.update(windows)

    def merge(self, other: "Tally") -> None:
        self.random.update(other.random)
        self.chosen.update(other.chosen)
        self.transactions.update(other.transactions)

    def missed(self) -> list[str]:
        """The windows that no kill has hit."""
        hit = self.random + self.chosen
        return [window for window in (*WINDOWS, INSIDE_RECOVERY) if not hit[window]]

    def __str__(self) -> str:
        lines = [f"{'window':<24}{'random kills':>14}{'chosen kills':>14}{'transactions':>14}"]
        for window in (*WINDOWS, INSIDE_RECOVERY, "kills"):
            counts = (self.random[window], self.chosen[window], self.transactions[window])
            lines.append(f"{window:<24}" + "".join(f"{count:>14,}" for count in counts))
        return "\n".join(lines)


class Scene:
    """One store, its effect file, and the processes that work on them."""

    def __init__(self, folder: Path, nursery: Nursery, seed: int, url: str, server: Any):
        self.folder = folder
        self.url = url or f"sqlite:///{folder}/store.db"
        self.server = server
        self.sessions: dict[Victim, str] = {}
        self.nursery = nursery
        self.random = random.Random(seed)
        self.tally = Tally()
        self.drivers: dict[Victim, str] = {}
        self.survivors: set[str] = set()
        self.lines_settled = 0
        self.folder.mkdir()

    @property
    def store(self) -> Path:
        return self.folder / "store.db"

    @property
    def effects(self) -> list[Effect]:
        return read_effects(self.folder / "effects")

    def recent_effects(self) -> list[Effect]:
        """Those since everything was last recovered; what is unfinished has no others."""
        return read_effects(self.folder / "effects", self.lines_settled)

    @property
    def outcomes(self) -> dict[str, str]:
        """What callers were told, by transaction."""
        file = self.folder / "outcomes"
        return dict(line.split() for line in file.read_text().splitlines()) if file.exists() else {}

    def start(self, role: str, **orders: Any) -> Victim:
        session = f"victim-{len(self.sessions)}"
        defaults = {
            "role": role,
            "folder": str(self.folder),
            "store": self.url if self.server is None else f"{self.url}&application_name={session}",
            "is_async": False,
            "in_flight": 0,
            "at_once": 1,
            "pause_seconds": 0.002 if role == "drive" else 0,
            "seed": self.random.random(),
            "label": "agent",
        }
        victim = self.nursery.start(**defaults | orders)
        self.sessions[victim] = session
        return victim

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def window_of(self, call: OpenCall) -> str:
        return window_of(call, marks_of(self.recent_effects()))

    def driver_of(self, victim: Victim) -> str:
        """Return the victim's driver id, which is the first thing that it says."""
        if victim not in self.drivers:
            line = victim.next_line()
            assert line is not None, "it ended before it joined the store"
            self.drivers[victim] = line.removeprefix("driver ")
        return self.drivers[victim]

    def journals(
        self, states=(), *, drivers: set[str] | None = None, path: Path | None = None
    ) -> dict[str, Journal]:
        """Read journals through a handle of our own: all, in some states, or of some drivers."""
        found: dict[str, Journal] = {}
        with closing(open_store(path or self.url, create=False)) as store:
            after = None
            while page := store.find(Query(states=states, after=after, limit=PAGE)):
                for listed in page:
                    if drivers is not None and listed.driver_id not in drivers:
                        continue
                    name = listed.summary.transaction_id
                    journal = store.read(name)
                    assert journal is not None
                    found[name] = journal
                after = page[-1].position
        return found

    def look(
        self, killed: list[Victim], *, is_chosen: bool = False, nobody_lives: bool = True
    ) -> Found:
        """Look at what was killed, before anybody else does, and count the windows.

        Where nobody is left, a copy is looked at, for opening a database is its recovery, and
        that is the recovering process's to do.
        """
        drivers = {self.driver_of(victim) for victim in killed}
        if self.server is not None:
            # Why: an append that was sent before the kill may be carried out after it.
            self.server.wait_until_gone([self.sessions[victim] for victim in killed])
        is_file = self.url.startswith("sqlite:")
        read = self.copied if nobody_lives and is_file else self.journals
        journals = read(UNFINISHED, drivers=drivers)
        effects = self.recent_effects()
        marks = marks_of(effects)
        seen = by_transaction(effects)
        calls: list[OpenCall] = []
        windows: Counter[str] = Counter()
        wrong: list[str] = []
        for name, journal in journals.items():
            wrong += without_intent(entries(journal), seen.get(name, []))
            call = open_call(journal)
            if call is None:
                wrong.append(f"{name}: unfinished, and no call is announced: a window of its own")
                continue
            calls.append(call)
            windows[window_of(call, marks)] += 1
            windows[INSIDE_RECOVERY] += call.is_recovery
        assert wrong == []
        found = Found(journals, calls, +windows)
        self.tally.add(found.windows, is_chosen=is_chosen)
        return found

    def unexpected(self, saga: Saga) -> list[str]:
        """Say whether a transaction ended in a way that its plan and its kills do not explain."""
        actions = [step.definition.action for step in saga.steps]
        wanted = {"committed", "rolled_back"}
        if "refuse" in actions:
            wanted = {"rolled_back"}
        elif "once" not in actions and saga.plan.on_crash is None:
            wanted = {"committed"}
        wrong = [] if saga.state in wanted else [f"{actions} ended {saga.state.value}"]
        if saga.agents[0] in self.survivors and saga.token != 1:
            wrong.append(f"its driver lived, and it has token {saga.token}")
        return [f"{saga.transaction_id}: {text}" for text in wrong]

    def copied(self, states, *, drivers: set[str]) -> dict[str, Journal]:
        """Read journals from a copy of the store and its write-ahead log."""
        place = self.folder / "copy"
        place.mkdir()
        for name in ("store.db", "store.db-wal"):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, place / name)
        try:
            return self.journals(states, drivers=drivers, path=place / "store.db")
        finally:
            shutil.rmtree(place)

    def recover(self, count: int = 1, **orders: Any) -> list[dict[str, str]]:
        """Let fresh processes recover, at once; return what each says became of what.

        A transaction that a process found to be somebody else's is not in its report.
        """
        recoverers = [self.start("recover", **orders) for _ in range(count)]
        for victim in recoverers:
            self.driver_of(victim)
        reports = []
        finished: Counter[str] = Counter()
        for victim in recoverers:
            lines = [line.split() for line in victim.finish()]
            finished.update(name for outcome, name in lines if outcome == "finished")
            reports.append({name: outcome for outcome, name in lines})
        assert [name for name, times in finished.items() if times > 1] == []
        return reports

    def recovered(self, found: Found) -> None:
        """Check that what a kill left was continued, and that nothing is left unfinished."""
        assert {name: len(journal.entries) for name, journal in self.unfinished().items()} == {}
        with closing(open_store(self.url, create=False)) as store:
            broken = [
                name
                for name, before in found.journals.items()
                if not continues(before, store.read(name))
            ]
        assert broken == []
        self.lines_settled = (self.folder / "effects").stat().st_size // LINE_BYTES

    def unfinished(self) -> dict[str, Journal]:
        return self.journals(UNFINISHED)

    def judge(self) -> dict[str, Journal]:
        """Check everything that must hold at the end, of every transaction; return them."""
        journals = self.journals()
        effects = self.effects
        seen = by_transaction(effects)
        sagas = {name: load(journal) for name, journal in journals.items()}
        wrong = lost(self.outcomes, sagas, effects)
        for name, journal in journals.items():
            found = problems_of(journal, sagas[name], seen.get(name, []))
            found += self.unexpected(sagas[name])
            if found:
                tell_what_happened(journal, effects)
            wrong += found
        assert wrong == []
        with TransactionManager(store=self.url) as manager:
            verification = manager.verify()
            assert manager.find(Query(attention=True)) == []
        assert verification.problems == {}
        assert verification.transactions == len(journals)
        return journals


def tell_what_happened(journal: Journal, effects: list[Effect]) -> None:
    """Print a transaction's journal and its effects, for whoever looks into what went wrong."""
    print(f"journal of {journal.transaction_id}:")
    for sequence, (_, entry) in enumerate(entries(journal), start=1):
        print(f"  {sequence:>3} {entry}")
    print("effects and returns of its handlers, in order:")
    for effect in effects:
        if effect.transaction_id == journal.transaction_id:
            print(f"  {effect.mark} {effect.operation} {effect.step_id} attempt {effect.attempt}")


@pytest.fixture(scope="session")
def nursery():
    with Nursery([str(VICTIM)]) as started:
        yield started


@pytest.fixture
def scenes(tmp_path, nursery):
    """Make scenes, each with a store of its own."""

    def make(seed: int, url: str = "", server: Any = None) -> Scene:
        return Scene(tmp_path / f"scene-{seed}", nursery, seed, url, server)

    return make


@pytest.fixture
def scene(scenes):
    return scenes(seed=1)


@pytest.fixture
def postgres_scene(scenes, postgres16):
    """Make a scene in which nobody alive counts as dead, however long the machine stands still.

    A lease goes by the server's clock. Were it to run out while its driver lives, another one would
    take over, as it should, and a handler that was about to act would act late, which is what only
    a participant can refuse: no fault of a kill. Here the dead are found by their process ids.
    """
    return scenes(seed=1, url=postgres16.store(lease_seconds=A_DAY_SECONDS), server=postgres16)
