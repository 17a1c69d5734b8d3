"""Who does not hold a resource any more is refused by the participant itself."""

from dataclasses import replace

import pytest

from aumai_transactions.errors import DefinitionError, InvalidData, NotDelivered
from aumai_transactions.participants.barrier import (
    CallRefused,
    StaleHolder,
    barrier,
    create_barrier_table,
    fence,
)


def reserve(shop, context, resource="flight:F1", token=1):
    connection = shop.connect()
    with barrier(connection, context) as call:
        if call.is_due:
            fence(connection, resource, token)
            shop.take(connection)
    return call


def of(action, number):
    """The same call of another transaction."""
    name = f"tx-{number}"
    key = f"{name}/flight/action"
    return replace(action, transaction_id=name, idempotency_key=key, forward_key=key)


def test_a_stale_holder_is_refused_and_changes_nothing(shop, action):
    reserve(shop, of(action, 1), token=1)
    reserve(shop, of(action, 2), token=3)
    with pytest.raises(StaleHolder) as caught:
        reserve(shop, of(action, 3), token=2)
    assert (caught.value.resource, caught.value.token, caught.value.highest) == ("flight:F1", 2, 3)
    assert "Nothing was done" in str(caught.value)
    assert shop.free == 8
    with pytest.raises(CallRefused):
        reserve(shop, of(action, 3), token=2)
    reserve(shop, of(action, 4), token=3)
    assert shop.free == 7, "the holder itself may call again"


def test_resources_are_fenced_one_by_one_and_by_any_of_their_names(shop, action):
    reserve(shop, of(action, 1), "FLIGHT:F1", 5)
    reserve(shop, of(action, 2), "flight:F2", 1)
    with pytest.raises(StaleHolder):
        reserve(shop, of(action, 3), " flight: F1", 4)


def test_a_token_of_a_call_that_was_rolled_back_counts_for_nothing(shop, action):
    def failing():
        connection = shop.connect()
        with barrier(connection, action):
            fence(connection, "flight:F1", 9)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    reserve(shop, of(action, 2), token=1)
    assert shop.free == 9


def test_a_very_long_name_is_fenced_too(plain_shop, action):
    name = "x:" + "\u20ac" * 900
    reserve(plain_shop, of(action, 1), name, 2)
    with pytest.raises(StaleHolder):
        reserve(plain_shop, of(action, 2), name, 1)


def test_outside_of_a_transaction_the_check_is_refused(shop):
    with pytest.raises(DefinitionError, match="in the transaction of the effect"):
        fence(shop.connect(), "flight:F1", 1)


@pytest.mark.parametrize("token", [0, -1, True, "1", None, 1.0])
def test_what_is_no_token_is_refused(plain_shop, token):
    with pytest.raises(DefinitionError, match="whole number from 1"):
        fence(plain_shop.connect(), "flight:F1", token)


def test_what_names_nothing_is_refused(plain_shop):
    with pytest.raises(InvalidData):
        fence(plain_shop.connect(), " ", 1)


def test_without_its_table_nothing_is_done(plain_shop, action):
    connection = plain_shop.connect()
    connection.execute("DROP TABLE aumai_fences")
    connection.commit()
    with pytest.raises(NotDelivered, match="aumai_fences is missing"):
        reserve(plain_shop, action)
    assert plain_shop.free == 10
    create_barrier_table(connection)
    connection.commit()
    reserve(plain_shop, action)


def test_of_two_holders_at_once_the_earlier_one_is_refused(open_shop, action):
    """PostgreSQL lets both begin: the later one holds the row until it has committed."""
    shop = open_shop("psycopg")
    reserve(shop, of(action, 1), token=1)
    late = shop.connect()
    with barrier(late, of(action, 3)) as call:
        fence(late, "flight:F1", 3)
        assert call.is_due
        early = shop.connect()
        early.execute("SET lock_timeout = '100ms'")
        early.commit()
        with pytest.raises(Exception, match="lock"), barrier(early, of(action, 2)):
            fence(early, "flight:F1", 2)
    with pytest.raises(StaleHolder):
        reserve(shop, of(action, 2), token=2)
