-- The first schema. A migration runs in one IMMEDIATE transaction and sets its own version.

CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id TEXT NOT NULL,
    changes INTEGER NOT NULL
) STRICT;

-- `ordinal` is the order of arrival and is never used twice, not even after a purge.
CREATE TABLE transactions (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    transaction_id TEXT NOT NULL UNIQUE,
    sequence INTEGER NOT NULL,
    head_hash BLOB NOT NULL,
    token INTEGER NOT NULL,
    driver_id TEXT,
    state TEXT NOT NULL,
    attention TEXT,
    runnable INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    timeout_seconds ANY NOT NULL,
    steps INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    agents TEXT NOT NULL,
    name TEXT
) STRICT;

-- `body` is the very bytes that were hashed.
CREATE TABLE entries (
    transaction_ordinal INTEGER NOT NULL REFERENCES transactions (ordinal),
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (transaction_ordinal, sequence)
) STRICT, WITHOUT ROWID;

-- Lock file, inode and device are NULL where the platform has no flock; then the lease decides.
CREATE TABLE drivers (
    driver_id TEXT PRIMARY KEY,
    boot_id TEXT,
    lock_name TEXT,
    lock_inode TEXT,
    lock_device TEXT,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- These three hold what is in flight or needs a person, however much has finished before.
CREATE INDEX transactions_free ON transactions (ordinal)
    WHERE runnable = 1 AND driver_id IS NULL;
CREATE INDEX transactions_held ON transactions (driver_id, runnable, ordinal)
    WHERE driver_id IS NOT NULL;
CREATE INDEX transactions_attention ON transactions (ordinal)
    WHERE attention IS NOT NULL;
CREATE INDEX transactions_state ON transactions (state, ordinal);

PRAGMA user_version = 1;
