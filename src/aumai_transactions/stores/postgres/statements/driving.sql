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

-- name: drivers_told
-- The last sign is as long before the end of the lease as a lease lasts.
SELECT driver_id, host, pid, (extract(epoch FROM lease_until) * 1000000)::bigint
    - (%(seconds)s * 1000000)::bigint
FROM drivers

-- name: held_by
SELECT transaction_id FROM transactions WHERE driver_id = %(driver_id)s
ORDER BY ordinal LIMIT %(limit)s

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

-- name: tenants
-- Each tenant that has something free, from one to the next in the index, as many as are asked for.
WITH RECURSIVE tenants AS (
    (
        SELECT tenant FROM transactions
        WHERE runnable AND driver_id IS NULL AND due_at IS NULL AND tenant > %(after)s
        ORDER BY tenant LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT t.tenant FROM transactions AS t
        WHERE t.runnable AND t.driver_id IS NULL AND t.due_at IS NULL AND t.tenant > w.tenant
        ORDER BY t.tenant LIMIT 1
    )
    FROM tenants AS w WHERE w.tenant IS NOT NULL
)
SELECT tenant FROM tenants WHERE tenant IS NOT NULL LIMIT %(limit)s

-- name: due
SELECT free.* FROM unnest(%(tenants)s::text[]) AS wanted CROSS JOIN LATERAL (
    SELECT ordinal, transaction_id, tenant FROM transactions
    WHERE runnable AND driver_id IS NULL AND due_at IS NULL AND tenant = wanted AND {served}
    ORDER BY tenant, ordinal LIMIT %(limit)s
) AS free
UNION ALL
(
    SELECT ordinal, transaction_id, tenant FROM transactions
    WHERE runnable AND driver_id IS NULL AND due_at IS NOT NULL AND due_at <= %(now)s AND {served}
    ORDER BY due_at, ordinal LIMIT %(limit)s
)
UNION ALL
SELECT held.* FROM unnest(%(holders)s::text[]) AS holder CROSS JOIN LATERAL (
    SELECT ordinal, transaction_id, tenant FROM transactions
    WHERE runnable AND driver_id IS NOT NULL AND driver_id = holder
        AND (due_at IS NULL OR due_at <= %(now)s) AND {served}
    ORDER BY ordinal LIMIT %(limit)s
) AS held

-- name: reservable
-- The same, but for what somebody else has reserved; whoever asks at the same time is told of others
-- instead of waiting.
WITH free AS MATERIALIZED (
    SELECT one.* FROM unnest(%(tenants)s::text[]) AS wanted CROSS JOIN LATERAL (
        SELECT ordinal, transaction_id, tenant FROM transactions
        WHERE runnable AND driver_id IS NULL AND due_at IS NULL AND tenant = wanted AND {served}
            AND (offered_until IS NULL OR offered_until <= clock_timestamp()
                OR offered_to = %(driver_id)s)
        ORDER BY tenant, ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS one
), parked AS MATERIALIZED (
    SELECT ordinal, transaction_id, tenant FROM transactions
    WHERE runnable AND driver_id IS NULL AND due_at IS NOT NULL AND due_at <= %(now)s AND {served}
        AND (offered_until IS NULL OR offered_until <= clock_timestamp()
            OR offered_to = %(driver_id)s)
    ORDER BY due_at, ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT one.* FROM unnest(%(holders)s::text[]) AS holder CROSS JOIN LATERAL (
        SELECT ordinal, transaction_id, tenant FROM transactions
        WHERE runnable AND driver_id IS NOT NULL AND driver_id = holder
            AND (due_at IS NULL OR due_at <= %(now)s) AND {served}
            AND (offered_until IS NULL OR offered_until <= clock_timestamp()
                OR offered_to = %(driver_id)s)
        ORDER BY ordinal LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS one
)
SELECT * FROM free UNION ALL SELECT * FROM parked UNION ALL SELECT * FROM held

-- name: reserve
UPDATE transactions SET
    offered_to = %(driver_id)s,
    offered_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE ordinal = ANY(%(ordinals)s::bigint[])

-- name: quickly
-- What is only a hint need not survive a crash.
SET LOCAL synchronous_commit = off

-- name: served
(%(agents)s::text[] IS NULL OR next_agent IS NULL OR next_agent = ANY(%(agents)s::text[]))
