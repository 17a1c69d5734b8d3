"""What a participant writes down, so that calls may be repeated, lost and overtaken.

Owns: the tables `calls` and `events` of a service's own SQLite database, and the transaction
around an effect.
Rules:
  1. One key, one effect. The answer is recorded in the same SQLite transaction as the effect, and
     a call that arrives again gets the recorded answer.
  2. A refusal is an answer: it is recorded too, and nothing of the effect stays.
  3. A cancel names the key of the call that it undoes. Where that call never arrived, the cancel
     succeeds with nothing undone (an empty rollback) and takes its place, so that the call is
     refused if it arrives late (hanging).
  4. What was done is noted in `events` in the same transaction, for people; nothing reads it here.
  5. After a cancel the recorded answer of the forward call is 410, for it is true no longer.

These are the three anomalies of the sub-transaction barrier of dtm, solved in one table.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aumai_transactions.clock import Clock, SystemClock

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,
    operation TEXT NOT NULL CHECK (operation IN ('forward', 'cancel')),
    -- Null: cancelled before it arrived, so nobody knows what it would have asked for.
    request_hash TEXT,
    status INTEGER NOT NULL,
    answer TEXT NOT NULL,
    arrivals INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    transaction_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    event TEXT NOT NULL,
    what TEXT NOT NULL
) STRICT;
"""
_DONE = 201
_GONE = 410


class Refused(Exception):
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
    """Hold one request: its key, on whose behalf it comes, and what it asks for.

    Args:
        key: The idempotency key.
        data: The checked order of a forward call, or nothing in a cancel.
        transaction_id: The transaction that it belongs to, or an empty text.
        step_id: The step that it belongs to, or an empty text.
        compensates: In a cancel, the key of the forward call.
    """

    key: str
    data: Mapping[str, Any]
    transaction_id: str = ""
    step_id: str = ""
    compensates: str = ""

    @property
    def request_hash(self) -> str:
        """Tell two requests under one key apart."""
        text = json.dumps([self.compensates, dict(self.data)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
        self._database.executescript(participant.schema)
        with self._transaction() as database:
            participant.open(database)

    def knows(self, key: str) -> bool:
        """Return whether a call with this key has been answered."""
        with self._transaction() as database:
            return _recorded(database, key) is not None

    def carry_out(self, call: Call) -> Answer:
        """Make the effect that a forward call asks for, unless its key is known already."""
        with self._transaction() as database:
            known = self._replayed(database, call, "forward")
            if known is not None:
                return known
            answer = self._attempt(database, call)
            _record(database, call, "forward", answer)
            if answer.status == _DONE:
                self._note(database, call, "done", _held(database, call.key))
            else:
                self._note(database, call, "refused", answer.body["error"])
            return answer

    def cancel(self, call: Call) -> Answer:
        """Undo the effect of the forward call that a cancel names, if it has one."""
        with self._transaction() as database:
            known = self._replayed(database, call, "cancel")
            if known is not None:
                return known
            held = _held(database, call.compensates)
            undone = self._participant.undo(database, call.compensates)
            body = {"undone": undone is not None} | (undone or {})
            if undone is not None:
                _close(database, call.compensates, "this call was carried out, and cancelled later")
                self._note(database, call, "undone", held)
            else:
                _leave_tombstone(database, call.compensates)
                self._note(database, call, "nothing to undo", "")
            answer = Answer(200, body)
            _record(database, call, "cancel", answer)
            return answer

    def state(self) -> dict[str, Any]:
        """Return what the service would tell anybody who asks."""
        with self._transaction() as database:
            return {"service": self._participant.name} | self._participant.state(database)

    def close(self) -> None:
        """Wait for the transaction that is running, and close the database."""
        with self._lock:
            self._database.close()

    def _attempt(self, database: sqlite3.Connection, call: Call) -> Answer:
        database.execute("SAVEPOINT effect")
        try:
            answer = Answer(_DONE, self._participant.carry_out(database, call))
        except Refused as refused:
            database.execute("ROLLBACK TO effect")
            answer = Answer(refused.status, {"error": refused.message})
        database.execute("RELEASE effect")
        return answer

    def _replayed(self, database: sqlite3.Connection, call: Call, operation: str) -> Answer | None:
        known = _recorded(database, call.key)
        if known is None:
            return None
        recorded_operation, request_hash, status, body = known
        if recorded_operation != operation or request_hash not in {None, call.request_hash}:
            raise Refused(422, "this Idempotency-Key was used for another request")
        database.execute("UPDATE calls SET arrivals = arrivals + 1 WHERE key = ?", (call.key,))
        self._note(database, call, "asked again", f"same key, recorded answer: {status}")
        return Answer(status, body, replayed=True)

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


def _recorded(
    database: sqlite3.Connection, key: str
) -> tuple[str, str | None, int, dict[str, Any]] | None:
    row = database.execute(
        "SELECT operation, request_hash, status, answer FROM calls WHERE key = ?", (key,)
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2], json.loads(row[3]))


def _held(database: sqlite3.Connection, key: str) -> str:
    row = database.execute("SELECT what FROM holdings WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def _record(database: sqlite3.Connection, call: Call, operation: str, answer: Answer) -> None:
    database.execute(
        "INSERT INTO calls (key, operation, request_hash, status, answer, arrivals)"
        " VALUES (?, ?, ?, ?, ?, 1)",
        (call.key, operation, call.request_hash, answer.status, json.dumps(answer.body)),
    )


def _close(database: sqlite3.Connection, key: str, message: str) -> None:
    database.execute(
        "UPDATE calls SET status = ?, answer = ? WHERE key = ?",
        (_GONE, json.dumps({"error": message}), key),
    )


def _leave_tombstone(database: sqlite3.Connection, key: str) -> None:
    body = json.dumps({"error": "this call was cancelled before it arrived"})
    database.execute(
        "INSERT INTO calls (key, operation, request_hash, status, answer, arrivals)"
        " VALUES (?, 'forward', NULL, ?, ?, 0) ON CONFLICT (key) DO NOTHING",
        (key, _GONE, body),
    )
