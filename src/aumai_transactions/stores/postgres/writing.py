"""How appends are written: in one statement where the heads are remembered, else behind locks.

Owns: the two ways of an append through the database, and what a handle remembers of heads.
Rules:
  1. The short way: decide on remembered heads, and write in one statement that compares them.
     Where a head is no longer so, nothing is written.
  2. The long way takes what the short one did not settle: BEGIN, lock the heads in the order of
     their ordinals, decide, write, COMMIT. Checks that need more than a head belong between locking
     and writing.
  3. An answer is given only after the COMMIT. Nothing that failed is remembered.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import psycopg

from aumai_transactions.errors import InternalError, StoreError, StoreUnavailable
from aumai_transactions.store import Append, AppendAnswer
from aumai_transactions.stores.postgres import locks
from aumai_transactions.stores.postgres.appending import (
    Blind,
    Change,
    Decision,
    Head,
    NotKnown,
    Prepared,
    decide,
    entry_id_of,
)
from aumai_transactions.stores.postgres.arrays import flags, numbers, texts
from aumai_transactions.stores.postgres.liveness import DriverRow
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aumai_transactions.core.lock_book import LockBook
    from aumai_transactions.core.locking import Change as LockChange
    from aumai_transactions.stores.postgres.pool import Lent, Pool

HEADS_MAX: Final = 20_000
BYTES_MAX: Final = 32 * 1024 * 1024
ROUNDS_MAX: Final = 100

# The columns of many changes, by what their arrays hold.
_NUMBERS: Final = (
    *("ordinal", "was_sequence", "was_token", "sequence", "token", "created_at", "updated_at"),
    *("due_at", "purgeable_at", "steps", "completed"),
)
_TEXTS: Final = (
    *("transaction_id", "state", "driver_id", "attention", "timeout_seconds", "agents", "name"),
    *("tenant", "next_agent", "terms", "words"),
)

Groups = dict[str, list[Prepared]]
Answers = dict[int, AppendAnswer]
Execute = Callable[[bytes, dict[str, Any]], "psycopg.Cursor[tuple[Any, ...]]"]


class Heads:
    """Remember the heads of journals that this handle has read or written lately."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._known: OrderedDict[str, Head] = OrderedDict()

    def get(self, transaction_id: str) -> Head | None:
        """Return what is remembered."""
        return self._known.get(transaction_id)

    def put(self, transaction_id: str, head: Head) -> None:
        """Remember a head."""
        with self._guard:
            self._known[transaction_id] = head
            self._known.move_to_end(transaction_id)
            while len(self._known) > HEADS_MAX:
                self._known.popitem(last=False)

    def forget(self, transaction_id: str) -> None:
        """Forget a head."""
        with self._guard:
            self._known.pop(transaction_id, None)


class Writing:
    """Answer the appends of one call.

    Args:
        pool: The connections.
        heads: What is remembered.
        is_alive: Tells whether a driver lives, by its row.
        groups: The appends, by their transactions.
    """

    def __init__(
        self, pool: Pool, heads: Heads, is_alive: Callable[[DriverRow], bool], groups: Groups
    ) -> None:
        self._pool = pool
        self._heads = heads
        self._is_alive = is_alive
        self._left = groups
        self.answers: Answers = {}
        self.told: list[str] = []

    def run(self) -> None:
        """Settle every append.

        Raises:
            StoreError: It could not be done, or nobody knows.
        """
        try:
            for decisions in _portions(self._remembered()):
                self._settle(decisions, self._pool.run(partial(_write_at_once, decisions)))
            for _ in range(ROUNDS_MAX):
                if not self._left:
                    return
                for names in _named_portions(self._left):
                    self._take_round(names)
        except StoreError as error:
            # What was remembered may no longer be so, and nobody knows.
            for name in self._left:
                self._heads.forget(name)
            if (
                isinstance(error, StoreUnavailable)
                and AppendAnswer.appended in self.answers.values()
            ):
                # Some of the call is durable, and whoever made it is told of the whole only.
                raise StoreUnavailable(
                    f"{error} Others of the same call are durable.", outcome_unknown=True
                ) from error
            raise
        raise StoreUnavailable("others kept beginning the same transactions; try again.")

    def _take_round(self, names: list[str]) -> None:
        """Try the long way once for each of some transactions."""
        try:
            self._pool.run(partial(self._behind_locks, names))
        except _Contradicted:
            if len(names) > 1:
                for name in names:
                    self._take_round([name])
                return
            # Entries stand behind the head: somebody tampered. Whoever reads again finds out.
            for prepared in self._left.pop(names[0]):
                self.answers[prepared.place] = AppendAnswer.moved

    def _remembered(self) -> dict[str, Decision]:
        """Return what can be decided, and accepted whole, without a look."""
        decisions = {}
        for name, group in self._left.items():
            head = self._heads.get(name)
            if head is None:
                if group[0].append.expected_sequence:
                    continue
                head = Head()
            try:
                decision = decide(head, group, Blind())
            except NotKnown:
                continue
            if all(answer is AppendAnswer.appended for answer in decision.answers):
                decisions[name] = decision
        return decisions

    def _behind_locks(self, names: list[str], lent: Lent) -> None:
        """Decide on heads that nobody else can change meanwhile, and write."""
        lent.read(b"BEGIN")
        rows = lent.read(statement("heads"), {"ids": names}).fetchall()
        heads = {name: Head(ordinal, *head) for ordinal, name, *head in rows}
        claims = [
            prepared.append
            for name in names
            for prepared in self._left[name]
            if prepared.append.holdings is not None or prepared.append.reads
        ]
        book = locks.book_for(lent, claims) if claims else None
        looks = _Looking(lent, self._is_alive, book)
        decisions = {
            name: decide(heads.get(name, Head()), self._left[name], looks) for name in names
        }
        changes = [found.change for found in decisions.values() if found.change is not None]
        written = {}
        if changes:
            try:
                written = write_changes(lent.read, changes)
                taken = [change for change in changes if change.transaction_id in written]
                locks.write(lent, {change.transaction_id: change.locks for change in taken}, book)
            except psycopg.errors.UniqueViolation as error:
                raise _Contradicted from error
        # Order matters: from here on nobody knows, until the answer is there.
        # Why also where nothing is written: an append that is there already is acknowledged here,
        # and this COMMIT, behind locks, waits until all before it is durable, on standbys too.
        ended = lent.write(b"COMMIT").statusmessage
        if ended != "COMMIT":
            raise InternalError(f"a COMMIT was answered by {ended!r}.")
        self._settle(decisions, written)

    def _settle(self, decisions: Mapping[str, Decision], written: Mapping[str, int]) -> None:
        """Give the answers of those that are written, or have nothing to write."""
        for name, decision in decisions.items():
            change = decision.change
            if change is not None:
                if name not in written:
                    # Somebody was faster; the next round sees what they wrote.
                    self._heads.forget(name)
                    continue
                self._remember(change, written[name])
            for prepared, answer in zip(self._left.pop(name), decision.answers, strict=True):
                self.answers[prepared.place] = answer

    def _remember(self, change: Change, ordinal: int) -> None:
        name = change.transaction_id
        if change.purgeable_at is None:
            self._heads.put(name, change.head._replace(ordinal=ordinal))
        else:
            self._heads.forget(name)
        if change.tells:
            self.told.append(name)


class _Contradicted(Exception):
    """Say that entries stand where the head says that there are none."""


class _Looking:
    """Look into the database, in the transaction that holds the locks."""

    def __init__(
        self, lent: Lent, is_alive: Callable[[DriverRow], bool], book: LockBook | None
    ) -> None:
        self._lent = lent
        self._book = book
        self._is_alive = is_alive

    def is_alive(self, driver_id: str) -> bool:
        """Tell whether the driver that holds the transaction lives, as of now."""
        row = self._lent.read(statement("holder"), {"driver_id": driver_id}).fetchone()
        return self._is_alive(DriverRow(driver_id, False) if row is None else DriverRow(*row))  # noqa: FBT003

    def take(self, append: Append) -> LockChange | None:
        """Take the resources that an append holds; None where it must not."""
        if self._book is None:
            raise InternalError("an append claims resources that were not looked at.")
        return self._book.take(append.transaction_id, append.holdings, append.reads)

    def entry_ids(self, ordinal: int, first: int, last: int) -> list[str | None]:
        """Return the ids of the entries behind `first`, up to `last`."""
        values = {"ordinal": ordinal, "first": first, "last": last}
        rows = self._lent.read(statement("bodies"), values).fetchall()
        return [entry_id_of(body) for (body,) in rows]


def _write_at_once(decisions: Mapping[str, Decision], lent: Lent) -> dict[str, int]:
    changes = [found.change for found in decisions.values() if found.change is not None]
    try:
        return write_changes(lent.write, changes)
    except psycopg.errors.UniqueViolation:
        # It was one statement, so nothing of it was written; the long way finds out which it is.
        lent.is_writing = False
        return {}


def write_changes(execute: Execute, changes: list[Change]) -> dict[str, int]:
    """Write, and return the ordinals of the transactions whose heads were as expected."""
    if len(changes) == 1:
        change = changes[0]
        name = "append_new" if change.was.ordinal is None else "append_one"
        row = execute(statement(name), _values(change)).fetchone()
        return {} if row is None else {change.transaction_id: row[0]}
    values = _columns(changes)
    rows = execute(statement("append_many"), values).fetchall()
    return {changes[place].transaction_id: ordinal for place, ordinal in rows}


def _values(change: Change) -> dict[str, Any]:
    was, head, summary, labels = change.was, change.head, change.summary, change.labels
    return {
        "transaction_id": change.transaction_id,
        "ordinal": was.ordinal,
        "was_sequence": was.sequence,
        "was_token": was.token,
        "was_hash": was.hash,
        "sequence": head.sequence,
        "hash": head.hash,
        "token": head.token,
        "driver_id": head.driver_id,
        "created_at": summary.created_at,
        "updated_at": summary.updated_at,
        "due_at": summary.due_at,
        "purgeable_at": change.purgeable_at,
        "steps": summary.steps,
        "completed": summary.completed,
        "runnable": summary.runnable,
        "state": summary.state.value,
        "attention": summary.attention,
        # Why as text: a numeric keeps whether it was 60 or 60.0.
        "timeout_seconds": repr(summary.timeout_seconds),
        "agents": json.dumps(summary.agents, ensure_ascii=False, separators=(",", ":")),
        "name": summary.name,
        "tenant": summary.tenant or "",
        "next_agent": summary.next_agent,
        "terms": None if labels is None else labels.terms,
        "words": None if labels is None else labels.words,
        "bodies": change.bodies,
        "hashes": change.hashes,
        **_told([change]),
    }


def _told(changes: list[Change]) -> dict[str, Any]:
    """Return what changes bring about, for webhooks, as arrays."""
    told = [one for change in changes for one in change.told]
    return {
        "events": texts(one.event for one in told),
        "firsts": numbers(one.first for one in told),
        "lasts": numbers(one.last for one in told),
    }


def _columns(changes: list[Change]) -> dict[str, Any]:
    rows = [_values(change) for change in changes]
    places = range(len(changes))
    found: dict[str, Any] = {
        "place": numbers(places),
        "runnable": flags(row["runnable"] for row in rows),
        "was_hash": [row["was_hash"] for row in rows],
        "hash": [row["hash"] for row in rows],
        "entry_place": numbers(place for place in places for _ in changes[place].bodies),
        "entry_sequence": numbers(
            change.was.sequence + number
            for change in changes
            for number in range(1, len(change.bodies) + 1)
        ),
        "bodies": [body for change in changes for body in change.bodies],
        "hashes": [digest for change in changes for digest in change.hashes],
        "event_place": numbers(place for place in places for _ in changes[place].told),
        **_told(changes),
    }
    found |= {name: numbers(row[name] for row in rows) for name in _NUMBERS}
    found |= {name: texts(row[name] for row in rows) for name in _TEXTS}
    return found


def _portions(decisions: dict[str, Decision]) -> Iterator[dict[str, Decision]]:
    """Yield parts that a server can take in one statement; nearly always, that is all of it."""
    part: dict[str, Decision] = {}
    size = 0
    for name, decision in decisions.items():
        more = sum(map(len, decision.change.bodies)) if decision.change else 0
        if part and size + more > BYTES_MAX:
            yield part
            part, size = {}, 0
        part[name] = decision
        size += more
    if part:
        yield part


def _named_portions(groups: Groups) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    size = 0
    for name, group in groups.items():
        more = sum(len(body) for prepared in group for body in prepared.bodies)
        if parts[-1] and size + more > BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += more
    return parts
