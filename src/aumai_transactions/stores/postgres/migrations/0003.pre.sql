-- Who is told of what happens, and what they have not been told yet. `secret` says where the secret is
-- found, and is none. What processes of an older release append is told to nobody.
CREATE TABLE webhooks (
    name text COLLATE "C" PRIMARY KEY,
    url text NOT NULL,
    secret text NOT NULL,
    events text[] NOT NULL,
    include_data boolean NOT NULL,
    allow_private boolean NOT NULL,
    created_at bigint NOT NULL,
    stopped text
);

-- Written by the statement of the append that it tells of, and deleted when it was delivered.
CREATE TABLE deliveries (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id text COLLATE "C" NOT NULL UNIQUE,
    webhook text COLLATE "C" NOT NULL,
    transaction_id text COLLATE "C" NOT NULL,
    event text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at bigint NOT NULL DEFAULT 0,
    is_dead boolean NOT NULL DEFAULT false,
    error text,
    lent_to text,
    lent_until bigint NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_in_order ON deliveries (webhook, transaction_id, place) WHERE NOT is_dead;
CREATE INDEX deliveries_due ON deliveries (due_at, place) WHERE NOT is_dead;
CREATE INDEX deliveries_of ON deliveries (transaction_id, is_dead);

-- Whoever may use the store by now goes on: every append looks at these tables.
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC'
                ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
            a.privilege_type AS privilege
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'transactions'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON webhooks, deliveries TO %s', given.privilege, given.role);
    END LOOP;
END $$;
