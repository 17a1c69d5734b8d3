-- The first schema. Every name is without its schema: the search path of the connection says which.

-- `schema_version` is what the tables are; `usable_from` is the oldest version whose release can
-- still work with them. A `pre` file raises the first, a `post` file both.
CREATE TABLE store (
    one integer PRIMARY KEY CHECK (one = 1),
    store_id text NOT NULL,
    schema_version integer NOT NULL,
    usable_from integer NOT NULL
);

-- Why a sequence and no column: one row that every append updates would let one append of the whole
-- database commit at a time.
CREATE SEQUENCE changes AS bigint START 1;

-- The head of each journal, and what lists show. `ordinal` is the order of arrival and is never used
-- twice, not even after a purge; everything that may be partitioned one day is keyed by it.
-- Why COLLATE "C": ids are compared byte by byte, on every server alike.
-- `purgeable_at` is when it changed last, where nothing will change any more and nobody has to look.
-- Why not an index on `updated_at` for that: PostgreSQL rewrites all indexes of a row of which any
-- indexed column changed, and that column changes with every append.
CREATE TABLE transactions (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sequence bigint NOT NULL,
    token bigint NOT NULL,
    change bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    due_at bigint,
    purgeable_at bigint,
    steps integer NOT NULL,
    completed integer NOT NULL,
    runnable boolean NOT NULL,
    transaction_id text COLLATE "C" NOT NULL UNIQUE,
    head_hash bytea NOT NULL,
    state text COLLATE "C" NOT NULL,
    driver_id text COLLATE "C",
    attention text,
    timeout_seconds numeric NOT NULL,
    agents text NOT NULL,
    name text,
    tenant text COLLATE "C" NOT NULL DEFAULT '',
    next_agent text COLLATE "C",
    offered_to text,
    offered_until timestamptz
) WITH (fillfactor = 80);

-- `body` is the very bytes that were hashed.
-- Why no foreign key: entries are written by the statement that writes their head, and removed by the
-- one that removes it; a check for each row would cost a third of an append.
CREATE TABLE entries (
    transaction_ordinal bigint NOT NULL,
    sequence bigint NOT NULL,
    body bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (transaction_ordinal, sequence)
);

-- Who drives. A driver without a row is dead. The last five columns tell, on one machine, whether the
-- process is still there; elsewhere, and where they are NULL, the lease decides.
CREATE TABLE drivers (
    driver_id text COLLATE "C" PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    joined_at timestamptz NOT NULL,
    schema_version integer NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    boot_id text,
    pid_namespace text,
    process_started text
);

-- These hold what is in flight, needs a person or may go, however much has finished before.
CREATE INDEX transactions_free ON transactions (tenant, ordinal)
    WHERE runnable AND driver_id IS NULL AND due_at IS NULL;
CREATE INDEX transactions_parked ON transactions (due_at, ordinal)
    WHERE runnable AND driver_id IS NULL AND due_at IS NOT NULL;
CREATE INDEX transactions_held ON transactions (driver_id, ordinal)
    WHERE runnable AND driver_id IS NOT NULL;
CREATE INDEX transactions_attention ON transactions (ordinal) WHERE attention IS NOT NULL;
CREATE INDEX transactions_purgeable ON transactions (purgeable_at) WHERE purgeable_at IS NOT NULL;
CREATE INDEX transactions_state ON transactions (state, ordinal);

-- The last fencing token of each resource that was ever claimed; it only grows. `version` is the last
-- one that was granted exclusively. Whoever changes a resource's locks holds its row here.
CREATE TABLE resources (
    name text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0
);

-- Who holds which resource, and who waits for it (a row without a token; `ticket` is its place in the
-- queue): a projection of the journals.
CREATE TABLE locks (
    ticket bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource text COLLATE "C" NOT NULL,
    transaction_id text COLLATE "C" NOT NULL,
    mode text NOT NULL,
    token bigint,
    cost bigint NOT NULL
);
CREATE UNIQUE INDEX locks_resource ON locks (resource, transaction_id, (token IS NULL));
CREATE INDEX locks_transaction ON locks (transaction_id);
CREATE INDEX locks_waiting ON locks (resource) WHERE token IS NULL;

-- For people. Why a view: a column would store every body twice, and slow each append down.
CREATE VIEW entries_readable AS
SELECT t.transaction_id, e.sequence, convert_from(e.body, 'UTF8')::json AS body
FROM entries AS e JOIN transactions AS t ON t.ordinal = e.transaction_ordinal;
