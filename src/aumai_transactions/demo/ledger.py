"""What a participant writes down, so that calls may be repeated, lost and overtaken.

Owns: the HTTP answers of a service and what it notes for people, in the table `events` of its own
SQLite database. Who acts, and who is told what was recorded, is decided by the barrier
(`aumai_transactions.participants.barrier`) in the same database.
Rules:
  1. An effect, its answer, the barrier's row and the note are one SQLite transaction.
  2. A refusal is an answer: it is recorded too, and nothing of the effect stays.
  3. What was done is noted in `events` in the same transaction, for people; nothing reads it here.
  4. Whoever comes after an undo is told 410: what was recorded before is true no longer.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.errors import StepRejected
from aumai_transactions.participants.barrier import (
    Admission,
    BarrierCall,
    CallRefused,
    CallUndone,
    KeyReused,
    StaleDriver,
    barrier,
    create_barrier_table,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    transaction_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    event TEXT NOT NULL,
    what TEXT NOT NULL
) STRICT;
"""
_DONE: Final = 201
_UNDONE: Final = 200
_GONE: Final = 410


class Refused(StepRejected):
    """Say a definite no: the effect did not happen, and the answer is a 4xx with a sentence.

    Args:
        status: The HTTP status. Never 408, 409, 425 or 429: a caller takes these for a maybe.
        message: What was refused and why.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Call:
    """Hold one request: which call it is, and what it asks for.

    Args:
        identity: What the barrier tells calls apart by.
        data: The checked order of a forward call, or nothing in a cancel.
    """

    identity: BarrierCall
    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.identity.key

    @property
    def transaction_id(self) -> str:
        """The transaction that it belongs to, or an empty text."""
        return self.identity.transaction_id

    @property
    def step_id(self) -> str:
        """The step that it belongs to, or an empty text."""
        return self.identity.step_id


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a caller is told."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


class Participant(Protocol):
    """Say what one service sells; everything else is the same for all of them."""

    name: str
    path: str
    cancel_path: str
    schema: str

    def order(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is asked for, checked, or raise `Refused` with 400."""

    def open(self, database: sqlite3.Connection) -> None:
        """Fill an empty database with what is for sale; its view `holdings` is what is taken."""

    def carry_out(self, database: sqlite3.Connection, call: Call) -> dict[str, Any]:
        """Make the effect and return the answer's body, or raise `Refused`."""

    def undo(self, database: sqlite3.Connection, key: str) -> dict[str, Any] | None:
        """Undo the effect of the call with this key; None where nothing of it stands."""

    def state(self, database: sqlite3.Connection) -> dict[str, Any]:
        """Return what is left and what is taken."""


class Ledger:
    """Carry out each call once, however often it arrives.

    Args:
        path: The SQLite file; made where there is none.
        participant: What the service sells.
        clock: What time the events are noted at.
    """

    def __init__(self, path: Path, participant: Participant, clock: Clock | None = None) -> None:
        self._participant = participant
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5
        )
        self._database.executescript(_SCHEMA)
        create_barrier_table(self._database)
        self._database.executescript(participant.schema)
        with self._transaction() as database:
            participant.open(database)

    def knows(self, key: str) -> bool:
        """Return whether a call with this key has been answered."""
        with self._transaction() as database:
            row = database.execute("SELECT 1 FROM aumai_barrier WHERE key = ?", (key,)).fetchone()
            return row is not None

    def carry_out(self, call: Call) -> Answer:
        """Make the effect that a forward call asks for, unless its key is known already."""
        return self._answered(call, self._order)

    def cancel(self, call: Call) -> Answer:
        """Undo the effect of the forward call that a cancel names, if it has one."""
        return self._answered(call, self._undo)

    def state(self) -> dict[str, Any]:
        """Return what the service would tell anybody who asks."""
        with self._transaction() as database:
            return {"service": self._participant.name} | self._participant.state(database)

    def close(self) -> None:
        """Wait for the transaction that is running, and close the database."""
        with self._lock:
            self._database.close()

    def _answered(self, call: Call, act: Callable[[sqlite3.Connection, Call], Answer]) -> Answer:
        with self._transaction() as database:
            try:
                answer = act(database, call)
            except CallRefused as refused:
                answer = Answer(refused.answer, {"error": refused.reason}, replayed=True)
            except CallUndone as late:
                answer = Answer(_GONE, {"error": _told(late)}, replayed=True)
            except KeyReused:
                raise Refused(422, "this Idempotency-Key was used for another request") from None
            except StaleDriver as stale:
                raise Refused(412, str(stale)) from None
            if answer.replayed:
                what = f"same key, recorded answer: {answer.status}"
                self._note(database, call, "asked again", what)
            return answer

    def _order(self, database: sqlite3.Connection, call: Call) -> Answer:
        try:
            with barrier(
                database, call.identity, request=dict(call.data), clock=self._clock
            ) as admission:
                if admission.is_due:
                    admission.answer = self._attempt(database, call, admission)
        except Refused as refused:
            self._note(database, call, "refused", refused.message)
            return Answer(refused.status, {"error": refused.message})
        if admission.is_due:
            self._note(database, call, "done", _held(database, call.key))
        return Answer(_DONE, admission.answer, replayed=admission.is_duplicate)

    def _attempt(
        self, database: sqlite3.Connection, call: Call, admission: Admission
    ) -> dict[str, Any]:
        try:
            return self._participant.carry_out(database, call)
        except Refused as refused:
            admission.answer = refused.status  # It is recorded with the refusal.
            raise

    def _undo(self, database: sqlite3.Connection, call: Call) -> Answer:
        key = call.identity.forward_key
        held = _held(database, key)
        with barrier(database, call.identity, request=key, clock=self._clock) as admission:
            undone = self._participant.undo(database, key) if admission.is_due else None
            admission.answer = {"undone": undone is not None} | (undone or {})
        if not admission.is_duplicate:
            event = "nothing to undo" if undone is None else "undone"
            self._note(database, call, event, "" if undone is None else held)
        return Answer(_UNDONE, admission.answer, replayed=admission.is_duplicate)

    def _note(self, database: sqlite3.Connection, call: Call, event: str, what: str) -> None:
        database.execute(
            "INSERT INTO events (at, transaction_id, step_id, event, what) VALUES (?, ?, ?, ?, ?)",
            (self._clock.now(), call.transaction_id, call.step_id, event, what),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")


def _held(database: sqlite3.Connection, key: str) -> str:
    row = database.execute("SELECT what FROM holdings WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def _told(late: CallUndone) -> str:
    if late.was_carried_out:
        return "this call was carried out, and cancelled later"
    return "this call was cancelled before it arrived"
