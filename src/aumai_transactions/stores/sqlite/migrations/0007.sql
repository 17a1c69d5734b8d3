-- Who is told of what happens, and what they have not been told yet.

-- `events` is a JSON list. `secret` says where the secret is found, and is none.
CREATE TABLE webhooks (
    name TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    include_data INTEGER NOT NULL,
    allow_private INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    stopped TEXT
) STRICT, WITHOUT ROWID;

-- Written in the append that it tells of, and deleted when it was delivered.
CREATE TABLE deliveries (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT NOT NULL UNIQUE,
    webhook TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    event TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    is_dead INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    lent_to TEXT,
    lent_until INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX deliveries_in_order ON deliveries (webhook, transaction_id, place) WHERE is_dead = 0;
CREATE INDEX deliveries_due ON deliveries (due_at, place) WHERE is_dead = 0;
CREATE INDEX deliveries_of ON deliveries (transaction_id, is_dead);

PRAGMA user_version = 7;
