-- What transactions are searched by. `terms` holds a line for each agent, action and pair of metadata,
-- `words` the id, the name, the agents and the actions without case; `core/labels.py` says how.
-- They are NULL where an older release began a transaction; the next process that opens the store, or
-- searches it, fills them in from the journals, some hundreds in each commit: here nobody else could
-- write for as long as it takes.
ALTER TABLE transactions ADD COLUMN terms text COLLATE "C";
ALTER TABLE transactions ADD COLUMN words text COLLATE "C";
CREATE INDEX transactions_untold ON transactions (ordinal) WHERE terms IS NULL;

-- Why the reason as well: how many there are of each is read from the index alone.
DROP INDEX transactions_attention;
CREATE INDEX transactions_attention ON transactions (ordinal) INCLUDE (attention)
    WHERE attention IS NOT NULL;
