-- Who drives what, and what is to be driven.

-- name: record_driver
INSERT INTO drivers (
    driver_id, lease_until, joined_at, schema_version, host, pid, boot_id, pid_namespace,
    process_started
) VALUES (
    %(driver_id)s, clock_timestamp() + make_interval(secs => %(seconds)s), clock_timestamp(),
    %(schema_version)s, %(host)s, %(pid)s, %(boot_id)s, %(pid_namespace)s, %(process_started)s
)
ON CONFLICT (driver_id) DO UPDATE SET lease_until = excluded.lease_until

-- name: forget_drivers
DELETE FROM drivers WHERE driver_id = ANY(%(driver_ids)s::text[])

-- name: tidy_drivers
-- A driver whose lease is over counts as dead with its row and without; the day is for people.
DELETE FROM drivers WHERE lease_until < clock_timestamp() - interval '1 day'

-- name: drivers
SELECT driver_id, lease_until > clock_timestamp(), boot_id, pid_namespace, pid, process_started
FROM drivers

-- name: holders
-- Each driver that holds something, however much it holds: from one to the next in the index.
WITH RECURSIVE holders AS (
    (
        SELECT driver_id FROM transactions WHERE runnable AND driver_id IS NOT NULL
        ORDER BY driver_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT t.driver_id FROM transactions AS t
        WHERE t.runnable AND t.driver_id IS NOT NULL AND t.driver_id > h.driver_id
        ORDER BY t.driver_id LIMIT 1
    )
    FROM holders AS h WHERE h.driver_id IS NOT NULL
)
SELECT h.driver_id, coalesce(d.lease_until > clock_timestamp(), false), d.boot_id,
    d.pid_namespace, d.pid, d.process_started
FROM holders AS h LEFT JOIN drivers AS d ON d.driver_id = h.driver_id
WHERE h.driver_id IS NOT NULL

-- name: due
SELECT transaction_id FROM (
    (
        SELECT ordinal, transaction_id FROM transactions
        WHERE runnable AND driver_id IS NULL AND due_at IS NULL
        ORDER BY ordinal LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT ordinal, transaction_id FROM transactions
        WHERE runnable AND driver_id IS NULL AND due_at IS NOT NULL AND due_at <= %(now)s
        ORDER BY due_at, ordinal LIMIT %(limit)s
    )
    UNION ALL
    SELECT held.ordinal, held.transaction_id
    FROM unnest(%(holders)s::text[]) AS holder CROSS JOIN LATERAL (
        SELECT ordinal, transaction_id FROM transactions
        WHERE runnable AND driver_id IS NOT NULL AND driver_id = holder
            AND (due_at IS NULL OR due_at <= %(now)s)
        ORDER BY ordinal LIMIT %(limit)s
    ) AS held
) AS found
ORDER BY ordinal LIMIT %(limit)s

-- name: reserve
-- The same, and nobody else who reserves is told of these for a while. Whoever asks at the same time
-- is told of others instead of waiting.
WITH free AS MATERIALIZED (
    SELECT ordinal FROM transactions
    WHERE runnable AND driver_id IS NULL AND due_at IS NULL
        AND (offered_until IS NULL OR offered_until <= clock_timestamp()
            OR offered_to = %(driver_id)s)
    ORDER BY ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), parked AS MATERIALIZED (
    SELECT ordinal FROM transactions
    WHERE runnable AND driver_id IS NULL AND due_at IS NOT NULL AND due_at <= %(now)s
        AND (offered_until IS NULL OR offered_until <= clock_timestamp()
            OR offered_to = %(driver_id)s)
    ORDER BY due_at, ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT one.ordinal
    FROM unnest(%(holders)s::text[]) AS holder CROSS JOIN LATERAL (
        SELECT ordinal FROM transactions
        WHERE runnable AND driver_id IS NOT NULL AND driver_id = holder
            AND (due_at IS NULL OR due_at <= %(now)s)
            AND (offered_until IS NULL OR offered_until <= clock_timestamp()
                OR offered_to = %(driver_id)s)
        ORDER BY ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS one
), chosen AS MATERIALIZED (
    SELECT ordinal FROM (
        SELECT ordinal FROM free
        UNION ALL SELECT ordinal FROM parked
        UNION ALL SELECT ordinal FROM held
    ) AS found
    ORDER BY ordinal LIMIT %(limit)s
), offered AS (
    UPDATE transactions AS t SET
        offered_to = %(driver_id)s,
        offered_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    FROM chosen AS c WHERE t.ordinal = c.ordinal
    RETURNING t.ordinal, t.transaction_id
)
-- Why the setting, which ends with this statement: an offer that is lost costs nothing, so that nobody
-- needs to wait for the disk.
SELECT transaction_id FROM offered
WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
ORDER BY ordinal
