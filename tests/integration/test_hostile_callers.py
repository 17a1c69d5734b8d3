"""What callers, hooks and shutdowns do that they should not; each was a bug once."""

import asyncio
import gc
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    InvalidData,
    JournalConflict,
    OutcomeUnknown,
    OutputReference,
    StoreError,
    TransactionManager,
)
from aumai_transactions.core.values import checked_copy
from aumai_transactions.drivers.append_queue import AppendQueue, written
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.journals import claim, loaded, plan, request


def nothing(action, data):
    """Do nothing, well."""


def cancel_everything():
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


@pytest.mark.parametrize("store", [None, "sqlite:///s.db"])
def test_cancelling_every_task_undoes_a_sync_handler_only_after_it_has_ended(
    tmp_path, monkeypatch, store
):
    monkeypatch.chdir(tmp_path)
    world, entered, go_on = [], threading.Event(), threading.Event()

    def book(action, data):
        entered.set()
        go_on.wait()
        world.append("booked")

    async def story():
        handlers = {"book": book, "cancel": lambda action, data: world.append("cancelled")}
        async with AsyncTransactionManager(handlers, store=store) as manager:
            tx = await manager.begin()
            manager.add_step(tx, "agent", "book", {}, "cancel")
            committing = asyncio.create_task(manager.commit(tx))
            await asyncio.to_thread(entered.wait)
            cancel_everything()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await committing
            return await manager.get_result(tx)

    result = asyncio.run(story())
    assert world == ["booked", "cancelled"]
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "cancelled", True)


@pytest.mark.parametrize("number, state", [(1, "rolled_back"), (2, "committed")])
def test_cancelling_every_task_during_a_durable_write_does_not_lose_it(tmp_path, number, state):
    class Slow:
        """A real store whose writes can be held up."""

        def __init__(self, store):
            self.store, self.writes = store, 0
            self.entered, self.go_on = threading.Event(), threading.Event()

        def __getattr__(self, name):
            return getattr(self.store, name)

        def append(self, appends):
            self.writes += 1
            if self.writes == number:
                self.entered.set()
                self.go_on.wait()
            return self.store.append(appends)

    async def story():
        store = Slow(open_store(tmp_path / "s.db", create=True))
        manager = AsyncTransactionManager({"act": nothing, "undo": nothing}, store=store)
        tx = await manager.begin()
        manager.add_step(tx, "agent", "act", {}, "undo")
        committing = asyncio.create_task(manager.commit(tx))
        await asyncio.to_thread(store.entered.wait)
        cancel_everything()
        await asyncio.sleep(0)
        store.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await committing
        result = await manager.get_result(tx)
        assert tx.state is result.state
        await manager.close()
        store.close()
        return result

    assert asyncio.run(story()).state.value == state


def test_a_step_that_somebody_else_saved_is_not_lost_by_trying_again(tmp_path):
    class Interrupting:
        """A real store in which somebody else writes right before the first append."""

        def __init__(self, store):
            self.store, self.before = store, None

        def __getattr__(self, name):
            return getattr(self.store, name)

        def append(self, appends):
            before, self.before = self.before, None
            if before is not None:
                before()
            return self.store.append(appends)

    handlers = {"mine": nothing, "theirs": nothing}
    store = Interrupting(open_store(tmp_path / "s.db", create=True))
    with (
        TransactionManager(handlers, store=store) as manager,
        TransactionManager(handlers, store=tmp_path / "s.db") as other,
    ):
        tx = manager.begin()
        manager.add_step(tx, "agent", "mine", {})
        manager.save(tx)

        def meanwhile():
            same = other.get_transaction(tx.transaction_id)
            other.add_step(same, "agent", "theirs", {})
            other.save(same)

        store.before = meanwhile
        with pytest.raises(JournalConflict, match="somebody else changed it"):
            manager.commit(tx)
        assert [step.action for step in manager.get_transaction(tx.transaction_id).steps] == [
            "mine",
            "theirs",
        ]
        assert manager.commit(tx).completed_steps == ["s1", "s2"]
    store.close()


@pytest.mark.parametrize("store", [None, "s.db"])
@pytest.mark.parametrize("note, by", [(5, "me"), ("x", None), ("\ud800", "me"), ("a\0", "me")])
def test_a_note_that_no_journal_can_hold_is_refused_before_it_is_written(
    tmp_path, monkeypatch, store, note, by
):
    monkeypatch.chdir(tmp_path)

    def doubtful(action, data):
        raise OutcomeUnknown

    with TransactionManager({"act": doubtful}, store=store) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {})
        waiting = manager.commit(tx).waiting
        assert waiting is not None
        assert waiting.reason == "in_doubt"
        with pytest.raises(InvalidData):
            manager.resolve(tx, "s1", "happened", note=note, by=by)
        with pytest.raises(InvalidData):
            manager.retry(tx, "s1", note=note, by=by)
        assert manager.verify().is_intact
        assert manager.resolve(tx, "s1", "happened", note="seen").state.value == "committed"


def edits():
    yield "on_crash", "rollback", DefinitionError
    yield "timeout_scope", "tx", DefinitionError
    yield "on_compensation_failure", "stop", DefinitionError
    yield "name", 5, InvalidData
    yield "created_at", "2026-01-01", DefinitionError
    yield "created_at", datetime(2026, 1, 1), DefinitionError  # noqa: DTZ001 (that is the point)
    yield "actions", ["x"], InvalidData


@pytest.mark.parametrize("field, value, error", list(edits()))
def test_an_edit_of_a_pending_transaction_that_cannot_be_is_refused_by_name(
    tmp_path, field, value, error
):
    calls = []
    handlers = {"act": lambda action, data: calls.append(action)}
    with TransactionManager(handlers, store=tmp_path / "s.db") as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {})
        setattr(tx, field, value)
        with pytest.raises(error, match=field):
            manager.commit(tx)
    assert calls == []


@pytest.mark.parametrize(
    "reference",
    [
        {"into": ["x"], "step_id": "s1", "at": ""},
        OutputReference.model_construct(into=["x"], step_id="s1", at=5),
        OutputReference.model_construct(into=["x", 1.5], step_id="s1", at=""),
    ],
)
def test_a_reference_that_no_journal_can_hold_is_refused_before_anything_runs(reference):
    calls = []
    manager = TransactionManager({"act": lambda action, data: calls.append(action)})
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    manager.add_step(tx, "agent", "act", {"x": None}).references.append(reference)
    with pytest.raises(InvalidData, match="references"):
        manager.commit(tx)
    assert calls == []


@pytest.mark.parametrize(
    "when", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]
)
def test_the_ends_of_time_can_be_read_back(tmp_path, when):
    with TransactionManager(store=tmp_path / "s.db") as manager:
        tx = manager.begin()
        tx.created_at = when
        manager.commit(tx)
        name = tx.transaction_id
    with TransactionManager(store=tmp_path / "s.db") as manager:
        assert manager.get_transaction(name).created_at == when


def test_an_append_that_cannot_be_written_does_not_take_others_along(tmp_path):
    store = open_store(tmp_path / "s.db", create=True)
    driver = store.join()
    poison = request("good", 3)._replace(append_id="\ud800")
    store.append([plan("good"), claim("good", 2, 1, driver), plan("other")])
    answers = written(store, [poison, request("other", 2)])
    assert isinstance(answers[0], StoreError)
    assert str(answers[1]) == "appended"
    assert loaded(store, "good").sequence == 3
    store.close()


def test_an_interrupted_leader_leaves_nobody_waiting():
    class Interrupted:
        """A real store whose first write for several is interrupted."""

        def __init__(self):
            self.store, self.entered, self.go_on = (
                MemoryStore(),
                threading.Event(),
                threading.Event(),
            )

        def append(self, appends):
            if not self.entered.is_set():
                self.entered.set()
                self.go_on.wait()
                raise KeyboardInterrupt
            return self.store.append(appends)

    store: Any = Interrupted()
    queue = AppendQueue(store)
    ends: list[Any] = []

    def append(name):
        try:
            ends.append(queue.append(plan(name)))
        except BaseException as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=append, args=(name,)) for name in ("a", "b")]
    threads[0].start()
    store.entered.wait()
    threads[1].start()
    store.go_on.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert "KeyboardInterrupt" in [str(end) for end in ends]


def test_a_hook_that_changes_what_it_is_shown_changes_nothing_else():
    given = []

    def scrub(event):
        for step in event.fields.get("definition", {}).get("steps", []):
            step["data"].clear()
        event.fields.clear()

    manager = TransactionManager(
        {"charge": lambda action, data: given.append(data)}, on_event=scrub
    )
    tx = manager.begin()
    manager.add_step(tx, "agent", "charge", {"card": "4711", "to": {"iban": "x"}})
    manager.commit(tx)
    assert given == [{"card": "4711", "to": {"iban": "x"}}]


def test_a_result_shares_nothing_with_the_journal():
    manager = TransactionManager({"act": lambda action, data: {"id": {"n": 1}}})
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    result = manager.commit(tx)
    result.outputs["s1"]["id"]["n"] = "forged"
    assert manager.get_result(tx).outputs == {"s1": {"id": {"n": 1}}}
    assert manager.verify().is_intact


def test_what_before_record_returned_is_what_is_done_whatever_the_caller_edits_later():
    given = []

    def act(action, data):
        given.append(data["to"]["iban"])
        tx.steps[1].data["to"]["iban"] = "EVIL"

    manager = TransactionManager({"act": act}, before_record=lambda step: step.data)
    tx = manager.begin()
    for _ in range(2):
        manager.add_step(tx, "agent", "act", {"to": {"iban": "good"}})
    manager.commit(tx)
    assert given == ["good", "good"]


def test_closing_a_manager_cancels_the_async_handler_that_it_runs():
    entered = threading.Event()
    ends: list[Any] = []

    async def act(action, data):
        entered.set()
        await asyncio.Event().wait()

    manager = TransactionManager({"act": act, "undo": act})
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {}, "undo")

    def commit():
        try:
            ends.append(manager.commit(tx))
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    entered.wait()
    manager.close()
    thread.join(30)
    assert not thread.is_alive()
    assert len(ends) == 1


def test_an_async_handler_that_drives_another_transaction_of_its_manager_is_told_so():
    async def inner(action, data):
        """Be async."""

    async def outer(action, data):
        other = manager.begin()
        manager.add_step(other, "agent", "inner", {})
        manager.commit(other).raise_for_state()

    manager = TransactionManager({"outer": outer, "inner": inner})
    tx = manager.begin()
    manager.add_step(tx, "agent", "outer", {})
    result = manager.commit(tx)
    assert result.state.value == "rolled_back"
    assert "AsyncTransactionManager" in str(result.error)


def test_an_object_that_holds_another_one_many_times_over_is_refused_soon():
    value: list[Any] = ["x"]
    for _ in range(50):
        value = [value, value]
    with pytest.raises(InvalidData, match="far larger"):
        checked_copy(value)


def test_a_manager_that_was_dropped_holds_nothing(tmp_path):
    manager = TransactionManager({"act": nothing}, store=tmp_path / "s.db")
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    manager.commit(tx)
    keeper = manager._lease
    assert keeper is not None
    lease = keeper._thread
    assert lease is not None
    del keeper, manager, tx
    gc.collect()
    lease.join(30)
    gc.collect()
    store = open_store(tmp_path / "s.db", create=False)
    assert store.info().checks["drivers"].startswith("0 alive")
    store.close()


def test_closing_a_manager_whose_store_is_closed_already_is_no_error(tmp_path, caplog):
    store = open_store(tmp_path / "s.db", create=True)
    with TransactionManager({"act": nothing}, store=store) as manager:
        manager.commit(manager.begin())
        store.close()
    assert "leaves" in caplog.text
