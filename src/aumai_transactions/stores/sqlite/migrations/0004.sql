-- Whose a transaction is, and on whose behalf it goes on: tenants take turns, and a worker takes
-- only what it serves.

ALTER TABLE transactions ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE transactions ADD COLUMN next_agent TEXT;

DROP INDEX transactions_free;
CREATE INDEX transactions_free ON transactions (tenant, ordinal)
    WHERE runnable = 1 AND driver_id IS NULL AND due_at IS NULL;

PRAGMA user_version = 4;
