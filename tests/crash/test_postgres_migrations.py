"""A session that dies at any statement of a schema migration, while another one waits to migrate.

The schema is the old one or the new one, one process migrates at a time, and whoever comes next
finishes it. Where a session stands is for the server to say: triggers on every statement that
changes the schema, and on what the store says of itself, at the statement and at COMMIT.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import psycopg
import pytest
from tests.reliability.share import ALL, SHARE, some

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.stores.postgres.address import address_of
from aumai_transactions.stores.postgres.pool import Pool
from aumai_transactions.stores.postgres.schema import Migration, migrations, opened
from aumai_transactions.testing.journals import plan

pytestmark = pytest.mark.crash

LOOKS_MAX = 1_000
POINTS_MIN = {"made": 18, "upgraded": 10}
FEW = ALL / 8
"""How many statements the ordinary suite takes, of the making; of an upgrade it takes all."""
KNOWN = [
    *migrations(),
    Migration(4, False, "CREATE TABLE more (id int); ALTER TABLE transactions ADD COLUMN x int"),
    Migration(4, True, "DROP VIEW entries_readable; ALTER TABLE entries ALTER hash DROP NOT NULL"),
    Migration(5, False, "CREATE INDEX more_id ON more (id); CREATE SEQUENCE numbers"),
]
NEWEST = 5
GATE = 20_260_227

# A session whose name says so stands still at its so-manieth statement, until the gate is open.
TRIGGERS = f"""
CREATE SCHEMA doom;
CREATE FUNCTION doom.pass() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    mine text[] := string_to_array(current_setting('application_name'), '-');
    passed int;
BEGIN
    IF mine[1] <> 'doomed' THEN RETURN; END IF;
    passed := 1 + coalesce(nullif(current_setting('doomed.passed', true), ''), '0')::int;
    PERFORM set_config('doomed.passed', passed::text, false);
    IF passed = mine[2]::int THEN PERFORM pg_advisory_xact_lock({GATE}); END IF;
END $$;
CREATE FUNCTION doom.at_statement() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM doom.pass(); END $$;
CREATE EVENT TRIGGER doom ON ddl_command_end EXECUTE FUNCTION doom.at_statement();
CREATE FUNCTION doom.at_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM doom.pass(); RETURN NULL; END $$;
"""
ROW_TRIGGERS = b"""
CREATE TRIGGER doom AFTER UPDATE ON store EXECUTE FUNCTION doom.at_row();
CREATE CONSTRAINT TRIGGER doom_at_commit AFTER UPDATE ON store
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION doom.at_row();
"""
NO_TRIGGERS = b"DROP EVENT TRIGGER IF EXISTS doom; DROP SCHEMA IF EXISTS doom CASCADE"
STRUCTURE = b"""
SELECT c.relname, c.relkind, coalesce(a.attname, ''), coalesce(format_type(a.atttypid, NULL), '')
FROM pg_class AS c LEFT JOIN pg_attribute AS a
    ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace(%s) ORDER BY 1, 3
"""
AT_THE_GATE = b"""
SELECT count(*) = 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objid = %s AND NOT granted AND application_name = %s
"""
BEHIND = b"""
SELECT count(*) = 1 FROM pg_locks AS waits JOIN pg_locks AS has
    USING (locktype, classid, objid, objsubid)
WHERE locktype = 'advisory' AND NOT waits.granted AND has.granted
    AND waits.pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = %s)
    AND has.pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = %s)
"""
END_SESSION = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"


@pytest.fixture
def server(durable_postgres):
    with psycopg.connect(durable_postgres.url, autocommit=True) as connection:
        connection.execute(NO_TRIGGERS)
        connection.execute(TRIGGERS.encode())
    yield durable_postgres
    with psycopg.connect(durable_postgres.url, autocommit=True) as connection:
        connection.execute(NO_TRIGGERS)


def migrated(url):
    """Open a store as a release would that knows more; return the row, or the error."""
    address = address_of(url)
    with closing(Pool(address)) as pool:
        work = partial(opened, address=address, create=True, known=KNOWN, version=NEWEST)
        try:
            return pool.run(work)
        except StoreUnavailable as error:
            return error


class Place:
    """One schema in which a store is made or upgraded."""

    def __init__(self, server, kind):
        self.server = server
        self.url = server.store(pool_size=1)
        self.schema = self.url.rpartition("schema=")[2].partition("&")[0]
        if kind == "upgraded":
            with closing(PostgresStore(self.url)) as store:
                store.append([plan("before")])
            options = f"-c search_path={self.schema}"
            with psycopg.connect(server.url, autocommit=True, options=options) as connection:
                connection.execute(ROW_TRIGGERS)
        self.before = ["before"] if kind == "upgraded" else []
        self.old = self.structure()

    def structure(self):
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            return connection.execute(STRUCTURE, [self.schema]).fetchall()

    def named(self, name):
        return f"{self.url}&application_name={name}"


def comes_true(eye, query, values, is_over=lambda: False):
    """Look until the server says so; False where it is over before."""
    for _ in range(LOOKS_MAX):
        if eye.execute(query, values).fetchone() == (True,):
            return True
        if is_over():
            return False
        eye.execute(b"SELECT pg_sleep(0.01)")
    raise AssertionError((query, values))


def killed_at(place, number, new, kill):
    """Kill a migrator at one statement, with another one behind it; False where it has fewer."""
    doomed, other = f"doomed-{number}", "other"
    with ThreadPoolExecutor(2) as threads:
        with psycopg.connect(place.server.url, autocommit=True) as eye:
            eye.execute(b"SELECT pg_advisory_lock(%s)", [GATE])
            first = threads.submit(migrated, place.named(doomed))
            if not comes_true(eye, AT_THE_GATE, [GATE, doomed], first.done):
                return False
            second = threads.submit(migrated, place.named(other))
            # One at a time: it waits for the lock of migrators, whatever has been done by then.
            comes_true(eye, BEHIND, [other, doomed])
            kill(eye, doomed)
        assert place.structure() in (place.old, new)
        rows = [first.result(), second.result()]
    for row in rows:
        assert isinstance(row, StoreUnavailable) or row.schema_version == NEWEST, row
    last = migrated(place.url)
    assert (last.schema_version, last.usable_from) == (NEWEST, 4)
    assert {row.store_id for row in rows if not isinstance(row, StoreUnavailable)} <= {
        last.store_id
    }
    assert place.structure() == new
    assert is_usable(place)
    return True


def is_usable(place):
    """Tell whether what was there is there, and more can be appended."""
    options = f"-c search_path={place.schema}"
    with psycopg.connect(place.server.url, options=options) as connection:
        assert connection.execute(b"SELECT count(*) FROM store").fetchone() == (1,)
        names = connection.execute(b"SELECT transaction_id FROM transactions").fetchall()
    return [name for (name,) in names] == place.before


def end_session(eye, name):
    eye.execute(END_SESSION, [name])


def kill_at_each(server, kind, kill, share):
    """Kill at each statement of a share of them; return how many there were."""
    whole = Place(server, kind)
    assert not isinstance(migrated(whole.url), StoreUnavailable)
    new = whole.structure()
    chosen = some(itertools.count(1), share)
    for kills, number in enumerate(chosen):  # noqa: B007 (what it was at the end is wanted)
        if not killed_at(Place(server, kind), number, new, kill):
            assert number > POINTS_MIN[kind]
            break
    return kills


@pytest.mark.parametrize("kind,share", [("made", FEW), ("upgraded", ALL)])
def test_a_session_that_is_ended_at_any_statement_leaves_the_old_schema_or_the_new_one(
    server, kind, share
):
    assert kill_at_each(server, kind, end_session, share) >= 3


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["made", "upgraded"])
def test_a_session_that_is_killed_at_any_statement_leaves_the_old_schema_or_the_new_one(
    server, kind, figures
):
    """The server then ends all of its sessions, and starts anew."""
    kills = kill_at_each(server, kind, lambda eye, name: server.kill_session(name), SHARE)
    figures("migrations", kills=kills, half=0)
