"""Rows 17 to 37: what a program, or the agent that it serves, may hand to the Python API."""
# mypy: disable-error-code="arg-type, attr-defined, call-arg, dict-item, list-item, var-annotated"

import asyncio
import contextlib
import math
import multiprocessing
import os
from datetime import UTC, date, datetime

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    Continue,
    DefinitionError,
    DependencyCycle,
    Done,
    DuplicateStep,
    IdempotencyKeyReused,
    InvalidData,
    InvalidTransactionState,
    IrreversibleBeforeCompensatable,
    OutcomeUnknown,
    Resource,
    RetryPolicy,
    StepRejected,
    StoreError,
    TransactionError,
    TransactionManager,
    UnknownAction,
    UnknownStep,
    Worker,
    open_store,
    step,
)

CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]


def do(action, data):
    return {"did": action}


@pytest.fixture
def manager():
    with TransactionManager({"do": do, "undo": do}) as made:
        yield made


@pytest.fixture
def begun(manager):
    """A pending transaction of one step."""
    tx = manager.begin()
    manager.add_step(tx, "agent", "do", {}, "undo")
    return tx


def refused(kind, call, *named):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, TransactionError)
    assert type(caught.value).__module__.startswith("aumai_transactions.")
    message = str(caught.value)
    for text in named:
        assert text in message, message
    assert len(message) < 1_000


# ------------------------------------------------------------------------------ plans, rows 17 - 22


def test_row_17_a_step_id_that_stands_twice_is_named(manager, begun):
    second = manager.add_step(begun, "agent", "do", {})
    second.step_id = "s1"
    refused(DuplicateStep, lambda: manager.commit(begun), "'s1'", "id of its own")


def test_row_18_a_circle_is_shown(manager, begun):
    second = manager.add_step(begun, "agent", "do", {})
    begun.steps[0].after = [second.step_id]
    refused(DependencyCycle, lambda: manager.commit(begun), "s1", "→", "Remove one")


@pytest.mark.parametrize("after", [["shipp"], ["s2"]], ids=["row 19 unknown", "row 19 itself"])
def test_row_19_a_step_that_is_not_there_is_named(manager, begun, after):
    call = lambda: manager.add_step(begun, "agent", "do", {}, after=after)  # noqa: E731
    refused(UnknownStep, call, repr(after[0]), "Name a step of the same transaction")


def test_row_20_a_transaction_without_steps_commits_as_the_seed_says(manager):
    assert manager.commit(manager.begin()).state.value == "committed"


def test_row_21_a_step_without_an_undo_is_allowed_and_said_to_stay(manager):
    tx = manager.begin()
    manager.add_step(tx, "agent", "do", {})
    manager.add_step(tx, "agent", "lost", {})
    assert any("effect stays" in risk.message for risk in manager.check(tx))


def test_row_22_two_pivots_and_a_step_behind_one_are_refused(manager, begun):
    manager.add_step(begun, "agent", "do", {}, pivot=True)
    last = manager.add_step(begun, "agent", "do", {}, "undo")
    refused(DefinitionError, lambda: manager.commit(begun), "'s3'", "pivot 's2'", "Put it in front")
    last.pivot = True
    refused(DefinitionError, lambda: manager.commit(begun), "'s2', 's3'", "only one")
    assert begun.state.value == "pending"


def test_row_22_what_nothing_undoes_before_what_can_be_undone_is_refused():
    with TransactionManager({"undo": do}) as manager:
        manager.action("wire", effect="irreversible")(do)
        manager.action("do")(do)
        tx = manager.begin()
        manager.add_step(tx, "agent", "wire", {})
        manager.add_step(tx, "agent", "do", {}, "undo")
        named = ("'s1'", "'s2'", "allow_irreversible_first=True")
        refused(IrreversibleBeforeCompensatable, lambda: manager.commit(tx), *named)


# ------------------------------------------------------------------------------- handlers, row 23


@pytest.mark.parametrize(
    "make,named",
    [
        pytest.param(lambda: TransactionManager({"do": 3}), "cannot be called", id="row 23 int"),
        pytest.param(lambda: TransactionManager({3: do}), "action name", id="row 23 no name"),
        pytest.param(lambda: TransactionManager({"": do}), "non-empty", id="row 23 empty name"),
        pytest.param(lambda: TransactionManager([do]), "a dict of functions", id="row 23 list"),
        pytest.param(lambda: TransactionManager({"do": lambda: 1}), "signature ()", id="row 23 ()"),
        pytest.param(lambda: TransactionManager(actions=[do]), "Action objects", id="row 23 plain"),
        pytest.param(lambda: TransactionManager(actions=3), "list of Action", id="row 23 no list"),
        pytest.param(lambda: TransactionManager(before_record=3), "before_record", id="row 23 b"),
        pytest.param(lambda: TransactionManager(on_event="x"), "on_event", id="row 23 on_event"),
        pytest.param(lambda: TransactionManager(action_source=3), "action_source", id="row 23 as"),
        pytest.param(lambda: TransactionManager(store=3), "a URL such as", id="row 67 store"),
        pytest.param(lambda: TransactionManager(clock=3), "clock", id="row 72 clock"),
        pytest.param(lambda: TransactionManager(parallel_max=0), "1 to 1,000", id="row 30 many"),
    ],
)
def test_a_manager_that_cannot_be_made_says_why(make, named):
    refused(TransactionError, make, named)


def test_row_23_a_function_without_a_name_is_refused_where_it_must_outlive_the_process(tmp_path):
    with TransactionManager(store=tmp_path / "s.db") as manager, manager.transaction() as tx:
        call = lambda: tx.execute("a", "do", {}, lambda action, data: None)  # noqa: E731
        refused(DefinitionError, call, "name")


def test_row_23_an_async_handler_works_in_a_sync_manager():
    async def book(action, data):
        await asyncio.sleep(0)
        return 7

    with TransactionManager({"book": book}) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "book", {})
        assert manager.commit(tx).outputs == {"s1": 7}


def test_row_23_an_action_without_a_handler_is_simulated_or_under_strict_refused():
    with TransactionManager(strict=True) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "nobody", {})
        refused(UnknownAction, lambda: manager.commit(tx), "'nobody'", "Nothing was run")
    with TransactionManager() as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "nobody", {})
        assert manager.commit(tx).simulated_steps == ["s1"]


# --------------------------------------------------------------------------- values, rows 24 - 29

NOT_JSON = [
    pytest.param(object(), "of type object", id="row 24 an object"),
    pytest.param({1, 2}, "Pass sorted(value)", id="row 24 a set"),
    pytest.param(b"x", "base64", id="row 24 bytes"),
    pytest.param(datetime(2026, 1, 1, tzinfo=UTC), "isoformat()", id="row 24 a datetime"),
    pytest.param(date(2026, 1, 1), "isoformat()", id="row 24 a date"),
    pytest.param((i for i in ()), "of type generator", id="row 24 a generator"),
    pytest.param(do, "of type function", id="row 24 a function"),
    pytest.param(RetryPolicy(), "model_dump(mode='json')", id="row 24 a model"),
    pytest.param(1j, "of type complex", id="row 24 a complex number"),
    pytest.param(math.nan, "not a JSON number", id="row 25 NaN"),
    pytest.param(math.inf, "not a JSON number", id="row 25 infinity"),
    pytest.param(-math.inf, "not a JSON number", id="row 25 -infinity"),
    pytest.param(2**63, "64 bits", id="row 26 2^63"),
    pytest.param(-(2**63), "64 bits", id="row 26 -2^63"),
    pytest.param(10**5_000, "64 bits", id="row 26 5,000 digits"),
    pytest.param("a\ud800", "U+D800", id="row 27 a lone surrogate"),
    pytest.param("a\0b", "NUL", id="row 27 NUL"),
    pytest.param({"a\udfff": 1}, "U+DFFF", id="row 27 a surrogate in a key"),
    pytest.param({1: 2}, "JSON keys are text", id="row 24 a key that is a number"),
    pytest.param(CIRCLE, "64 deep, or in a circle", id="row 28 a circle"),
    pytest.param(DEEP, "64 deep", id="row 28 depth 100,000"),
    pytest.param([["x" * 1_000] * 1_000] * 1_000, "far larger", id="row 29 one list many times"),
]


@pytest.mark.parametrize("value,named", NOT_JSON)
def test_data_that_is_not_json_is_refused_where_it_is_given(manager, value, named):
    tx = manager.begin()
    refused(InvalidData, lambda: manager.add_step(tx, "a", "do", {"x": value}), "data.x", named)
    assert tx.steps == []


@pytest.mark.parametrize("value,named", NOT_JSON)
def test_data_that_became_wrong_since_is_refused_before_anything_runs(manager, begun, value, named):
    begun.steps[0].data["x"] = value
    refused(InvalidData, lambda: manager.commit(begun), "steps[0].data.x", named)
    assert begun.state.value == "pending"


TOO_MUCH = "x" * (2 * 1024 * 1024 + 1)


def test_row_29_data_of_2_mb_and_1_is_refused_and_says_what_to_do(manager, begun):
    data = {"x": TOO_MUCH}
    named = ("2,097,161 bytes", "2,097,152 allowed", "pass a reference")
    refused(InvalidData, lambda: manager.add_step(begun, "a", "do", data), "data", *named)
    begun.steps[0].data = data
    refused(InvalidData, lambda: manager.commit(begun), "steps[0].data", *named)


@pytest.mark.parametrize("value,named", [*NOT_JSON, (TOO_MUCH, "2,097,152")])
def test_an_output_that_is_not_json_never_changes_what_happened(value, named):
    with TransactionManager({"do": lambda action, data: value}) as manager:
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "do", {})
        result = manager.commit(tx)
    assert (result.state.value, result.completed_steps) == ("committed", [first.step_id])
    (warning,) = result.warnings
    assert named in warning
    assert "could not be recorded" in warning


def test_row_24_a_later_reference_to_an_output_that_was_not_recorded_fails_that_step():
    with TransactionManager({"do": lambda action, data: {1}, "use": do, "undo": do}) as manager:
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "do", {}, "undo")
        manager.add_step(tx, "agent", "use", {"x": first.output()})
        result = manager.commit(tx)
    assert (result.state.value, result.failed_step) == ("rolled_back", "s2")
    assert "s1" in (result.error or "")


def test_row_24_so_does_one_to_what_a_probe_gave_as_the_output():
    def lose(action, data):
        raise OutcomeUnknown("no answer")

    with TransactionManager({"use": do}) as manager:
        manager.action("lose", probe=lambda data: Done({1, 2}))(lose)
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "lose", {}, "use")
        manager.add_step(tx, "agent", "use", {"x": first.output()})
        result = manager.commit(tx)
    assert (result.state.value, result.failed_step) == ("rolled_back", "s2")


def test_row_24_so_does_one_to_what_an_undo_gave_as_the_output():
    seen = []

    def refuse(action, data):
        seen.append(data["x"])
        raise StepRejected("no")

    handlers = {"do": do, "go_on": lambda action, data: Continue({1}), "refuse": refuse}
    with TransactionManager(handlers) as manager:
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "do", {}, "go_on")
        manager.add_step(tx, "agent", "refuse", {"x": first.output()})
        result = manager.commit(tx)
    assert seen == [{"did": "do"}]
    assert result.failed_step == "s2"
    assert "s1" in (result.error or "")
    assert any("could not be recorded" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2**53 + 1, id="row 26 2^53 and 1"),
        pytest.param(2**63 - 1, id="row 26 2^63 - 1"),
        pytest.param("\U0010ffff é \t", id="row 27 strange text"),
        pytest.param([[[[[[]]]]]], id="row 28 a little deep"),
        pytest.param(-0.0, id="row 25 minus zero"),
    ],
)
def test_what_json_allows_comes_back_as_it_was(tmp_path, value):
    with TransactionManager({"do": lambda action, data: data}, store=tmp_path / "s.db") as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {"x": value})
        name = manager.commit(tx).transaction_id
    with TransactionManager(store=tmp_path / "s.db") as manager:
        found = manager.get_result(name).outputs["s1"]["x"]
    assert (found, type(found)) == (value, type(value))
    assert repr(found) == repr(value)


# ------------------------------------------------------------------ numbers and times, rows 30, 31

NO_SECONDS = [0, -1, math.nan, math.inf, 10**400, 10**5_000, "60", True, b"1", [], {}]


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: f"row 30 {type(value).__name__}")
@pytest.mark.parametrize(
    "call",
    [
        lambda manager, value: manager.begin(timeout_seconds=value),
        lambda manager, value: manager.begin(lock_timeout_seconds=value),
        lambda manager, value: manager.transaction(timeout_seconds=value),
        lambda manager, value: manager.add_step(
            manager.begin(), "a", "do", {}, timeout_seconds=value
        ),
        lambda manager, value: manager.action("do", timeout_seconds=value)(do),
        lambda manager, value: manager.action("do", undo_within_seconds=value)(do),
    ],
    ids=["begin", "locks", "block", "step", "action", "window"],
)
def test_row_30_a_time_that_is_none_is_refused_where_it_is_given(manager, call, value):
    refused(DefinitionError, lambda: call(manager, value), "seconds")


@pytest.mark.parametrize("value", NO_SECONDS, ids=lambda value: type(value).__name__)
def test_row_30_so_is_that_of_a_nested_transaction(manager, value):
    with manager.transaction() as tx:
        refused(DefinitionError, lambda: tx.transaction(timeout_seconds=value), "seconds")


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True, 10**30])
def test_row_30_how_long_to_wait_must_be_a_number(manager, begun, value):
    refused(DefinitionError, lambda: manager.commit(begun, wait_max_seconds=value), "how long")


def test_row_30_a_deadline_beyond_every_calendar_works_and_is_shown(manager):
    with manager.transaction(timeout_seconds=1e300) as tx:
        tx.execute("agent", "do", {})
        assert tx.describe().deadline.year == 9999
    assert tx.result is not None
    assert tx.result.state.value == "committed"


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), "2026-01-01", None, 0])  # noqa: DTZ001
def test_row_31_a_time_without_a_time_zone_is_refused(manager, begun, value):
    begun.__dict__["created_at"] = value
    refused(DefinitionError, lambda: manager.commit(begun), "time zone", "datetime.now(timezone")


# --------------------------------------------------------------------------- repeating, rows 32, 33


def test_row_32_the_same_key_and_plan_is_the_same_transaction(manager):
    one = manager.begin(idempotency_key="k")
    assert manager.begin(idempotency_key="k").transaction_id == one.transaction_id


def test_row_33_the_same_key_and_another_plan_is_refused_and_says_what_differs(manager):
    tx = manager.begin(idempotency_key="k")
    manager.add_step(tx, "agent", "do", {"amount": 1})
    manager.commit(tx)
    again = manager.begin(idempotency_key="k")
    call = lambda: manager.add_step(again, "agent", "do", {"amount": 2})  # noqa: E731
    refused(IdempotencyKeyReused, call, "'k'", "data", "another key")
    other = lambda: manager.begin(idempotency_key="k", timeout_seconds=7)  # noqa: E731
    refused(IdempotencyKeyReused, other, "timeout_seconds")


# ------------------------------------------------------------- closed, forked, inside, rows 34 - 36


@pytest.mark.parametrize("store", [None, "s.db"], ids=["row 34 memory", "row 34 sqlite"])
def test_row_34_a_manager_that_is_closed_says_so(tmp_path, store):
    manager = TransactionManager({"do": do}, store=store and tmp_path / store)
    tx = manager.begin()
    manager.add_step(tx, "agent", "do", {})
    manager.close()
    manager.close()
    for call in (
        manager.begin,
        lambda: manager.commit(tx),
        lambda: manager.get_result(tx),
        manager.recover,
        lambda: manager.transaction().__enter__(),
    ):
        refused(StoreError, call, "closed")


def forked(store, told):
    try:
        store.info()
    except StoreError as error:
        told.put(str(error))
    else:
        told.put("it answered")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_row_34_a_store_that_went_through_a_fork_says_so(tmp_path):
    with open_store(tmp_path / "s.db", create=True) as store:
        context = multiprocessing.get_context("fork")
        told = context.SimpleQueue()
        child = context.Process(target=forked, args=(store, told))
        child.start()
        message = told.get()
        child.join()
        assert "of which this one is a child. Open a new store" in message
        assert store.info().changes >= 0


def test_row_35_a_handler_that_commits_its_own_transaction_is_refused(manager):
    said = []

    def inside(action, data):
        try:
            manager.commit(tx)
        except InvalidTransactionState as error:
            said.append(str(error))

    with TransactionManager({"inside": inside}) as own:
        manager = own
        tx = own.begin()
        own.add_step(tx, "agent", "inside", {})
        assert own.commit(tx).state.value == "committed"
    assert tx.transaction_id in said[0]


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), OutcomeUnknown("no answer")],
    ids=lambda error: f"row 36 {type(error).__name__}",
)
def test_row_36_a_handler_that_leaves_without_an_answer_is_in_doubt_and_undone(error):
    calls = []

    def leave(action, data):
        calls.append(action)
        raise error

    def undo(action, data, context):
        calls.append((action, context.in_doubt))

    manager = TransactionManager({"leave": leave, "undo": undo})
    tx = manager.begin()
    manager.add_step(tx, "agent", "leave", {}, "undo")
    if isinstance(error, Exception):
        manager.commit(tx)
    else:
        with pytest.raises(type(error)):
            manager.commit(tx)
    result = manager.get_result(tx)
    manager.close()
    assert (result.state.value, result.failed_step) == ("rolled_back", "s1")
    assert calls == ["leave", ("undo", True)]


# ------------------------------------------------------------------------------ resources, row 37


@pytest.mark.parametrize(
    "resources,named",
    [
        pytest.param([""], "resource", id="row 37 empty"),
        pytest.param([" "], "resource", id="row 37 blank"),
        pytest.param(["x" * 10_000], "1,000 characters", id="row 37 10 KB"),
        pytest.param(["a\0"], "NUL", id="row 37 NUL"),
        pytest.param("account:1", "list of names", id="row 37 text"),
        pytest.param([3], "list of names", id="row 37 a number"),
        pytest.param(3, "list of names", id="row 37 no list"),
        pytest.param([f"r:{n}" for n in range(1_001)], "1,000", id="row 37 too many"),
    ],
)
def test_a_resource_that_cannot_be_one_is_refused(manager, resources, named):
    tx = manager.begin()

    def use():
        manager.add_step(tx, "agent", "do", {}, resources=resources)
        manager.commit(tx)

    refused(TransactionError, use, named)
    assert tx.state.value == "pending"


def test_row_37_a_resource_that_is_shared_and_exclusive_is_held_exclusively(manager):
    with manager.transaction() as tx:
        tx.execute("agent", "do", {}, resources=[Resource.shared("r"), "r"])
        assert [lock.mode for lock in manager.locks()] == ["exclusive"]


# ------------------------------------------------- every option, every method, every kind of object


class HostileRepr:
    """What a debugger shows of it is an exception."""

    def __repr__(self):
        raise RuntimeError("no")


class HostileEquality:
    """An array compares so: nobody can tell whether it is equal."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        raise ValueError("ambiguous")


HOSTILE = {
    "none": None,
    "a number": -1,
    "a huge number": 10**5_000,
    "nan": math.nan,
    "true": True,
    "empty text": "",
    "text": "x",
    "NUL": "a\0b",
    "a lone surrogate": "\ud800",
    "long text": "x" * 2_000,
    "bytes": b"x",
    "a list": ["x", None],
    "a circle": CIRCLE,
    "a dict": {1: 2},
    "a set": {1},
    "an object": object(),
    "a class": dict,
    "a hostile repr": HostileRepr(),
    "a hostile equality": HostileEquality(),
}
BEGIN = (
    "timeout_seconds timeout_scope on_crash on_compensation_failure name idempotency_key "
    "parallel_compensation allow_irreversible_first on_undo_window isolation lock_timeout_seconds "
    "release_outstanding_locks metadata crashes_max zzz"
)
STEP = (
    "agent_id action data compensating_action retry timeout_seconds after pivot on_commit "
    "confirming_action approval_timeout_seconds undo_within_seconds resources zzz"
)
ACTION = (
    "name compensating_action on_unknown effect in_doubt_on confirming_action retry retry_on "
    "timeout_seconds abandon_after_seconds probe probe_retry verify verify_retry reread "
    "approval_timeout_seconds undo_within_seconds identity resources zzz"
)
BY_ID = "rollback wait check resume join get_transaction get_result get_events verify find locks"


def in_begin(option, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin(**{option: value})
        manager.add_step(tx, "agent", "do", {})
        manager.commit(tx)


def in_block(option, value):
    with TransactionManager({"do": do}) as manager, manager.transaction(**{option: value}) as tx:
        tx.execute("agent", "do", {})


def in_step(option, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        manager.add_step(tx, **{"agent_id": "a", "action": "do", "data": {}, option: value})
        manager.commit(tx, wait_max_seconds=0)


def in_execute(option, value):
    with TransactionManager({"do": do}) as manager, manager.transaction() as tx:
        tx.execute(**{"agent_id": "a", "action": "do", "data": {}, option: value})


def in_action(option, value):
    with TransactionManager() as manager:
        manager.action(**{"name": "do", option: value})(do)
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        manager.commit(tx)


def by_id(call, value):
    with TransactionManager({"do": do}) as manager:
        getattr(manager, call)(value)


def of_transaction(call, value):
    with TransactionManager({"do": do}) as manager:
        getattr(manager, call)(value)


def of_step(call, value):
    more = {"note": "n", "by": "b"} if call in {"approve", "deny"} else {}
    more |= {"answer": "undone", "note": "n"} if call == "resolve" else {}
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        manager.commit(tx)
        getattr(manager, call)(tx, value, **more)


def of_block(call, value):
    with TransactionManager({"do": do}) as manager, manager.transaction() as tx:
        made = getattr(tx, call)(value)
        if call in {"savepoint", "transaction"}:
            with made:
                return


def of_plan(field, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        setattr(tx, field, value)
        manager.commit(tx)


def of_planned_step(field, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        setattr(tx.steps[0], field, value)
        manager.commit(tx, wait_max_seconds=0)


def of_answer(_, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        manager.commit(tx)
        manager.resolve(tx, "s1", value, note="n")


def of_output(option, value):
    with TransactionManager({"do": do}) as manager:
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "do", {})
        manager.add_step(tx, "agent", "do", {"x": first.output(**{option: value})})


def of_worker(option, value):
    with TransactionManager({"do": do}) as manager:
        Worker(manager, **{option: value})


def of_module(call, value):
    if call == "open_store":
        open_store(value, create=False).close()
    else:
        step(name=value)(lambda x: x)


CALLS = [
    *((in_begin, option) for option in BEGIN.split()),
    *((in_block, option) for option in BEGIN.split() if option != "idempotency_key"),
    *((in_step, option) for option in STEP.split()),
    *((in_execute, option) for option in STEP.split()),
    *((in_action, option) for option in ACTION.split()),
    *((by_id, call) for call in BY_ID.split()),
    *((of_transaction, call) for call in ("commit", "submit", "save")),
    *((of_step, call) for call in ("retry", "resolve", "approve", "deny")),
    *((of_block, call) for call in ("savepoint", "undo", "rollback_to", "transaction")),
    *((of_plan, field) for field in ("transaction_id", "steps", "name", "timeout_seconds")),
    *(
        (of_planned_step, field)
        for field in ("step_id", "action", "after", "references", "confirming_action", "resources")
    ),
    (of_answer, "answer"),
    (of_output, "at"),
    (of_output, "type"),
    *((of_worker, option) for option in ("concurrency", "poll_seconds", "agents", "zzz")),
    *((of_module, call) for call in ("open_store", "step")),
]


@pytest.mark.parametrize("call,option", CALLS, ids=lambda item: getattr(item, "__name__", item))
def test_no_object_at_all_gets_anything_but_an_error_of_ours(call, option, tmp_path, monkeypatch):
    """Whatever is handed in: it works, or our own error comes out, and the message can be shown."""
    monkeypatch.chdir(tmp_path)
    for what, value in HOSTILE.items():
        with python_refuses("zzz"), contextlib.suppress(TransactionError), shown(what):
            call(option, value)


@contextlib.contextmanager
def shown(what):
    """Check that an error of ours can be shown."""
    try:
        yield
    except TransactionError as error:
        message = str(error)
        if len(message) > 3_000 or not message.encode("utf-8").strip():
            pytest.fail(f"{what}: {message!r:.300}")
        raise


@contextlib.contextmanager
def python_refuses(option):
    """Let pass what Python itself says of an argument that a function does not have."""
    try:
        yield
    except TypeError as error:
        if f"unexpected keyword argument {option!r}" not in str(error):
            raise


def test_the_async_manager_refuses_the_same():
    async def story():
        async with AsyncTransactionManager({"do": do}) as manager:
            tx = await manager.begin()
            manager.add_step(tx, "agent", "do", {})
            for call in (
                manager.commit("x"),
                manager.get_result(["x"]),
                manager.rollback(3),
                manager.find(3),
                manager.resolve(tx, ["s1"], "undone", note="n"),
            ):
                with pytest.raises(TransactionError):
                    await call
            with pytest.raises(TransactionError):
                async with manager.transaction() as block, block.transaction(timeout_seconds="6"):
                    pytest.fail("it began")

    asyncio.run(story())
