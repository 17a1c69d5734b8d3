-- When a driver has something to do, where that is later. What waits for a time is not free before
-- it, so it stands in an index of its own, in the order of these times.

ALTER TABLE transactions ADD COLUMN due_at INTEGER;

DROP INDEX transactions_free;
CREATE INDEX transactions_free ON transactions (ordinal)
    WHERE runnable = 1 AND driver_id IS NULL AND due_at IS NULL;
CREATE INDEX transactions_parked ON transactions (due_at, ordinal)
    WHERE runnable = 1 AND driver_id IS NULL AND due_at IS NOT NULL;

PRAGMA user_version = 2;
