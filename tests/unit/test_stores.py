"""Which store a name stands for."""

import sys
from pathlib import Path

import pytest

from aumai_transactions.errors import StoreError, StoreNotFound
from aumai_transactions.stores import open_store, shown_url
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.stores.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["memory:", "memory://"])
def test_memory_is_a_store_of_its_own_each_time(name):
    one, other = open_store(name, create=False), open_store(name, create=True)
    assert isinstance(one, MemoryStore)
    assert one is not other


@pytest.mark.parametrize(
    "name,path",
    [
        ("sqlite:///rel.db", "rel.db"),
        ("SQLite:///rel.db", "rel.db"),
        ("sqlite:///{here}/abs.db", "abs.db"),
        ("rel.db", "rel.db"),
        ("{here}/abs.db", "abs.db"),
        ("~/store.db", "home/store.db"),
        ("sqlite:///~/store.db", "home/store.db"),
        ("odd name?#.db", "odd name?#.db"),
        ("memory", "memory"),
    ],
)
def test_a_path_is_a_sqlite_store(name, path, here):
    store = open_store(name.format(here=here), create=True)
    assert isinstance(store, SqliteStore)
    assert store.path == here / path
    assert store.path.is_file()
    again = open_store(store.info().url, create=False)
    assert isinstance(again, SqliteStore)
    assert again.path == here / path
    again.close()
    store.close()


def test_a_postgres_url_is_a_postgres_store_of_its_own_schema(postgres16):
    url = postgres16.store()
    with pytest.raises(
        StoreNotFound, match=f"database postgres, schema {url.rpartition('schema=')[2]}"
    ):
        open_store(url, create=False)
    store = open_store(url.replace("postgresql:", "postgres:"), create=True)
    again = open_store(store.info().url, create=False)
    assert again.info().store_id == store.info().store_id
    for one in (again, store):
        assert isinstance(one, PostgresStore)
        one.close()


def test_a_postgres_store_without_psycopg_says_what_to_install(monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(("psycopg", "aumai_transactions.stores.postgres")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'aumai-transactions\[postgres\]'") as caught:
        open_store("postgresql://me:hush@localhost/x", create=True)
    assert "hush" not in str(caught.value)


def test_a_path_object_will_do(here):
    open_store(Path("rel.db"), create=True).close()
    assert (here / "rel.db").is_file()


def test_only_who_asks_for_it_makes_a_store(here):
    with pytest.raises(StoreNotFound, match=f"{here}/rel.db"):
        open_store("sqlite:///rel.db", create=False)
    assert not (here / "rel.db").exists()
    with pytest.raises(StoreNotFound, match="folder"):
        open_store("a/b/rel.db", create=True)
    open_store("a/b/rel.db", create=True, make_parent=True).close()
    assert (here / "a" / "b" / "rel.db").is_file()


@pytest.mark.parametrize(
    "name,problem",
    [
        ("", "does not name a store"),
        (":memory:", "does not name a store"),
        ("nul\0.db", "does not name a store"),
        ("sqlite://", "does not name a file"),
        ("sqlite:///", "does not name a file"),
        ("sqlite://host/x.db", "does not name a file"),
        ("sqlite:///x.db?mode=ro", "does not name a file"),
        ("mysql://localhost/x", "no store of the kind 'mysql'"),
        ("postgresql+psycopg://me:hush@localhost/x", "no store of the kind 'postgresql"),
        ("postgresql://me:hush@localhost/x?schema=a-b", "schema must be a name"),
        ("postgresql://me:hush@localhost/x?schema=", "schema must be a name"),
        ("postgres://me:hush@localhost/x?pool_size=0", "pool_size must be a whole number"),
        ("postgres://me:hush@localhost/x?pool_size=1.5", "pool_size must be a whole number"),
        ("postgres://me:hush@localhost/x?lease_seconds=0.5", "lease_seconds must be a number"),
        ("postgres://me:hush@localhost/x?lease_seconds=nan", "lease_seconds must be a number"),
        ("postgresql://me:hush@localhost/x?nonsense=1", "no URL that libpq understands"),
        ("postgresql://me:h%ZZush@localhost/x", "no URL that libpq understands"),
    ],
)
def test_a_name_of_no_known_form_is_refused(name, problem, here):
    with pytest.raises(StoreError, match=problem) as caught:
        open_store(name, create=True)
    assert "hush" not in str(caught.value)
    assert list(here.iterdir()) == [here / "home"]


@pytest.mark.parametrize(
    "name,shown",
    [
        ("postgresql://me:hush@host/db", "postgresql://me:•••@host/db"),
        ("postgresql://me:hu@sh@host/db", "postgresql://me:•••@host/db"),
        ("postgresql://me:hu/sh@host:5432/db", "postgresql://me:•••@host:5432/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://host/db?password=hush&x=1", "postgresql://host/db?password=•••&x=1"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("a:b@c.db", "a:b@c.db"),
    ],
)
def test_a_password_is_never_shown(name, shown):
    assert shown_url(name) == shown
