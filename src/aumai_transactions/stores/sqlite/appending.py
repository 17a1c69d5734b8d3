"""What an append checks and writes, inside of one write transaction.

Owns: the five answers, as SQL, and what is remembered of the heads that they are about.
Rules:
  1. The caller holds the write lock, commits, and answers nobody before that.
  2. An entry is encoded once, before the transaction begins; its hash waits for the head.
  3. The rows of all appends of one call are written together, at its end or where one of them is
     asked for: a statement for each costs more than what it writes.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aumai_transactions.core.codec import encode
from aumai_transactions.core.happenings import happenings
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.core.labels import labels_of
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import StoreError
from aumai_transactions.store import Append, AppendAnswer, check_append
from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.locks import LockKeeper
from aumai_transactions.stores.sqlite.outbox import Listeners, listeners, rows_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aumai_transactions.core.outcome import Summary


Labelled: TypeAlias = "tuple[str | None, tuple[str, ...], tuple[str, ...], dict[str, str] | None]"
HEADS_MAX = 4096
"""How many heads are remembered; where there are more, all are looked up again."""


@dataclass(slots=True)
class Head:
    """Hold the end of one journal, as this write transaction sees it."""

    ordinal: int | None = None
    sequence: int = 0
    hash: bytes = NO_HASH
    token: int = 0
    driver_id: str | None = None
    # The columns that stand in an index: driver id, state, attention, runnable, due at, tenant.
    indexed: tuple[str | int | None, ...] = (None, None, None, None, None, None)
    # What it is searched by, as the summary has it; None where that is not remembered.
    labelled: Labelled | None = None


@dataclass(slots=True, frozen=True)
class Prepared:
    """Hold an append and the bodies of its entries."""

    append: Append
    bodies: list[bytes]


def prepare(append: Append) -> Prepared:
    """Return an append with its entries encoded.

    Raises:
        StoreError: An entry cannot be written as JSON.
    """
    if append.token is None or append.driver_id is not None:
        check_append(append)
    name = append.append_id
    try:
        bodies = [encode(entry, f"{name}.{i}") for i, entry in enumerate(append.entries)]
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"an entry of transaction {append.transaction_id} cannot be written: {error}"
        ) from error
    return Prepared(append, bodies)


class Appending:
    """Answer the appends of one call.

    Args:
        connection: In a write transaction.
        heads: The heads that are known; those that this is about are added, and moved on.
        is_alive: Tells whether a driver lives.
        record: Records a driver that claims.
        is_careful: True to write each append by itself, and so find out which one cannot be.
        told: Who is told of what happens.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        heads: dict[str, Head],
        is_alive: Callable[[str], bool],
        record: Callable[[str], object],
        *,
        is_careful: bool = False,
        told: Listeners = (),
    ) -> None:
        self._told = told
        self._deliveries: list[tuple[Any, ...]] = []
        self._connection = connection
        self._heads = heads
        self._is_alive = is_alive
        self._record = record
        self._is_careful = is_careful
        self._refused: set[str] = set()
        self._entries: list[tuple[int | None, int, bytes, bytes]] = []
        self._updates: dict[int, _Update] = {}
        self._labels: list[tuple[Any, ...]] = []

    def write_all(self) -> None:
        """Write what the answers so far promise.

        Raises:
            sqlite3.IntegrityError: Entries stand behind one of the heads, or a head is not there;
                ask again, carefully.
        """
        if self._entries:
            self._connection.executemany(statements.ADD_ENTRY, self._entries)
            self._entries.clear()
        if self._updates:
            updates = self._updates.values()
            counts = [(*one.counts, one.ordinal) for one in updates if one.indexed is None]
            whole = [(*one.counts, *one.indexed, one.ordinal) for one in updates if one.indexed]
            if counts:
                self._connection.executemany(statements.UPDATE_COUNTS, counts)
            if whole:
                self._connection.executemany(statements.UPDATE_TRANSACTION, whole)
            self._updates.clear()
        if self._labels:
            self._connection.executemany(statements.UPDATE_LABELS, self._labels)
            self._labels.clear()
        if self._deliveries:
            self._connection.executemany(statements.ADD_DELIVERY, self._deliveries)
            self._deliveries.clear()

    def answer(self, prepared: Prepared) -> AppendAnswer:
        """Write one append, or say why not."""
        append = prepared.append
        name = append.transaction_id
        if name in self._refused:
            return self._behind_a_refused(append)
        head = self._heads.get(name)
        if head is None:
            head = self._heads[name] = self._head(name)
        refusal = self._refusal(head, append)
        if refusal is AppendAnswer.already_ours:
            return refusal
        keeper = None
        if refusal is None and (append.holdings is not None or append.reads):
            keeper = LockKeeper(self._connection, append)
            refusal = AppendAnswer.blocked if keeper.is_refused() else None
        if refusal is None and not self._write(head, prepared):
            # Entries stand behind the head: somebody tampered. Whoever reads again finds out.
            refusal = AppendAnswer.moved
        if refusal is not None:
            self._refused.add(name)
            self._heads.pop(name, None)
            return refusal
        if keeper is not None:
            # Order matters: it may wake transactions of which something is not written yet.
            self.write_all()
            for woken in keeper.take():
                self._heads.pop(woken, None)  # Its row says something else now.
        return AppendAnswer.appended

    def _behind_a_refused(self, append: Append) -> AppendAnswer:
        """Answer an append behind one of the same transaction, in the same call, that was not made.

        Why not always `moved`: what had been made before, though nobody knew it, would be made
        a second time.
        """
        self.write_all()
        ours = self._refusal(self._head(append.transaction_id), append)
        return ours if ours is AppendAnswer.already_ours else AppendAnswer.moved

    def _head(self, transaction_id: str) -> Head:
        row = self._connection.execute(statements.HEAD, (transaction_id,)).fetchone()
        if row is None:
            return Head()
        ordinal, sequence, head_hash, token, *indexed = row
        return Head(ordinal, sequence, head_hash, token, indexed[0], tuple(indexed))

    def _refusal(self, head: Head, append: Append) -> AppendAnswer | None:
        token = append.token
        driver_id = append.driver_id
        has_moved = append.expected_sequence != head.sequence
        if driver_id is None:
            if token is not None and token != head.token:
                return AppendAnswer.fenced
            if has_moved:
                ours = self._holds(head, append)
                return AppendAnswer.already_ours if ours else AppendAnswer.moved
            return None
        if token == head.token and self._holds(head, append):
            return AppendAnswer.already_ours
        if has_moved or token != head.token + 1:
            return AppendAnswer.moved
        holder = head.driver_id
        if holder is not None and holder != driver_id and self._is_alive(holder):
            return AppendAnswer.held
        return None

    def _holds(self, head: Head, append: Append) -> bool:
        """Tell whether these very entry ids stand at the append's sequences."""
        first = append.expected_sequence
        last = first + len(append.entries)
        if head.ordinal is None or last > head.sequence or first < 0:
            return False
        self.write_all()
        rows = self._connection.execute(statements.BODIES, (head.ordinal, first, last)).fetchall()
        found = [_entry_id(body) for (body,) in rows]
        return found == [f"{append.append_id}.{i}" for i in range(len(append.entries))]

    def _write(self, head: Head, prepared: Prepared) -> bool:
        append = prepared.append
        summary = append.summary
        name = append.transaction_id
        hashed = []
        sequence, before = head.sequence, head.hash
        for body in prepared.bodies:
            sequence += 1
            before = chain_hash(name, sequence, before, body)
            hashed.append((sequence, body, before))
        token = append.token if append.driver_id is not None else head.token
        driver_id = append.driver_id or head.driver_id
        # Why not every final state: a compensation that is tried again has its driver too.
        if append.release or (summary.state.is_final and not summary.runnable):
            driver_id = None
        indexed = _indexed(summary, driver_id)
        counts = (sequence, before, token, *_counts(summary))
        is_new = head.ordinal is None
        labelled = (summary.name, summary.agents, summary.actions, summary.metadata)
        if is_new:
            row = (name, *counts, *indexed, *_labels(name, labelled))
            head.ordinal = self._connection.execute(statements.ADD_TRANSACTION, row).lastrowid
        ordinal = head.ordinal or 0
        rows = [(ordinal, *one) for one in hashed]
        if not self._is_careful:
            self._entries += rows
        elif not self._write_entries(head, rows, is_new=is_new):
            return False
        if not is_new:
            self._update(ordinal, counts, None if indexed == head.indexed else indexed)
            if labelled != head.labelled:
                self._labels.append((*_labels(name, labelled), ordinal))
        if append.driver_id is not None and driver_id is not None:
            self._record(driver_id)
        if self._told:
            was, now = head.indexed[2], summary.attention
            found = happenings(append.entries, head.sequence, was, now)  # type: ignore[arg-type]
            self._deliveries += rows_for(self._told, name, found)
        head.sequence, head.hash = sequence, before
        head.driver_id, head.indexed, head.labelled = driver_id, indexed, labelled
        head.token = token or 0
        return True

    def _update(
        self, ordinal: int, counts: tuple[Any, ...], indexed: tuple[Any, ...] | None
    ) -> None:
        before = self._updates.get(ordinal)
        if indexed is None and before is not None:
            indexed = before.indexed
        self._updates[ordinal] = _Update(ordinal, counts, indexed)

    def _write_entries(
        self, head: Head, rows: Sequence[tuple[int, int, bytes, bytes]], *, is_new: bool
    ) -> bool:
        for row in rows:
            try:
                self._connection.execute(statements.ADD_ENTRY, row)
            except sqlite3.IntegrityError:
                if is_new:
                    raise
                ours = (head.ordinal, head.sequence, row[1] - 1)
                self._connection.execute(statements.TAKE_ENTRIES_BACK, ours)
                return False
        return True


class _Update(NamedTuple):
    """Hold what the row of a transaction is to say; `indexed` is None where that stays."""

    ordinal: int
    counts: tuple[Any, ...]
    indexed: tuple[Any, ...] | None


class KnownHeads:
    """Remember the heads that this handle has written, for as long as nobody else writes.

    Why it may: the caller asks inside of a write transaction, and SQLite counts the commits of all
    other connections (`PRAGMA data_version`).
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Head] = {}
        self._leases: dict[str, int] = {}
        self._version: int | None = None
        self._told: Listeners | None = None

    def told(self, connection: sqlite3.Connection) -> Listeners:
        """Return who is told of an append that is made now; to be asked behind `take`."""
        if self._told is None:
            self._told = listeners(connection)
        return self._told

    def take(self, connection: sqlite3.Connection) -> tuple[dict[str, Head], dict[str, int]]:
        """Return the heads by transaction, and until when drivers are recorded to live.

        They are not remembered any more until they are handed back.
        """
        (version,) = connection.execute(statements.DATA_VERSION).fetchone()
        heads, leases, told = self._by_id, self._leases, self._told
        self.forget()
        if version == self._version:
            self._told = told
        if version != self._version:
            self._version = version
            return {}, {}
        return heads, leases

    def keep(self, heads: dict[str, Head], leases: dict[str, int]) -> None:
        """Remember what is committed now."""
        self._by_id = heads if len(heads) <= HEADS_MAX else {}
        self._leases = leases

    def forget(self) -> None:
        """Remember nothing any more."""
        self._by_id, self._leases, self._told = {}, {}, None


class BatchAppending:
    """Answer one call's appends, and remember the heads once that is durable.

    Args:
        batch: The appends.
        known: Which heads are known.
        is_alive: Tells of a connection and a driver whether it lives.
        claims: Records, given a connection and until when drivers are recorded to live, a driver
            that claims.
    """

    def __init__(
        self,
        batch: Sequence[Prepared],
        known: KnownHeads,
        is_alive: Callable[[sqlite3.Connection, str], bool],
        claims: Callable[[sqlite3.Connection, dict[str, int], str], None],
    ) -> None:
        self._batch = batch
        self._known = known
        self._is_alive = is_alive
        self._claims = claims
        self._heads: dict[str, Head] = {}
        self._leases: dict[str, int] = {}
        self._has_worked = False

    def work(self, connection: sqlite3.Connection) -> tuple[list[AppendAnswer], bool]:
        """Write, and return the answers, and whether anything is to be committed."""
        self._heads, self._leases = self._known.take(connection)
        try:
            answers = self._answers(connection, is_careful=False)
        except sqlite3.IntegrityError:
            # Entries stand behind a head: somebody tampered. Whose they are is found out now.
            connection.execute(statements.ROLLBACK)
            connection.execute(statements.BEGIN)
            self._known.forget()
            self._heads, self._leases = {}, {}
            answers = self._answers(connection, is_careful=True)
        self._has_worked = True
        return answers, AppendAnswer.appended in answers

    def keep_heads(self) -> None:
        """Remember the heads, where anything was done: what was written is durable."""
        if not self._has_worked:
            return
        for prepared in self._batch:
            summary = prepared.append.summary
            if summary.state.is_final:
                self._heads.pop(prepared.append.transaction_id, None)
        self._known.keep(self._heads, self._leases)

    def _answers(self, connection: sqlite3.Connection, *, is_careful: bool) -> list[AppendAnswer]:
        appending = Appending(
            connection,
            self._heads,
            partial(self._is_alive, connection),
            partial(self._claims, connection, self._leases),
            is_careful=is_careful,
            told=self._known.told(connection),
        )
        answers = [appending.answer(prepared) for prepared in self._batch]
        appending.write_all()
        return answers


def columns_of(
    summary: Summary, *, sequence: int, head_hash: bytes, token: int, driver_id: str | None
) -> tuple[Any, ...]:
    """Return a head's columns behind its id, in the order in which they are inserted."""
    counts = (sequence, head_hash, token, *_counts(summary))
    labelled = (summary.name, summary.agents, summary.actions, summary.metadata)
    labels = _labels(summary.transaction_id, labelled)
    return (*counts, *_indexed(summary, driver_id), *labels)


def _labels(transaction_id: str, labelled: Labelled) -> tuple[Any, ...]:
    """Return the columns that are written when a step is added, in the order of the statements."""
    name, agents = labelled[:2]
    return canonical_json(agents).decode("utf-8"), name, *labels_of(transaction_id, *labelled)


def _indexed(summary: Summary, driver_id: str | None) -> tuple[str | int | None, ...]:
    """Return the columns that stand in an index, in the order of the statements."""
    return (
        driver_id,
        summary.state.value,
        summary.attention,
        int(summary.runnable),
        summary.due_at,
        summary.tenant or "",
    )


def _counts(summary: Summary) -> tuple[Any, ...]:
    """Return a summary's columns without index, in the order of the statements."""
    return (
        summary.created_at,
        summary.updated_at,
        summary.timeout_seconds,
        summary.steps,
        summary.completed,
        summary.next_agent,
    )


def _entry_id(body: bytes) -> str | None:
    try:
        found = json.loads(body)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        # Damaged; not ours in any case. `load` names it.
        return None
    return found if isinstance(found, str) else None
