"""The SQL that runs against a store.

Owns: every statement but the schema, which stands in `migrations/`.
Rules:
  1. Constants, put together from constants. Data arrives as a parameter, always; but for the one
     number of our own that `busy_timeout` holds, for a PRAGMA takes no parameters.
  2. `BEGIN IMMEDIATE` only: a transaction that reads first and then wants to write fails at
     once where somebody else has written, whatever the busy timeout says.
"""

from __future__ import annotations

from functools import lru_cache

BEGIN = "BEGIN IMMEDIATE"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
DATA_VERSION = "PRAGMA data_version"


def busy_timeout(milliseconds: int) -> str:
    """Return the statement that says how long SQLite waits for a lock."""
    return f"PRAGMA busy_timeout = {milliseconds:d}"


NEW_STORE = """
INSERT INTO store (one, store_id, changes, store_id_twice) VALUES (1, :store_id, 0, :store_id)
"""
STORE_ROW = "SELECT store_id, changes FROM store"
COUNT_CHANGE = "UPDATE store SET changes = changes + 1"
STORE_ROW_WHOLE = "SELECT store_id, changes, store_id_twice, changes_down FROM store"

SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
INTEGRITY = "SELECT * FROM pragma_integrity_check(:limit)"
ORPHANS = """
SELECT count(*) FROM entries AS e
WHERE NOT EXISTS (SELECT 1 FROM transactions AS t WHERE t.ordinal = e.transaction_ordinal)
"""
COUNTERS = """
SELECT h.name, s.seq, h.highest FROM (
    SELECT 'transactions' AS name, max(ordinal) AS highest FROM transactions
    UNION ALL SELECT 'locks', max(ticket) FROM locks
) AS h LEFT JOIN sqlite_sequence AS s ON s.name = h.name
WHERE h.highest IS NOT NULL
"""
SET_CHANGES = "UPDATE store SET changes = :changes"

NAMES = """
SELECT ordinal, transaction_id FROM transactions WHERE ordinal > ? ORDER BY ordinal LIMIT ?
"""
HEADS_AFTER = """
SELECT ordinal, transaction_id, sequence, head_hash, updated_at,
    state IN ('committed', 'rolled_back', 'failed') AND runnable = 0 AND attention IS NULL
FROM transactions WHERE ordinal > ? ORDER BY ordinal LIMIT ?
"""
FENCES_AFTER = "SELECT name, token, version FROM resources WHERE name > ? ORDER BY name LIMIT ?"
WAITING = "SELECT resource, transaction_id FROM locks WHERE token IS NULL ORDER BY ticket"

HEAD = """
SELECT ordinal, sequence, head_hash, token, driver_id, state, attention, runnable, due_at, tenant
FROM transactions WHERE transaction_id = ?
"""
BODIES = """
SELECT body FROM entries WHERE transaction_ordinal = ? AND sequence > ? AND sequence <= ?
ORDER BY sequence
"""
ADD_TRANSACTION = """
INSERT INTO transactions (
    transaction_id, sequence, head_hash, token, created_at, updated_at, timeout_seconds, steps,
    completed, next_agent, driver_id, state, attention, runnable, due_at, tenant,
    agents, name, terms, words
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# Why two: SQLite rewrites an index whose columns are set, even to what they were.
UPDATE_COUNTS = """
UPDATE transactions SET
    sequence = ?, head_hash = ?, token = ?, created_at = ?, updated_at = ?, timeout_seconds = ?,
    steps = ?, completed = ?, next_agent = ?
WHERE ordinal = ?
"""
UPDATE_TRANSACTION = """
UPDATE transactions SET
    sequence = ?, head_hash = ?, token = ?, created_at = ?, updated_at = ?, timeout_seconds = ?,
    steps = ?, completed = ?, next_agent = ?, driver_id = ?, state = ?, attention = ?,
    runnable = ?, due_at = ?, tenant = ?
WHERE ordinal = ?
"""
# Why a third: what a transaction is searched by changes where a step is added, and nowhere else.
UPDATE_LABELS = """
UPDATE transactions SET agents = ?, name = ?, terms = ?, words = ? WHERE ordinal = ?
"""
ADD_ENTRY = """
INSERT INTO entries (transaction_ordinal, sequence, body, hash) VALUES (?, ?, ?, ?)
"""
TAKE_ENTRIES_BACK = """
DELETE FROM entries WHERE transaction_ordinal = ? AND sequence > ? AND sequence <= ?
"""

# One statement, so that head and entries come from one snapshot.
READ = """
SELECT t.sequence, t.head_hash, t.token, t.driver_id, e.sequence, e.body, e.hash
FROM transactions AS t LEFT JOIN entries AS e ON e.transaction_ordinal = t.ordinal
WHERE t.transaction_id = ? ORDER BY e.sequence
"""

NEXT_HOLDER = "SELECT min(driver_id) FROM transactions WHERE driver_id > ?"
_DUE = "SELECT ordinal, transaction_id, tenant FROM transactions "
_SERVED = """
AND (:agents IS NULL OR next_agent IS NULL
    OR next_agent IN (SELECT value FROM json_each(:agents)))
"""
DUE_OF_DRIVER = (
    _DUE
    + "WHERE driver_id = :driver_id AND runnable = 1 AND (due_at IS NULL OR due_at <= :now) "
    + _SERVED
    + "ORDER BY ordinal LIMIT :limit"
)
_FREE = "runnable = 1 AND driver_id IS NULL AND due_at IS NULL "
_TENANT = "SELECT min(tenant) FROM transactions WHERE "
NEXT_TENANT = _TENANT + _FREE + "AND tenant > ?"
FIRST_TENANT = _TENANT + _FREE
DUE_OF_TENANT = (
    _DUE
    + "WHERE "
    + _FREE
    + "AND tenant = :tenant "
    + _SERVED
    + "ORDER BY tenant, ordinal LIMIT :limit"
)
PARKED_AND_DUE = (
    _DUE
    + "WHERE driver_id IS NULL AND runnable = 1 AND due_at IS NOT NULL AND due_at <= :now "
    + _SERVED
    + "ORDER BY due_at, ordinal LIMIT :limit"
)

_LOCK = "SELECT resource, mode, transaction_id, token, ticket, cost FROM locks "
_NAMED = "WHERE resource IN (SELECT value FROM json_each(?)) "
_WAITED_FOR = "OR resource IN (SELECT resource FROM locks WHERE token IS NULL) "
_IN_LINE = "ORDER BY resource, ticket"
ALL_LOCKS = _LOCK + _IN_LINE
LOCKS = _LOCK + _NAMED + _WAITED_FOR + _IN_LINE
LOCKS_ON = _LOCK + _NAMED + _IN_LINE
WAKE = """
UPDATE transactions SET due_at = NULL
WHERE transaction_id = ? AND driver_id IS NULL AND due_at IS NOT NULL
"""
LOCKS_OF = _LOCK + _NAMED + "OR transaction_id = ? " + _IN_LINE
FENCES = """
SELECT name, token, version FROM resources WHERE name IN (SELECT value FROM json_each(?))
"""
ADD_LOCK = """
INSERT INTO locks (resource, transaction_id, mode, token, cost) VALUES (?, ?, ?, ?, ?)
"""
REMOVE_LOCK = "DELETE FROM locks WHERE ticket = ?"
MOVE_FENCE = """
INSERT INTO resources (name, token, version) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    token = excluded.token, version = max(version, excluded.version)
"""

# Why in order of arrival: what is old stands there first, and there is an index for it.
PURGEABLE = """
SELECT ordinal FROM transactions
WHERE state = ? AND runnable = 0 AND attention IS NULL AND updated_at < ?
    AND NOT EXISTS (SELECT 1 FROM deliveries AS d
        WHERE d.transaction_id = transactions.transaction_id AND d.is_dead = 0)
ORDER BY ordinal LIMIT ?
"""
STILL_PURGEABLE = """
SELECT 1 FROM transactions
WHERE ordinal = ? AND state = ? AND runnable = 0 AND attention IS NULL AND updated_at < ?
    AND NOT EXISTS (SELECT 1 FROM deliveries AS d
        WHERE d.transaction_id = transactions.transaction_id AND d.is_dead = 0)
"""
PURGE_ENTRIES = "DELETE FROM entries WHERE transaction_ordinal = ?"
PURGE_TRANSACTION = "DELETE FROM transactions WHERE ordinal = ?"

ALL_DRIVERS = """
SELECT driver_id, boot_id, lock_name, lock_inode, lock_device, lease_until FROM drivers
"""
DRIVERS_OF_PEOPLE = "SELECT driver_id, host, pid FROM drivers"
HELD_BY = "SELECT transaction_id FROM transactions WHERE driver_id = ? ORDER BY ordinal LIMIT ?"
DRIVER = ALL_DRIVERS + "WHERE driver_id = ?"
IDLE_DRIVERS = """
SELECT driver_id, boot_id, lock_name, lock_inode, lock_device, lease_until FROM drivers AS d
WHERE NOT EXISTS (SELECT 1 FROM transactions AS t WHERE t.driver_id = d.driver_id)
"""
RECORD_DRIVER = """
INSERT INTO drivers (
    driver_id, boot_id, lock_name, lock_inode, lock_device, pid, host, lease_until
) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (driver_id) DO UPDATE SET lease_until = excluded.lease_until
"""
FORGET_DRIVER = "DELETE FROM drivers WHERE driver_id = ?"

LISTED = """
SELECT ordinal, driver_id, transaction_id, state, created_at, updated_at, timeout_seconds, steps,
    completed, agents, attention, runnable, name, due_at, tenant, next_agent, terms
FROM transactions """
COUNTED = "SELECT count(*) FROM transactions "
COUNTED_ARM = "SELECT count(*) AS n FROM transactions "
PLACED = "SELECT ordinal FROM transactions "
UPWARDS = "ORDER BY ordinal LIMIT :limit OFFSET :offset"
DOWNWARDS = "ORDER BY ordinal DESC LIMIT :limit OFFSET :offset"
# The first line behind so many, in either direction: where a piece of a search ends.
BOUND_UPWARDS = "ORDER BY ordinal LIMIT 1 OFFSET :looks"
BOUND_DOWNWARDS = "ORDER BY ordinal DESC LIMIT 1 OFFSET :looks"

_PREFIX = "transaction_id >= :low AND transaction_id < :high "
_STATES = (
    "(:any_state OR state IN (:state1, :state2, :state3, :state4, :state5, :state6, :state7)) "
)
AFTER = "ordinal > :low_ordinal AND ordinal < :high_ordinal "
_REASONS = """(:any_reason OR attention IN (
    :reason1, :reason2, :reason3, :reason4, :reason5, :reason6, :reason7, :reason8)) """

ATTENTION = ("WHERE attention IS NOT NULL AND " + AFTER + "AND " + _REASONS + "AND " + _STATES) + (
    "AND " + _PREFIX
)
EVERY = "WHERE " + AFTER + "AND " + _PREFIX.replace("transaction_id", "+transaction_id")
# Why the plus signs: they keep SQLite from walking along the ordinals instead of the ids.
_BEHIND = "+ordinal > :low_ordinal AND +ordinal < :high_ordinal "
NARROW = "WHERE " + _PREFIX + "AND " + _STATES + "AND " + _BEHIND
# Why one arm for each state: SQLite merges the arms, each in the order of its index, and stops
# at the limit. `state IN (…) ORDER BY ordinal` would sort every finished transaction first.
ARM = AFTER + "AND " + _PREFIX.replace("transaction_id", "+transaction_id")
_NUMBERS = "1234567"


def arms(start: str, condition: str = ARM) -> str:
    """Return a statement with an arm for each state."""
    return "UNION ALL ".join(
        start + "WHERE state = :state" + number + " AND " + condition for number in _NUMBERS
    )


def summed(counting: str) -> str:
    """Return the statement that adds up what the arms of another one count."""
    return "SELECT sum(n) FROM (" + counting + ")"  # noqa: S608 (constants)


FIND_ATTENTION = (LISTED + ATTENTION + UPWARDS, LISTED + ATTENTION + DOWNWARDS)
FIND_NARROW = (
    LISTED + NARROW + UPWARDS.replace("ordinal", "+ordinal"),
    LISTED + NARROW + DOWNWARDS.replace("ordinal", "+ordinal"),
)
_UNION = arms(LISTED)
FIND_STATES = (_UNION + UPWARDS, _UNION + DOWNWARDS)
FIND_EVERY = (LISTED + EVERY + UPWARDS, LISTED + EVERY + DOWNWARDS)

COUNT_ATTENTION = COUNTED + ATTENTION
COUNT_NARROW = COUNTED + NARROW
COUNT_STATES_AND_PREFIX = summed(arms(COUNTED_ARM))
# Why one without a prefix: what it needs stands in the index; no row has to be looked up.
COUNT_STATES = summed(arms(COUNTED_ARM, AFTER))
COUNT_EVERY = COUNTED + EVERY
COUNT_ALL = "SELECT count(*) FROM transactions"
TALLY = "SELECT state, count(*) FROM transactions GROUP BY state"
TALLY_OF_REASONS = """
SELECT attention, count(*) FROM transactions WHERE attention IS NOT NULL GROUP BY attention
"""

# Where a piece of a search ends, by what leads to its lines.
_BOUNDS = {"attention": PLACED + "WHERE attention IS NOT NULL AND " + AFTER + "AND " + _REASONS}
_BOUNDS |= {"states": arms(PLACED, AFTER)}
# Why by positions where all lines are walked through: to count lines, each would be read twice.
_NEXT_UPWARDS = """
SELECT min(ordinal) FROM transactions WHERE ordinal < :high_ordinal AND ordinal >= :looks +
    (SELECT min(ordinal) FROM transactions WHERE ordinal > :low_ordinal)
"""
_NEXT_DOWNWARDS = """
SELECT max(ordinal) FROM transactions WHERE ordinal > :low_ordinal AND ordinal <= -:looks +
    (SELECT max(ordinal) FROM transactions WHERE ordinal < :high_ordinal)
"""
_LED = {"attention": ATTENTION, "narrow": NARROW, "every": EVERY}


def bound(kind: str, *, downwards: bool) -> str:
    """Return the statement that says where a piece of a search ends."""
    if kind == "every":
        return _NEXT_DOWNWARDS if downwards else _NEXT_UPWARDS
    return _BOUNDS[kind] + (BOUND_DOWNWARDS if downwards else BOUND_UPWARDS)


# Why cached: a text that is the same object is prepared once.
@lru_cache(maxsize=64)
def search(kind: str, looked_at: str, *, downwards: bool | None) -> str:
    """Return the statement of a search.

    Args:
        kind: What leads to the lines: `attention`, `narrow`, `states` or `every`.
        looked_at: What is looked at in each of them; put together by `looked_at`.
        downwards: True for the newest first; None to count.
    """
    if kind == "states":
        body = arms(COUNTED_ARM if downwards is None else LISTED, ARM + looked_at)
        if downwards is None:
            return summed(body)
    else:
        body = (COUNTED if downwards is None else LISTED) + _LED[kind] + looked_at
        if downwards is None:
            return body
    order = DOWNWARDS if downwards else UPWARDS
    return body + (order.replace("ordinal", "+ordinal") if kind == "narrow" else order)


_FIELDS = {
    "tenant": "AND tenant = :tenant ",
    "created_from": "AND created_at >= :created_from ",
    "created_before": "AND created_at < :created_before ",
    "updated_before": "AND updated_at < :updated_before ",
    "words": "AND instr(words, :words) ",
}


@lru_cache(maxsize=64)
def looked_at(fields: tuple[str, ...], agents: int, actions: int, metadata: int) -> str:
    """Return the conditions of a search.

    Args:
        fields: Which of the five fields.
        agents: How many agents are asked for, any of them; they are parameters, as all is.
        actions: How many actions, any of them.
        metadata: How many pairs of metadata, all of them.
    """
    found = "".join(_FIELDS[field] for field in fields)
    for name, number, glue in (
        ("agent", agents, " OR "),
        ("action", actions, " OR "),
        ("metadata", metadata, " AND "),
    ):
        if number:
            asked = (f"instr(terms, :{name}{place})" for place in range(number))
            found += "AND (" + glue.join(asked) + ") "
    return found


TELL_LABELS = "UPDATE transactions SET terms = ?, words = ? WHERE ordinal = ? AND terms IS NULL"
UNTOLD = """
SELECT ordinal, transaction_id, name, agents FROM transactions
WHERE terms IS NULL ORDER BY ordinal LIMIT :limit
"""
PLANS = """
SELECT body FROM entries
WHERE transaction_ordinal = :ordinal
    AND (instr(body, :plan) OR instr(body, :imported) OR instr(body, :step))
ORDER BY sequence
"""

PREFIX_PROBE = """
SELECT count(*) FROM (
    SELECT 1 FROM transactions
    WHERE transaction_id >= :low AND transaction_id < :high LIMIT :enough
)
"""

LISTENERS = "SELECT name, events FROM webhooks WHERE stopped IS NULL ORDER BY name"
WEBHOOKS = """
SELECT name, url, secret, events, include_data, allow_private, created_at, stopped
FROM webhooks ORDER BY name
"""
ADD_WEBHOOK = """
INSERT INTO webhooks VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING
"""
REMOVE_WEBHOOK = "DELETE FROM webhooks WHERE name = ?"
STOP_WEBHOOK = "UPDATE webhooks SET stopped = ? WHERE name = ?"
ADD_DELIVERY = """
INSERT INTO deliveries (delivery_id, webhook, transaction_id, event, first, last)
VALUES (?, ?, ?, ?, ?, ?)
"""
_DELIVERY = """
SELECT delivery_id, webhook, transaction_id, event, first, last, attempts, due_at, is_dead, error
FROM deliveries AS d
"""
# Why the look at what stands in front: what happened first is told first.
_DUE_DELIVERIES = """
WHERE is_dead = 0 AND due_at <= :now AND lent_until <= :now
    AND EXISTS (SELECT 1 FROM webhooks AS w WHERE w.name = d.webhook AND w.stopped IS NULL)
    AND NOT EXISTS (
        SELECT 1 FROM deliveries AS before
        WHERE before.webhook = d.webhook AND before.transaction_id = d.transaction_id
            AND before.place < d.place AND before.is_dead = 0)
ORDER BY due_at, place LIMIT :limit
"""
DUE_DELIVERIES = _DELIVERY + _DUE_DELIVERIES
LEND_DELIVERY = "UPDATE deliveries SET lent_to = ?, lent_until = ? WHERE delivery_id = ?"
LENT_DELIVERY = "SELECT webhook FROM deliveries WHERE delivery_id = ? AND lent_to = ?"
DELIVERED = "DELETE FROM deliveries WHERE delivery_id = ?"
NOT_DELIVERED = """
UPDATE deliveries SET attempts = attempts + 1, due_at = ?, is_dead = ?, error = ?, lent_to = NULL,
    lent_until = 0
WHERE delivery_id = ?
"""
DELIVERIES = (
    _DELIVERY + "WHERE NOT :only_failed OR attempts > 0 OR is_dead = 1 ORDER BY place LIMIT :limit"
)
RETRY_DELIVERY = """
UPDATE deliveries SET attempts = 0, due_at = ?, is_dead = 0, lent_to = NULL, lent_until = 0
WHERE delivery_id = ? RETURNING webhook
"""
DROP_DELIVERIES = "DELETE FROM deliveries WHERE webhook = ?"
PURGE_DELIVERIES = """
DELETE FROM deliveries
WHERE transaction_id = (SELECT transaction_id FROM transactions WHERE ordinal = ?)
"""
