"""Clocks of tests: one that stands still keeps nobody waiting for ever, one is wrong."""

import asyncio
from datetime import UTC, datetime

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    NotDelivered,
    RetryPolicy,
    TransactionManager,
)
from aumai_transactions.clock import SystemClock
from aumai_transactions.testing import ManualClock
from aumai_transactions.testing.clock import SkewedClock

A_MINUTE = 60 * 1_000_000
NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)
DELAY = 0.05


@pytest.fixture
def clock():
    return ManualClock(NOON)


def reluctant(manager):
    """A manager whose action is not done at once."""
    tries: list[int] = []

    @manager.action("try", retry=RetryPolicy(first_delay_seconds=DELAY, jitter=False))
    def attempt(action, data):
        tries.append(len(tries))
        if len(tries) < 3:
            raise NotDelivered("not yet")

    return tries


def test_it_starts_where_it_was_told_to_and_moves_when_it_is_told_to(clock):
    began = clock.now()
    assert began == NOON.timestamp() * 1_000_000
    clock.advance(1.5)
    clock.sleep(2)
    asyncio.run(clock.sleep_async(3))
    clock.advance(-0.5)
    assert clock.now() - began == 6_000_000


def test_a_step_of_a_block_is_tried_again_though_the_clock_stands_still(clock):
    with TransactionManager(clock=clock) as manager:
        tries, began = reluctant(manager), clock.now()
        with manager.transaction() as tx:
            tx.execute("agent", "try", {})
    assert tries == [0, 1, 2]
    assert clock.now() - began >= 2 * DELAY * 1_000_000


def test_so_is_one_of_an_asynchronous_block(clock):
    async def work():
        async with AsyncTransactionManager(clock=clock) as manager:
            tries = reluctant(manager)
            async with manager.transaction() as tx:
                await tx.execute("agent", "try", {})
            return tries

    began = clock.now()
    assert asyncio.run(asyncio.wait_for(work(), 60)) == [0, 1, 2]
    assert clock.now() - began >= 2 * DELAY * 1_000_000


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
def test_a_skewed_clock_is_wrong_by_as_much_as_it_was_told(seconds):
    clock, right = SkewedClock(), SystemClock()
    clock.jump(seconds)
    assert abs(clock.now() - right.now() - seconds * 1_000_000) < A_MINUTE
    assert abs(SkewedClock(seconds).now() - clock.now()) < A_MINUTE


@pytest.mark.parametrize("year", [1970, 2100])
def test_a_skewed_clock_goes_on_from_where_it_was_set(year):
    clock = SkewedClock()
    clock.set_to(datetime(year, 1, 1, tzinfo=UTC))
    first = clock.now()
    assert datetime.fromtimestamp(first / 1_000_000, UTC).year == year
    clock.sleep(0.001)
    assert clock.now() > first
