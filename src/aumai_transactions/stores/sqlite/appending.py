"""What an append checks and writes, inside of one write transaction.

Owns: the five answers, as SQL.
Rules:
  1. The caller holds the write lock, commits, and answers nobody before that.
  2. An entry is encoded once, before the transaction begins; its hash waits for the head.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.codec import encode
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.errors import StoreError
from aumai_transactions.store import Append, AppendAnswer, check_append
from aumai_transactions.stores.sqlite import statements
from aumai_transactions.stores.sqlite.locks import LockKeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aumai_transactions.core.outcome import Summary


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
        is_alive: Tells whether a driver lives.
        record: Records a driver that claims.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        is_alive: Callable[[str], bool],
        record: Callable[[str], object],
    ) -> None:
        self._connection = connection
        self._is_alive = is_alive
        self._record = record
        self._heads: dict[str, Head] = {}
        self._refused: set[str] = set()

    def answer(self, prepared: Prepared) -> AppendAnswer:
        """Write one append, or say why not."""
        append = prepared.append
        name = append.transaction_id
        if name in self._refused:
            return AppendAnswer.moved
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
            return refusal
        if keeper is not None:
            keeper.take()
        return AppendAnswer.appended

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
        if is_new:
            added = self._connection.execute(statements.ADD_TRANSACTION, (name, *counts, *indexed))
            head.ordinal = added.lastrowid
        if not self._write_entries(head, hashed, is_new=is_new):
            return False
        if not is_new:
            self._update(head, counts, indexed)
        if append.driver_id is not None and driver_id is not None:
            self._record(driver_id)
        head.sequence, head.hash = sequence, before
        head.driver_id, head.indexed = driver_id, indexed
        head.token = token or 0
        return True

    def _update(self, head: Head, counts: tuple[Any, ...], indexed: tuple[Any, ...]) -> None:
        if indexed == head.indexed:
            values = (*counts, head.ordinal)
            self._connection.execute(statements.UPDATE_COUNTS, values)
        else:
            values = (*counts, *indexed, head.ordinal)
            self._connection.execute(statements.UPDATE_TRANSACTION, values)

    def _write_entries(
        self, head: Head, hashed: Sequence[tuple[int, bytes, bytes]], *, is_new: bool
    ) -> bool:
        for sequence, body, chained in hashed:
            try:
                row = (head.ordinal, sequence, body, chained)
                self._connection.execute(statements.ADD_ENTRY, row)
            except sqlite3.IntegrityError:
                if is_new:
                    raise
                ours = (head.ordinal, head.sequence, sequence - 1)
                self._connection.execute(statements.TAKE_ENTRIES_BACK, ours)
                return False
        return True


def columns_of(
    summary: Summary, *, sequence: int, head_hash: bytes, token: int, driver_id: str | None
) -> tuple[Any, ...]:
    """Return a head's columns behind its id, in the order in which they are inserted."""
    counts = (sequence, head_hash, token, *_counts(summary))
    return (*counts, *_indexed(summary, driver_id))


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
        json.dumps(summary.agents, ensure_ascii=False, separators=(",", ":")),
        summary.name,
        summary.next_agent,
    )


def _entry_id(body: bytes) -> str | None:
    try:
        found = json.loads(body)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        # Damaged; not ours in any case. `load` names it.
        return None
    return found if isinstance(found, str) else None
