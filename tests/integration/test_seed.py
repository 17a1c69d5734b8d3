"""Every behaviour that the seed documents, on all four managers."""
# mypy: disable-error-code="var-annotated"

import inspect
import json
from datetime import UTC, datetime, timedelta

import pytest

import aumai_transactions
from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    InvalidData,
    InvalidTransactionState,
    StepState,
    Transaction,
    TransactionManager,
    TransactionNotFound,
    TransactionResult,
    TransactionState,
    TransactionStep,
)


class World:
    """Handlers that write down how they were called; those named in `broken` raise."""

    def __init__(self, *names, broken=()):
        self.calls = []
        self.broken = set(broken)
        self.handlers = dict.fromkeys(names, self.handle)

    def handle(self, action, data):
        self.calls.append((action, data))
        if action in self.broken:
            raise ValueError(f"{action} was declined")

    @property
    def actions(self):
        return [action for action, _data in self.calls]


TRIP = ("reserve_flight", "cancel_flight", "book_hotel", "cancel_hotel", "charge", "refund")


def add_trip(manager, tx):
    manager.add_step(tx, "flight_agent", "reserve_flight", {"flight": "F123"}, "cancel_flight")
    manager.add_step(tx, "hotel_agent", "book_hotel", {"hotel": "H456"}, "cancel_hotel")
    manager.add_step(tx, "billing_agent", "charge", {"amount": 850.0}, "refund")


def ids(tx):
    return [step.step_id for step in tx.steps]


# ------------------------------------------------------------------------------ begin, add_step


def test_a_new_transaction_is_pending_empty_and_times_out_after_60_seconds(make_manager):
    before = datetime.now(UTC)
    tx = make_manager().begin()
    assert isinstance(tx, Transaction)
    assert (tx.state, tx.steps, tx.timeout_seconds) == (TransactionState.pending, [], 60)
    assert before <= tx.created_at <= datetime.now(UTC)
    assert tx.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("timeout", [30, 0.5])
def test_begin_takes_the_timeout_by_position_and_by_name(make_manager, timeout):
    manager = make_manager()
    assert manager.begin(timeout).timeout_seconds == timeout
    assert manager.begin(timeout_seconds=timeout).timeout_seconds == timeout


def test_ids_of_transactions_are_distinct_uuids(make_manager):
    manager = make_manager()
    names = {manager.begin().transaction_id for _ in range(5)}
    assert len(names) == 5
    assert {len(name) for name in names} == {36}


def test_add_step_takes_its_arguments_by_position_and_by_name(make_manager):
    manager = make_manager()
    tx = manager.begin()
    manager.add_step(tx, "an agent", "act", {"x": 1}, "undo")
    manager.add_step(
        tx, agent_id="an agent", action="act", data={"x": 1}, compensating_action="undo"
    )
    first, second = (step.model_dump(exclude={"step_id"}) for step in tx.steps)
    assert first == second
    assert first["agent_id"] == "an agent"
    assert first["compensating_action"] == "undo"
    assert first["state"] == "pending"


def test_a_compensating_action_is_optional(make_manager):
    manager = make_manager()
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {})
    assert tx.steps[0].compensating_action is None


def test_add_step_returns_the_step_that_stands_in_the_transaction(make_manager):
    manager = make_manager()
    tx = manager.begin()
    step = manager.add_step(tx, "a", "act", {})
    assert isinstance(step, TransactionStep)
    assert tx.steps[0] is step


def test_data_is_copied_so_that_a_later_change_of_it_changes_nothing(make_manager):
    world = World("act")
    manager = make_manager(world.handlers)
    tx = manager.begin()
    data = {"seats": [1]}
    manager.add_step(tx, "a", "act", data)
    data["seats"].append(2)
    manager.commit(tx)
    assert world.calls == [("act", {"seats": [1]})]


# ---------------------------------------------------------------------------------------- commit


def test_commit_carries_the_steps_out_in_order_and_gives_each_its_action_and_data(make_manager):
    world = World(*TRIP)
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert world.calls == [
        ("reserve_flight", {"flight": "F123"}),
        ("book_hotel", {"hotel": "H456"}),
        ("charge", {"amount": 850.0}),
    ]
    assert isinstance(result, TransactionResult)
    assert result.state is TransactionState.committed
    assert result.state.value == "committed"
    assert result.transaction_id == tx.transaction_id
    assert result.completed_steps == ids(tx)
    assert (result.failed_step, result.error, result.reason) == (None, None, None)
    assert result.clean
    assert result.is_final


def test_a_failed_step_undoes_the_completed_ones_in_reverse_with_their_own_data(make_manager):
    world = World(*TRIP, broken=["charge"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert world.calls[3:] == [
        ("cancel_hotel", {"hotel": "H456"}),
        ("cancel_flight", {"flight": "F123"}),
    ]
    assert result.state.value == "rolled_back"
    assert result.completed_steps == ids(tx)[:2]
    assert result.failed_step == ids(tx)[2]
    assert "charge was declined" in result.error
    assert result.reason == "step_failed"
    assert result.compensated_steps == [ids(tx)[1], ids(tx)[0]]
    assert result.clean


def test_a_step_behind_the_failed_one_never_runs_and_is_never_undone(make_manager):
    world = World(*TRIP, broken=["reserve_flight"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert world.actions == ["reserve_flight"]
    assert result.completed_steps == []
    assert [step.state.value for step in tx.steps] == ["failed", "skipped", "skipped"]


@pytest.mark.parametrize("broken", ["cancel_hotel", "cancel_flight"])
def test_a_failing_compensation_neither_masks_the_failure_nor_stops_the_others(
    make_manager, broken
):
    world = World(*TRIP, broken=["charge", broken])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert world.actions[3:] == ["cancel_hotel", "cancel_flight"]
    assert result.state.value == "rolled_back"
    assert "charge was declined" in result.error
    assert result.failed_step == ids(tx)[2]
    (left,) = result.outstanding
    assert (left.compensating_action, left.reason) == (broken, "failed")
    assert f"{broken} was declined" in left.error
    assert not result.clean


def test_a_transaction_without_steps_commits(make_manager):
    manager = make_manager()
    assert manager.commit(manager.begin()).state.value == "committed"


def test_edits_of_a_pending_transaction_are_honoured_at_commit(make_manager):
    world = World("act", "other")
    manager = make_manager(world.handlers)
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {"x": 1})
    manager.add_step(tx, "a", "act", {"x": 2})
    tx.steps[0].action = "other"
    tx.steps[0].data["x"] = 3
    del tx.steps[1]
    manager.commit(tx)
    assert world.calls == [("other", {"x": 3})]


def test_the_callers_transaction_shows_each_state_while_it_is_carried_out(make_manager):
    seen = []

    def look(action, data):
        seen.append((action, tx.state.value, [step.state.value for step in tx.steps]))
        if action == "fail":
            raise ValueError(action)

    manager = make_manager(dict.fromkeys(("act", "undo", "fail"), look))
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {}, "undo")
    manager.add_step(tx, "a", "fail", {}, "undo")
    seen.append(("before", tx.state.value, [step.state.value for step in tx.steps]))
    manager.commit(tx)
    seen.append(("after", tx.state.value, [step.state.value for step in tx.steps]))
    assert seen == [
        ("before", "pending", ["pending", "pending"]),
        ("act", "active", ["running", "pending"]),
        ("fail", "active", ["succeeded", "running"]),
        ("undo", "compensating", ["compensating", "failed"]),
        ("after", "rolled_back", ["compensated", "failed"]),
    ]


# --------------------------------------------------------------------------------------- timeout


def test_a_commit_after_the_timeout_fails_and_carries_out_nothing(make_manager):
    world = World(*TRIP)
    manager = make_manager(world.handlers)
    tx = manager.begin(timeout_seconds=30)
    add_trip(manager, tx)
    tx.created_at -= timedelta(seconds=31)
    result = manager.commit(tx)
    assert result.state is TransactionState.failed
    assert tx.state is TransactionState.failed
    assert world.calls == []
    assert result.completed_steps == []
    assert "30 s" in result.error
    assert manager.get_transaction(tx.transaction_id).state.value == "failed"


def test_a_commit_just_within_the_timeout_runs(make_manager, clock):
    manager = make_manager(clock=clock)
    tx = manager.begin(timeout_seconds=30)
    tx.created_at = datetime(2026, 2, 27, 12, tzinfo=UTC)
    clock.advance(30)
    assert manager.commit(tx).state.value == "committed"


def test_the_timeout_is_checked_once_and_not_before_each_step(make_manager, clock):
    manager = make_manager({"slow": lambda action, data: clock.advance(100)}, clock=clock)
    tx = manager.begin(timeout_seconds=30)
    tx.created_at = datetime(2026, 2, 27, 12, tzinfo=UTC)
    manager.add_step(tx, "a", "slow", {})
    manager.add_step(tx, "a", "slow", {})
    assert manager.commit(tx).state.value == "committed"


# -------------------------------------------------------------------------------------- rollback


def test_rolling_back_a_pending_transaction_runs_every_compensation_reversed(make_manager):
    world = World("step_a", "undo_a", "step_b", "undo_b")
    manager = make_manager(world.handlers)
    tx = manager.begin()
    manager.add_step(tx, "agent_a", "step_a", {"a": 1}, compensating_action="undo_a")
    manager.add_step(tx, "agent_b", "step_b", {"b": 2}, compensating_action="undo_b")
    result = manager.rollback(tx)
    assert world.calls == [("undo_b", {"b": 2}), ("undo_a", {"a": 1})]
    assert result.state.value == "rolled_back"
    assert tx.state is TransactionState.rolled_back
    assert (result.completed_steps, result.reason) == ([], "requested")
    assert result.compensated_steps == [ids(tx)[1], ids(tx)[0]]


def test_a_pending_rollback_goes_on_behind_a_failing_compensation_and_reports_it(make_manager):
    world = World("undo_a", "undo_b", broken=["undo_b"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    manager.add_step(tx, "a", "step_a", {}, "undo_a")
    manager.add_step(tx, "b", "step_b", {}, "undo_b")
    result = manager.rollback(tx)
    assert world.actions == ["undo_b", "undo_a"]
    assert result.state.value == "rolled_back"
    # Nothing had run, so nothing is left standing; but it is said.
    assert result.outstanding == []
    assert any("undo_b was declined" in warning for warning in result.warnings)


def test_a_pending_rollback_tells_the_compensation_that_its_step_never_ran(make_manager):
    seen = []

    def undo(action, data, context):
        seen.append((context.ran, context.output, context.operation, context.in_doubt))

    manager = make_manager({"undo": undo})
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {}, "undo")
    manager.rollback(tx)
    assert seen == [(False, None, "compensation", False)]


# --------------------------------------------------------------------------------------- dry run


def test_without_handlers_a_commit_is_a_dry_run_that_names_what_was_simulated(make_manager):
    manager = make_manager()
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert result.state.value == "committed"
    assert result.completed_steps == ids(tx)
    assert result.simulated_steps == ids(tx)


def test_an_action_without_a_handler_is_simulated_among_real_ones(make_manager):
    world = World("reserve_flight", "cancel_flight", "charge", broken=["charge"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert world.actions == ["reserve_flight", "charge", "cancel_flight"]
    assert result.simulated_steps == [ids(tx)[1]]
    assert result.compensated_steps == [ids(tx)[1], ids(tx)[0]]


def test_a_rollback_without_handlers_is_a_dry_run(make_manager):
    manager = make_manager()
    tx = manager.begin()
    add_trip(manager, tx)
    assert manager.rollback(tx).state.value == "rolled_back"


# --------------------------------------------------------------------------------------- look up


def test_get_transaction_returns_the_callers_own_object(make_manager):
    manager = make_manager()
    tx = manager.begin()
    assert manager.get_transaction(tx.transaction_id) is tx
    manager.commit(tx)
    assert manager.get_transaction(tx.transaction_id) is tx
    assert tx.state.value == "committed"


def test_get_all_transactions_returns_all_oldest_first(make_manager):
    manager = make_manager()
    txs = []
    for count in range(3):
        tx = manager.begin()
        for _ in range(count):
            manager.add_step(tx, "a", "act", {})
        txs.append(tx)
    manager.commit(txs[0])
    manager.rollback(txs[1])
    found = manager.get_all_transactions()
    lines = [f"{t.transaction_id}: {t.state.value} ({len(t.steps)} steps)" for t in found]
    assert lines == [
        f"{txs[0].transaction_id}: committed (0 steps)",
        f"{txs[1].transaction_id}: rolled_back (1 steps)",
        f"{txs[2].transaction_id}: pending (2 steps)",
    ]
    assert all(one is other for one, other in zip(found, txs, strict=True))


def test_a_new_manager_without_a_store_knows_no_transaction():
    assert TransactionManager().get_all_transactions() == []


def test_unknown_ids_are_refused_by_name(make_manager):
    manager = make_manager()
    manager.begin()
    with pytest.raises(TransactionNotFound, match=r"'nowhere'.*get_all_transactions") as caught:
        manager.get_transaction("nowhere")
    assert isinstance(caught.value, KeyError)
    assert caught.value.transaction_id == "nowhere"


@pytest.mark.parametrize("call", ["commit", "rollback"])
def test_a_transaction_of_nobody_cannot_be_carried_out(make_manager, call):
    manager = make_manager()
    manager.begin()
    stranger = Transaction()
    with pytest.raises(TransactionNotFound, match=stranger.transaction_id):
        getattr(manager, call)(stranger)


def test_a_step_cannot_be_added_to_a_transaction_of_nobody(make_manager):
    manager = make_manager()
    with pytest.raises(TransactionNotFound, match=r"begin\(\)"):
        manager.add_step(Transaction(), "a", "act", {})


# ---------------------------------------------------------------------------------- orchestrator


def test_a_saga_registers_and_executes(make_manager):
    world = World(*TRIP)
    manager = make_manager(world.handlers)
    saga = manager.saga()
    saga.register("flight_agent", "reserve_flight", {"flight_id": "F123"}, "cancel_flight")
    saga.register("hotel_agent", "book_hotel", {"hotel_id": "H456"}, "cancel_hotel")
    saga.register(
        agent_id="billing_agent",
        action="charge",
        data={"amount": 850.0},
        compensating_action="refund",
    )
    result = saga.execute(timeout_seconds=60)
    assert result.state.value == "committed"
    assert world.actions == ["reserve_flight", "book_hotel", "charge"]
    tx = manager.get_transaction(result.transaction_id)
    assert tx.timeout_seconds == 60
    assert [step.agent_id for step in tx.steps] == ["flight_agent", "hotel_agent", "billing_agent"]


def test_a_saga_whose_step_fails_is_undone_and_says_where(make_manager):
    world = World(*TRIP, broken=["charge"])
    saga = make_manager(world.handlers).saga()
    saga.register("f", "reserve_flight", {}, "cancel_flight")
    charge = saga.register("b", "charge", {}, "refund")
    result = saga.execute()
    assert result.state.value == "rolled_back"
    assert result.failed_step == charge.step_id
    assert "charge was declined" in result.error
    assert world.actions == ["reserve_flight", "charge", "cancel_flight"]


def test_executing_a_saga_twice_makes_two_transactions(make_manager):
    world = World("act")
    manager = make_manager(world.handlers)
    saga = manager.saga()
    saga.register("a", "act", {"x": [1]})
    first, second = saga.execute(), saga.execute(5)
    assert first.transaction_id != second.transaction_id
    assert first.completed_steps == second.completed_steps
    assert world.calls == [("act", {"x": [1]})] * 2
    assert manager.get_transaction(second.transaction_id).timeout_seconds == 5
    assert len(manager.get_all_transactions()) == 2


def test_an_edit_of_one_execution_does_not_reach_the_next(make_manager):
    def greedy(action, data):
        data["seats"].append("taken")

    manager = make_manager({"act": greedy})
    saga = manager.saga()
    saga.register("a", "act", {"seats": []})
    for _ in range(2):
        tx = manager.get_transaction(saga.execute().transaction_id)
        assert tx.steps[0].data == {"seats": []}


# ----------------------------------------------------------------------------------- wrong calls


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("call", ["commit", "rollback"])
def test_a_finished_transaction_cannot_be_finished_again(make_manager, end, call):
    manager = make_manager()
    tx = manager.begin()
    final = getattr(manager, end)(tx).state.value
    with pytest.raises(InvalidTransactionState, match="begin a new") as caught:
        getattr(manager, call)(tx)
    assert caught.value.state == final
    assert caught.value.transaction_id == tx.transaction_id
    assert tx.state.value == final


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_step_cannot_be_added_to_a_finished_transaction(make_manager, end):
    manager = make_manager()
    tx = manager.begin()
    getattr(manager, end)(tx)
    with pytest.raises(InvalidTransactionState, match="begin a new one"):
        manager.add_step(tx, "a", "act", {})
    assert tx.steps == []


def test_a_step_cannot_be_added_while_the_transaction_is_carried_out(make_manager):
    refused = []

    def handler(action, data):
        try:
            manager.add_step(tx, "a", "act", {})
        except InvalidTransactionState as error:
            refused.append(error)

    manager = make_manager({"act": handler})
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {})
    manager.commit(tx)
    assert len(refused) == 1
    assert "active" in str(refused[0])


@pytest.mark.parametrize(
    "timeout",
    [0, -1, float("nan"), float("inf"), "60", None, True, 10**400, 10**5_000],
    ids=["0", "-1", "nan", "inf", "text", "None", "True", "huge", "unprintable"],
)
def test_a_timeout_that_is_not_a_positive_finite_number_is_refused(make_manager, timeout):
    manager = make_manager()
    with pytest.raises(DefinitionError, match="timeout_seconds must be"):
        manager.begin(timeout_seconds=timeout)
    tx = manager.begin()
    tx.timeout_seconds = timeout
    with pytest.raises(DefinitionError, match="timeout_seconds must be"):
        manager.commit(tx)
    assert tx.state is TransactionState.pending


def test_an_option_that_begin_does_not_know_is_refused_by_name(make_manager):
    with pytest.raises((DefinitionError, TypeError), match="timeout"):
        make_manager().begin(timeout=5)


@pytest.mark.parametrize("where", ["agent_id", "action", "compensating_action"])
@pytest.mark.parametrize("value", ["", "  ", 7, "a\0b", "\ud800", "x" * 1_001])
def test_an_empty_or_unfit_name_is_refused_by_the_name_of_its_argument(make_manager, where, value):
    manager = make_manager()
    tx = manager.begin()
    arguments = {"agent_id": "a", "action": "act", "data": {}, "compensating_action": "undo"}
    with pytest.raises((InvalidData, DefinitionError), match=where):
        manager.add_step(tx, **{**arguments, where: value})
    assert tx.steps == []


@pytest.mark.parametrize(
    "data,place,advice",
    [
        ({"user": {"born": datetime(2000, 1, 1, tzinfo=UTC)}}, "data.user.born", "isoformat"),
        ({"tags": {1, 2}}, "data.tags", "sorted"),
        ({"list": [1, float("nan")]}, "data.list[1]", "null"),
        ({"raw": b"x"}, "data.raw", "base64"),
        ({1: "x"}, "data", "str(key)"),
        ({"big": 2**64}, "data.big", "text"),
        (["not", "an", "object"], "data", "dict"),
        (None, "data", "dict"),
    ],
)
def test_data_that_is_not_json_is_refused_by_key_with_advice(make_manager, data, place, advice):
    manager = make_manager()
    tx = manager.begin()
    with pytest.raises(InvalidData) as caught:
        manager.add_step(tx, "a", "act", data)
    assert caught.value.path == place
    assert str(caught.value).startswith(f"{place}: ")
    assert advice in str(caught.value)
    assert tx.steps == []


def test_data_that_became_unfit_after_add_step_is_refused_at_commit_by_step_and_key(make_manager):
    world = World("act")
    manager = make_manager(world.handlers)
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {})
    manager.add_step(tx, "a", "act", {"when": None})
    tx.steps[1].data["when"] = datetime.now(UTC)
    with pytest.raises(InvalidData, match=r"steps\[1\]\.data\.when"):
        manager.commit(tx)
    assert world.calls == []
    assert tx.state is TransactionState.pending
    tx.steps[1].data["when"] = "now"
    assert manager.commit(tx).state.value == "committed"


# ---------------------------------------------------------------------------------- round trips


def test_transaction_and_result_come_back_equal_from_json(make_manager):
    world = World(*TRIP, broken=["charge", "cancel_hotel"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    result = manager.commit(tx)
    assert Transaction.model_validate_json(tx.model_dump_json()) == tx
    assert TransactionResult.model_validate_json(result.model_dump_json()) == result
    assert json.loads(result.model_dump_json())["state"] == "rolled_back"


def test_print_of_a_result_tells_the_story(make_manager):
    world = World(*TRIP, broken=["charge", "cancel_hotel"])
    manager = make_manager(world.handlers)
    tx = manager.begin()
    add_trip(manager, tx)
    story = str(manager.commit(tx))
    first, second, third = ids(tx)
    assert f"{tx.transaction_id}: rolled_back" in story
    assert f"failed step: {third}: ValueError: charge was declined" in story
    assert f"completed: {first}, {second}" in story
    assert f"undone: {first}" in story
    assert f"needs a person: {second} book_hotel (cancel_hotel, failed)" in story


def test_a_result_says_whether_it_is_durable(make_manager, manager_kind):
    manager = make_manager()
    result = manager.commit(manager.begin())
    assert result.durable is not manager_kind.endswith("memory")
    assert ("memory only" in str(result)) is not result.durable


def test_the_journal_of_every_outcome_verifies(make_manager):
    world = World(*TRIP, broken=["charge"])
    manager = make_manager(world.handlers)
    manager.commit(manager.begin())
    failing, expired, undone = manager.begin(), manager.begin(), manager.begin()
    for tx in (failing, expired, undone):
        add_trip(manager, tx)
    expired.created_at -= timedelta(days=1)
    manager.commit(failing)
    manager.commit(expired)
    manager.rollback(undone)
    report = manager.verify()
    assert report.is_intact
    assert report.transactions == 4


# -------------------------------------------------------------------------------------- surface


def test_both_managers_have_the_same_methods_with_the_same_parameters():
    def surface(kind):
        return {
            name: [
                parameter.replace(annotation=parameter.empty)
                for parameter in inspect.signature(member).parameters.values()
            ]
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert surface(TransactionManager) == surface(AsyncTransactionManager)


def test_the_five_states_of_the_seed_keep_their_names():
    names = ("pending", "active", "committed", "rolled_back", "failed")
    assert [TransactionState(name).value for name in names] == list(names)


def test_a_step_begins_as_pending():
    assert TransactionStep(agent_id="a", action="b").state is StepState.pending


def test_the_facade_exports_what_the_seed_imports():
    for name in ("TransactionManager", "SagaOrchestrator", "ActionHandler", "TransactionResult"):
        assert hasattr(aumai_transactions, name)
