-- What a store is, and how it is kept.

-- name: find_schema
SELECT to_regclass(quote_ident(%(schema)s) || '.store') IS NOT NULL,
    EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s)

-- name: settle
-- Why the one exception: a server that waits for its standbys to apply a commit does even more.
SELECT name, set_config(name, CASE
    WHEN name = 'synchronous_commit' AND current_setting(name) = 'remote_apply' THEN 'remote_apply'
    ELSE value
END, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value)

-- name: promises
SELECT current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit')

-- name: only_migrator
SELECT pg_advisory_xact_lock(hashtextextended(%(lock)s, 0))

-- name: new_store
INSERT INTO store (one, store_id, schema_version, usable_from)
VALUES (1, %(store_id)s, %(version)s, %(usable_from)s)

-- name: set_version
UPDATE store SET schema_version = %(version)s, usable_from = %(usable_from)s

-- name: store_row
SELECT store_id, schema_version, usable_from FROM store

-- name: older_drivers
SELECT count(*) FROM drivers
WHERE lease_until > clock_timestamp() AND schema_version < %(version)s

-- name: changes
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM changes

-- name: server
SELECT current_setting('server_version'), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_commit'),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, current_setting('TimeZone')

-- name: sizes
SELECT pg_total_relation_size('transactions'), pg_total_relation_size('entries')

-- name: purge
-- A journal goes with its head, in one commit, or stays with it.
-- Why materialized: a subquery that locks may be run more than once, and then finds more than asked.
WITH over AS MATERIALIZED (
    SELECT ordinal FROM transactions
    WHERE purgeable_at IS NOT NULL AND purgeable_at < %(before)s
        AND NOT EXISTS (
            SELECT 1 FROM deliveries AS d
            WHERE d.transaction_id = transactions.transaction_id AND NOT d.is_dead)
    ORDER BY purgeable_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM transactions AS t USING over AS o WHERE t.ordinal = o.ordinal
    RETURNING t.ordinal, t.transaction_id, nextval('changes')
), journals AS (
    DELETE FROM entries AS e USING gone AS g WHERE e.transaction_ordinal = g.ordinal
), given_up AS (
    DELETE FROM deliveries AS d USING gone AS g WHERE d.transaction_id = g.transaction_id
)
SELECT count(*) FROM gone

-- name: set_changes
SELECT setval('changes', %(changes)s)

-- name: reads_one_moment
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: names
SELECT ordinal, transaction_id FROM transactions WHERE ordinal > %(after)s
ORDER BY ordinal LIMIT %(limit)s

-- name: heads_after
SELECT ordinal, transaction_id, sequence, head_hash, updated_at,
    state IN ('committed', 'rolled_back', 'failed') AND NOT runnable AND attention IS NULL
FROM transactions WHERE ordinal > %(after)s ORDER BY ordinal LIMIT %(limit)s

-- name: fences_after
SELECT name, token, version FROM resources WHERE name > %(after)s ORDER BY name LIMIT %(limit)s

-- name: waiting
SELECT resource, transaction_id FROM locks WHERE token IS NULL ORDER BY ticket

-- name: orphans
-- Entries of a transaction that is not there.
SELECT count(*), count(DISTINCT transaction_ordinal) FROM entries AS e
WHERE NOT EXISTS (SELECT 1 FROM transactions AS t WHERE t.ordinal = e.transaction_ordinal)
