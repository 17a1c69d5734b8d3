"""Waits, timeouts and policies that no sane program would ask for."""
# mypy: disable-error-code="arg-type"

from datetime import UTC, datetime

import pytest

from aumai_transactions import (
    DefinitionError,
    OutcomeUnknown,
    RetryLater,
    RetryPolicy,
    TransactionManager,
)
from aumai_transactions.models import SECONDS_MAX
from aumai_transactions.testing.clock import ManualClock

BEYOND = 10**400


def nothing(action, data):
    """Do nothing, well."""


def instant_clock():
    return ManualClock(datetime(2026, 2, 27, tzinfo=UTC))


@pytest.mark.parametrize("error", [RetryLater, lambda seconds: OutcomeUnknown("x", seconds)])
@pytest.mark.parametrize(
    "seconds", [float("nan"), float("inf"), float("-inf"), -1, "x", None, True, [], BEYOND, -BEYOND]
)
def test_however_long_a_handler_asks_to_wait_the_transaction_stays_in_hand(error, seconds):
    calls: list[int] = []
    manager = TransactionManager(clock=instant_clock())

    @manager.action("act", idempotent=True, retry=RetryPolicy(attempts_max=2))
    def act(action, data):
        calls.append(1)
        if len(calls) == 1:
            raise error(seconds)

    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    result = manager.commit(tx)
    if not result.is_final:
        assert result.waiting is not None
        assert result.waiting.reason == "retry"
        result = manager.wait(tx)
    assert (result.state.value, len(calls)) == ("committed", 2)


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(attempts_max=10_000, delay_factor=1_000, delay_seconds_max=0),
        RetryPolicy(attempts_max=10_000, first_delay_seconds=0, delay_factor=1),
        RetryPolicy(attempts_max=400, delay_factor=1_000, delay_seconds_max=1),
        RetryPolicy(attempts_max=9, delay_factor=1_000, delay_seconds_max=SECONDS_MAX),
    ],
)
def test_no_policy_is_too_extreme_to_be_carried_out(policy):
    most = min(policy.attempts_max, 400)
    calls: list[int] = []
    clock = ManualClock(datetime(1971, 1, 1, tzinfo=UTC))
    manager = TransactionManager(clock=clock)

    @manager.action("act", retry=policy)
    def act(action, data):
        calls.append(1)
        if len(calls) < most:
            raise ValueError("not now")

    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    for _ in range(most):
        if manager.commit(tx).is_final if not calls else manager.retry(tx, "s1").is_final:
            break
    assert (manager.get_result(tx).state.value, len(calls)) == ("committed", most)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5", BEYOND])
@pytest.mark.parametrize("option", ["timeout_seconds", "abandon_after_seconds"])
def test_a_timeout_that_cannot_be_is_refused_by_name(option, seconds):
    manager = TransactionManager()
    with pytest.raises(DefinitionError, match=option):
        manager.action("act", **{option: seconds})(nothing)
    if option == "timeout_seconds":
        with pytest.raises(DefinitionError, match=option):
            manager.add_step(manager.begin(), "agent", "act", {}, timeout_seconds=seconds)


@pytest.mark.parametrize("value", ["x", 3, True, {"attempts_max": 3}, object()])
@pytest.mark.parametrize("option", ["retry", "probe_retry", "verify_retry"])
def test_what_is_no_policy_is_refused_by_name(option, value):
    manager = TransactionManager()
    with pytest.raises(DefinitionError, match=option):
        manager.action("act", **{option: value})(nothing)
    if option == "retry":
        with pytest.raises(DefinitionError, match=option):
            manager.add_step(manager.begin(), "agent", "act", {}, retry=value)


@pytest.mark.parametrize("value", [Exception, [ValueError], ("ValueError",), "ValueError", 5])
@pytest.mark.parametrize("option", ["retry_on", "in_doubt_on"])
def test_what_names_no_exceptions_is_refused_by_name(option, value):
    manager = TransactionManager()
    with pytest.raises(DefinitionError, match=option):
        manager.action("act", **{option: value})(nothing)


def test_no_exceptions_at_all_are_an_empty_tuple_and_not_none():
    manager = TransactionManager()
    with pytest.raises(DefinitionError, match="in_doubt_on"):
        manager.action("act", in_doubt_on=None)(nothing)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "5", None, BEYOND])
def test_how_long_to_wait_is_checked_before_anything_is_done(seconds):
    calls: list[str] = []
    manager = TransactionManager({"act": lambda action, data: calls.append(action)})
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    for call in (manager.commit, manager.rollback):
        with pytest.raises(DefinitionError, match="how long to wait"):
            call(tx, wait_max_seconds=seconds)
    if seconds is not None:
        with pytest.raises(DefinitionError, match="how long to wait"):
            manager.wait(tx, timeout_seconds=seconds)
    assert (calls, tx.state.value) == ([], "pending")


@pytest.mark.parametrize("field, value", [("retry", "x"), ("timeout_seconds", -1)])
def test_an_edit_of_a_pending_step_that_cannot_be_is_refused_by_name(field, value):
    manager = TransactionManager({"act": nothing})
    tx = manager.begin()
    setattr(manager.add_step(tx, "agent", "act", {}), field, value)
    with pytest.raises(DefinitionError, match=field):
        manager.commit(tx)
