"""Row 69: a PostgreSQL server that does not let us in, or does not promise what we need.

What cannot be produced here is a server older than 14: no such one is installed, and a program
that only says so would prove nothing about a real one.
"""

import json
from contextlib import closing
from urllib.parse import quote

import psycopg
import pytest

from aumai_transactions import (
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
    TransactionManager,
    open_store,
)

SECRET = "hush-4711/@:"


@pytest.fixture
def server(postgres16):
    """A connection of an administrator, and a role that has a password and no rights."""
    with psycopg.connect(postgres16.url, autocommit=True) as connection:
        made = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'guest'").fetchone()
        if made is None:
            connection.execute(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'".encode())
            rules = postgres16.folder / "data" / "pg_hba.conf"
            rules.write_text("local all guest scram-sha-256\n" + rules.read_text())
            connection.execute("SELECT pg_reload_conf()")
        yield connection


def as_guest(postgres16, password, schema="guest_store", database="postgres"):
    host = f"host={quote(str(postgres16.folder), safe='')}"
    secret = quote(password, safe="")
    return f"postgresql://guest:{secret}@/{database}?{host}&schema={schema}"


def refused(kind, url, *named):
    with pytest.raises(kind) as caught:
        open_store(url, create=True).close()
    assert isinstance(caught.value, StoreError)
    message = str(caught.value)
    for text in named:
        assert text in message, message
    assert "hush" not in message
    assert "\n" not in message


def test_row_69_a_wrong_password_is_refused_and_not_shown(postgres16, server):
    named = ("password authentication failed", "Nothing was written", "user and password")
    refused(StoreUnavailable, as_guest(postgres16, "hush-wrong"), *named)


def test_row_68_a_password_with_every_sign_works_and_is_shown_nowhere(postgres16, server, cli):
    server.execute("DROP SCHEMA IF EXISTS guest_store CASCADE")
    server.execute("CREATE SCHEMA guest_store AUTHORIZATION guest")
    url = as_guest(postgres16, SECRET)
    told = cli("--store", url, "create")
    name = json.loads(told.out)["transaction_id"]
    ran = cli("--store", url, "show", name)
    assert "hush" not in told.err + ran.out + ran.err
    missing = cli("--store", url, "show", "zzz", code=6, named=["list --store", "•••"])
    assert "hush" not in missing.err


def test_row_69_no_database_is_not_found(postgres16, server, cli):
    url = f"postgresql://postgres@/nowhere?host={postgres16.folder}"
    refused(StoreNotFound, url, '"nowhere" does not exist', "createdb")
    cli("--store", url, "list", code=6, named=["nowhere", "createdb"])


def test_row_69_no_server_is_unavailable(tmp_path, cli):
    url = f"postgresql://u:hush@/db?host={tmp_path}"
    refused(StoreUnavailable, url, str(tmp_path), "whether the server runs")
    ran = cli("--store", url, "list", code=1, named=["cannot be reached", "try again"])
    assert "hush" not in ran.err


def test_row_69_no_rights_are_named_and_nothing_is_made(postgres16, server):
    refused(
        StoreError,
        as_guest(postgres16, SECRET, schema="forbidden"),
        "permission denied",
        "Nothing was written",
        "Grant",
    )
    query = "SELECT 1 FROM pg_namespace WHERE nspname = 'forbidden'"
    assert server.execute(query).fetchone() is None


def test_row_69_who_may_only_look_cannot_begin(postgres16, server):
    url = postgres16.store(schema="looked_at")
    with TransactionManager({"do": lambda action, data: None}, store=url) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        manager.commit(tx)
    server.execute("GRANT USAGE ON SCHEMA looked_at TO guest")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA looked_at TO guest")
    url = as_guest(postgres16, SECRET, schema="looked_at")
    manager = TransactionManager({"do": lambda action, data: None}, store=url)
    with pytest.raises(StoreError, match=r"permission denied.*Nothing was written"):
        manager.begin(idempotency_key="key")
    manager.close()


def test_row_69_a_server_that_takes_no_writes_is_unavailable(postgres16):
    options = quote("-c default_transaction_read_only=on")
    url = f"{postgres16.store()}&options={options}"
    refused(StoreUnavailable, url, "read-only", "Nothing was written")
    url += "&target_session_attrs=any"
    refused(StoreUnavailable, url, "takes no writes", "standby", "try again")


def test_row_69_a_database_of_another_encoding_is_refused(postgres16, server):
    there = server.execute("SELECT 1 FROM pg_database WHERE datname = 'latin'").fetchone()
    if there is None:
        server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    url = f"postgresql://postgres@/latin?host={postgres16.folder}"
    refused(StoreError, url, "encoding is LATIN1", "createdb --encoding=UTF8")


def test_row_69_another_programs_schema_is_refused_and_left_alone(postgres16, server):
    server.execute("CREATE SCHEMA IF NOT EXISTS books")
    server.execute("CREATE TABLE IF NOT EXISTS books.store (title text)")
    refused(StoreFormatError, postgres16.store(schema="books"), "?schema=NAME", "Nothing was")
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'books'::regnamespace"
    assert server.execute(tables).fetchall() == [("store",)]


def test_row_69_a_newer_schema_is_refused(postgres16, server):
    url = postgres16.store(schema="newer")
    open_store(url, create=True).close()
    server.execute("UPDATE newer.store SET schema_version = 9, usable_from = 9")
    refused(StoreError, url, "schema version 9", "Install a newer", "Nothing was changed")


def test_row_69_fsync_off_is_no_durable_store_and_says_so(postgres16):
    with TransactionManager(store=postgres16.store()) as manager:
        assert manager.commit(manager.begin()).durable is False
        info = manager.get_store_info()
    assert (info.durable, info.checks["fsync"]) == (False, "off")


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"])
def test_row_69_an_odd_time_zone_changes_no_time(postgres16, zone):
    url = f"{postgres16.store()}&options={quote(f'-c TimeZone={zone} -c DateStyle=German')}"
    with TransactionManager({"do": lambda action, data: None}, store=url) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        created = tx.created_at
        manager.commit(tx)
    with TransactionManager(store=url) as manager:
        assert manager.get_transaction(tx.transaction_id).created_at == created


@pytest.mark.parametrize(
    "option,named",
    [
        ("schema=a-b", "letters, digits and _"),
        ("schema=", "letters, digits and _"),
        ("pool_size=0", "from 1 to 1,000"),
        ("pool_size=abc", "a whole number"),
        ("lease_seconds=nan", "lease_seconds"),
        ("lease=3", "lease"),
        ("sslmode=perhaps", "sslmode"),
        ("port=abc", "port"),
    ],
    ids=lambda text: f"row 67 {text}" if "=" in text else None,
)
def test_an_option_that_cannot_be_is_named(tmp_path, option, named):
    url = f"postgresql://u:hush@/db?host={tmp_path}&{option}"
    refused(StoreError, url, named)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 5_000, "%", "'; DROP TABLE entries; --"])
def test_row_69_no_id_at_all_gets_past_the_store(postgres16, name):
    with closing(open_store(postgres16.store(schema="ids"), create=True)) as store:
        manager = TransactionManager(store=store)
        with pytest.raises(Exception, match=r"no transaction|transaction: holds") as caught:
            manager.get_result(name)
        assert type(caught.value).__module__.startswith("aumai_transactions.errors")
        manager.close()
