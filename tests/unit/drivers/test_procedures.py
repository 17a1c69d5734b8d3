"""The order of durable writes and calls, through the sync driver."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    JournalConflict,
    OutcomeUnknown,
    StoreUnavailable,
    TransactionNotFound,
    UnknownAction,
)
from aumai_transactions.core.decider import decide
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.journal import load
from aumai_transactions.core.observations import DriverArrived, RollbackCalled
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.store import Append, AppendAnswer


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


# -------------------------------------------------------------------------------------- strict


def test_strict_refuses_an_unknown_action_before_anything_runs(make_sync):
    calls = []
    manager = make_sync({"known": lambda action, data: calls.append(action)}, strict=True)
    tx = manager.begin()
    manager.add_step(tx, "agent", "known", {})
    manager.add_step(tx, "agent", "unknown", {})
    with pytest.raises(UnknownAction, match=r"'unknown'.*Nothing was run") as caught:
        manager.commit(tx)
    assert caught.value.actions == ("unknown",)
    assert (calls, tx.state.value) == ([], "pending")


@pytest.mark.parametrize("call", ["commit", "rollback"])
def test_strict_refuses_an_unknown_compensating_action_too(make_sync, call):
    manager = make_sync({"act": lambda action, data: None}, strict=True)
    tx = begun(manager, "act")
    with pytest.raises(UnknownAction, match="undo_act"):
        getattr(manager, call)(tx)


# --------------------------------------------------------------------------------------- hooks


def test_before_record_cleans_what_is_journaled_acted_upon_and_shown(make_sync):
    seen = []

    def clean(step):
        return {key: "***" if key == "card" else value for key, value in step.data.items()}

    manager = make_sync({"pay": lambda action, data: seen.append(data)}, before_record=clean)
    tx = manager.begin()
    manager.add_step(tx, "agent", "pay", {"card": "4111", "amount": 1})
    manager.commit(tx)
    cleaned = {"card": "***", "amount": 1}
    assert seen == [cleaned]
    assert tx.steps[0].data == cleaned
    assert "4111" not in repr(manager.get_events(tx))


def test_before_record_that_returns_no_json_stops_the_commit_by_step(make_sync):
    manager = make_sync(before_record=lambda step: {"x": object()})
    tx = begun(manager, "act")
    with pytest.raises(ValueError, match=r"steps\[0\]\.data\.x"):
        manager.commit(tx)
    assert tx.state.value == "pending"


def test_before_record_that_raises_stops_the_commit_with_its_own_exception(make_sync):
    def clean(step):
        raise LookupError("no policy")

    manager = make_sync(before_record=clean)
    tx = begun(manager, "act")
    with pytest.raises(LookupError):
        manager.commit(tx)
    assert tx.state.value == "pending"


def test_on_event_is_told_each_entry_in_order_once_it_is_durable(scripted_store, make_sync):
    store = scripted_store()
    events = []

    def on_event(event):
        journal = store.read(event.transaction_id)
        assert journal.head_sequence >= event.sequence
        events.append(event)

    manager = make_sync(
        all_handlers(lambda action, data: None, "act"), store=store, on_event=on_event
    )
    tx = begun(manager, "act")
    manager.commit(tx)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == [event.kind for event in manager.get_events(tx)]
    assert [event.step_id for event in events if event.kind.startswith("step_")] == ["s1", "s1"]


def test_the_events_of_the_hook_are_those_of_the_journal(make_sync):
    events = []
    manager = make_sync(all_handlers(lambda action, data: None, "act"), on_event=events.append)
    tx = begun(manager, "act")
    manager.commit(tx)
    assert events == manager.get_events(tx)


def test_the_hook_is_told_what_is_saved_and_what_people_ask_for_too(make_sync):
    events = []
    manager = make_sync(on_event=events.append)

    @manager.action("act", on_unknown="ask")
    def act(action, data):
        raise OutcomeUnknown("no answer")

    manager.action("undo_act")(lambda action, data: None)
    tx = begun(manager, "act")
    manager.save(tx)
    manager.commit(tx)
    manager.retry(tx, "s1")
    manager.rollback(tx)
    assert events == manager.get_events(tx)
    told = {event.kind for event in events}
    assert {"plan_recorded", "retry_requested", "rollback_requested"} <= told


def test_a_hook_that_raises_becomes_a_warning_and_changes_nothing(make_sync, caplog):
    def on_event(event):
        raise RuntimeError(f"the bus is down at {event.kind}")

    manager = make_sync({"act": lambda action, data: None}, on_event=on_event)
    result = manager.commit(begun(manager, "act", undo=False))
    assert result.state.value == "committed"
    assert "on_event raised RuntimeError" in result.warnings[0]
    assert any("the bus is down at step_started" in warning for warning in result.warnings)
    assert "on_event raised" in caplog.text


# --------------------------------------------------------------------------- what a person does


def doubtful(make_sync, **options):
    calls = []
    behaviour = {"raise": True}
    manager = make_sync()

    @manager.action("act", on_unknown="ask", **options)
    def act(action, data, context):
        calls.append((action, context.attempt, context.idempotency_key))
        if behaviour["raise"]:
            raise OutcomeUnknown("no answer")

    manager.action("undo_act")(lambda action, data: calls.append(action))
    tx = begun(manager, "act")
    return manager, tx, calls, behaviour


def test_a_step_in_doubt_waits_for_a_person_and_goes_on_with_the_answer(make_sync):
    manager, tx, _calls, _behaviour = doubtful(make_sync)
    result = manager.commit(tx)
    assert not result.is_final
    assert result.waiting.reason == "in_doubt"
    assert f"resolve {tx.transaction_id} s1 --happened" in result.waiting.detail
    assert manager.recover() == []
    result = manager.resolve(tx, "s1", "happened", note="I looked", by="ann")
    assert result.state.value == "committed"
    assert tx.state.value == "committed"
    assert any("ann decided" in warning for warning in result.warnings)


def test_the_answer_that_it_did_not_happen_rolls_back(make_sync):
    manager, tx, calls, _behaviour = doubtful(make_sync)
    manager.commit(tx)
    result = manager.resolve(tx.transaction_id, "s1", "did_not_happen", note="I looked")
    assert result.state.value == "rolled_back"
    assert "undo_act" not in calls


def test_a_retry_runs_the_doubtful_step_once_more_under_the_same_key(make_sync):
    manager, tx, calls, behaviour = doubtful(make_sync)
    manager.commit(tx)
    behaviour["raise"] = False
    assert manager.retry(tx, "s1").state.value == "committed"
    assert [attempt for _action, attempt, _key in calls] == [1, 2]
    assert len({key for _action, _attempt, key in calls}) == 1


def test_a_rollback_of_a_waiting_transaction_undoes_the_doubtful_step(make_sync):
    manager, tx, calls, _behaviour = doubtful(make_sync)
    manager.commit(tx)
    assert manager.rollback(tx).reason == "requested"
    assert calls[-1] == "undo_act"


def test_an_outstanding_undo_can_be_retried_until_it_works(make_sync):
    broken = ["yes", "yes"]

    def act(action, data):
        if action == "second":
            raise ValueError("no")
        if action == "undo_first" and broken:
            raise ConnectionError(broken.pop())

    manager = make_sync(all_handlers(act, "first", "second"))
    tx = begun(manager, "first", "second")
    assert [item.step_id for item in manager.commit(tx).outstanding] == ["s1"]
    assert [item.step_id for item in manager.retry(tx, "s1").outstanding] == ["s1"]
    assert manager.retry(tx, "s1").clean
    with pytest.raises(InvalidTransactionState):
        manager.retry(tx, "s1")


@pytest.mark.parametrize("call", ["retry", "resolve", "rollback"])
def test_what_nobody_knows_cannot_be_asked_about(make_sync, call):
    manager = make_sync()
    tx = begun(make_sync(), "act")
    calls = {
        "retry": lambda: manager.retry("nowhere", "s1"),
        "resolve": lambda: manager.resolve("nowhere", "s1", "undone", note="x"),
        "rollback": lambda: manager.rollback(tx),
    }
    with pytest.raises(TransactionNotFound):
        calls[call]()


def test_saving_twice_writes_once_and_an_edit_again(scripted_store, make_sync):
    store = scripted_store()
    manager = make_sync(store=store)
    tx = begun(manager, "act")
    manager.save(tx)
    manager.save(tx)
    assert len(store.calls) == 1
    tx.timeout_seconds = 5
    manager.save(tx)
    assert len(store.calls) == 2
    assert load(store.read(tx.transaction_id)).plan.timeout_seconds == 5


def test_a_rollback_of_a_saved_transaction_undoes_what_was_added_since_as_well(make_sync):
    calls = []
    handlers = all_handlers(lambda action, data: calls.append(action), "act", "more")
    manager = make_sync(handlers)
    tx = begun(manager, "act")
    manager.save(tx)
    manager.add_step(tx, "agent", "more", {}, "undo_more")
    assert manager.rollback(tx).compensated_steps == ["s2", "s1"]
    assert calls == ["undo_more", "undo_act"]


def test_a_saved_transaction_that_somebody_else_changed_is_not_overwritten(make_store, make_sync):
    store = make_store("memory")
    mine, other = make_sync(store=store), make_sync(store=store)
    tx = begun(mine, "act")
    mine.save(tx)
    theirs = other.get_transaction(tx.transaction_id)
    other.add_step(theirs, "agent", "more", {})
    other.save(theirs)
    for call in (mine.save, mine.commit):
        with pytest.raises(JournalConflict, match="get_transaction"):
            call(tx)
    again = mine.get_transaction(tx.transaction_id)
    assert again is tx
    assert [step.action for step in tx.steps] == ["act", "more"]
    assert mine.commit(tx).completed_steps == ["s1", "s2"]


@pytest.mark.parametrize("call", ["save", "commit", "rollback"])
def test_the_error_about_a_finished_transaction_names_the_call(make_sync, call):
    manager = make_sync()
    tx = manager.begin()
    manager.commit(tx)
    named = {"rollback": "roll back"}.get(call, call)
    with pytest.raises(InvalidTransactionState, match=f"cannot {named} transaction"):
        getattr(manager, call)(tx)
