"""The driver with threads."""
# mypy: disable-error-code="var-annotated"

import asyncio
import gc
import weakref
from contextlib import suppress

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    StoreError,
    TransactionManager,
    TransactionNotFound,
    TransactionRolledBack,
)
from aumai_transactions.store import Query

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


# --------------------------------------------------------------------------------- looking at them


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A store with 1,000 transactions."""
    folder = tmp_path_factory.mktemp("crowded")
    with TransactionManager(store=f"sqlite:///{folder}/journal.db") as manager:
        desk = manager._open(create=True)
        for _ in range(10):
            save_all(desk, [manager.begin() for _ in range(100)])
    return f"sqlite:///{folder}/journal.db"


def save_all(desk, transactions):
    """Save many with one durable write; one by one this takes a second for each hundred."""
    from aumai_transactions.core.entries import PlanRecorded
    from aumai_transactions.core.evolution import evolve
    from aumai_transactions.core.outcome import summary_of
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.drivers.freezing import frozen
    from aumai_transactions.store import Append

    appends = []
    for tx in transactions:
        saga = Saga(tx.transaction_id)
        entry = PlanRecorded(at=1, definition=frozen(tx, desk.registry, None))
        evolve(saga, entry)
        appends.append(Append(tx.transaction_id, 0, desk.append_id(), [entry], summary_of(saga)))
    desk.store.append(appends)


def test_a_thousand_stored_transactions_are_listed_lazily_and_not_kept_alive(crowded, make_sync):
    manager = make_sync(store=crowded)
    everything = manager.get_all_transactions()
    assert len(everything) == 1_000
    alive = weakref.WeakSet()
    most = 0
    names = []
    for tx in everything:
        names.append(tx.transaction_id)
        alive.add(Alive.of(tx))
        del tx
        most = max(most, len(alive))
    assert len(set(names)) == 1_000
    assert most <= 3
    listed = manager.find(Query(limit=1_000))
    assert names == [item.summary.transaction_id for item in listed]


class Alive:
    """Lives as long as the transaction it is put into; models cannot stand in a WeakSet."""

    @classmethod
    def of(cls, tx):
        token = cls()
        tx.__dict__["_alive"] = token
        return token


def test_a_lazy_list_has_indexes_and_slices(crowded, make_sync):
    manager = make_sync(store=crowded)
    everything = manager.get_all_transactions()
    names = [tx.transaction_id for tx in everything]
    assert everything[0].transaction_id == names[0]
    assert everything[-1].transaction_id == names[-1]
    assert [tx.transaction_id for tx in everything[5:20:5]] == names[5:20:5]
    assert [tx.transaction_id for tx in everything[-2:]] == names[-2:]
    for outside in (1_000, -1_001):
        with pytest.raises(IndexError, match="1000 transactions"):
            everything[outside]


def test_what_is_not_saved_yet_stands_at_the_end_of_the_list(crowded, make_sync):
    manager = make_sync(store=crowded)
    first, second = manager.begin(), manager.begin()
    everything = manager.get_all_transactions()
    assert len(everything) == 1_002
    assert everything[-2] is first
    assert everything[1_001] is second
    assert list(everything)[-2:] == [first, second]


def test_the_callers_object_is_the_one_in_the_list(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    manager.commit(tx)
    assert manager.get_all_transactions()[0] is tx
    assert manager.get_transaction(tx.transaction_id) is tx


def test_a_forgotten_transaction_is_read_from_the_store_again(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    name = manager.commit(tx).transaction_id
    before = tx.model_dump()
    del tx
    gc.collect()
    found = manager.get_transaction(name)
    assert found.model_dump() == before
    assert manager.get_transaction(name) is found


def test_a_copy_of_a_saved_transaction_can_be_committed_when_the_first_is_gone(make_sync, tmp_path):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = begun(manager, "act")
    manager.save(tx)
    copy = tx.model_copy(deep=True)
    manager.add_step(copy, "agent", "more", {})
    del tx
    gc.collect()
    assert manager.commit(copy).completed_steps == ["s1", "s2"]


# ------------------------------------------------------------------------------------------ closing


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
