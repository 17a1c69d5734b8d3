"""The barrier's table: made by many at once, and kept small."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.participants.barrier import (
    BarrierCall,
    create_barrier_table,
    purge_barrier_table,
)

DAY = 24 * 60 * 60
SECONDS_MAX = 60


def test_making_it_again_changes_nothing(shop):
    shop.reserve()
    create_barrier_table(shop.connect())
    assert len(shop.rows) == 1


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg", "Connection over postgresql"])
def test_many_may_make_it_at_the_same_moment(open_shop, kind):
    shop = open_shop(kind)
    with closing(shop.connect_driver()) as driver:
        driver.execute("DROP TABLE aumai_barrier")
        driver.commit()
    connections = [shop.connect() for _ in range(8)]
    if kind == "sqlite3":
        for connection in connections:
            connection.execute("PRAGMA busy_timeout = 60000")
    gate = threading.Barrier(len(connections))

    def make(connection):
        gate.wait(SECONDS_MAX)
        create_barrier_table(connection)

    with ThreadPoolExecutor(len(connections)) as pool:
        list(pool.map(make, connections))
    assert shop.reserve().is_due


def test_in_the_callers_transaction_it_is_made_with_the_callers_commit(plain_shop):
    with closing(plain_shop.connect_driver()) as driver:
        driver.execute("DROP TABLE aumai_barrier")
        driver.commit()
    connection = plain_shop.connect()
    plain_shop.take(connection)
    create_barrier_table(connection)
    connection.rollback()
    create_barrier_table(connection)
    assert plain_shop.rows == {}
    assert plain_shop.free == 10


def test_the_database_itself_refuses_a_row_that_means_nothing(plain_shop):
    connection = plain_shop.connect()
    plain_shop.reserve()
    for wrong in ("state = 'perhaps'", "operation = 'probe'", "token = NULL", "token = 'many'"):
        with pytest.raises(Exception, match=r"(?i)constraint|invalid input|cannot store"):
            connection.execute(f"UPDATE aumai_barrier SET {wrong}")  # noqa: S608
        connection.rollback()


def test_what_was_not_heard_of_for_long_enough_is_removed(shop, clock):
    for day, key in enumerate(["a", "b", "c"]):
        shop.reserve(BarrierCall(key), clock=clock)
        clock.advance(DAY)
        assert day < 3
    shop.reserve(BarrierCall("a"), clock=clock)  # It is heard of again.
    clock.advance(1)
    assert purge_barrier_table(shop.connect(), older_than_seconds=1.5 * DAY, clock=clock) == 1
    assert set(shop.rows) == {"a", "c"}
    assert purge_barrier_table(shop.connect(), older_than_seconds=1.5 * DAY, clock=clock) == 0
    clock.advance(10 * DAY)
    assert purge_barrier_table(shop.connect(), older_than_seconds=DAY, clock=clock) == 2
    assert shop.rows == {}


def test_an_undo_keeps_the_row_of_its_forward_call(plain_shop, action, clock):
    plain_shop.reserve(clock=clock)
    clock.advance(3 * DAY)
    plain_shop.cancel(clock=clock)
    assert purge_barrier_table(plain_shop.connect(), older_than_seconds=DAY, clock=clock) == 0


@pytest.mark.parametrize("age", [0, -1, math.nan, math.inf, True, "1", None])
def test_an_age_that_would_remove_too_much_is_refused(plain_shop, age):
    plain_shop.reserve()
    with pytest.raises(DefinitionError, match="older_than_seconds"):
        purge_barrier_table(plain_shop.connect(), older_than_seconds=age)
    assert len(plain_shop.rows) == 1


def test_a_request_that_is_not_json_is_refused_before_anything_happens(plain_shop):
    with pytest.raises(InvalidData):
        plain_shop.reserve(request=object())
    assert plain_shop.rows == {}
