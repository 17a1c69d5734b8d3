"""The order of durable writes and calls, through the sync driver."""
# mypy: disable-error-code="var-annotated"

import threading

import pytest

from aumai_transactions import (
    JournalConflict,
    StoreUnavailable,
)
from aumai_transactions.core.decider import decide
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import load
from aumai_transactions.core.observations import DriverArrived, RollbackCalled
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.store import Append, AppendAnswer

LAST_TRY = 6
"""Which append is the last that is tried, where all from the second one on fail."""


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


def all_handlers(handler, *actions):
    return dict.fromkeys([*actions, *(f"undo_{action}" for action in actions)], handler)


def put(store, transaction_id, seen, *, driver_id=None):
    """Append what somebody else decides upon."""
    saga = load(store.read(transaction_id))
    before = saga.sequence
    entries = decide(saga, seen, 1)
    for entry in entries:
        evolve(saga, entry)
    token = saga.token if driver_id else None
    append = Append(
        transaction_id, before, f"other.{before}", entries, summary_of(saga), token, driver_id
    )
    return store.append((append,))[0]


# ------------------------------------------------------------------------------ journal before act


def test_an_intent_is_durable_before_its_call_and_the_callers_object_after_it(
    scripted_store, make_sync
):
    store = scripted_store()
    seen = []

    def act(action, data):
        last = load(store.read(tx.transaction_id))
        seen.append((action, last.step("s1").state.value, tx.steps[0].state.value))

    manager = make_sync({"act": act}, store=store)
    tx = begun(manager, "act")
    store.before[1] = lambda: seen.append(("first write", tx.state.value, None))
    store.before[2] = lambda: seen.append(("last write", tx.state.value, None))
    manager.commit(tx)
    assert seen == [
        ("first write", "pending", None),
        ("act", "running", "running"),
        ("last write", "active", None),
    ]
    assert tx.state.value == "committed"


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_n_steps_take_n_plus_one_writes(scripted_store, make_sync, steps):
    store = scripted_store()
    manager = make_sync(all_handlers(lambda action, data: None, "act"), store=store)
    manager.commit(begun(manager, *["act"] * steps))
    assert len(store.calls) == steps + 1


# -------------------------------------------------------------------------------- moved and fenced


@pytest.mark.parametrize("number,undone", [(2, ["first"]), (3, ["second", "first"])])
def test_a_foreign_request_is_taken_up_before_the_next_step(
    scripted_store, make_sync, number, undone
):
    store = scripted_store()
    calls = []
    manager = make_sync(
        all_handlers(lambda action, data: calls.append(action), "first", "second", "third"),
        store=store,
    )
    tx = begun(manager, "first", "second", "third")
    store.before[number] = lambda: put(store, tx.transaction_id, RollbackCalled("operator"))
    result = manager.commit(tx)
    assert calls == [*reversed(undone), *(f"undo_{name}" for name in undone)]
    assert (result.state.value, result.reason) == ("rolled_back", "requested")
    assert [step.state.value for step in tx.steps[: len(undone)]] == ["compensated"] * len(undone)
    assert manager.verify().is_intact


def test_a_foreign_request_behind_the_last_step_comes_in_time_while_nothing_is_decided(
    scripted_store, make_sync
):
    store = scripted_store()
    calls = []
    manager = make_sync(all_handlers(lambda action, data: calls.append(action), "act"), store=store)
    tx = begun(manager, "act")
    store.before[2] = lambda: put(store, tx.transaction_id, RollbackCalled("operator"))
    assert manager.commit(tx).state.value == "rolled_back"
    assert calls == ["act", "undo_act"]


def test_a_fenced_driver_stops_and_makes_no_further_call(scripted_store, make_sync):
    store = scripted_store()
    calls = []
    manager = make_sync(
        all_handlers(lambda action, data: calls.append(action), "first", "second"), store=store
    )
    tx = begun(manager, "first", "second")

    def take_it():
        # As if this process had been paused for so long that its lease ran out.
        other = store.join()
        store.leave(manager._opened.driver_id)
        assert (
            put(store, tx.transaction_id, DriverArrived(other, takeover=True), driver_id=other)
            is AppendAnswer.appended
        )

    store.before[2] = take_it
    with pytest.raises(JournalConflict, match="somebody else") as caught:
        manager.commit(tx)
    assert caught.value.transaction_id == tx.transaction_id
    assert calls == ["first"]
    assert store.calls[-1] == 1
    written = load(store.read(tx.transaction_id))
    assert written.token == 2


def test_of_two_that_take_over_at_once_one_gives_way(scripted_store, make_sync):
    store = scripted_store()
    calls = []
    handlers = all_handlers(lambda action, data: calls.append(action), "act")
    dead = make_sync(handlers, store=store)
    tx = begun(dead, "act")
    # An interrupt at every further write: it can neither go on nor go back, as if it had died.
    for number in range(2, 10):
        store.before[number] = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        dead.commit(tx)
    dead.close()
    one, other = make_sync(handlers, store=store), make_sync(handlers, store=store)
    store.before.clear()
    reports = []
    store.before[len(store.calls) + 1] = lambda: reports.extend(other.recover())
    reports += one.recover()
    assert sorted(report.outcome for report in reports) == ["busy", "finished"]
    assert calls == ["act", "undo_act"]


# --------------------------------------------------------------------------------- failing stores


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_write_that_fails_for_a_while_is_repeated_as_it_was(  # noqa: PLR0917 (fixtures)
    scripted_store, make_sync, failing, clock, number, times, moment
):
    store = scripted_store()
    for later in range(times):
        getattr(store, moment)[number + later] = failing(outcome_unknown=moment == "after")
    calls = []
    manager = make_sync(
        all_handlers(lambda action, data: calls.append(action), "first", "second"),
        store=store,
        clock=clock,
    )
    tx = manager.begin(timeout_seconds=10**9)
    for action in ("first", "second"):
        manager.add_step(tx, "agent", action, {}, f"undo_{action}")
    assert manager.commit(tx).state.value == "committed"
    assert calls == ["first", "second"]
    assert len(manager.get_events(tx)) == 4 + 5
    assert manager.verify().is_intact


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [2, 3])
def test_a_write_that_keeps_failing_stops_everything_and_recovery_finishes(  # noqa: PLR0917
    scripted_store, make_sync, failing, clock, number, moment
):
    store = scripted_store()
    for later in range(10):
        getattr(store, moment)[number + later] = failing(outcome_unknown=moment == "after")
    calls = []
    manager = make_sync(
        all_handlers(lambda action, data: calls.append(action), "first", "second"),
        store=store,
        clock=clock,
    )
    tx = manager.begin(timeout_seconds=10**9)
    for action in ("first", "second"):
        manager.add_step(tx, "agent", action, {}, f"undo_{action}")
    with pytest.raises(StoreUnavailable) as caught:
        manager.commit(tx)
    assert tx.transaction_id in str(caught.value)
    assert "recover()" in str(caught.value)
    assert caught.value.outcome_unknown is (moment == "after")
    assert calls == ["first", "second"][: number - 1]
    store.before.clear()
    store.after.clear()
    reports = manager.recover()
    result = manager.get_result(tx)
    assert result.is_final
    assert result.clean
    if reports:
        assert reports[0].outcome == "finished"
    undone = [call.removeprefix("undo_") for call in calls if call.startswith("undo_")]
    if result.state.value == "rolled_back":
        started = [step.step_id for step in tx.steps if step.state.value == "compensated"]
        assert len(undone) == len(started) > 0
    assert tx.state == result.state
    assert manager.verify().is_intact


def test_a_call_in_hand_is_waited_for_where_nothing_can_be_written_any_more(
    scripted_store, make_sync, failing
):
    store = scripted_store()
    failed, escaped = threading.Event(), threading.Event()
    seen: list[object] = []

    def fail():
        if len(store.calls) == LAST_TRY:
            failed.set()
        failing()()

    for number in range(2, 20):
        store.before[number] = fail

    def slow(action, data):
        assert failed.wait(60)
        # Nobody sets it, unless the commit gives up while this call is under way.
        seen.append(escaped.wait(0.2))

    handlers = {"quick": lambda action, data: None, "slow": slow}
    undos = all_handlers(lambda action, data: seen.append(action), *handlers)
    manager = make_sync(undos | handlers, store=store, parallel_max=2)
    tx = manager.begin(on_crash="roll_back")
    for action in handlers:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}", after=[])
    with pytest.raises(StoreUnavailable):
        manager.commit(tx)
    escaped.set()
    assert seen == [False]
    store.before.clear()
    assert [item.outcome for item in manager.recover()] == ["finished"]
    assert manager.get_result(tx).clean
    assert seen[1:] == ["undo_slow", "undo_quick"]


def test_a_first_write_that_fails_leaves_the_transaction_pending_and_nothing_run(
    scripted_store, make_sync, failing, clock
):
    store = scripted_store()
    for number in range(1, 9):
        store.before[number] = failing()
    calls = []
    manager = make_sync(
        {"act": lambda action, data: calls.append(action)}, store=store, clock=clock
    )
    tx = manager.begin(timeout_seconds=10**9)
    manager.add_step(tx, "agent", "act", {})
    with pytest.raises(StoreUnavailable, match="Nothing of it has run"):
        manager.commit(tx)
    assert (calls, tx.state.value) == ([], "pending")
    store.before.clear()
    assert manager.commit(tx).state.value == "committed"


def test_a_full_disk_is_said_and_recovered_from(make_store, make_sync):
    store = make_store("sqlite")
    calls = []

    def act(action, data):
        calls.append(action)
        if action == "second":
            pages = store._database._connection.execute("PRAGMA page_count").fetchone()[0]
            store._database._connection.execute(f"PRAGMA max_page_count = {pages}")

    manager = make_sync(all_handlers(act, "first", "second", "third"), store=store)
    tx = manager.begin()
    for action in ("first", "second", "third"):
        data = {"bulk": "x" * 50_000} if action == "third" else {}
        manager.add_step(tx, "agent", action, data, f"undo_{action}")

    # The intent of the third step does not hold its data; what it returns does.
    @manager.action("third")
    def third(action, data):
        calls.append(action)
        return {"bulk": "x" * 50_000}

    with pytest.raises(StoreUnavailable, match="recover"):
        manager.commit(tx)
    store._database._connection.execute("PRAGMA max_page_count = 1000000")
    manager.recover()
    result = manager.get_result(tx)
    assert result.is_final
    assert result.clean
    assert manager.verify().is_intact
