"""Leases that are looked at while something waits, or after a clock was set."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import psycopg

from aumai_transactions import clock
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.testing.journals import claim, plan

WAITS = b"""SELECT count(*) > 0 FROM pg_stat_activity
    WHERE application_name = 'waits' AND wait_event_type = 'Lock'"""


def test_a_lease_that_was_renewed_while_a_claim_waited_for_the_row_is_seen(
    url, database, postgres16
):
    """Who waits for a row sees all others as they were before: a lease, as one that has run out."""
    with (
        closing(PostgresStore(url)) as one,
        closing(PostgresStore(f"{url}&application_name=waits")) as other,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(postgres16.url, autocommit=True) as eye,
    ):
        holder, me = one.join(), other.join()
        one.append([plan("t"), claim("t", 2, 1, holder)])
        database.execute(b"UPDATE drivers SET lease_until = clock_timestamp() + interval '0.5 s'")
        with database.transaction():
            # As one who reserves it does: the row is another one then, and its head the same.
            database.execute(b"UPDATE transactions SET offered_to = 'nobody'")
            claimed = thread.submit(other.append, [claim("t", 3, 2, me)])
            while eye.execute(WAITS).fetchone() != (True,):
                eye.execute(b"SELECT pg_sleep(0.01)")
            eye.execute(b"SELECT pg_sleep(0.6)")
            one.renew(holder)
        assert claimed.result() == [AppendAnswer.held]


def test_a_claim_after_a_clock_was_set_right_does_not_rely_on_an_old_lease(
    url, database, monkeypatch
):
    """As of a machine that was suspended: its own clock did not go on, and the server's did."""
    with closing(PostgresStore(url)) as store:
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        database.execute(b"UPDATE drivers SET lease_until = clock_timestamp() - interval '1 s'")
        later = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + 3600)
        monkeypatch.setattr(clock, "time", later)
        store.append([plan("u"), claim("u", 2, 1, driver)])
        lasts = database.execute(b"SELECT lease_until > clock_timestamp() FROM drivers")
        assert lasts.fetchall() == [(True,)]
