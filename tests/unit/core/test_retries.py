"""The arithmetic of waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.definition import Policy, Retry
from aumai_transactions.core.retries import DEFAULT_RETRY, delay_bound, next_due, undo_retry

SECOND = 1_000_000
NOW = 1_772_193_600_000_000
POLICIES = st.builds(
    Retry,
    attempts_max=st.integers(1, 10_000),
    first_delay_seconds=st.floats(0, 3e8),
    delay_factor=st.floats(1, 1_000),
    delay_seconds_max=st.floats(0, 3e8),
    jitter=st.floats(0, 1),
    budget_seconds=st.none() | st.floats(0.001, 3e8),
)


def waits(retry, draw=1.0, **options):
    """The waits in seconds after each attempt, each made the moment it was due."""
    found, now = [], NOW
    for attempts in range(1, 20):
        due = next_due(retry, attempts, NOW, now, draw=draw, **options)
        if due is None:
            break
        found.append((due - now) / SECOND)
        now = due
    return found


def test_waits_grow_by_their_factor_up_to_the_longest():
    retry = Retry(attempts_max=6, first_delay_seconds=1, delay_factor=3, delay_seconds_max=20)
    assert waits(retry) == [1, 3, 9, 20, 20]


@pytest.mark.parametrize(
    "jitter,draw,wanted",
    [(1, 0, 0), (1, 0.25, 2), (1, 1, 8), (0, 0, 8), (0.5, 0, 4), (0.5, 0.5, 6)],
)
def test_the_jitter_says_which_part_of_a_wait_is_drawn(jitter, draw, wanted):
    retry = Retry(attempts_max=2, first_delay_seconds=8, jitter=jitter)
    assert waits(retry, draw) == [wanted]


def test_a_wait_that_was_asked_for_may_be_longer_than_the_longest_and_never_shorter():
    retry = Retry(attempts_max=2, first_delay_seconds=1, delay_seconds_max=5)
    assert waits(retry, asked_seconds=90.0) == [90]
    assert waits(retry, asked_seconds=0.5) == [1]


def test_a_wait_that_would_end_behind_the_budget_is_not_begun():
    retry = Retry(attempts_max=9, first_delay_seconds=2, delay_factor=1, budget_seconds=5)
    assert waits(retry) == [2, 2]
    assert waits(retry, asked_seconds=5.0) == [5]
    assert waits(retry, asked_seconds=5.001) == []


def test_one_attempt_at_most_is_no_retry():
    assert next_due(Retry(attempts_max=1), 1, NOW, NOW, draw=0) is None


def test_a_factor_without_bounds_overflows_nothing():
    retry = Retry(attempts_max=10_000, delay_factor=1_000, delay_seconds_max=60)
    assert delay_bound(retry, 9_999) == 60


@given(POLICIES, st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 3e8))
def test_what_is_due_lies_neither_in_the_past_nor_behind_the_end_of_time(
    retry, attempts, draw, asked
):
    due = next_due(retry, attempts, NOW, NOW, draw=draw, asked_seconds=asked)
    if due is None:
        return
    assert NOW <= due <= 2**62
    assert attempts < retry.attempts_max
    bound = max(delay_bound(retry, attempts), asked or 0)
    assert due <= NOW + round(bound * SECOND) + 1


@pytest.mark.parametrize(
    "policy,attempts",
    [
        (Policy(), 1),
        (Policy(undo_idempotent=True), DEFAULT_RETRY.attempts_max),
        (Policy(undo_retry=Retry(7)), 7),
        (Policy(undo_idempotent=True, undo_retry=Retry(1)), 1),
    ],
)
def test_an_undo_is_called_once_unless_more_is_declared(policy, attempts):
    assert undo_retry(policy).attempts_max == attempts
