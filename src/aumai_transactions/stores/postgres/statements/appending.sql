-- What an append reads and writes.
-- Each statement that writes compares the head with what was decided on, so that one statement of its
-- own is a whole, safe append: (sequence, token, hash) say who was last, and what was said.

-- name: heads
-- Why ordered: whoever locks several rows locks them in this order, so that two batches cannot wait for
-- each other.
SELECT ordinal, transaction_id, sequence, head_hash, token, driver_id, attention FROM transactions
WHERE transaction_id = ANY(%(ids)s)
ORDER BY ordinal
FOR UPDATE

-- name: holder
-- Why a statement of its own, behind the locks: one that waits for a lock sees all other rows as they
-- were before it waited, and a lease that was renewed meanwhile as one that has run out.
SELECT driver_id, lease_until > clock_timestamp(), boot_id, pid_namespace, pid, process_started
FROM drivers WHERE driver_id = %(driver_id)s

-- name: bodies
SELECT body FROM entries
WHERE transaction_ordinal = %(ordinal)s AND sequence > %(first)s AND sequence <= %(last)s
ORDER BY sequence

-- name: append_one
WITH moved AS (
    UPDATE transactions SET
        sequence = %(sequence)s, head_hash = %(hash)s, token = %(token)s,
        change = nextval('changes'), created_at = %(created_at)s, updated_at = %(updated_at)s,
        due_at = %(due_at)s, purgeable_at = %(purgeable_at)s, steps = %(steps)s,
        completed = %(completed)s, runnable = %(runnable)s, state = %(state)s,
        driver_id = %(driver_id)s, attention = %(attention)s,
        timeout_seconds = %(timeout_seconds)s::numeric, agents = %(agents)s, name = %(name)s,
        tenant = %(tenant)s, next_agent = %(next_agent)s,
        terms = coalesce(%(terms)s, terms), words = coalesce(%(words)s, words)
    WHERE ordinal = %(ordinal)s AND sequence = %(was_sequence)s AND token = %(was_token)s
        AND head_hash = %(was_hash)s
    RETURNING ordinal
), written AS (
    INSERT INTO entries (transaction_ordinal, sequence, body, hash)
    SELECT moved.ordinal, %(was_sequence)s + e.place, e.body, e.hash
    FROM moved, unnest(%(bodies)b::bytea[], %(hashes)b::bytea[])
        WITH ORDINALITY AS e (body, hash, place)
), told AS (
    INSERT INTO deliveries (delivery_id, webhook, transaction_id, event, first, last)
    SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), w.name, %(transaction_id)s, h.event,
        h.first, h.last
    FROM moved, unnest(%(events)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[])
        WITH ORDINALITY AS h (event, first, last, place), webhooks AS w
    WHERE w.stopped IS NULL AND h.event = ANY (w.events)
    ORDER BY h.place, w.name
)
SELECT ordinal FROM moved

-- name: append_new
WITH added AS (
    INSERT INTO transactions (
        transaction_id, sequence, head_hash, token, change, created_at, updated_at, due_at,
        purgeable_at, steps, completed, runnable, state, driver_id, attention, timeout_seconds,
        agents, name, tenant, next_agent, terms, words
    ) VALUES (
        %(transaction_id)s, %(sequence)s, %(hash)s, %(token)s, nextval('changes'), %(created_at)s,
        %(updated_at)s, %(due_at)s, %(purgeable_at)s, %(steps)s, %(completed)s, %(runnable)s,
        %(state)s, %(driver_id)s, %(attention)s, %(timeout_seconds)s::numeric, %(agents)s, %(name)s,
        %(tenant)s, %(next_agent)s, %(terms)s, %(words)s
    )
    ON CONFLICT (transaction_id) DO NOTHING
    RETURNING ordinal
), written AS (
    INSERT INTO entries (transaction_ordinal, sequence, body, hash)
    SELECT added.ordinal, e.place, e.body, e.hash
    FROM added, unnest(%(bodies)b::bytea[], %(hashes)b::bytea[])
        WITH ORDINALITY AS e (body, hash, place)
), told AS (
    INSERT INTO deliveries (delivery_id, webhook, transaction_id, event, first, last)
    SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), w.name, %(transaction_id)s, h.event,
        h.first, h.last
    FROM added, unnest(%(events)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[])
        WITH ORDINALITY AS h (event, first, last, place), webhooks AS w
    WHERE w.stopped IS NULL AND h.event = ANY (w.events)
    ORDER BY h.place, w.name
)
SELECT ordinal FROM added

-- name: append_many
-- Why the two counts: they make the rows that are there be locked first, in their order, and new ids
-- be taken afterwards, in theirs.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        %(place)s::int[], %(ordinal)s::bigint[], %(transaction_id)s::text[],
        %(was_sequence)s::bigint[], %(was_token)s::bigint[], %(was_hash)b::bytea[],
        %(sequence)s::bigint[], %(hash)b::bytea[], %(token)s::bigint[], %(created_at)s::bigint[],
        %(updated_at)s::bigint[], %(due_at)s::bigint[], %(purgeable_at)s::bigint[],
        %(steps)s::int[], %(completed)s::int[], %(runnable)s::boolean[], %(state)s::text[],
        %(driver_id)s::text[], %(attention)s::text[], %(timeout_seconds)s::text[],
        %(agents)s::text[], %(name)s::text[], %(tenant)s::text[], %(next_agent)s::text[],
        %(terms)s::text[], %(words)s::text[]
    ) AS g (
        place, ordinal, transaction_id, was_sequence, was_token, was_hash, sequence, hash, token,
        created_at, updated_at, due_at, purgeable_at, steps, completed, runnable, state, driver_id,
        attention, timeout_seconds, agents, name, tenant, next_agent, terms, words
    )
), locked AS MATERIALIZED (
    SELECT t.ordinal FROM given AS g JOIN transactions AS t ON t.ordinal = g.ordinal
    ORDER BY t.ordinal
    FOR UPDATE OF t
), moved AS (
    UPDATE transactions AS t SET
        sequence = g.sequence, head_hash = g.hash, token = g.token, change = nextval('changes'),
        created_at = g.created_at, updated_at = g.updated_at, due_at = g.due_at,
        purgeable_at = g.purgeable_at, steps = g.steps, completed = g.completed,
        runnable = g.runnable, state = g.state, driver_id = g.driver_id, attention = g.attention,
        timeout_seconds = g.timeout_seconds::numeric, agents = g.agents, name = g.name,
        tenant = g.tenant, next_agent = g.next_agent, terms = coalesce(g.terms, t.terms),
        words = coalesce(g.words, t.words)
    FROM given AS g
    WHERE (SELECT count(*) FROM locked) >= 0 AND t.ordinal = g.ordinal
        AND t.sequence = g.was_sequence AND t.token = g.was_token AND t.head_hash = g.was_hash
    RETURNING t.ordinal, g.place
), added AS (
    INSERT INTO transactions (
        transaction_id, sequence, head_hash, token, change, created_at, updated_at, due_at,
        purgeable_at, steps, completed, runnable, state, driver_id, attention, timeout_seconds,
        agents, name, tenant, next_agent, terms, words
    )
    SELECT transaction_id, sequence, hash, token, nextval('changes'), created_at, updated_at,
        due_at, purgeable_at, steps, completed, runnable, state, driver_id, attention,
        timeout_seconds::numeric, agents, name, tenant, next_agent, terms, words
    FROM given
    WHERE ordinal IS NULL AND (SELECT count(*) FROM moved) >= 0
    ORDER BY transaction_id COLLATE "C"
    ON CONFLICT (transaction_id) DO NOTHING
    RETURNING ordinal, transaction_id
), touched AS (
    SELECT place, ordinal FROM moved
    UNION ALL
    SELECT g.place, a.ordinal FROM added AS a
    JOIN given AS g ON g.transaction_id = a.transaction_id
), written AS (
    INSERT INTO entries (transaction_ordinal, sequence, body, hash)
    SELECT w.ordinal, e.sequence, e.body, e.hash
    FROM unnest(
        %(entry_place)s::int[], %(entry_sequence)s::bigint[], %(bodies)b::bytea[],
        %(hashes)b::bytea[]
    ) AS e (place, sequence, body, hash)
    JOIN touched AS w ON w.place = e.place
), told AS (
    INSERT INTO deliveries (delivery_id, webhook, transaction_id, event, first, last)
    SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), w.name, g.transaction_id, h.event,
        h.first, h.last
    FROM unnest(
        %(event_place)s::int[], %(events)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[]
    ) WITH ORDINALITY AS h (of, event, first, last, place)
    JOIN touched AS t ON t.place = h.of
    JOIN given AS g ON g.place = h.of
    CROSS JOIN webhooks AS w
    WHERE w.stopped IS NULL AND h.event = ANY (w.events)
    ORDER BY h.place, w.name
)
SELECT place, ordinal FROM touched

-- name: tell
SELECT pg_notify(%(channel)s, id) FROM unnest(%(ids)s::text[]) AS id

-- name: locks_of
SELECT resource, mode, transaction_id, token, ticket, cost FROM locks
WHERE transaction_id = ANY(%(ids)s::text[]) ORDER BY resource, ticket

-- name: claim_resources
-- Why ordered, here and below: whoever holds several of these rows takes them in this order.
INSERT INTO resources (name)
SELECT name FROM unnest(%(names)s::text[]) AS name ORDER BY name COLLATE "C"
ON CONFLICT (name) DO NOTHING

-- name: hold_resources
SELECT name, token, version FROM resources
WHERE name = ANY(%(names)s::text[]) ORDER BY name FOR UPDATE

-- name: locks_on
SELECT resource, mode, transaction_id, token, ticket, cost FROM locks
WHERE resource = ANY(%(names)s::text[]) ORDER BY resource, ticket

-- name: remove_locks
DELETE FROM locks WHERE ticket = ANY(%(tickets)s::bigint[])

-- name: add_locks
INSERT INTO locks (resource, transaction_id, mode, token, cost)
SELECT a.resource, a.transaction_id, a.mode, a.token, a.cost
FROM unnest(
    %(resource)s::text[], %(transaction_id)s::text[], %(mode)s::text[], %(token)s::bigint[],
    %(cost)s::bigint[]
) WITH ORDINALITY AS a (resource, transaction_id, mode, token, cost, place)
ORDER BY a.place

-- name: move_fences
UPDATE resources AS r SET token = f.token, version = f.version
FROM unnest(%(name)s::text[], %(token)s::bigint[], %(version)s::bigint[]) AS f (name, token, version)
WHERE r.name = f.name

-- name: locks_seen
SELECT resource, mode, transaction_id, token, ticket, cost FROM locks
WHERE resource = ANY(%(names)s::text[])
    OR resource IN (SELECT w.resource FROM locks AS w WHERE w.token IS NULL)
ORDER BY resource, ticket

-- name: all_locks
SELECT resource, mode, transaction_id, token, ticket, cost FROM locks ORDER BY resource, ticket

-- name: fences
SELECT name, token, version FROM resources WHERE name = ANY(%(names)s::text[])

-- name: wake
-- Whose turn it is, and who is nobody's, is due at once. Why SKIP LOCKED: whoever holds the row has the
-- transaction in hand already.
UPDATE transactions SET due_at = NULL
WHERE ordinal IN (
    SELECT ordinal FROM transactions
    WHERE transaction_id = ANY(%(ids)s::text[]) AND driver_id IS NULL AND due_at IS NOT NULL
    ORDER BY ordinal FOR UPDATE SKIP LOCKED
)
