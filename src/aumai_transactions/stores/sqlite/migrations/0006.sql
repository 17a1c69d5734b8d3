-- What transactions are searched by. `terms` holds a line for each agent, action and pair of metadata,
-- `words` the id, the name, the agents and the actions without case; `core/labels.py` says how.
-- Both are written when a transaction begins, and where a step is added to it. They are NULL where an
-- older release began it; the next process that opens the store, or searches it, fills them in from the
-- journals, some hundreds in each write: here it would hold up everybody else for as long as it takes.

ALTER TABLE transactions ADD COLUMN terms TEXT;
ALTER TABLE transactions ADD COLUMN words TEXT;

CREATE INDEX transactions_untold ON transactions (ordinal) WHERE terms IS NULL;

-- Why the reason as well: how many there are of each is read from the index alone.
DROP INDEX transactions_attention;
CREATE INDEX transactions_attention ON transactions (ordinal, attention)
    WHERE attention IS NOT NULL;

PRAGMA user_version = 6;
