"""What a store has promised, and whether it keeps it.

Owns: `Promises`: what a process says that it will ask of a store, and what it was answered, and
the comparison of that with a store that was opened again.
Rules:
  1. Acknowledged is what somebody was told, not what the store says about itself.
  2. What was asked for and not answered may be there, whole, or not be there.
  3. Every journal is read through `load`, so that its chain is checked, and compared with what
     was to be written, entry by entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.journal import entries, load
from aumai_transactions.errors import StoreError
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.testing.lives import STAGES, Life

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aumai_transactions.store import Append, Store

_PAGE = 1_000
_THERE = (AppendAnswer.appended, AppendAnswer.already_ours)


class Promises:
    """Remember what was asked of a store, and what was answered.

    The lines are `will WHAT`, `did WHAT ANSWER` and `failed WHAT sure|unknown`; WHAT is `create`,
    `purge`, any other word, or `append TRANSACTION STAGE DRIVER`.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.store_id: str | None = None
        self._drivers: dict[str, str] = {}
        self._acknowledged: dict[str, set[str]] = {}
        self._wanted: dict[str, set[str]] = {}
        self._asked: list[tuple[str, str]] = []
        self._going: set[str] = set()
        self._gone: set[str] = set()
        for line in lines:
            self.hear(line)

    def hear(self, line: str) -> None:
        """Take one line into account; others than those that it knows mean nothing to it."""
        verb, _, rest = line.partition(" ")
        words = rest.split()
        match verb, words:
            case "will", ["append", name, stage, driver_id]:
                self._drivers[name] = driver_id
                self._wanted.setdefault(name, set()).add(stage)
                if (name, stage) not in self._asked:
                    self._asked.append((name, stage))
            case "did", ["append", name, stage, _, answer]:
                if answer in _THERE:
                    self._acknowledged.setdefault(name, set()).add(stage)
                self._answered(name, stage)
            case "failed", ["append", name, stage, _, "sure"]:
                self._wanted[name].discard(stage)
                self._answered(name, stage)
            case "will", ["purge"]:
                finished = [n for n, stages in self._acknowledged.items() if "finish" in stages]
                self._going.update(finished)
            case "did", ["purge", *_]:
                self._gone.update(self._going)
            case "did", ["create", store_id]:
                self.store_id = store_id
            case _:
                pass

    def _answered(self, name: str, stage: str) -> None:
        if (name, stage) in self._asked:
            self._asked.remove((name, stage))

    def open_appends(self) -> list[Append]:
        """Return the appends of which nobody knows yet what became of them, oldest first."""
        return [self._life(name).appends[stage] for name, stage in self._asked]

    @property
    def acknowledged(self) -> int:
        """How many appends were acknowledged."""
        return sum(map(len, self._acknowledged.values()))

    def problems(self, store: Store) -> list[str]:
        """Return what the store does not keep, as sentences; none means that it keeps all."""
        found = []
        if self.store_id not in (None, store.info().store_id):
            found.append("the store is another one than the one that was made")
        names = set(_names(store))
        found += [
            f"{name}: acknowledged {sorted(self._acknowledged[name])}, and gone"
            for name in sorted(self._acknowledged)
            if name not in names and name not in self._going
        ]
        for name in sorted(names):
            found += self._problems_of(store, name)
        return found

    def _problems_of(self, store: Store, name: str) -> Iterator[str]:
        if name not in self._wanted:
            yield f"{name}: nobody has asked for this transaction"
            return
        try:
            journal = store.read(name)
            if journal is None:
                yield f"{name}: is listed, and has no journal"
                return
            load(journal)
            there = list(entries(journal))
        except StoreError as error:
            yield f"{name}: {error}"
            return
        wanted = []
        whole = {0: 0}
        for number, stage in enumerate(STAGES, 1):
            append = self._life(name).appends[stage]
            wanted += [(f"{append.append_id}.{i}", e) for i, e in enumerate(append.entries)]
            whole[len(wanted)] = number
        if there != wanted[: len(there)]:
            yield f"{name}: its journal is not what was written"
        elif len(there) not in whole:
            yield f"{name}: half of an append is there ({len(there)} entries)"
        else:
            yield from self._compared(name, set(STAGES[: whole[len(there)]]))

    def _compared(self, name: str, there: set[str]) -> Iterator[str]:
        lost = self._acknowledged.get(name, set()) - there
        if lost:
            yield f"{name}: acknowledged {sorted(lost)}, and gone"
        strange = there - self._wanted[name]
        if strange:
            yield f"{name}: {sorted(strange)} is there, which was certainly not written"
        if name in self._gone:
            yield f"{name}: was purged, and is there again"

    def _life(self, name: str) -> Life:
        return Life(name, self._drivers[name])


def _names(store: Store) -> Iterator[str]:
    after = None
    while page := store.find(Query(after=after, limit=_PAGE)):
        for listed in page:
            yield listed.summary.transaction_id
        after = page[-1].position
