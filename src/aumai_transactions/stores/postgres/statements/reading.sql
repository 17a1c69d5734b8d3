-- What is read of journals, and which transactions are listed.
-- `{listed}` stands for the statement of that name below, `{direction}` for ASC or DESC, `{searched}`
-- for the statement of that name in a search, and else for nothing; they are filled in when this file
-- is loaded, and never from data.
-- Why left(): a comparison of ids would let PostgreSQL, which plans without knowing the prefix, read
-- all ids in their order. Where a prefix is narrow, that is what is wanted: see `find_narrow`.

-- name: journal
-- One statement, so that head and entries come from one snapshot.
SELECT t.sequence, t.head_hash, t.token, t.driver_id, t.ordinal, e.sequence, e.body, e.hash,
    t.attention
FROM transactions AS t LEFT JOIN entries AS e ON e.transaction_ordinal = t.ordinal
WHERE t.transaction_id = %(id)s ORDER BY e.sequence

-- name: listed
SELECT ordinal, driver_id, transaction_id, state, created_at, updated_at, timeout_seconds, steps,
    completed, agents, attention, runnable, name, due_at, tenant, next_agent, terms

-- name: find_every
{listed} FROM transactions
WHERE ordinal > %(above)s AND ordinal < %(below)s
    AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
    {searched}
ORDER BY ordinal {direction} LIMIT %(limit)s OFFSET %(offset)s

-- name: find_attention
{listed} FROM transactions
WHERE attention IS NOT NULL AND ordinal > %(above)s AND ordinal < %(below)s
    AND (%(any_reason)s OR attention = ANY(%(reasons)s::text[]))
    AND (%(any_state)s OR state = ANY(%(states)s::text[]))
    AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
    {searched}
ORDER BY ordinal {direction} LIMIT %(limit)s OFFSET %(offset)s

-- name: find_states
-- Why one look for each state: `state = ANY(…) ORDER BY ordinal` would sort all that has finished.
-- What is sorted here is no more than one page of each state.
-- Why pairs: `state = wanted` would let PostgreSQL walk through all transactions in order of arrival.
{listed} FROM unnest(%(states)s::text[]) AS wanted CROSS JOIN LATERAL (
    SELECT * FROM transactions AS t
    WHERE (t.state, t.ordinal) > (wanted, %(above)s::bigint)
        AND (t.state, t.ordinal) < (wanted, %(below)s::bigint)
        AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
        {searched}
    ORDER BY t.state {direction}, t.ordinal {direction} LIMIT %(limit)s::bigint + %(offset)s::bigint
) AS found
ORDER BY ordinal {direction} LIMIT %(limit)s OFFSET %(offset)s

-- name: find_narrow
-- For a prefix that few ids have: they are read by their names, and sorted. Why OFFSET 0: it keeps
-- PostgreSQL from walking through all transactions in order of arrival instead.
{listed} FROM (
    SELECT * FROM transactions
    WHERE transaction_id >= %(low)s AND transaction_id < %(high)s
    OFFSET 0
) AS found
WHERE ordinal > %(above)s AND ordinal < %(below)s
    AND (%(any_state)s OR state = ANY(%(states)s::text[]))
    {searched}
ORDER BY ordinal {direction} LIMIT %(limit)s OFFSET %(offset)s

-- name: probe_prefix
SELECT count(*) FROM (
    SELECT 1 FROM transactions
    WHERE transaction_id >= %(low)s AND transaction_id < %(high)s LIMIT %(enough)s
) AS found

-- name: count_all
SELECT count(*) FROM transactions

-- name: count_every
SELECT count(*) FROM transactions
WHERE ordinal > %(above)s AND ordinal < %(below)s
    AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
    {searched}

-- name: count_attention
SELECT count(*) FROM transactions
WHERE attention IS NOT NULL AND ordinal > %(above)s AND ordinal < %(below)s
    AND (%(any_reason)s OR attention = ANY(%(reasons)s::text[]))
    AND (%(any_state)s OR state = ANY(%(states)s::text[]))
    AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
    {searched}

-- name: count_states
-- Why one without a prefix: what it needs stands in an index; no row has to be looked up. Why pairs: as
-- in `find_states`.
SELECT coalesce(sum(counted.n), 0) FROM unnest(%(states)s::text[]) AS wanted CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM transactions AS t
    WHERE (t.state, t.ordinal) > (wanted, %(above)s::bigint)
        AND (t.state, t.ordinal) < (wanted, %(below)s::bigint)
) AS counted

-- name: count_states_and_prefix
SELECT count(*) FROM transactions
WHERE state = ANY(%(states)s::text[]) AND ordinal > %(above)s AND ordinal < %(below)s
    AND left(transaction_id, char_length(%(prefix)s::text)) = %(prefix)s::text
    {searched}

-- name: count_narrow
SELECT count(*) FROM (
    SELECT * FROM transactions
    WHERE transaction_id >= %(low)s AND transaction_id < %(high)s
    OFFSET 0
) AS found
WHERE ordinal > %(above)s AND ordinal < %(below)s
    AND (%(any_state)s OR state = ANY(%(states)s::text[]))
    {searched}

-- name: searched
-- What a search looks at in each line. Why patterns: they are compared in one go, however many; every
-- character in them that has a meaning is escaped.
AND (cardinality(%(any_agents)s::text[]) = 0 OR terms LIKE ANY (%(any_agents)s::text[]))
    AND (cardinality(%(any_actions)s::text[]) = 0 OR terms LIKE ANY (%(any_actions)s::text[]))
    AND terms LIKE ALL (%(all_metadata)s::text[])
    AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s::text)
    AND (%(created_from)s::bigint IS NULL OR created_at >= %(created_from)s::bigint)
    AND (%(created_before)s::bigint IS NULL OR created_at < %(created_before)s::bigint)
    AND (%(updated_before)s::bigint IS NULL OR updated_at < %(updated_before)s::bigint)
    AND (%(words)s::text IS NULL OR strpos(words, %(words)s::text) > 0)

-- name: bound_upwards
-- Where a piece of a search ends: the first line behind so many.
-- Why by positions where all lines are walked through: to count lines, each would be read twice.
SELECT min(ordinal) FROM transactions WHERE ordinal < %(below)s AND ordinal >= %(looks)s::bigint +
    (SELECT min(ordinal) FROM transactions WHERE ordinal > %(above)s)

-- name: bound_downwards
SELECT max(ordinal) FROM transactions WHERE ordinal > %(above)s AND ordinal <= -%(looks)s::bigint +
    (SELECT max(ordinal) FROM transactions WHERE ordinal < %(below)s)

-- name: bound_attention
SELECT ordinal FROM transactions
WHERE attention IS NOT NULL AND ordinal > %(above)s AND ordinal < %(below)s
    AND (%(any_reason)s OR attention = ANY(%(reasons)s::text[]))
ORDER BY ordinal {direction} LIMIT 1 OFFSET %(looks)s

-- name: bound_states
-- Why pairs: as in `find_states`.
SELECT ordinal FROM unnest(%(states)s::text[]) AS wanted CROSS JOIN LATERAL (
    SELECT ordinal FROM transactions AS t
    WHERE (t.state, t.ordinal) > (wanted, %(above)s::bigint)
        AND (t.state, t.ordinal) < (wanted, %(below)s::bigint)
    ORDER BY t.state {direction}, t.ordinal {direction} LIMIT %(looks)s::bigint + 1
) AS found
ORDER BY ordinal {direction} LIMIT 1 OFFSET %(looks)s

-- name: tally
SELECT state, count(*) FROM transactions GROUP BY state

-- name: tally_of_reasons
SELECT attention, count(*) FROM transactions WHERE attention IS NOT NULL GROUP BY attention

-- name: untold
SELECT ordinal, transaction_id, name, agents FROM transactions
WHERE terms IS NULL ORDER BY ordinal LIMIT %(limit)s

-- name: plans
-- The entries that may name agents, actions and metadata, for those whose lines an older release wrote.
SELECT transaction_ordinal, body FROM entries
WHERE transaction_ordinal = ANY(%(ordinals)s::bigint[])
    AND (position(%(plan)b::bytea IN body) > 0 OR position(%(imported)b::bytea IN body) > 0
        OR position(%(step)b::bytea IN body) > 0)
ORDER BY transaction_ordinal, sequence

-- name: tell_labels
UPDATE transactions AS t SET terms = g.terms, words = g.words
FROM unnest(%(ordinals)s::bigint[], %(terms)s::text[], %(words)s::text[]) AS g (ordinal, terms, words)
WHERE t.ordinal = g.ordinal AND t.terms IS NULL
