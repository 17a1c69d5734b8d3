"""What others do to a transaction while somebody waits with it, and interrupts of such waits."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    RetryPolicy,
    TransactionManager,
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


# --------------------------------------------------------------------------------- somebody else


def parked(manager, tx, clock, in_thread, signal):
    """A thread that waits in commit(), outside, until `go`."""
    there, go = signal(), signal()

    def hold():
        there.set()
        go.wait()

    clock.at[len(clock.sleeps) + 1] = hold
    committing = in_thread(manager.commit, tx)
    there.wait()
    return committing, go


def test_a_rollback_of_a_parked_one_goes_back_at_once_and_commit_returns_the_same(
    world, place, make_clock, in_thread, signal
):
    trip = world(retry=every(25))
    mine, theirs = make_clock(), make_clock()
    manager, other = trip.join(place, mine), trip.join(place, theirs)
    tx = begun(manager)
    committing, go = parked(manager, tx, mine, in_thread, signal)
    result = other.rollback(other.get_transaction(tx.transaction_id))
    assert (result.state.value, result.reason) == ("rolled_back", "requested")
    assert theirs.sleeps == []
    go.set()
    assert committing.result() == result
    assert trip.calls == ["ok", "act 1", "undo"]
    assert manager.get_transaction(tx.transaction_id) is tx
    assert tx.state.value == "rolled_back"


def test_a_rollback_of_a_parked_one_from_another_thread_goes_back_at_once(
    world, place, clock, in_thread, signal
):
    trip = world(retry=every(25))
    manager = trip.join(place, clock)
    tx = begun(manager)
    committing, go = parked(manager, tx, clock, in_thread, signal)
    before = clock.now()
    result = manager.rollback(tx)
    assert (result.state.value, clock.now()) == ("rolled_back", before)
    go.set()
    assert committing.result() == result


def test_a_rollback_that_comes_while_a_transaction_is_being_parked_is_carried_out(
    world, place, clock, in_thread, signal
):
    asleep, gone_back = signal(), signal()
    threads = []

    def on_event(event):
        if event.kind == "retry_scheduled":
            threads.append(in_thread(manager.rollback, tx))
            asleep.wait()

    def until_it_has_gone_back():
        asleep.set()
        gone_back.wait()

    trip = world(retry=every(1_000))
    manager = trip.join(place, clock, on_event=on_event)
    clock.at[1] = until_it_has_gone_back
    tx = begun(manager)
    result = manager.commit(tx)
    gone_back.set()
    assert (result.state.value, result.reason) == ("rolled_back", "requested")
    assert threads[0].result().state.value == "rolled_back"


def test_a_rollback_of_what_commit_has_returned_parked_goes_back_at_once(world, place, clock):
    trip = world(retry=every(1_000))
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)
    assert manager.rollback(tx).state.value == "rolled_back"
    assert clock.sleeps == []
    with pytest.raises(InvalidTransactionState):
        manager.rollback(tx)


def test_a_rollback_without_handlers_can_be_found_by_who_has_them_before_its_time(
    world, place, clock
):
    trip = world(retry=every(1_000))
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)
    with TransactionManager(store=place, clock=clock) as operator:
        result = operator.rollback(operator.get_transaction(tx.transaction_id))
        assert not result.is_final
    (report,) = manager.recover()
    assert (report.outcome, report.detail) == ("finished", "rolled back")


@pytest.mark.parametrize("how", ["recover", "wait", "retry"])
def test_a_waiting_commit_ends_when_another_manager_has_finished_it(  # noqa: PLR0917 (fixtures)
    world, place, make_clock, in_thread, signal, how
):
    trip = world(retry=every(25))
    mine, theirs = make_clock(), make_clock()
    manager, other = trip.join(place, mine), trip.join(place, theirs)
    tx = begun(manager)
    committing, go = parked(manager, tx, mine, in_thread, signal)
    theirs.advance(26)
    name = tx.transaction_id
    finish = {
        "recover": other.recover,
        "wait": lambda: other.wait(name),
        "retry": lambda: other.retry(name, "s2"),
    }
    finish[how]()
    go.set()
    assert committing.result().state.value == "committed"
    assert trip.calls == ["ok", "act 1", "act 2"]


def test_an_operators_wish_is_heard_when_a_wait_in_hand_is_over(
    world, place, make_clock, in_thread, signal
):
    trip = world(retry=every(HOLD_SECONDS_MAX))
    mine, theirs = make_clock(), make_clock()
    manager, other = trip.join(place, mine), trip.join(place, theirs)
    tx = begun(manager)
    committing, go = parked(manager, tx, mine, in_thread, signal)
    asked = signal()
    theirs.at[1] = asked.set
    rolling = in_thread(lambda: other.rollback(other.get_transaction(tx.transaction_id)))
    asked.wait()
    go.set()
    assert committing.result().reason == "requested"
    assert rolling.result().state.value == "rolled_back"
    assert trip.calls == ["ok", "act 1", "undo"]
    assert mine.sleeps == [HOLD_SECONDS_MAX]


def test_of_managers_that_race_for_a_due_one_exactly_one_makes_the_attempt(
    world, place, make_clock, in_thread
):
    for _ in range(5):
        trip = world(retry=every(100))
        clocks = [make_clock() for _ in range(4)]
        managers = [trip.join(place, clock) for clock in clocks]
        tx = begun(managers[0])
        managers[0].commit(tx)
        for clock in clocks:
            clock.advance(100)
        racing = [in_thread(manager.recover) for manager in managers[:2]]
        racing += [in_thread(manager.wait, tx.transaction_id) for manager in managers[2:]]
        for racer in racing:
            racer.result()
        assert trip.calls == ["ok", "act 1", "act 2"]
        assert managers[0].get_result(tx).state.value == "committed"
        assert managers[0].verify(tx).is_intact


# ----------------------------------------------------------------------------------- interrupts


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("seconds", [1, 10])
def test_an_interrupt_of_a_wait_rolls_back_and_is_raised(world, place, clock, seconds, interrupt):
    def interrupted():
        raise interrupt("told")

    trip = world(retry=every(seconds))
    manager = trip.join(place, clock)
    clock.at[1] = interrupted
    tx = begun(manager)
    with pytest.raises(interrupt, match="told"):
        manager.commit(tx)
    result = manager.get_result(tx)
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "cancelled", True)
    assert trip.calls == ["ok", "act 1", "undo"]
    assert tx.state.value == "rolled_back"


def test_an_interrupt_of_a_wait_in_hand_says_what_became_of_the_transaction(world, place, clock):
    def interrupted():
        raise KeyboardInterrupt

    trip = world(retry=every(1))
    manager = trip.join(place, clock)
    clock.at[1] = interrupted
    tx = begun(manager)
    with pytest.raises(KeyboardInterrupt) as caught:
        manager.commit(tx)
    assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]


def test_an_interrupt_of_a_wait_between_two_undos_does_not_stop_the_undo(world, place, clock):
    def interrupted():
        raise KeyboardInterrupt

    trip = world()
    manager = trip.join(place, clock)

    @manager.action("undo", retry=every(1, attempts_max=3))
    def undo(action, data, context):
        trip.calls.append(f"undo {context.attempt}")
        if context.attempt < 3:
            raise ConnectionError("down")

    clock.at[1] = interrupted
    tx = begun(manager)
    with pytest.raises(KeyboardInterrupt):
        manager.commit(tx)
    assert trip.calls == ["ok", "act 1", "undo 1", "undo 2", "undo 3"]
    assert manager.get_result(tx).clean


def test_an_interrupted_wait_in_hand_leaves_nothing_that_others_cannot_take(world, place, clock):
    trip = world(failures=4, retry=every(1))
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx, wait_max_seconds=0)
    clock.advance(1)

    def interrupted():
        raise KeyboardInterrupt

    clock.at[1] = interrupted
    with pytest.raises(KeyboardInterrupt):
        manager.wait(tx)
    assert listed(manager).driver_id is None
    assert manager.get_result(tx).state.value == "active", "who only waits, only stops"


def test_an_interrupt_of_a_wait_outside_leaves_it_to_whoever_comes_by(world, place, clock):
    trip = world(retry=every(100))
    manager = trip.join(place, clock)
    tx = begun(manager)
    manager.commit(tx)

    def interrupted():
        raise KeyboardInterrupt

    clock.at[1] = interrupted
    with pytest.raises(KeyboardInterrupt):
        manager.wait(tx)
    assert manager.get_result(tx).waiting.reason == "retry"
    clock.advance(100)
    (report,) = trip.join(place, clock).recover()
    assert report.detail == "committed"
