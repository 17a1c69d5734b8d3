-- What could change by itself on a disk without anybody noticing: what no journal says, and no index
-- repeats. Now each of these stands twice, so that `PRAGMA integrity_check`, or whoever opens the
-- store, sees that the two do not fit.

ALTER TABLE store ADD COLUMN store_id_twice TEXT NOT NULL DEFAULT '';
ALTER TABLE store ADD COLUMN changes_down INTEGER NOT NULL DEFAULT 0;
UPDATE store SET store_id_twice = store_id, changes_down = -changes;

-- It counts down while `changes` counts up. Why by the difference: what does not fit any more must
-- not be made to fit by the next write. Why a trigger: processes of an older release may go on.
CREATE TRIGGER store_changes AFTER UPDATE OF changes ON store BEGIN
    UPDATE store SET changes_down = changes_down - (new.changes - old.changes);
END;

-- A fence that went back would let a driver in that was fenced off.
CREATE UNIQUE INDEX resources_twice ON resources (name, token, version);
-- Who is taken for alive, or for dead, by mistake.
CREATE UNIQUE INDEX drivers_twice ON drivers (
    driver_id, boot_id, lock_name, lock_inode, lock_device, pid, host, lease_until
);
-- The cost decides who gives way; who holds what can be told from the journals.
DROP INDEX locks_transaction;
CREATE INDEX locks_transaction ON locks (transaction_id, cost);

PRAGMA user_version = 5;
