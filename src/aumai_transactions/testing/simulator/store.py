"""The store of a simulated world, and how a process reaches it.

Owns: leases by the store's own clock, and what can go wrong between a process and the store. The
answers to appends are the memory store's.
Rules:
  1. What a journal keeps are the bytes, as in every durable store: what is read is decoded.
  2. A driver lives as long as its lease, whatever its process does; a crash may be proved at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.codec import encode
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash
from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.store import (
    Append,
    AppendAnswer,
    KnownDriver,
    Listed,
    Page,
    Query,
    StoreInfo,
    Tally,
)
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.simulator.agenda import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from random import Random

    from aumai_transactions.core.locking import LockTable
    from aumai_transactions.testing.simulator.agenda import Agenda
    from aumai_transactions.testing.simulator.faults import Faults

    OnAppend = Callable[[Append], None]


class SimulatedStore(MemoryStore):
    """Keep the journals of a simulated world.

    Args:
        agenda: The time.
        lease_seconds: How long a driver lives after its last sign.
        on_append: Told each append that was made, right after it.
        on_answer: Told each append and its answer.
    """

    is_durable = True

    def __init__(
        self,
        agenda: Agenda,
        lease_seconds: float,
        on_append: OnAppend,
        on_answer: Callable[[Append, AppendAnswer], None],
    ) -> None:
        super().__init__()
        self.lease_seconds = lease_seconds
        self._agenda = agenda
        self._on_append = on_append
        self._on_answer = on_answer
        self._store_id = "simulated"
        self._leases: dict[str, int] = {}
        self._joined = 0
        self._stored: dict[str, list[StoredEntry]] = {}

    def join(self) -> str:
        """Return a new driver id, leased from now on."""
        self._joined += 1
        driver_id = f"driver-{self._joined}"
        self._alive.add(driver_id)
        self.renew(driver_id)
        return driver_id

    def renew(self, driver_id: str) -> None:
        """Extend the driver's lease, by the store's clock."""
        self._check_joined(driver_id)
        self._leases[driver_id] = self._agenda.now + int(self.lease_seconds * SECOND)

    def _living(self) -> set[str]:
        now = self._agenda.now
        return {name for name in self._alive if self._leases[name] > now}

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Keep each append, or say why not, and tell who watches."""
        answers = super().append(appends)
        for append, answer in zip(appends, answers, strict=True):
            if answer is AppendAnswer.appended:
                if append.driver_id is not None:
                    self.renew(append.driver_id)
                self._on_append(append)
            self._on_answer(append, answer)
        return answers

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal; each entry is encoded once."""
        kept = self._by_id.get(transaction_id)
        if kept is None:
            return None
        stored = self._stored.setdefault(transaction_id, [])
        marks = kept.marks
        if len(stored) < len(kept.entries):
            number = len(marks) - 1
            while marks[number][0] > len(stored):
                number -= 1
            before = stored[-1].hash if stored else NO_HASH
            for position in range(len(stored), len(kept.entries)):
                if number + 1 < len(marks) and marks[number + 1][0] <= position:
                    number += 1
                start, append_id = marks[number]
                entry_id = f"{append_id}.{position - start}"
                body = encode(kept.entries[position], entry_id)
                before = chain_hash(transaction_id, position + 1, before, body)
                stored.append(StoredEntry(position + 1, body, before))
        head = stored[-1].hash
        entries = tuple(stored)
        return Journal(transaction_id, entries, len(entries), head, kept.token, kept.driver_id)

    def length_of(self, transaction_id: str) -> int:
        """Return how many entries of a transaction stand here."""
        kept = self._by_id.get(transaction_id)
        return 0 if kept is None else len(kept.entries)

    def is_leased(self, driver_id: str | None) -> bool:
        """Tell whether a driver lives, by the store's clock."""
        until = self._leases.get(driver_id or "", 0)
        return driver_id in self._alive and until > self._agenda.now

    def listed(self) -> list[Listed]:
        """Return every transaction, in order of arrival."""
        return self.find(Query(limit=1_000_000))

    def listed_one(self, transaction_id: str) -> Listed | None:
        """Return what stands beside a journal."""
        kept = self._by_id.get(transaction_id)
        return None if kept is None else Listed(kept.position, kept.summary, kept.driver_id)


class StoreHandle:
    """Be the store as one process sees it, over a network that fails.

    Args:
        store: The store.
        agenda: The time.
        faults: What goes wrong.
        dice: Draws the details.
        whose: The process.
    """

    is_blocking = True
    is_durable = True

    def __init__(
        self, store: SimulatedStore, agenda: Agenda, faults: Faults, dice: Random, whose: str
    ) -> None:
        self._whose = whose
        self._store = store
        self._agenda = agenda
        self._faults = faults
        self._dice = dice
        self._down_until = 0
        self.lease_seconds = store.lease_seconds

    def _reach(self) -> None:
        """Get through to the store, or raise."""
        if self._faults.hit("store_down", self._whose):
            seconds = self._dice.choice((1, 5, 30))
            self._down_until = self._agenda.now + seconds * SECOND
        if self._agenda.now < self._down_until and not self._faults.is_healed:
            raise StoreUnavailable("the store is not there", outcome_unknown=False)
        if self._faults.hit("store_lost", self._whose):
            raise StoreUnavailable("the request was lost", outcome_unknown=True)

    def join(self) -> str:
        """Return a new driver id."""
        return self._store.join()

    def leave(self, driver_id: str) -> None:
        """Say that this driver drives nothing any more."""
        self._store.leave(driver_id)

    def renew(self, driver_id: str) -> None:
        """Extend the driver's lease."""
        if self._faults.hit("lease_lost", self._whose):
            raise StoreUnavailable("the lease could not be renewed")
        self._reach()
        self._store.renew(driver_id)

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Append, unless the way there or back fails."""
        self._reach()
        if self._faults.hit("store_later", self._whose):
            self._agenda.after(self._dice.choice((0.05, 0.3, 2.0, 20.0)), self._late, appends)
            raise StoreUnavailable("the answer did not come in time", outcome_unknown=True)
        answers = self._store.append(appends)
        if self._faults.hit("store_reply_lost", self._whose):
            raise StoreUnavailable("the answer was lost", outcome_unknown=True)
        return answers

    def _late(self, appends: Sequence[Append]) -> None:
        try:
            answers = self._store.append(appends)
        except StoreError:
            self._faults.counts["late_append_refused"] += 1
            return
        for answer in answers:
            self._faults.counts[f"late_append_{answer.value}"] += 1

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal."""
        self._reach()
        return self._store.read(transaction_id)

    def find(self, query: Query) -> Page:
        """Return one page of transactions."""
        self._reach()
        return self._store.find(query)

    def count(self, query: Query) -> int:
        """Return how many transactions the query fits."""
        self._reach()
        return self._store.count(query)

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        self._reach()
        return self._store.tally()

    def drivers(self) -> list[KnownDriver]:
        """Return the drivers that live or hold something."""
        self._reach()
        return self._store.drivers()

    def changes(self) -> int:
        """Return the change counter."""
        self._reach()
        return self._store.changes()

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,
    ) -> list[str]:
        """Return ids of runnable transactions that nobody else drives."""
        self._reach()
        return self._store.due(
            driver_id, limit, now, agents=agents, reserve_seconds=reserve_seconds
        )

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources."""
        self._reach()
        return self._store.locks(resources)

    def wait_for_news(self, seconds: float) -> bool:  # noqa: ARG002 (as the contract has it)
        """Say that there may be news; nothing waits inside of one operation."""
        return True

    def purge(self, before: int, limit: int) -> int:
        """Delete finished transactions."""
        self._reach()
        return self._store.purge(before, limit)

    def info(self, *, thorough: bool = False) -> StoreInfo:
        """Return what this store is."""
        self._reach()
        return self._store.info(thorough=thorough)

    def close(self) -> None:
        """Do nothing: the store outlives its handles."""
