-- Who holds which resource, and who waits for it: a projection of the journals.

-- The last fencing token of each resource that was ever granted; it only grows. `version` is the
-- last one that was granted exclusively.
CREATE TABLE resources (
    name TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A line without a token waits; `ticket` is its place in the queue.
CREATE TABLE locks (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    resource TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    token INTEGER,
    cost INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX locks_resource ON locks (resource, transaction_id, (token IS NULL));
CREATE INDEX locks_transaction ON locks (transaction_id);
CREATE INDEX locks_waiting ON locks (resource) WHERE token IS NULL;

PRAGMA user_version = 3;
