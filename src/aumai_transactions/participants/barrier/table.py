"""The table `aumai_barrier` in the participant's own database.

Owns: its columns, every statement about it, how it is made, and how it is kept small.
Rules:
  1. One row for each key. A row that is seen outside of its own transaction says what became of
     the call, and for good: `done`, `refused`, `undone` (done first), `tombstone` (undone or asked
     about before it arrived; `until_attempt` says which attempts a probe has made impossible, and
     is null where it is all). `running` is seen only where a block broke its transaction.
  2. Values reach SQL as parameters only.
  3. A row is written before the effect is made, so that a rival with the same key waits.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

from aumai_transactions.clock import SystemClock
from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.barrier.databases import transaction_on

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock
    from aumai_transactions.participants.barrier.databases import Database

# Why a limit: an entry of a PostgreSQL index takes at most some 2,700 bytes.
INDEXED_BYTES_MAX = 1_000

_SQLITE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS aumai_barrier (
    key TEXT NOT NULL PRIMARY KEY,
    operation TEXT NOT NULL CHECK (operation IN ('action', 'compensation')),
    state TEXT NOT NULL
        CHECK (state IN ('running', 'done', 'refused', 'undone', 'tombstone')),
    answer TEXT,
    reason TEXT,
    until_attempt INTEGER,
    request TEXT,
    transaction_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    token INTEGER NOT NULL,
    arrivals INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT
"""
_POSTGRESQL_TABLE: Final = """
CREATE TABLE IF NOT EXISTS aumai_barrier (
    key text NOT NULL PRIMARY KEY,
    operation text NOT NULL CHECK (operation IN ('action', 'compensation')),
    state text NOT NULL
        CHECK (state IN ('running', 'done', 'refused', 'undone', 'tombstone')),
    answer text,
    reason text,
    until_attempt bigint,
    request text,
    transaction_id text NOT NULL,
    step_id text NOT NULL,
    token bigint NOT NULL,
    arrivals bigint NOT NULL,
    created_at bigint NOT NULL,
    seen_at bigint NOT NULL
)
"""
_INDEX: Final = """
CREATE INDEX IF NOT EXISTS aumai_barrier_tokens ON aumai_barrier (transaction_id, token)
"""
_FENCES: Final = """
CREATE TABLE IF NOT EXISTS aumai_fences (
    resource text NOT NULL PRIMARY KEY,
    token bigint NOT NULL
)
"""
# Why a lock: two CREATE TABLE IF NOT EXISTS at the same moment fail in PostgreSQL. The number is
# "aumai" in ASCII, so that nobody else takes it by chance.
_POSTGRESQL_LOCK: Final = "SELECT pg_advisory_xact_lock(418581930345)"

# Why the highest token in the same statement: fencing costs one look into an index, no round trip.
INSERT: Final = """
INSERT INTO aumai_barrier (
    key, operation, state, answer, reason, until_attempt, request, transaction_id, step_id, token,
    arrivals, created_at, seen_at
) VALUES (
    :key, :operation, :state, NULL, NULL, :until_attempt, :request, :transaction_id, :step_id,
    :token, :arrivals, :now, :now
)
ON CONFLICT (key) DO NOTHING
RETURNING (
    SELECT max(seen.token) FROM aumai_barrier AS seen WHERE seen.transaction_id = :transaction_id
)
"""
ARRIVED_AGAIN: Final = """
UPDATE aumai_barrier
SET arrivals = arrivals + 1,
    seen_at = :now,
    token = CASE WHEN token < :token THEN :token ELSE token END
WHERE key = :key
RETURNING operation, state, answer, reason, request
"""
# A forward call of which only earlier attempts were made impossible takes the tombstone's place.
TAKE_PLACE: Final = """
UPDATE aumai_barrier SET state = 'running', request = :request, until_attempt = NULL
WHERE key = :key AND operation = 'action' AND state = 'tombstone' AND until_attempt < :attempt
RETURNING (
    SELECT max(seen.token) FROM aumai_barrier AS seen WHERE seen.transaction_id = :transaction_id
)
"""
# What a probe says of later attempts as well, and what an undo says of all.
EXTEND: Final = """
UPDATE aumai_barrier SET until_attempt = :until_attempt, seen_at = :now
WHERE key = :key AND state = 'tombstone' AND until_attempt < :until_attempt
"""
SEAL: Final = """
UPDATE aumai_barrier SET until_attempt = NULL, seen_at = :now
WHERE key = :key AND state = 'tombstone' AND until_attempt IS NOT NULL
"""
FINISH: Final = """
UPDATE aumai_barrier SET state = :state, answer = :answer, reason = :reason WHERE key = :key
"""
TAKE_BACK: Final = """
UPDATE aumai_barrier SET state = 'undone', seen_at = :now
WHERE key = :key AND operation = 'action' AND state = 'done'
RETURNING answer
"""
LOOK: Final = "SELECT operation, state, answer, reason FROM aumai_barrier WHERE key = :key"
_PURGE: Final = "DELETE FROM aumai_barrier WHERE seen_at < :before"


def indexed(text: str) -> str:
    """Return a text as it stands in the table: itself, or its digest where it is very long."""
    content = text.encode()
    if len(content) <= INDEXED_BYTES_MAX:
        return text
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def create_barrier_table(connection: Any) -> None:
    """Make the tables `aumai_barrier` and `aumai_fences` where they are not there yet.

    It may be called by many processes at the same moment, and again at every start. Where the
    connection is in a transaction already, the tables are there once the caller has committed.

    Args:
        connection: Of sqlite3, psycopg or SQLAlchemy.

    Raises:
        DefinitionError: It is no such connection.
    """
    with transaction_on(connection) as database:
        if database.kind == "postgresql":
            database.execute(_POSTGRESQL_LOCK)
            database.execute(_POSTGRESQL_TABLE)
        else:
            database.execute(_SQLITE_TABLE)
        database.execute(_INDEX)
        database.execute(_FENCES)


def purge_barrier_table(
    connection: Any, *, older_than_seconds: float, clock: Clock | None = None
) -> int:
    """Remove the rows of calls that were last heard of long ago, and return how many.

    A call that arrives after its row is gone is taken for a new one, and an undo for one of
    nothing. So keep rows longer than the longest transaction can take, with all its waiting,
    retries and the time until a crashed driver is recovered (P5): rather months than days.

    Args:
        connection: Of sqlite3, psycopg or SQLAlchemy.
        older_than_seconds: How long a key must not have been heard of.
        clock: What time it is; for tests.

    Raises:
        DefinitionError: The age is not a positive number, or it is no such connection.
    """
    age = older_than_seconds
    if type(age) not in (int, float) or not 0 < age < math.inf:
        message = f"older_than_seconds is {age!r}; it must be a positive number of seconds."
        raise DefinitionError(message)
    before = (clock or SystemClock()).now() - int(age * 1_000_000)
    with transaction_on(connection) as database:
        return database.change(_PURGE, {"before": before})


def highest_token(rows: list[tuple[Any, ...]]) -> int:
    """Return the highest token that an `INSERT` has found."""
    return int(rows[0][0] or 0)


def look(database: Database, key: str) -> tuple[Any, ...] | None:
    """Return operation, state, answer and reason of a key; None where it is not there."""
    rows = database.execute(LOOK, {"key": indexed(key)})
    return rows[0] if rows else None
