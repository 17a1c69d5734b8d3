"""A store as a third party would write one: small, plain, and with every promise kept.

Owns: `ShelfStore`. It keeps the bytes of entries on a shelf that several handles share, looks at
everything again at each call, and uses of the package what `docs/testing.md` names: the codec, the
hash chain, the book of locks, and whose turn it is.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

from aumai_transactions.core.codec import encode
from aumai_transactions.core.fairness import Candidate, in_turns
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash
from aumai_transactions.core.lock_book import LockBook
from aumai_transactions.core.locking import whose_turn
from aumai_transactions.errors import StoreError
from aumai_transactions.queries import Listed, Query, Tally, fits, page_of
from aumai_transactions.store import AppendAnswer, KnownDriver, StoreInfo, check_append


@dataclass
class Row:
    """One transaction."""

    position: int
    summary: object
    entries: list[StoredEntry] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    token: int = 0
    driver_id: str | None = None

    @property
    def head(self):
        return self.entries[-1].hash if self.entries else NO_HASH


class Shelf:
    """What the handles share."""

    def __init__(self):
        self.changed = threading.Condition()
        self.rows: dict[str, Row] = {}
        self.positions = 0
        self.locks = LockBook()
        self.alive: dict[str, object] = {}
        self.changes = 0
        self.store_id = uuid4().hex
        self.last_tenant = ""


class ShelfStore:
    """A handle of a shelf."""

    is_blocking = False
    is_durable = False
    lease_seconds = 30.0

    def __init__(self, shelf):
        self.shelf = shelf
        self.is_closed = False

    def _opened(self):
        if self.is_closed:
            raise StoreError("this handle is closed.")
        return self.shelf

    def _joined(self, driver_id):
        if driver_id not in self._opened().alive:
            raise StoreError(f"driver {driver_id!r} has not joined, or has left.")

    def join(self):
        with self.shelf.changed:
            driver_id = uuid4().hex
            self._opened().alive[driver_id] = self
            return driver_id

    def leave(self, driver_id):
        with self.shelf.changed:
            self.shelf.alive.pop(driver_id, None)

    def renew(self, driver_id):
        with self.shelf.changed:
            self._joined(driver_id)

    def append(self, appends):
        with self.shelf.changed:
            self._opened()
            for append in appends:
                check_append(append) if append.token is None or append.driver_id else None
                if append.driver_id is not None:
                    self._joined(append.driver_id)
            answers, refused = [], set()
            for append in appends:
                is_dropped = append.transaction_id in refused
                answer = self._refusal(append)
                if is_dropped and answer is not AppendAnswer.already_ours:
                    answer = AppendAnswer.moved
                answer = answer or self._made(append)
                if answer not in (AppendAnswer.appended, AppendAnswer.already_ours):
                    refused.add(append.transaction_id)
                answers.append(answer)
            if AppendAnswer.appended in answers:
                self.shelf.changes += 1
                self.shelf.changed.notify_all()
            return answers

    def _row(self, append):
        row = self.shelf.rows.get(append.transaction_id) or Row(0, append.summary)
        return row, [f"{append.append_id}.{number}" for number in range(len(append.entries))]

    def _refusal(self, append):
        shelf = self.shelf
        row, ids = self._row(append)
        first = append.expected_sequence
        is_ours = row.ids[first : first + len(ids)] == ids
        if append.driver_id is not None:
            if is_ours and append.token == row.token:
                return AppendAnswer.already_ours
            if first != len(row.ids) or append.token != row.token + 1:
                return AppendAnswer.moved
            if row.driver_id in shelf.alive and row.driver_id != append.driver_id:
                return AppendAnswer.held
        else:
            if append.token is not None and append.token != (row.token or None):
                return AppendAnswer.fenced
            if is_ours:
                return AppendAnswer.already_ours
            if first != len(row.ids):
                return AppendAnswer.moved
        return None

    def _made(self, append):
        shelf = self.shelf
        row, ids = self._row(append)
        change = None
        if append.holdings is not None or append.reads:
            change = shelf.locks.take(append.transaction_id, append.holdings, append.reads)
            if change is None:
                return AppendAnswer.blocked
        self._keep(row, append, ids)
        if change is not None and (change.gone or change.waits):
            self._wake(append.transaction_id, change)
        return AppendAnswer.appended

    def _keep(self, row, append, ids):
        if not row.position:
            self.shelf.positions += 1
            row.position = self.shelf.positions
            self.shelf.rows[append.transaction_id] = row
        for entry_id, entry in zip(ids, append.entries, strict=True):
            body, sequence = encode(entry, entry_id), len(row.ids) + 1
            chained = chain_hash(append.transaction_id, sequence, row.head, body)
            row.entries.append(StoredEntry(sequence, body, chained))
            row.ids.append(entry_id)
        row.summary = append.summary
        if append.driver_id is not None:
            row.token, row.driver_id = append.token, append.driver_id
        if append.release or (row.summary.state.is_final and not row.summary.runnable):
            row.driver_id = None

    def _wake(self, transaction_id, change):
        resources = change.freed | {use.name for use in change.waits}
        table = self.shelf.locks.table(resources, circles=False)
        for name in whose_turn(table.locks, {transaction_id: [change]}):
            row = self.shelf.rows[name]
            if row.driver_id is None:
                row.summary = row.summary._replace(due_at=None)

    def read(self, transaction_id):
        with self.shelf.changed:
            row = self._opened().rows.get(transaction_id)
            if row is None:
                return None
            entries = tuple(row.entries)
            return Journal(
                transaction_id, entries, len(entries), row.head, row.token, row.driver_id
            )

    def find(self, query):
        found = self._matching(query)
        if query.newest_first:
            found.reverse()
        if query.after is not None:
            found = [
                row
                for row in found
                if (row.position < query.after) == query.newest_first
                and row.position != query.after
            ]
        page = found[max(query.offset, 0) :][: max(query.limit, 0)]
        return page_of([Listed(row.position, row.summary, row.driver_id) for row in page], query)

    def count(self, query):
        return len(self._matching(query))

    def drivers(self):
        with self.shelf.changed:
            held: dict[str, list[str]] = {name: [] for name in self._opened().alive}
            for name, row in self.shelf.rows.items():
                if row.driver_id is not None:
                    held.setdefault(row.driver_id, []).append(name)
            return [
                KnownDriver(name, name in self.shelf.alive, None, None, None, tuple(names))
                for name, names in held.items()
            ]

    def changes(self):
        with self.shelf.changed:
            return self._opened().changes

    def tally(self):
        summaries = [row.summary for row in self._matching(Query())]
        reasons = [summary.attention for summary in summaries if summary.attention is not None]
        states = Counter(summary.state for summary in summaries)
        return Tally(dict(states), dict(Counter(reasons)))

    def _matching(self, query):
        with self.shelf.changed:
            return [
                row
                for row in sorted(self._opened().rows.values(), key=lambda row: row.position)
                if fits(query, row.summary)
            ]

    def due(self, driver_id, limit, now, *, agents=None, reserve_seconds=0):
        with self.shelf.changed:
            shelf = self._opened()
            found = [
                Candidate(row.position, name, row.summary.tenant or "")
                for name, row in shelf.rows.items()
                if row.summary.runnable
                and (row.driver_id == driver_id or row.driver_id not in shelf.alive)
                and (row.summary.due_at or now) <= now
                and (agents is None or row.summary.next_agent in (None, *agents))
            ]
            chosen = in_turns(found, limit, shelf.last_tenant)
            if chosen:
                shelf.last_tenant = chosen[0].tenant
            return [candidate.transaction_id for candidate in chosen]

    def locks(self, resources):
        with self.shelf.changed:
            return self._opened().locks.table(resources)

    def wait_for_news(self, seconds):
        with self.shelf.changed:
            seen, until = self._opened().changes, time.monotonic() + seconds
            while self.shelf.changes == seen and not self.is_closed:
                if not self.shelf.changed.wait(until - time.monotonic()):
                    break
            return self.shelf.changes != seen

    def purge(self, before, limit):
        with self.shelf.changed:
            old = [
                name
                for name, row in self._opened().rows.items()
                if row.summary.state.is_final
                and not row.summary.runnable
                and row.summary.attention is None
                and row.summary.updated_at < before
            ]
            for name in old[:limit]:
                del self.shelf.rows[name]
            self.shelf.changes += bool(old[:limit])
            return len(old[:limit])

    def info(self, *, thorough=False):
        with self.shelf.changed:
            shelf = self._opened()
            return StoreInfo("shelf:", shelf.store_id, False, 0, shelf.changes, {})

    def close(self):
        with self.shelf.changed:
            self.is_closed = True
            mine = [name for name, handle in self.shelf.alive.items() if handle is self]
            for name in mine:
                del self.shelf.alive[name]
            self.shelf.changed.notify_all()
