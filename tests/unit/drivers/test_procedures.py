"""What a manager does with a caller's transaction, through the sync driver."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    JournalConflict,
    OutcomeUnknown,
    UnknownAction,
)
from aumai_transactions.core.journal import load


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


def all_handlers(handler, *actions):
    return dict.fromkeys([*actions, *(f"undo_{action}" for action in actions)], handler)


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
