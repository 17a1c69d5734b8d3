"""What has long ended is deleted, and nobody has to wait while it is looked for."""

import sqlite3

import pytest

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.models import TransactionState
from aumai_transactions.stores.sqlite import SqliteStore, purging
from aumai_transactions.testing.journals import act, claim, plan, request

OLD = 3
"""Behind the time at which all of these journals changed last."""
LIMIT = 10


@pytest.fixture
def store(path):
    with SqliteStore(path, writer_wait_seconds=0.05) as opened:
        driver = opened.join()
        for name in ("t1", "t2"):
            final = act(name, 3, 1, state=TransactionState.committed, runnable=False)
            opened.append([plan(name), claim(name, 2, 1, driver), final])
        yield opened


def test_a_purge_that_finds_nothing_waits_for_no_writer(path, store):
    with SqliteStore(path) as other, other.writers_paused():
        assert store.purge(OLD - 1, LIMIT) == 0
        with pytest.raises(StoreUnavailable):
            store.purge(OLD, LIMIT)
    assert store.purge(OLD, LIMIT) == 2


def test_what_is_needed_again_since_it_was_found_is_not_deleted(path, store):
    connection = sqlite3.connect(path, isolation_level=None)
    found = purging.find_old(connection, OLD, LIMIT)
    assert len(found) == 2
    store.append([request("t1", 4)])
    assert purging.delete_old(connection, found, OLD) == 1
    connection.close()
    assert store.read("t1") is not None
    assert store.read("t2") is None
