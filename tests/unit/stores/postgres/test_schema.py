"""How a schema is brought up to date."""

from contextlib import closing
from functools import partial

import psycopg
import pytest

from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.errors import SchemaVersionError, StoreError
from aumai_transactions.store import Query
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.stores.postgres.address import address_of
from aumai_transactions.stores.postgres.pool import Pool
from aumai_transactions.stores.postgres.schema import (
    SCHEMA_VERSION,
    Migration,
    migrations,
    opened,
)
from aumai_transactions.testing.journals import claim, definition_of, plan

NEXT = SCHEMA_VERSION + 1
PRE = Migration(
    NEXT, False, "CREATE TABLE more (id int); ALTER TABLE transactions ADD COLUMN x int"
)
POST = Migration(NEXT, True, "DROP VIEW entries_readable")
BROKEN = Migration(NEXT, False, "CREATE TABLE more (id int); SELECT 1 / 0")


def reopened(store, known, version, **options):
    work = partial(
        opened,
        address=store._address,
        create=options.pop("create", False),
        known=known,
        version=version,
    )
    return store._pool.run(work)


def names(database):
    rows = database.execute(
        b"SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    )
    return {name for (name,) in rows}


def test_the_files_lead_to_the_version_of_this_release():
    assert max(one.version for one in migrations()) == SCHEMA_VERSION
    assert [one.version for one in migrations()] == sorted(one.version for one in migrations())


def test_a_pre_migration_runs_at_once_and_older_processes_go_on(store, database):
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    row = reopened(store, [*migrations(), PRE], NEXT)
    assert (row.schema_version, row.usable_from) == (NEXT, 1)
    assert "more" in names(database)
    assert store.append([plan("u")]) == ["appended"]
    assert reopened(store, migrations(), SCHEMA_VERSION) == row


def test_a_post_migration_waits_for_the_last_driver_of_an_older_release(store, database):
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    known = [*migrations(), PRE, POST]
    assert reopened(store, known, NEXT).usable_from == 1
    assert "entries_readable" in names(database)
    store.leave(driver)
    row = reopened(store, known, NEXT)
    assert (row.schema_version, row.usable_from) == (NEXT, NEXT)
    assert "entries_readable" not in names(database)
    with pytest.raises(SchemaVersionError):
        reopened(store, migrations(), SCHEMA_VERSION)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(store, database):
    before = names(database)
    with pytest.raises(StoreError, match="division by zero"):
        reopened(store, [*migrations(), BROKEN], NEXT)
    assert names(database) == before
    assert reopened(store, migrations(), SCHEMA_VERSION).schema_version == SCHEMA_VERSION


def test_a_store_whose_making_fails_is_not_there(postgres16, url):
    address = address_of(url)
    pool = Pool(address)
    work = partial(opened, address=address, create=True, known=[BROKEN], version=NEXT)
    with pytest.raises(StoreError, match="division by zero"):
        pool.run(work)
    pool.close()
    with psycopg.connect(postgres16.url) as connection:
        found = connection.execute(
            b"SELECT count(*) FROM pg_namespace WHERE nspname = %s", [address.schema]
        )
        assert found.fetchone() == (0,)


def test_what_an_older_process_has_begun_is_searched_like_all_else(store, url, database):
    begun = plan("t")
    recorded = PlanRecorded(1, definition_of(begun)._replace(metadata={"team": "red"}))
    store.append([begun._replace(entries=[recorded, begun.entries[1]]), plan("u")])
    forget = b"UPDATE transactions SET terms = NULL, words = NULL"
    query = Query(actions=("act",), metadata=(("team", "red"),))
    database.execute(forget)
    assert [line.summary.metadata for line in store.find(query)] == [{"team": "red"}]
    database.execute(forget)
    database.execute(b"UPDATE entries SET body = 'x' WHERE transaction_ordinal = 1")
    with closing(PostgresStore(url)) as other:
        untold = database.execute(b"SELECT count(*) FROM transactions WHERE terms IS NULL")
        assert untold.fetchone() == (0,)
        assert [
            line.summary.transaction_id for line in other.find(query._replace(metadata=()))
        ] == ["u"]


def test_who_could_use_a_store_can_use_the_tables_that_are_new(url, postgres16):
    address = address_of(url)
    pool = Pool(address)
    before = [one for one in migrations() if one.version < 3]
    pool.run(partial(opened, address=address, create=True, known=before, version=2))
    with psycopg.connect(postgres16.url, autocommit=True) as connection:
        connection.execute(b"SET search_path = " + address.schema.encode())
        connection.execute(b'CREATE ROLE "some one"')
        connection.execute(b'GRANT SELECT, INSERT ON transactions TO "some one"')
        pool.run(partial(opened, address=address, create=False))
        rights = (
            b"SELECT has_table_privilege('some one', t, 'SELECT'), "
            b"has_table_privilege('some one', t, 'INSERT'), "
            b"has_table_privilege('some one', t, 'DELETE') "
            b"FROM unnest(ARRAY['webhooks', 'deliveries']) AS t"
        )
        assert connection.execute(rights).fetchall() == [(True, True, False)] * 2
        connection.execute(b'DROP OWNED BY "some one"')
        connection.execute(b'DROP ROLE "some one"')
    pool.close()
