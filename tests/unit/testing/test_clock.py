"""A clock that is wrong, beside the machine's own."""

from datetime import UTC, datetime

import pytest

from aumai_transactions.clock import SystemClock
from aumai_transactions.testing.clock import SkewedClock

A_MINUTE = 60 * 1_000_000


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
