-- Who is told of what happens.

-- name: webhooks
SELECT name, url, secret, events, include_data, allow_private, created_at, stopped
FROM webhooks ORDER BY name

-- name: add_webhook
INSERT INTO webhooks (name, url, secret, events, include_data, allow_private, created_at, stopped)
VALUES (%(name)s, %(url)s, %(secret)s, %(events)s::text[], %(include_data)s, %(allow_private)s,
    %(created_at)s, %(stopped)s)
ON CONFLICT (name) DO NOTHING RETURNING name

-- name: remove_webhook
WITH gone AS (DELETE FROM webhooks WHERE name = %(name)s RETURNING name),
    dropped AS (DELETE FROM deliveries WHERE webhook = %(name)s)
SELECT name FROM gone

-- name: due_deliveries
SELECT delivery_id FROM deliveries WHERE NOT is_dead AND due_at <= %(now)s AND lent_until <= %(now)s
LIMIT 1

-- name: lend_deliveries
-- Why the look at what stands in front: what happened first is told first. Why SKIP LOCKED: another
-- sender has it in hand.
WITH due AS MATERIALIZED (
    SELECT d.place FROM deliveries AS d
    WHERE NOT is_dead AND due_at <= %(now)s AND lent_until <= %(now)s
        AND EXISTS (SELECT 1 FROM webhooks AS w WHERE w.name = d.webhook AND w.stopped IS NULL)
        AND NOT EXISTS (
            SELECT 1 FROM deliveries AS b
            WHERE b.webhook = d.webhook AND b.transaction_id = d.transaction_id
                AND b.place < d.place AND NOT b.is_dead)
    ORDER BY due_at, place LIMIT %(limit)s
    FOR UPDATE OF d SKIP LOCKED
), lent AS (
    UPDATE deliveries AS d SET lent_to = %(sender)s, lent_until = %(until)s
    FROM due WHERE d.place = due.place
    RETURNING d.*
)
SELECT delivery_id, webhook, transaction_id, event, first, last, attempts, due_at, is_dead, error
FROM lent ORDER BY due_at, place

-- name: delivered
DELETE FROM deliveries WHERE delivery_id = %(id)s AND lent_to = %(sender)s RETURNING delivery_id

-- name: not_delivered
WITH settled AS (
    UPDATE deliveries SET attempts = attempts + 1, due_at = %(due_at)s, is_dead = %(is_dead)s,
        error = %(error)s, lent_to = NULL, lent_until = 0
    WHERE delivery_id = %(id)s AND lent_to = %(sender)s RETURNING webhook
), stopping AS (
    UPDATE webhooks AS w SET stopped = %(error)s FROM settled AS s
    WHERE w.name = s.webhook AND %(stops)s
)
SELECT webhook FROM settled

-- name: deliveries
SELECT delivery_id, webhook, transaction_id, event, first, last, attempts, due_at, is_dead, error
FROM deliveries WHERE NOT %(only_failed)s OR attempts > 0 OR is_dead
ORDER BY place LIMIT %(limit)s

-- name: retry_delivery
WITH again AS (
    UPDATE deliveries SET attempts = 0, due_at = %(now)s, is_dead = false, lent_to = NULL,
        lent_until = 0
    WHERE delivery_id = %(id)s RETURNING webhook
), working AS (
    UPDATE webhooks AS w SET stopped = NULL FROM again AS a WHERE w.name = a.webhook
)
SELECT webhook FROM again
