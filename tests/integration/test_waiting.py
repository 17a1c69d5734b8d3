"""Waits of the driver with threads: what is slept in hand, what is parked, and who goes on."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    OutcomeUnknown,
    RetryLater,
    RetryPolicy,
    StepRejected,
)
from aumai_transactions.drivers.pauses import HOLD_SECONDS_MAX
from aumai_transactions.store import Query


def every(seconds, attempts_max=5):
    """A policy whose waits are all exactly this long."""
    return RetryPolicy(
        attempts_max=attempts_max,
        first_delay_seconds=seconds,
        delay_factor=1,
        delay_seconds_max=seconds,
        jitter=0,
    )


def begun(manager, *actions):
    tx = manager.begin()
    for action in actions or ("ok", "act"):
        manager.add_step(tx, "agent", action, {})
    return tx


def listed(manager):
    (found,) = manager.find(Query())
    return found


def due_at(manager):
    return listed(manager).summary.due_at


def kinds(manager, tx):
    return [event.kind for event in manager.get_events(tx)]


# ------------------------------------------------------------------------------ in hand and parked


def test_a_short_wait_is_slept_once_with_the_transaction_in_hand(world, place, clock):
    trip = world(retry=every(HOLD_SECONDS_MAX))
    manager = trip.join(place, clock)
    other = trip.join(place, clock)
    seen = []

    def look():
        seen.append((listed(other).driver_id is not None, other.recover()))

    clock.at[1] = look
    result = manager.commit(begun(manager))
    assert result.state.value == "committed"
    assert clock.sleeps == [HOLD_SECONDS_MAX]
    assert seen == [(True, [])]
    assert trip.calls == ["ok", "act 1", "act 2"]


def test_a_longer_wait_is_parked_so_that_nobody_holds_it(world, place, clock):
    trip = world(retry=every(HOLD_SECONDS_MAX + 0.001))
    manager = trip.join(place, clock)
    other = trip.join(place, clock)
    seen = []

    def look():
        found = listed(other)
        seen.append((found.driver_id, found.summary.due_at, found.summary.runnable))

    clock.at[1] = look
    began = clock.now()
    tx = begun(manager)
    assert manager.commit(tx).state.value == "committed"
    assert seen == [(None, began + 2_001_000, True)]
    assert sum(clock.sleeps) >= HOLD_SECONDS_MAX
    assert due_at(manager) is None
    assert kinds(manager, tx).count("claimed") == 2


def test_a_due_time_behind_the_longest_wait_comes_back_unfinished(world, place, clock):
    trip = world(retry=every(40))
    manager = trip.join(place, clock)
    tx = begun(manager)
    result = manager.commit(tx)
    assert (result.state.value, result.is_final, clock.sleeps) == ("active", False, [])
    assert (result.waiting.reason, result.waiting.step_ids) == ("retry", ["s2"])
    assert (result.waiting.until - tx.created_at).total_seconds() == 40
    assert listed(manager).driver_id is None
    assert tx.state.value == "active"


@pytest.mark.parametrize("seconds, slept", [(0, 0), (4, 0), (5, 5)])
def test_commit_waits_as_long_as_it_is_told(world, place, clock, seconds, slept):
    trip = world(retry=every(5))
    manager = trip.join(place, clock)
    result = manager.commit(begun(manager), wait_max_seconds=seconds)
    assert result.is_final is (slept > 0)
    assert sum(clock.sleeps) == pytest.approx(slept)


def test_even_a_short_wait_is_left_to_others_where_no_wait_is_wanted(world, place, clock):
    trip = world(retry=every(1))
    manager = trip.join(place, clock)
    result = manager.commit(begun(manager), wait_max_seconds=0)
    assert (result.waiting.reason, clock.sleeps) == ("retry", [])
    assert listed(manager).driver_id is None


def test_waiting_counts_all_waits_of_a_commit_together(world, place, clock):
    trip = world(failures=4, retry=every(12))
    manager = trip.join(place, clock)
    tx = begun(manager)
    result = manager.commit(tx, wait_max_seconds=30)
    assert trip.calls == ["ok", "act 1", "act 2", "act 3"]
    assert (result.waiting.until - tx.created_at).total_seconds() == 36


@pytest.mark.parametrize("seconds", [1, 10])
def test_what_fails_for_good_after_its_waits_rolls_back_with_its_last_error(
    world, place, clock, seconds
):
    trip = world(failures=3, retry=every(seconds, attempts_max=3))
    manager = trip.join(place, clock)
    result = manager.commit(begun(manager))
    assert (result.state.value, result.reason) == ("rolled_back", "step_failed")
    assert result.error == "ValueError: not now"
    assert trip.calls == ["ok", "act 1", "act 2", "act 3", "undo"]
    with pytest.raises(Exception, match="not now") as caught:
        result.raise_for_state()
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_rejected_step_is_never_tried_again(world, place, clock, seconds):
    trip = world(error=StepRejected, retry=every(seconds))
    manager = trip.join(place, clock)
    assert manager.commit(begun(manager)).state.value == "rolled_back"
    assert trip.calls == ["ok", "act 1", "undo"]
    assert clock.sleeps == []


def test_only_what_retry_on_names_is_tried_again(world, place, clock):
    trip = world(error=KeyError, retry=every(1), retry_on=(ValueError, TimeoutError))
    manager = trip.join(place, clock)
    assert manager.commit(begun(manager)).state.value == "rolled_back"
    assert "act 2" not in trip.calls


def test_a_handler_that_says_later_is_heard_without_a_policy(world, place, clock):
    trip = world(error=lambda text: RetryLater(7, text))
    manager = trip.join(place, clock)
    assert manager.commit(begun(manager)).state.value == "committed"
    assert sum(clock.sleeps) == pytest.approx(7)


def test_a_policy_of_the_step_beats_the_one_of_its_action(world, place, clock):
    trip = world(failures=2, retry=every(1, attempts_max=2))
    manager = trip.join(place, clock)
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {}, retry=every(3, attempts_max=3))
    assert manager.commit(tx).state.value == "committed"
    assert sum(clock.sleeps) == pytest.approx(6)


def test_no_attempt_is_scheduled_behind_the_deadline_of_the_whole_transaction(world, place, clock):
    trip = world(failures=5, retry=every(4))
    manager = trip.join(place, clock)
    tx = manager.begin(timeout_seconds=10, timeout_scope="transaction")
    manager.add_step(tx, "agent", "act", {})
    result = manager.commit(tx)
    assert result.state.value == "rolled_back"
    assert trip.calls == ["act 1", "act 2", "act 3"]


@pytest.mark.parametrize("options", [{}, {"on_crash": "roll_back"}, {"on_crash": "resume"}])
def test_a_parked_transaction_that_is_taken_up_again_has_not_crashed(world, place, clock, options):
    trip = world(failures=2, retry=every(10))
    manager = trip.join(place, clock)
    tx = manager.begin(timeout_seconds=5, **options)
    manager.add_step(tx, "agent", "act", {})
    result = manager.commit(tx)
    assert (result.state.value, result.reason) == ("committed", None)


# ----------------------------------------------------------------------------------- who goes on


def test_recover_leaves_alone_what_is_not_due(world, place, clock):
    trip = world(retry=every(100))
    manager = trip.join(place, clock)
    other = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)
    for looking in (manager, other):
        clock.advance(49.9)
        assert looking.recover() == []
    clock.advance(0.2)
    (report,) = other.recover()
    assert (report.outcome, report.detail) == ("finished", "committed")
    assert manager.get_result(tx).state.value == "committed"
    assert manager.recover() == []


def test_recover_waits_for_the_next_attempts_of_what_it_has_taken_up(world, place, clock):
    trip = world(failures=3, retry=every(12))
    manager = trip.join(place, clock)
    manager.commit(begun(manager), wait_max_seconds=0)
    clock.advance(12)
    (report,) = trip.join(place, clock).recover()
    assert (report.outcome, clock.sleeps) == ("finished", [12, 12])


def test_recover_waits_no_longer_than_it_is_told(world, place, clock):
    trip = world(failures=3, retry=every(1))
    manager = trip.join(place, clock)
    manager.commit(begun(manager), wait_max_seconds=0)
    clock.advance(1)
    (report,) = trip.join(place, clock).recover(wait_max_seconds=0)
    assert (report.outcome, clock.sleeps) == ("waiting", [])
    assert "next attempt of s2" in report.detail


def test_a_retry_brings_a_parked_attempt_forward(world, place, clock):
    trip = world(retry=every(1_000))
    manager = trip.join(place, clock)
    tx = begun(manager)
    assert not manager.commit(tx).is_final
    before = clock.now()
    assert trip.join(place, clock).retry(tx.transaction_id, "s2").state.value == "committed"
    assert clock.now() == before
    assert trip.calls == ["ok", "act 1", "act 2"]


def test_wait_carries_on_what_is_parked_until_it_is_finished(world, place, clock):
    trip = world(failures=3, retry=every(500))
    manager = trip.join(place, clock)
    tx = begun(manager)
    assert not manager.commit(tx).is_final
    assert manager.wait(tx).state.value == "committed"
    assert sum(clock.sleeps) == pytest.approx(1_500, rel=0.01)
    # A look every few minutes, not thousands of them.
    assert len(clock.sleeps) < 400


def test_wait_with_a_limit_returns_what_is_known_then(world, place, clock):
    trip = world(retry=every(500))
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)
    assert manager.wait(tx, timeout_seconds=499).waiting.reason == "retry"
    assert manager.wait(tx, timeout_seconds=501).is_final


def test_wait_ends_at_once_where_only_a_person_can_help(world, place, clock):
    trip = world(error=OutcomeUnknown, on_unknown="ask")
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)
    assert manager.wait(tx).waiting.reason == "in_doubt"
    assert clock.sleeps == []


def test_wait_for_a_finished_one_returns_its_outcome(world, place, clock):
    trip = world(failures=0)
    manager = trip.join(place, clock)
    tx = begun(manager)
    assert manager.commit(tx) == trip.join(place, clock).wait(tx.transaction_id)


def test_a_compensation_that_is_to_be_tried_again_later_is_parked_too(world, place, clock):
    trip = world()
    manager = trip.join(place, clock)

    @manager.action("undo", retry=every(20, attempts_max=3))
    def undo(action, data, context):
        trip.calls.append(f"undo {context.attempt}")
        if context.attempt < 3:
            raise ConnectionError("down")

    tx = begun(manager)
    result = manager.commit(tx)
    assert (result.state.value, result.waiting.reason) == ("compensating", "retry")
    assert listed(manager).driver_id is None
    assert manager.wait(tx).clean
    assert trip.calls == ["ok", "act 1", "undo 1", "undo 2", "undo 3"]
