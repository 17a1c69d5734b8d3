"""The store that keeps journals in this process and nowhere else.

Owns: `MemoryStore`, what a manager uses where no store is named.
Rules:
  1. `append` is on every step's way: one lock, one dict lookup, comparisons, one `extend`.
  2. Entries are kept as objects. Their bytes and the hash chain are computed when somebody
     reads the journal, from the same entries and entry ids as a durable store would.
  3. A driver lives from `join` to `leave` or `close`; there is no process to outlive, so there
     is no lease to run out.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from itertools import islice
from threading import Condition
from threading import Lock as ThreadLock
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from aumai_transactions.core.codec import encode
from aumai_transactions.core.fairness import Candidate, in_turns
from aumai_transactions.core.happenings import happenings
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash, entry_ids
from aumai_transactions.core.lock_book import LockBook
from aumai_transactions.core.locking import Change, LockTable, whose_turn
from aumai_transactions.errors import StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.outbox import OutboxBook, OutboxInMemory
from aumai_transactions.queries import (
    Listed,
    Page,
    Query,
    Tally,
    count_in_pieces,
    find_in_pieces,
    fits,
    page_of,
)
from aumai_transactions.store import (
    HELD_MAX,
    LEASE_SECONDS,
    Append,
    AppendAnswer,
    KnownDriver,
    StoreInfo,
    check_append,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.outcome import Summary

# Why names for members: a lookup in an enum class is slower than one in a module.
_APPENDED = AppendAnswer.appended
_ALREADY_OURS = AppendAnswer.already_ours
_MOVED = AppendAnswer.moved
_FENCED = AppendAnswer.fenced
_HELD = AppendAnswer.held
_BLOCKED = AppendAnswer.blocked
_COMMITTED = TransactionState.committed
_ROLLED_BACK = TransactionState.rolled_back
_FAILED = TransactionState.failed


class _Kept:
    """Hold one transaction: its entries, and which append brought which of them."""

    __slots__ = ("driver_id", "entries", "marks", "position", "summary", "token")

    def __init__(self, position: int, summary: Summary) -> None:
        self.position = position
        self.summary = summary
        self.token = 0
        self.driver_id: str | None = None
        self.entries: list[Entry] = []
        # One pair for each append: how many entries stood before it, and its name.
        self.marks: list[tuple[int, str]] = []


class MemoryStore(OutboxInMemory):
    """Keep journals in memory; they end with the process."""

    is_blocking = False
    is_durable = False
    lease_seconds: float = LEASE_SECONDS

    def __init__(self) -> None:
        self._lock = ThreadLock()
        self._news = Condition(self._lock)
        self._waiters = 0
        self._store_id = uuid4().hex
        self._by_id: dict[str, _Kept] = {}
        # None where one was purged: a place in this list is a position for good.
        self._in_order: list[_Kept | None] = []
        self._runnable: dict[str, _Kept] = {}
        self._alive: set[str] = set()
        self._changes = 0
        self._last_tenant = ""
        self._locks = LockBook()
        self._outbox = OutboxBook(lambda: f"msg_{uuid4().hex}")
        self._closed = False

    def join(self) -> str:
        """Return a new driver id, alive from now until `leave` or `close`."""
        driver_id = uuid4().hex
        with self._lock:
            self._check_open()
            self._alive.add(driver_id)
        return driver_id

    def leave(self, driver_id: str) -> None:
        """Say that this driver drives nothing any more; what it held can be claimed at once."""
        with self._lock:
            self._alive.discard(driver_id)

    def renew(self, driver_id: str) -> None:
        """Do nothing: a driver of this store needs no lease.

        Raises:
            StoreError: The driver has not joined, or has left.
        """
        with self._lock:
            self._check_open()
            self._check_joined(driver_id)

    def append(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        """Keep each append, or say why not; see `Store.append`."""
        with self._lock:
            if self._closed:
                self._check_open()
            if len(appends) == 1:
                answer = self._append(appends[0])
                if answer is _APPENDED:
                    self._changes += 1
                    if self._waiters:
                        self._news.notify_all()
                return [answer]
            return self._append_all(appends)

    def _append_all(self, appends: Sequence[Append]) -> list[AppendAnswer]:
        for append in appends:
            if append.driver_id is not None:
                self._check_joined(append.driver_id)
        answers = []
        refused: set[str] = set()
        for append in appends:
            if append.transaction_id in refused:
                answer = self._behind_a_refused(append)
            else:
                answer = self._append(append)
                if answer is not _APPENDED and answer is not _ALREADY_OURS:
                    refused.add(append.transaction_id)
            answers.append(answer)
        if _APPENDED in answers:
            self._changes += 1
            self._news.notify_all()
        return answers

    def _behind_a_refused(self, append: Append) -> AppendAnswer:
        """Answer an append behind one of the same transaction, in the same call, that was not made.

        Why not always `moved`: what had been made before, though nobody knew it, would be made
        a second time.
        """
        kept = self._by_id.get(append.transaction_id)
        is_there = kept is not None and self._refusal(kept, append) is _ALREADY_OURS
        return _ALREADY_OURS if is_there else _MOVED

    def _append(self, append: Append) -> AppendAnswer:
        (
            transaction_id,
            expected,
            append_id,
            entries,
            summary,
            token,
            driver_id,
            release,
            holdings,
            reads,
        ) = append
        locks = holdings is not None or reads
        change: Change | None = None
        if token is None or driver_id is not None:
            check_append(append)
        kept = self._by_id.get(transaction_id)
        if kept is None:
            if driver_id is not None:
                self._check_joined(driver_id)
                if token != 1:
                    return _MOVED
            elif token is not None:
                return _FENCED
            if expected != 0:
                return _MOVED
            if locks and (change := self._locks.take(transaction_id, holdings, reads)) is None:
                return _BLOCKED
            kept = self._new(transaction_id, summary)
        elif (refusal := self._refusal(kept, append)) is not None:
            return refusal
        elif locks and (change := self._locks.take(transaction_id, holdings, reads)) is None:
            return _BLOCKED
        if driver_id is not None:
            kept.token = token  # type: ignore[assignment]  # a claim carries its token
            kept.driver_id = driver_id
        if self._outbox.webhooks:
            self._tell(kept, append)
        kept.marks.append((expected, append_id))
        kept.entries.extend(entries)
        kept.summary = summary
        if summary.runnable:
            self._runnable[transaction_id] = kept
            if release:
                kept.driver_id = None
        else:
            self._runnable.pop(transaction_id, None)
            state = summary.state
            if state is _COMMITTED or state is _ROLLED_BACK or state is _FAILED or release:
                kept.driver_id = None
        if change is not None and (change.gone or change.waits):
            self._wake(transaction_id, change)
        return _APPENDED

    def _tell(self, kept: _Kept, append: Append) -> None:
        was = kept.summary.attention if kept.entries else None
        now = append.summary.attention
        found = happenings(append.entries, len(kept.entries), was, now)
        self._outbox.tell(append.transaction_id, found)

    def _wake(self, transaction_id: str, change: Change) -> None:
        """Let those be due at once whose turn it is."""
        resources = change.freed | {use.name for use in change.waits}
        table = self._locks.table(resources, circles=False)
        for name in whose_turn(table.locks, {transaction_id: [change]}):
            kept = self._by_id[name]
            if kept.driver_id is None and kept.summary.due_at is not None:
                kept.summary = kept.summary._replace(due_at=None)

    def _refusal(self, kept: _Kept, append: Append) -> AppendAnswer | None:
        """Return why the append cannot be accepted; None where it can."""
        token = append.token
        driver_id = append.driver_id
        has_moved = append.expected_sequence != len(kept.entries)
        if driver_id is None:
            if token is not None and token != kept.token:
                return _FENCED
            if has_moved:
                return _ALREADY_OURS if _holds(kept, append) else _MOVED
            return None
        self._check_joined(driver_id)
        if token == kept.token and _holds(kept, append):
            return _ALREADY_OURS
        if has_moved or token != kept.token + 1:
            return _MOVED
        holder = kept.driver_id
        if holder is not None and holder != driver_id and holder in self._living():
            return _HELD
        return None

    def _living(self) -> set[str]:
        """Return the drivers that live now."""
        return self._alive

    def _new(self, transaction_id: str, summary: Summary) -> _Kept:
        kept = _Kept(len(self._in_order) + 1, summary)
        self._by_id[transaction_id] = kept
        self._in_order.append(kept)
        return kept

    def read(self, transaction_id: str) -> Journal | None:
        """Return the whole journal, its chain computed now; None where there is none."""
        with self._lock:
            self._check_open()
            kept = self._by_id.get(transaction_id)
            if kept is None:
                return None
            entries, marks = list(kept.entries), list(kept.marks)
            token, driver_id = kept.token, kept.driver_id
        stored = []
        before = NO_HASH
        ids = entry_ids(marks, len(entries))
        for sequence, (entry_id, entry) in enumerate(zip(ids, entries, strict=True), 1):
            body = encode(entry, entry_id)
            before = chain_hash(transaction_id, sequence, before, body)
            stored.append(StoredEntry(sequence, body, before))
        return Journal(transaction_id, tuple(stored), len(stored), before, token, driver_id)

    def find(self, query: Query) -> Page:
        """Return one page of transactions in order of arrival."""
        if query.is_search:
            return find_in_pieces(query, self._look)
        with self._lock:
            self._check_open()
            first = max(query.offset, 0)
            page = islice(self._matching(query), first, first + max(query.limit, 0))
            return page_of([_listed(kept) for kept in page], query)

    def _look(self, query: Query) -> Page:
        """Return what a search finds in the next lines."""
        with self._lock:
            self._check_open()
            places = self._places(query)
            piece = places[: query.looks_max]
            found = islice(self._fitting(query, piece), query.limit)
            page = Page([_listed(kept) for kept in found])
            if len(page) >= query.limit:
                page.goes_on_after = page[-1].position
            elif len(piece) < len(places):
                page.goes_on_after = piece[-1]
            return page

    def count(self, query: Query) -> int:
        """Return how many transactions the query fits; its limit and offset do not matter."""
        if query.is_search:
            return count_in_pieces(query, self._count)
        with self._lock:
            self._check_open()
            if query == Query(limit=query.limit, offset=query.offset):
                return len(self._by_id)
            return sum(1 for _ in self._matching(query))

    def _count(self, query: Query) -> tuple[int, int | None]:
        with self._lock:
            self._check_open()
            places = self._places(query)
            piece = places[: query.looks_max]
            fitting = sum(1 for _ in self._fitting(query, piece))
            return fitting, piece[-1] if len(piece) < len(places) else None

    def tally(self) -> Tally:
        """Return how many transactions there are of each state, and how many need a person."""
        with self._lock:
            self._check_open()
            states = Counter(kept.summary.state for kept in self._by_id.values())
            reasons = Counter(
                reason
                for kept in self._by_id.values()
                if (reason := kept.summary.attention) is not None
            )
        return Tally(dict(states), dict(reasons))

    def _matching(self, query: Query) -> Iterator[_Kept]:
        return self._fitting(query, self._places(query))

    def _places(self, query: Query) -> range:
        """Return the positions behind `query.after`; one is one more than the index."""
        last = len(self._in_order)
        if query.newest_first:
            start = last if query.after is None else min(query.after - 1, last)
            return range(start, 0, -1)
        return range(max(query.after or 0, 0) + 1, last + 1)

    def _fitting(self, query: Query, places: range) -> Iterator[_Kept]:
        for place in places:
            kept = self._in_order[place - 1]
            if kept is not None and fits(query, kept.summary):
                yield kept

    def due(
        self,
        driver_id: str,
        limit: int,
        now: int,
        *,
        agents: Collection[str] | None = None,
        reserve_seconds: float = 0,  # noqa: ARG002 (who asks in one process is told of all)
    ) -> list[str]:
        """Return ids of runnable transactions whose driver is dead, is nobody, or is this one."""
        with self._lock:
            self._check_open()
            others = self._living() - {driver_id}
            found = [
                Candidate(kept.position, transaction_id, kept.summary.tenant or "")
                for transaction_id, kept in self._runnable.items()
                if kept.driver_id not in others
                and (kept.summary.due_at or now) <= now
                and (agents is None or kept.summary.next_agent in (None, *agents))
            ]
            chosen = in_turns(found, limit, self._last_tenant)
            if chosen:
                # Why the first one's: who asks may have room for no more than that.
                self._last_tenant = chosen[0].tenant
        return [candidate.transaction_id for candidate in chosen]

    def locks(self, resources: Collection[str] | None) -> LockTable:
        """Return who holds and who waits for these resources; see `Store.locks`."""
        with self._lock:
            self._check_open()
            return self._locks.table(resources)

    def drivers(self) -> list[KnownDriver]:
        """Return the drivers that live or hold something."""
        with self._lock:
            self._check_open()
            held: dict[str, list[str]] = {name: [] for name in self._living()}
            for name, kept in self._by_id.items():
                if kept.driver_id is not None:
                    held.setdefault(kept.driver_id, []).append(name)
            living = self._living()
        pid = os.getpid()
        return [
            KnownDriver(name, name in living, None, None, pid, tuple(names[:HELD_MAX]))
            for name, names in sorted(held.items())
        ]

    def changes(self) -> int:
        """Return the change counter."""
        with self._lock:
            self._check_open()
            return self._changes

    def wait_for_news(self, seconds: float) -> bool:
        """Block until something was appended, or the time is over; tell which it was."""
        until = monotonic() + seconds
        with self._lock:
            self._check_open()
            seen = self._changes
            self._waiters += 1
            try:
                while self._changes == seen and not self._closed:
                    if not self._news.wait(until - monotonic()):
                        break
            finally:
                self._waiters -= 1
            return self._changes != seen

    def purge(self, before: int, limit: int) -> int:
        """Delete finished transactions that need nobody and changed last before a time."""
        with self._lock:
            self._check_open()
            old = (
                kept
                for kept in self._by_id.values()
                if kept.summary.state.is_final
                and not kept.summary.runnable
                and kept.summary.attention is None
                and kept.summary.updated_at < before
                and not self._outbox.is_untold(kept.summary.transaction_id)
            )
            gone = list(islice(old, max(limit, 0)))
            for kept in gone:
                del self._by_id[kept.summary.transaction_id]
                self._in_order[kept.position - 1] = None
                self._outbox.forget(kept.summary.transaction_id)
            self._changes += bool(gone)
        return len(gone)

    def info(self, *, thorough: bool = False) -> StoreInfo:  # noqa: ARG002 (nothing takes long)
        """Return what this store is."""
        with self._lock:
            return StoreInfo(
                url="memory:",
                store_id=self._store_id,
                durable=False,
                schema_version=0,
                changes=self._changes,
                checks={},
            )

    def close(self) -> None:
        """Let go of everything; every driver that joined is dead then."""
        with self._lock:
            self._closed = True
            self._alive.clear()
            self._news.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("this memory store is closed. Make a new one.")

    def _check_joined(self, driver_id: str) -> None:
        if driver_id not in self._alive:
            raise StoreError(
                f"driver {driver_id!r} has not joined this store, or has left it. Call join()."
            )


def _listed(kept: _Kept) -> Listed:
    return Listed(kept.position, kept.summary, kept.driver_id)


def _holds(kept: _Kept, append: Append) -> bool:
    """Tell whether these very entry ids stand at the append's sequences."""
    marks = kept.marks
    index = bisect_left(marks, (append.expected_sequence, ""))
    if index == len(marks) or marks[index] != (append.expected_sequence, append.append_id):
        return False
    end = marks[index + 1][0] if index + 1 < len(marks) else len(kept.entries)
    return end - append.expected_sequence >= len(append.entries)
