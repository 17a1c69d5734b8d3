"""The participant of the fault matrix: a booking service on a SQLite database of its own.

Owns: what each kind of participant does with a call that arrives, and the record of all that
arrived. It knows nothing of transactions but what a call carries.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.cells import Kind

from aumai_transactions import Done, NotDone, StepContext, StepRejected, Unknown
from aumai_transactions.participants.barrier import (
    BarrierCall,
    barrier,
    barrier_probe,
    create_barrier_table,
)

_TABLES = """
CREATE TABLE bookings (key TEXT PRIMARY KEY, applied INTEGER NOT NULL, undone INTEGER NOT NULL);
CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL);
CREATE TABLE closed (key TEXT PRIMARY KEY, until_attempt INTEGER NOT NULL);
CREATE TABLE arrivals (number INTEGER PRIMARY KEY, tx TEXT, label TEXT, key TEXT, forward TEXT);
CREATE TABLE sent (
    number INTEGER PRIMARY KEY, tx TEXT, operation TEXT, request TEXT, transit INTEGER DEFAULT 0
);
"""


SPOKEN: dict[str, Any] = {"action": "action", "undo": "compensation", "probe": "probe"}


@dataclass(frozen=True)
class Request:
    """One call as it travels: all that the other side knows about it."""

    operation: str
    key: str
    forward_key: str
    transaction_id: str
    step_id: str
    token: int
    attempt: int
    forward_attempt: int
    label: str

    @classmethod
    def of(cls, operation: str, context: StepContext) -> "Request":
        label = operation
        if operation == "undo":
            # What an undo is given must fit: either the output, or the doubt.
            booked = {"booking": context.forward_key}
            told = (context.in_doubt, context.output)
            label = {True: "undo?", False: "undo"}[context.in_doubt]
            if told not in ((True, None), (False, booked)):
                label = f"undo with {told}"
        return cls(
            operation,
            context.idempotency_key,
            context.forward_key,
            context.transaction_id,
            context.step_id,
            context.token,
            context.attempt,
            context.forward_attempt,
            label,
        )

    @property
    def barrier_call(self) -> BarrierCall:
        return BarrierCall(
            key=self.key,
            operation=SPOKEN[self.operation],
            forward_key=self.forward_key,
            transaction_id=self.transaction_id,
            step_id=self.step_id,
            token=self.token,
            attempt=self.attempt,
            forward_attempt=self.forward_attempt if self.operation == "probe" else 0,
        )


class Hotel:
    """The service; any number of processes may open it."""

    def __init__(self, path: Path, kind: Kind):
        self.path = path
        self.kind = kind

    def create(self) -> None:
        with self.connected() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_TABLES)
            create_barrier_table(db)

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        # SIGKILL loses nothing that was handed to the system; a power cut is not tested here.
        db.execute("PRAGMA synchronous = OFF")
        try:
            yield db
        finally:
            db.close()

    # ------------------------------------------------------------------------------ the network

    def sends(self, request: Request) -> tuple[int, int]:
        """Note a call that leaves; return its number, and how many of its kind left before."""
        with self.connected() as db:
            mine = (request.transaction_id, request.operation)
            count = "SELECT count(*) FROM sent WHERE tx = ? AND operation = ?"
            (earlier,) = db.execute(count, mine).fetchone()
            insert = "INSERT INTO sent (tx, operation, request) VALUES (?, ?, ?)"
            number = db.execute(insert, (*mine, json.dumps(asdict(request)))).lastrowid
            assert number is not None
            return number, earlier

    def delays(self, number: int) -> None:
        with self.connected() as db:
            db.execute("UPDATE sent SET transit = 1 WHERE number = ?", (number,))

    def delayed(self) -> list[tuple[int, Request]]:
        """Take what is on its way, in order."""
        with self.connected() as db:
            take = "UPDATE sent SET transit = 0 WHERE transit = 1 RETURNING number, request"
            rows = sorted(db.execute(take).fetchall())
        return [(number, Request(**json.loads(text))) for number, text in rows]

    def first_actions(self) -> list[Request]:
        """The first call of the action of each transaction."""
        with self.connected() as db:
            first = "SELECT min(number), request FROM sent WHERE operation = 'action' GROUP BY tx"
            return [Request(**json.loads(text)) for _, text in db.execute(first).fetchall()]

    # -------------------------------------------------------------------------- what it is for

    def arrives(self, request: Request) -> Any:
        """Take a call; return the answer, or raise the refusal."""
        with self.connected() as db:
            insert = "INSERT INTO arrivals (tx, label, key, forward) VALUES (?, ?, ?, ?)"
            mine = (request.transaction_id, request.label, request.key, request.forward_key)
            db.execute(insert, mine)
            if request.operation == "probe":
                return self._asked(db, request)
            if self.kind.has_barrier:
                return self._behind_barrier(db, request)
            db.execute("BEGIN IMMEDIATE")
            try:
                answer = self._plain(db, request)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            return answer

    def _behind_barrier(self, db: sqlite3.Connection, request: Request) -> Any:
        with barrier(db, request.barrier_call) as admission:
            if admission.is_due:
                act = self._book if request.operation == "action" else self._cancel
                admission.answer = act(db, request.forward_key)
            return admission.answer

    def _plain(self, db: sqlite3.Connection, request: Request) -> Any:
        key = request.forward_key
        if request.operation == "undo":
            return self._cancel(db, key)
        closed = "SELECT 1 FROM closed WHERE key = ? AND until_attempt >= ?"
        if db.execute(closed, (key, request.attempt)).fetchone():
            raise StepRejected("somebody asked about this key before it arrived")
        if not self.kind.keeps_keys:
            return self._book(db, key)
        known = db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if known is not None:
            return json.loads(known[0])
        answer = self._book(db, key)
        db.execute("INSERT INTO answers VALUES (?, ?)", (key, json.dumps(answer)))
        return answer

    def _book(self, db: sqlite3.Connection, key: str) -> dict[str, str]:
        insert = (
            "INSERT INTO bookings VALUES (?, 1, 0) ON CONFLICT DO UPDATE SET applied = applied + 1"
        )
        db.execute(insert, (key,))
        return {"booking": key}

    def _cancel(self, db: sqlite3.Connection, key: str) -> None:
        """Cancel one booking of this key, if there is one."""
        update = "UPDATE bookings SET undone = undone + 1 WHERE key = ? AND applied > undone"
        db.execute(update, (key,))

    def _asked(self, db: sqlite3.Connection, request: Request) -> Done | NotDone | Unknown:
        if not self.kind.probe_can_tell:
            return Unknown("it keeps no list")
        if self.kind.has_barrier:
            return barrier_probe(db, request.barrier_call)
        key = request.forward_key
        db.execute("BEGIN IMMEDIATE")
        found = db.execute("SELECT 1 FROM bookings WHERE key = ? AND applied > undone", (key,))
        is_booked = found.fetchone() is not None
        if not is_booked:
            # SEMANTICS B2: "not done" has to stay true. A later attempt may act.
            insert = "INSERT OR REPLACE INTO closed VALUES (?, ?)"
            db.execute(insert, (key, request.forward_attempt))
        db.execute("COMMIT")
        return Done({"booking": key}) if is_booked else NotDone("it never came, and never will")

    # ------------------------------------------------------------------------------ looking at it

    def bookings(self, transaction_id: str) -> tuple[int, int]:
        """How often the effect of a transaction was made, and undone."""
        with self.connected() as db:
            query = "SELECT applied, undone FROM bookings WHERE key = ?"
            row = db.execute(query, (f"{transaction_id}/s1/action",)).fetchone()
            return row or (0, 0)

    def other_bookings(self, transaction_ids: list[str]) -> list[str]:
        """Effects under keys that nobody should have used."""
        with self.connected() as db:
            keys = {key for (key,) in db.execute("SELECT key FROM bookings").fetchall()}
        return sorted(keys - {f"{name}/s1/action" for name in transaction_ids})

    def arrived(self, transaction_id: str) -> list[tuple[str, str, str]]:
        """Label, key and forward key of each call of a transaction that arrived, in order."""
        with self.connected() as db:
            query = "SELECT label, key, forward FROM arrivals WHERE tx = ? ORDER BY number"
            return db.execute(query, (transaction_id,)).fetchall()
