"""The driver with threads."""
# mypy: disable-error-code="var-annotated"

import asyncio
from contextlib import suppress

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    TransactionRolledBack,
)

STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])


@pytest.fixture
def manager_on(make_store, make_sync):
    def make(store, handlers=None, **options):
        return make_sync(handlers, store=make_store(store), **options)

    return make


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


# ---------------------------------------------------------------------------------------- threads


@STORES
def test_of_two_threads_that_commit_one_transaction_exactly_one_wins(
    manager_on, store, in_thread, signal
):
    running, go = signal(), signal()
    calls = []

    def act(action, data):
        calls.append(action)
        running.set()
        go.wait()

    manager = manager_on(store, {"act": act})
    tx = begun(manager, "act")
    first = in_thread(manager.commit, tx)
    running.wait()
    with pytest.raises(InvalidTransactionState, match="right now"):
        manager.commit(tx)
    go.set()
    assert first.result().state.value == "committed"
    assert calls == ["act"]


@STORES
def test_many_threads_that_commit_at_once_have_one_winner(manager_on, store, in_thread):
    calls = []
    manager = manager_on(store, {"act": lambda action, data: calls.append(action)})
    for _ in range(5):
        calls.clear()
        tx = begun(manager, "act")
        threads = [in_thread(manager.commit, tx) for _ in range(8)]
        results = []
        for thread in threads:
            with suppress(InvalidTransactionState):
                results.append(thread.result())
        assert len(results) == 1
        assert calls == ["act"]


@STORES
def test_a_rollback_from_another_thread_waits_for_the_running_step(
    manager_on, store, in_thread, signal
):
    running, go = signal(), signal()
    calls = []

    def act(action, data):
        calls.append(action)
        if action == "second":
            running.set()
            go.wait()

    names = ("first", "second", "third", "undo_first", "undo_second", "undo_third")
    manager = manager_on(store, dict.fromkeys(names, act))
    tx = begun(manager, "first", "second", "third")
    committing = in_thread(manager.commit, tx)
    running.wait()
    rolling = in_thread(manager.rollback, tx)
    # The wish stands in the journal before the step is let go.
    while not any(event.kind == "rollback_requested" for event in manager.get_events(tx)):
        pass
    assert tx.state.value == "active"
    go.set()
    one, other = committing.result(), rolling.result()
    assert calls == ["first", "second", "undo_second", "undo_first"]
    assert one == other
    assert (one.state.value, one.reason) == ("rolled_back", "requested")
    assert one.completed_steps == ["s1", "s2"]


@STORES
def test_a_rollback_by_another_manager_of_the_same_store_reaches_the_driver(
    make_store, make_sync, store, in_thread, signal
):
    running, go = signal(), signal()
    calls = []

    def act(action, data):
        calls.append(action)
        if action == "first":
            running.set()
            go.wait()

    handlers = dict.fromkeys(("first", "second", "undo_first", "undo_second"), act)
    shared = make_store(store)
    driver, other = make_sync(handlers, store=shared), make_sync(handlers, store=shared)
    tx = begun(driver, "first", "second")
    committing = in_thread(driver.commit, tx)
    running.wait()
    rolling = in_thread(other.rollback, other.get_transaction(tx.transaction_id))
    while not any(event.kind == "rollback_requested" for event in other.get_events(tx)):
        pass
    go.set()
    assert committing.result().state.value == "rolled_back"
    assert rolling.result().state.value == "rolled_back"
    assert calls == ["first", "undo_first"]


@STORES
def test_a_rollback_inside_a_handler_is_refused(manager_on, store):
    refused = []

    def act(action, data):
        with pytest.raises(InvalidTransactionState, match="exception") as caught:
            manager.rollback(tx)
        refused.append(caught.value)

    manager = manager_on(store, {"act": act})
    tx = begun(manager, "act")
    assert manager.commit(tx).state.value == "committed"
    assert len(refused) == 1


def test_a_rollback_inside_an_async_handler_is_refused_too(make_sync):
    async def act(action, data):
        with pytest.raises(InvalidTransactionState, match="exception"):
            manager.rollback(tx)
        return "refused"

    manager = make_sync({"act": act})
    tx = begun(manager, "act")
    assert manager.commit(tx).outputs == {"s1": "refused"}


def test_a_handler_may_carry_out_another_transaction(make_sync):
    def act(action, data):
        inner = begun(manager, "other")
        return manager.rollback(inner).state.value

    manager = make_sync({"act": act})
    assert manager.commit(begun(manager, "act")).outputs == {"s1": "rolled_back"}


@STORES
def test_many_threads_may_share_a_manager(manager_on, store, in_thread):
    manager = manager_on(store, {"act": lambda action, data: {"n": data["n"]}})

    def trip(number):
        tx = manager.begin()
        for _ in range(3):
            manager.add_step(tx, "agent", "act", {"n": number})
        return manager.commit(tx).outputs

    threads = [in_thread(trip, number) for number in range(12)]
    for number, thread in enumerate(threads):
        assert thread.result() == {step: {"n": number} for step in ("s1", "s2", "s3")}
    assert manager.verify().is_intact


# --------------------------------------------------------------------------------------- interrupts


@STORES
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_a_handler_rolls_back_and_is_raised_with_a_note(
    manager_on, store, interrupt
):
    calls = []

    def act(action, data, context):
        calls.append((action, context.in_doubt))
        if action == "second":
            raise interrupt

    names = ("first", "second", "third", "undo_first", "undo_second")
    manager = manager_on(store, dict.fromkeys(names, act))
    tx = begun(manager, "first", "second", "third")
    with pytest.raises(interrupt) as caught:
        manager.commit(tx)
    assert calls == [
        ("first", False),
        ("second", False),
        ("undo_second", True),
        ("undo_first", False),
    ]
    assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]
    assert tx.state.value == "rolled_back"
    assert manager.get_result(tx).reason == "cancelled"


def test_the_note_names_what_needs_a_person(make_sync):
    def act(action, data):
        raise KeyboardInterrupt

    manager = make_sync({"act": act})
    tx = begun(manager, "act", undo=False)
    with pytest.raises(KeyboardInterrupt) as caught:
        manager.commit(tx)
    assert caught.value.__notes__[0].endswith("is rolled_back; needs a person: s1")


def test_an_interrupt_in_an_undo_tries_it_once_more_and_finishes_first(make_sync):
    calls = []

    def act(action, data):
        calls.append(action)
        if action == "undo_first" and calls.count(action) == 1:
            raise KeyboardInterrupt
        if action == "second":
            raise ValueError("no")

    manager = make_sync(dict.fromkeys(("first", "second", "undo_first"), act))
    tx = begun(manager, "first", "second")
    with pytest.raises(KeyboardInterrupt):
        manager.commit(tx)
    assert calls == ["first", "second", "undo_first", "undo_first"]
    assert manager.get_result(tx).clean


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupt_in_a_write_leaves_no_half_trip(scripted_store, make_sync, moment, number):
    store = scripted_store(blocking=True)
    calls = []

    def interrupt():
        raise KeyboardInterrupt

    getattr(store, moment)[number] = interrupt
    names = ("first", "second", "undo_first", "undo_second")
    handlers = dict.fromkeys(names, lambda action, data: calls.append(action))
    manager = make_sync(handlers, store=store)
    tx = begun(manager, "first", "second")
    with pytest.raises(KeyboardInterrupt) as caught:
        manager.commit(tx)
    result = manager.get_result(tx)
    assert result.is_final
    assert result.clean
    assert result.state.value in caught.value.__notes__[0]
    done = [call for call in calls if not call.startswith("undo_")]
    undone = [call.removeprefix("undo_") for call in calls if call.startswith("undo_")]
    assert undone == (done[::-1] if result.state.value == "rolled_back" else [])
    assert manager.verify().is_intact


def test_an_interrupt_between_two_operations_goes_back_before_it_is_raised(
    scripted_store, make_sync
):
    interrupts = [KeyboardInterrupt()]

    def hook(event):
        if event.kind == "step_started" and interrupts:
            raise interrupts.pop()

    handlers = dict.fromkeys(("act", "undo_act"), lambda action, data: None)
    manager = make_sync(handlers, on_event=hook)
    tx = begun(manager, "act")
    with pytest.raises(KeyboardInterrupt):
        manager.commit(tx)
    result = manager.get_result(tx)
    assert (tx.state.value, result.reason) == ("rolled_back", "cancelled")
    assert result.compensated_steps == ["s1"]
    assert manager.recover() == []


# ---------------------------------------------------------------------------------- async handlers


def test_async_handlers_run_under_the_sync_driver(make_sync):
    async def act(action, data):
        await asyncio.sleep(0)
        return action

    manager = make_sync({"act": act})
    assert manager.commit(begun(manager, "act")).outputs == {"s1": "act"}


def test_async_handlers_run_inside_of_a_running_loop(make_sync):
    async def act(action, data):
        await asyncio.sleep(0)
        return action

    manager = make_sync({"act": act})

    async def notebook():
        return manager.commit(begun(manager, "act"))

    assert asyncio.run(notebook()).outputs == {"s1": "act"}


def test_async_handlers_of_one_manager_share_one_loop(make_sync):
    loops = []

    async def act(action, data):
        loops.append(asyncio.get_running_loop())

    manager = make_sync({"act": act})
    manager.commit(begun(manager, "act", "act"))
    manager.commit(begun(manager, "act"))
    assert len(loops) == 3
    assert len(set(loops)) == 1


def test_an_async_handler_that_raises_fails_its_step(make_sync):
    async def act(action, data):
        raise ValueError("declined")

    manager = make_sync({"act": act})
    result = manager.commit(begun(manager, "act"))
    assert result.error == "ValueError: declined"
    with pytest.raises(TransactionRolledBack) as caught:
        result.raise_for_state()
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_async_handler_that_ends_the_program_rolls_back_and_is_heard(
    make_sync, in_thread, interrupt
):
    async def act(action, data):
        raise interrupt

    manager = make_sync({"act": act, "undo_act": lambda action, data: None})
    tx = begun(manager, "act")
    with pytest.raises(interrupt):
        in_thread(manager.commit, tx).result()
    assert manager.get_result(tx).reason == "cancelled"
    # The loop has survived it.
    assert manager.commit(begun(manager, "other")).state.value == "committed"


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, RecursionError, MemoryError])
def test_an_unusual_exception_fails_the_step_like_any_other(make_sync, error):
    def act(action, data):
        raise error("unusual")

    manager = make_sync({"act": act})
    result = manager.commit(begun(manager, "act"))
    assert result.state.value == "rolled_back"
    assert "unusual" in result.error
