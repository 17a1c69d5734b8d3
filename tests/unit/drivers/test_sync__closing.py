"""The driver with threads: how it is closed, and what outlives it."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    StoreError,
    TransactionManager,
    TransactionNotFound,
)


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


def test_a_closed_manager_refuses_every_call(make_sync):
    manager = make_sync()
    tx = manager.begin()
    manager.close()
    for call in (manager.begin, manager.recover, manager.get_all_transactions, manager.verify):
        with pytest.raises(StoreError, match="closed"):
            call()
    for call in (manager.commit, manager.rollback, manager.save):
        with pytest.raises(StoreError, match="closed"):
            call(tx)


def test_closing_twice_and_closing_unopened_is_fine(make_sync):
    manager = make_sync()
    manager.close()
    manager.close()


def test_leaving_the_block_closes_the_manager():
    with TransactionManager() as manager:
        manager.begin()
    with pytest.raises(StoreError, match="closed"):
        manager.begin()


def test_a_store_that_was_given_stays_open_when_the_manager_closes(make_store, make_sync):
    store = make_store("sqlite")
    manager = make_sync(store=store)
    name = manager.commit(begun(manager, "act")).transaction_id
    manager.close()
    assert store.read(name) is not None
    assert make_sync(store=store).get_transaction(name).state.value == "committed"


def test_what_a_closed_manager_was_driving_can_be_recovered_at_once(
    make_store, make_sync, in_thread, signal
):
    running, go = signal(), signal()

    def act(action, data):
        running.set()
        go.wait()

    store = make_store("sqlite")
    first = make_sync({"act": act, "undo_act": lambda action, data: None}, store=store)
    tx = begun(first, "act")
    committing = in_thread(first.commit, tx)
    running.wait()
    other = make_sync(dict.fromkeys(("act", "undo_act"), lambda action, data: None), store=store)
    assert other.recover() == []
    first.close()
    (report,) = other.recover()
    assert (report.outcome, report.result.reason) == ("finished", "in_doubt")
    go.set()
    with pytest.raises(StoreError):
        committing.result()
    assert other.verify().is_intact


def test_an_unsaved_transaction_is_gone_with_its_manager(tmp_path, make_sync):
    url = f"sqlite:///{tmp_path}/journal.db"
    first = make_sync(store=url)
    tx = begun(first, "act")
    first.close()
    second = make_sync(store=url)
    with pytest.raises(TransactionNotFound):
        second.get_transaction(tx.transaction_id)


def test_a_saved_transaction_outlives_its_manager_and_can_be_committed_by_another(
    tmp_path, make_sync
):
    url = f"sqlite:///{tmp_path}/journal.db"
    first = make_sync(store=url)
    tx = begun(first, "act")
    first.save(tx)
    first.close()
    calls = []
    second = make_sync({"act": lambda action, data: calls.append(action)}, store=url)
    again = second.get_transaction(tx.transaction_id)
    second.add_step(again, "agent", "act", {})
    assert second.commit(again).completed_steps == ["s1", "s2"]
    assert calls == ["act", "act"]


def test_an_edit_of_a_saved_transaction_is_honoured_whatever_its_type(tmp_path, make_sync):
    seen = []
    manager = make_sync(
        {"act": lambda action, data: seen.append(data["x"])},
        store=f"sqlite:///{tmp_path}/journal.db",
    )
    for before, after in ((1, True), (1, 1.0), (0, False)):
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {"x": before})
        manager.save(tx)
        tx.steps[0].data["x"] = after
        manager.commit(tx)
        assert seen[-1] is after or (seen[-1] == after and type(seen[-1]) is type(after))
