"""What people do with transactions works on DBOS as it does without."""

import asyncio
import importlib.util
import json
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    EngineError,
    InvalidTransactionState,
    RetryPolicy,
    StepRejected,
    TransactionManager,
    UnknownAction,
)
from aumai_transactions.drivers import recording
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.engines.dbos import DbosEngine

SECONDS_MAX = 60
JSON_ONLY = [("portable_json",)]
TRIP = Path(__file__).parents[2] / "examples" / "trip" / "trip.py"


class Place:
    """One store and one system database of DBOS; each manager is as a process after another."""

    def __init__(self, folder, template):
        self.folder = folder
        self.calls = []
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.managers = []
        self.undo_of = {"book": "cancel", "hold": "cancel", "refuse": "cancel"}
        (folder / "dbos.db").write_bytes(template.read_bytes())

    def engine(self, **options):
        return DbosEngine(f"sqlite:///{self.folder}/dbos.db", **options)

    def manager(self, kind=TransactionManager, *, hosted=True, process=None, **options):
        store = f"sqlite:///{self.folder}/store.db"
        engine = self.engine(**(process or {})) if hosted else None
        manager = kind(store=store, engine=engine, **options)
        self.managers.append(manager)
        for name in ("book", "cancel", "cancel_newly", "hold", "hold_undo", "refuse"):
            undo, is_undo = self.undo_of.get(name), "cancel" in name
            register = manager.action(name, compensating_action=undo, idempotent=is_undo)
            register(getattr(self, f"_{name}"))
        return manager

    def _book(self, _name, data, context):
        self.calls.append(f"book {context.step_id}")
        return {"room": data.get("room")}

    def _cancel(self, _name, data, context):
        self.calls.append(f"cancel {context.step_id}")

    def _cancel_newly(self, _name, data, context):
        self.calls.append(f"cancel_newly {context.step_id}")

    def _hold(self, _name, data, context):
        self.calls.append(f"hold {context.step_id}")
        self.entered.set()
        assert self.go_on.wait(SECONDS_MAX)

    def _hold_undo(self, _name, data, context):
        self.calls.append(f"hold_undo {context.step_id} #{context.attempt}")
        self.entered.set()
        assert self.go_on.wait(SECONDS_MAX)

    def _refuse(self, _name, data, context):
        raise StepRejected("no")

    def submitted(self, manager, *names, **options):
        tx = manager.begin(**options)
        for name in names:
            undo = "hold_undo" if name == "book held" else None
            manager.add_step(tx, "agent", name.partition(" ")[0], {}, undo)
        manager.submit(tx)
        return tx.transaction_id

    def kept(self, question):
        with sqlite3.connect(self.folder / "dbos.db") as connection:
            return connection.execute(question).fetchall()

    def stopped_in_a_call(self, manager):
        """Close a manager while a call runs; what that answers is kept, and nothing follows."""
        assert self.entered.wait(SECONDS_MAX)
        closing = threading.Thread(target=manager.close)
        closing.start()
        self.go_on.set()
        closing.join(SECONDS_MAX)


@pytest.fixture
def place(tmp_path, dbos_template):
    place = Place(tmp_path, dbos_template)
    yield place
    place.go_on.set()
    for manager in place.managers:
        if isinstance(manager, TransactionManager):
            manager.close()


def final(manager, name):
    result = manager.wait(name, timeout_seconds=SECONDS_MAX)
    assert result.is_final, result
    return result


def test_steps_that_do_not_wait_for_each_other_run_at_once_and_are_undone(place):
    manager = place.manager()
    tx = manager.begin()
    for _ in range(3):
        manager.add_step(tx, "agent", "book", {}, after=[])
    manager.add_step(tx, "agent", "refuse", {})
    result = manager.commit(tx)
    assert (result.state.value, result.clean, tx.state.value) == (
        "rolled_back",
        True,
        "rolled_back",
    )
    assert sorted(place.calls) == sorted(
        f"{what} s{n}" for n in (1, 2, 3) for what in ("book", "cancel")
    )


def test_everything_that_dbos_keeps_is_json_and_nothing_a_pickle(place):
    manager = place.manager()
    assert manager.commit(begun(manager)).state.value == "committed"
    manager.close()
    assert place.kept("select distinct serialization from operation_outputs") == JSON_ONLY
    assert place.kept("select distinct serialization from workflow_status") == JSON_ONLY
    outputs = [json.loads(text) for (text,) in place.kept("select output from operation_outputs")]
    assert all(kept["at"] > 0 for kept in outputs)


def begun(manager, *names):
    tx = manager.begin()
    for name in names or ("book",):
        manager.add_step(tx, "agent", name, {"room": 7})
    return tx


def test_a_person_is_waited_for_without_a_workflow_and_goes_on_from_any_process(place):
    manager = place.manager()
    tx = manager.begin()
    manager.add_step(tx, "agent", "book", {}, requires_approval=True)
    assert manager.commit(tx).waiting.reason == "approval"
    manager.close()
    with place.manager(hosted=False) as other:
        other.approve(tx.transaction_id, "s1", by="somebody", wait_max_seconds=0)
    manager = place.manager()
    assert final(manager, tx.transaction_id).state.value == "committed"
    assert place.calls == ["book s1"]


def test_a_step_is_tried_again_by_our_policy_and_never_by_the_engine(place):
    manager = place.manager()
    tries = []

    @manager.action(
        "flaky", idempotent=True, retry=RetryPolicy(attempts_max=3, first_delay_seconds=0.01)
    )
    def flaky(_name, data, context):
        tries.append(context.idempotency_key)
        if len(tries) < 3:
            raise ConnectionRefusedError("not yet")

    result = manager.commit(begun(manager, "flaky"))
    assert result.state.value == "committed"
    assert len(tries) == 3
    assert len(set(tries)) == 1


def test_a_cancelled_workflow_means_that_the_transaction_goes_back(place):
    manager = place.manager()
    name = place.submitted(manager, "book", "hold", "book")
    assert place.entered.wait(SECONDS_MAX)
    manager.engine.cancel(f"{name}:0")
    place.go_on.set()
    result = final(manager, name)
    assert (result.state.value, result.reason) == ("rolled_back", "cancelled")
    assert place.calls == ["book s1", "hold s2", "cancel s2", "cancel s1"]
    assert manager.engine.status(f"{name}:1") in ("running", "ended")


def test_a_cancelled_workflow_does_not_cut_an_undo_short(place):
    manager = place.manager()
    name = place.submitted(manager, "book", "book held", "refuse")
    assert place.entered.wait(SECONDS_MAX)
    manager.engine.cancel(f"{name}:0")
    place.go_on.set()
    result = final(manager, name)
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "step_failed", True)
    assert place.calls[-1] == "cancel s1"


def test_a_process_that_ends_leaves_what_it_has_to_the_next_which_repeats_no_call(place):
    manager = place.manager()
    name = place.submitted(manager, "book", "hold", "book")
    place.stopped_in_a_call(manager)
    assert place.calls == ["book s1", "hold s2"]
    manager = place.manager()
    assert final(manager, name).state.value == "committed"
    assert place.calls == ["book s1", "hold s2", "book s3"]


def test_what_a_machine_has_left_that_does_not_come_back_is_taken_over_by_another(place):
    manager = place.manager(process={"executor_id": "lost"})
    name = place.submitted(manager, "book", "hold", "book")
    place.stopped_in_a_call(manager)
    manager = place.manager(process={"executor_id": "other", "patience_seconds": 0.1})
    result = final(manager, name)
    # What `hold` answered is known to the history of the lost machine only.
    assert (result.state.value, result.clean) == ("rolled_back", True)
    assert manager.engine.status(f"{name}:0") == "running"
    manager.close()
    before = list(place.calls)
    manager = place.manager(process={"executor_id": "lost"})
    manager.recover()
    while manager.engine.status(f"{name}:0") != "ended":
        manager.engine.signal(f"{name}:0")
    assert place.calls == before == ["book s1", "hold s2", "cancel s2", "cancel s1"]
    assert manager.get_result(name).state.value == "rolled_back"


def test_a_history_that_the_code_does_not_fit_any_more_is_left_for_the_journal(place, monkeypatch):
    manager = place.manager()
    name = place.submitted(manager, "book", "hold", "book")
    place.stopped_in_a_call(manager)
    monkeypatch.setattr(recording, "_shown", lambda entry: f"another {type(entry).__name__}")
    manager = place.manager()
    result = final(manager, name)
    # What `hold` answered stands in the history only, which is given up: it is in doubt.
    assert (result.state.value, result.clean) == ("rolled_back", True)
    assert place.calls == ["book s1", "hold s2", "cancel s2", "cancel s1"]
    assert manager.engine.status(f"{name}:0") == "ended"


def test_an_open_transaction_keeps_the_plan_that_it_began_with(place):
    manager = place.manager()
    name = place.submitted(manager, "book", "hold", "refuse")
    place.stopped_in_a_call(manager)
    # The program undoes what it books in another way by now.
    place.undo_of["book"] = "cancel_newly"
    manager = place.manager()
    later = place.submitted(manager, "book", "refuse")
    assert final(manager, name).state.value == "rolled_back"
    assert final(manager, later).state.value == "rolled_back"
    old = ["book s1", "hold s2", "cancel s2", "cancel s1"]
    new = ["book s1", "cancel_newly s1"]
    assert sorted(place.calls) == sorted(old + new)


def test_what_a_block_has_left_is_undone_by_the_engine(place):
    owner = place.manager(hosted=False)
    block = owner.transaction()
    tx = block.__enter__()
    tx.execute("agent", "book", {})
    owner.close()
    AMBIENT.set(None)
    manager = place.manager()
    manager.recover()
    result = final(manager, tx.transaction_id)
    assert (result.state.value, result.clean) == ("rolled_back", True)
    assert place.calls == ["book s1", "cancel s1"]


def test_a_block_runs_in_its_program(place):
    manager = place.manager()
    with manager.transaction() as tx:
        assert tx.execute("agent", "book", {"room": 7}) == {"room": 7}
    assert tx.result.state.value == "committed"
    assert manager.engine.status(f"{tx.transaction_id}:0") is None


def test_a_pending_transaction_is_rolled_back_by_the_engine(place):
    manager = place.manager()
    result = manager.rollback(begun(manager, "book", "book"))
    assert result.state.value == "rolled_back"
    assert place.calls == ["cancel s2", "cancel s1"]


def test_the_same_key_is_the_same_transaction(place):
    manager = place.manager()
    results = []
    for _ in range(2):
        tx = manager.begin(idempotency_key="trip-1")
        manager.add_step(tx, "agent", "book", {})
        results.append(manager.commit(tx))
    assert [result.state.value for result in results] == ["committed", "committed"]
    assert place.calls == ["book s1"]


def test_what_cannot_be_is_refused_by_name_before_anything_runs(place):
    with place.manager() as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "unheard_of", {})
        with pytest.raises(UnknownAction, match="unheard_of"):
            manager.commit(tx)
        with pytest.raises(EngineError, match="already"):
            place.manager().begin()
    with pytest.raises(DefinitionError, match="needs a store"):
        TransactionManager(engine=place.engine()).begin()
    wrong: Any = "dbos"
    with pytest.raises(DefinitionError, match="must be an engine"):
        TransactionManager(engine=wrong, store=f"{place.folder}/store.db").begin()


def test_a_handler_that_asks_for_its_own_rollback_is_refused(place):
    manager = place.manager()
    seen = []

    @manager.action("selfish", compensating_action="cancel")
    def selfish(_name, data, context):
        with pytest.raises(InvalidTransactionState) as caught:
            manager.rollback(context.transaction_id)
        seen.append(caught.value)

    assert manager.commit(begun(manager, "selfish")).state.value == "committed"
    assert len(seen) == 1


def test_a_program_may_bring_its_own_dbos_and_commit_in_a_workflow_of_its_own(place):
    url = f"sqlite:///{place.folder}/dbos.db"
    DBOS(config={"name": "mine", "system_database_url": url, "log_level": "CRITICAL"})
    try:
        engine = DbosEngine(app_name="mine")
        store = f"sqlite:///{place.folder}/store.db"

        @DBOS.workflow()
        def mine(key: str) -> str:
            tx = manager.begin(idempotency_key=key)
            manager.add_step(tx, "agent", "book", {})
            return manager.commit(tx).state.value

        DBOS.launch()
        with TransactionManager(store=store, engine=engine) as manager:
            manager.action("cancel")(place._cancel)
            manager.action("book", compensating_action="cancel")(place._book)
            assert mine("trip-1") == "committed"
            assert mine("trip-1") == "committed"
        assert place.calls == ["book s1"]
    finally:
        DBOS.destroy(destroy_registry=True)
    forms = place.kept("select name, serialization from workflow_status where name like 'aumai%'")
    assert forms == [("aumai_transactions.carry_out", "portable_json")]


async def carried_out_async(place):
    async with place.manager(AsyncTransactionManager) as manager:

        @manager.action("wave", compensating_action="cancel")
        async def wave(_name, data, context):
            return {"waved": True}

        tx = await manager.begin()
        manager.add_step(tx, "agent", "wave", {})
        return await manager.commit(tx)


def test_asyncio_has_the_same(place):
    result = asyncio.run(carried_out_async(place))
    assert (result.state.value, result.outputs) == ("committed", {"s1": {"waved": True}})


def test_the_trip_runs_unchanged_with_one_argument_more(place, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("trip_on_dbos", TRIP)
    assert spec is not None
    assert spec.loader is not None
    trip = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trip)
    hosted = partial(TransactionManager, engine=place.engine())
    monkeypatch.setattr(trip, "TransactionManager", hosted)
    monkeypatch.setattr("sys.argv", ["trip.py"])
    trip.main()
    told = capsys.readouterr().out
    assert "committed" in told
    assert "rolled_back" in told
    states = place.kept("select status, count(*) from workflow_status group by 1")
    assert states == [("SUCCESS", 2)]
