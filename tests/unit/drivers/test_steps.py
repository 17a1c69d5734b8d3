"""A decorated function: a journaled step inside a transaction, just the function outside."""
# mypy: disable-error-code="arg-type, list-item, union-attr"

import asyncio
import functools
import inspect
import typing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, validate_call

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    InvalidData,
    NoActiveTransaction,
    StepContext,
    TransactionRolledBack,
    require_transaction,
    step,
)

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class Passenger(BaseModel):
    name: str
    age: int = 30


@dataclass
class Booking:
    ref: str
    at: datetime


def book(
    flight_id: str,
    passengers: list[Passenger],
    when: datetime = NOW,
    *,
    seat: Literal["aisle", "window"] = "aisle",
    price: Annotated[int, Field(gt=0)] = 1,
) -> Booking:
    """Book a flight, and say so."""
    return Booking(flight_id, when)


async def book_later(flight_id: str, when: datetime = NOW) -> Booking:
    """Book a flight, later."""
    return Booking(flight_id, when)


class Failure(Exception):
    pass


# ------------------------------------------------------------------------------- as it was before


@pytest.mark.parametrize("plain", [book, book_later])
def test_signature_docstring_and_annotations_stay_as_they_are(plain):
    made = step(name=f"same.{plain.__name__}", compensating_action="undo", required=True)(plain)
    assert inspect.signature(made) == inspect.signature(plain)
    assert typing.get_type_hints(made, include_extras=True) == typing.get_type_hints(
        plain, include_extras=True
    )
    for attribute in ("__doc__", "__name__", "__qualname__", "__module__", "__annotations__"):
        assert getattr(made, attribute) == getattr(plain, attribute)
    assert inspect.iscoroutinefunction(made) is inspect.iscoroutinefunction(plain)
    assert inspect.getsource(made) == inspect.getsource(plain)
    assert inspect.unwrap(made) is plain


@pytest.mark.parametrize("plain", [book, book_later])
def test_the_json_schema_of_its_arguments_stays_as_it_is(plain):
    made = step(name=f"schema.{plain.__name__}")(plain)
    assert TypeAdapter(made).json_schema() == TypeAdapter(plain).json_schema()
    checked, unchecked = validate_call(made), validate_call(plain)
    assert TypeAdapter(checked).json_schema() == TypeAdapter(unchecked).json_schema()


def test_a_decorator_on_top_calls_a_step(make_sync):
    checked = validate_call(step(name="below")(book))
    with make_sync().transaction() as tx:
        made = checked("F1", [{"name": "A"}], when="2026-01-02T00:00:00Z")
    assert made == Booking("F1", datetime(2026, 1, 2, tzinfo=UTC))
    assert [one.action for one in tx.steps] == ["below"]


def test_outside_of_a_transaction_it_is_just_the_function():
    told: list[Any] = []

    @step
    def tell(what, *more, **named):
        told.append((what, more, named))
        return told

    anything = object()
    assert tell(anything, 1, key=anything) is told
    assert told == [(anything, (1,), {"key": anything})]
    assert asyncio.run(step(name="later.outside")(book_later)("F1")).ref == "F1"


def test_a_method_that_needs_no_object_stays_one():
    class Trip:
        @step
        @staticmethod
        def above(flight_id):
            return flight_id

        @staticmethod
        @step
        def below(flight_id):
            return flight_id

    assert [Trip().above("F1"), Trip.above("F2")] == ["F1", "F2"]
    assert [Trip().below("F1"), Trip.below("F2")] == ["F1", "F2"]
    with pytest.raises(DefinitionError, match="'self'"):
        step(lambda self, flight_id: flight_id)


# ------------------------------------------------------------------------------ inside and outside


def test_inside_it_is_journaled_with_its_arguments_and_its_result(make_sync):
    made = step(name="inside")(book)
    manager = make_sync()
    with manager.transaction() as tx:
        booking = made("F1", [Passenger(name="A")], price=3)
    assert booking == Booking("F1", NOW)
    (one,) = tx.steps
    assert (one.action, one.agent_id, one.state.value) == ("inside", "default", "succeeded")
    assert one.data == {
        "flight_id": "F1",
        "passengers": [{"name": "A", "age": 30}],
        "when": "2026-03-01T12:30:00Z",
        "seat": "aisle",
        "price": 3,
    }
    assert tx.result.outputs == {"s1": {"ref": "F1", "at": "2026-03-01T12:30:00Z"}}
    assert tx.result.warnings == []


def test_the_live_caller_gets_the_very_object_that_was_returned(make_sync):
    kept = Booking("F1", NOW)

    @step
    def take() -> Booking:
        return kept

    @step
    async def take_later() -> Booking:
        return kept

    with make_sync().transaction():
        assert take() is kept
        assert asyncio.run(take_later()) is kept


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan"), 2**70, "x" * 3_000_000])
def test_a_result_that_is_not_json_is_a_warning_and_still_reaches_the_caller(make_sync, value):
    @step
    def take() -> Any:
        return value

    with make_sync().transaction() as tx:
        assert take() is value
    assert tx.result.state.value == "committed"
    assert tx.result.outputs == {}
    (warning,) = tx.result.warnings
    assert "s1" in warning


@pytest.mark.parametrize(
    "args,kwargs,error",
    [
        ((), {}, TypeError),
        (("F1", [], NOW, "too many"), {}, TypeError),
        (("F1", []), {"seat": "roof"}, InvalidData),
        (("F1", [{"age": 1}]), {}, InvalidData),
        (("F1", []), {"price": 0}, InvalidData),
        (("F1", []), {"unknown": 1}, TypeError),
        ((b"\xff", []), {}, InvalidData),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_journaled(
    make_sync, args, kwargs, error, tmp_path
):
    made = step(name="checked")(book)
    manager = make_sync(store=tmp_path / "trips.db")
    with manager.transaction() as tx:
        with pytest.raises(error):
            made(*args, **kwargs)
        assert manager.find() == []
        made("F1", [])
        before = manager.get_events(tx.transaction_id)
        with pytest.raises(error):
            made(*args, **kwargs)
        assert manager.get_events(tx.transaction_id) == before
    assert [one.state.value for one in tx.steps] == ["succeeded"]


def test_a_step_that_needs_a_transaction_is_refused_outside_one(make_sync):
    called = []

    @step(required=True)
    def need(flight_id):
        called.append(require_transaction())

    @step(required=True)
    async def need_later(flight_id):
        called.append(require_transaction())

    with pytest.raises(NoActiveTransaction, match=r"step .*need.*`with transaction\(\)"):
        need("F1")
    with pytest.raises(NoActiveTransaction, match=r"tx\.bind"):
        asyncio.run(need_later("F1"))
    with pytest.raises(NoActiveTransaction, match="this code"):
        require_transaction()
    assert called == []
    with make_sync().transaction() as tx:
        need("F1")
        asyncio.run(need_later("F1"))
        assert require_transaction() is tx
    assert called == [tx, tx]
    with pytest.raises(NoActiveTransaction):
        need("F1")


def test_a_tools_error_is_raised_itself_and_aborts_nothing(make_sync):
    raised = Failure("no seat")

    @step
    def fail():
        raise raised

    @step
    def act():
        return 1

    with make_sync().transaction() as tx:
        with pytest.raises(Failure) as caught:
            fail()
        act()
    assert caught.value is raised
    assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]
    assert tx.result.state.value == "committed"


def test_a_step_is_told_about_its_call(make_sync):
    @step
    def ask(flight_id: str, context: StepContext | None = None) -> str:
        return "outside" if context is None else context.idempotency_key

    assert ask("F1") == "outside"
    with make_sync().transaction() as tx:
        key = ask("F1")
    assert tx.transaction_id in key
    assert tx.steps[0].data == {"flight_id": "F1"}


def test_a_step_changes_neither_the_callers_objects_nor_the_journal(make_sync):
    @step
    def change(rows: list[int]) -> list[int]:
        rows.append(9)
        return rows

    mine = [1]
    with make_sync().transaction() as tx:
        got = change(mine)
        got.append(10)
    assert mine == [1]
    assert (tx.steps[0].data, tx.result.outputs) == ({"rows": [1]}, {"s1": [1, 9]})


def test_what_is_declared_about_a_step_holds(make_sync):
    made = []

    @step(once=True, identity=("order_id",))
    def charge(order_id: str, note: str = "") -> int:
        made.append(order_id)
        return len(made)

    with make_sync().transaction() as tx:
        assert [charge("a"), charge("b"), charge("a", note="again")] == [1, 2, 1]
    assert made == ["a", "b"]
    assert len(tx.steps) == 2


def test_a_pivot_and_a_held_step_stand_where_they_belong(make_sync):
    done = []

    @step(on_commit=True, idempotent=True)
    def tell(text: str) -> str:
        done.append(text)
        return text

    @step(pivot=True, idempotent=True)
    def pay() -> str:
        done.append("pay")
        return "paid"

    with make_sync().transaction() as tx:
        assert tell("told") is None
        assert pay() == "paid"
        assert done[0] == "pay"
    assert (done, tx.result.state.value) == (["pay", "told"], "committed")


def test_a_planned_transaction_can_name_a_step(make_sync):
    log = []

    def cancel(flight_id, result):
        log.append((flight_id, result))

    @step(name="planned.book", compensating_action=cancel)
    def planned(flight_id: str) -> str:
        return f"ref {flight_id}"

    manager = make_sync({"fail": _fail})
    tx = manager.begin()
    manager.add_step(tx, "agent", "planned.book", {"flight_id": "F1"})
    manager.add_step(tx, "agent", "fail", {})
    with pytest.raises(TransactionRolledBack):
        manager.commit(tx).raise_for_state()
    assert log == [("F1", "ref F1")]


def _fail(action, data):
    raise Failure


# ---------------------------------------------------------------------------------- what is a step


@pytest.mark.parametrize(
    "options,problem",
    [
        ({"idempotnet": True}, "no option 'idempotnet'"),
        ({"compensating_action": ""}, "compensating_action"),
        ({"name": ""}, "name"),
        ({"agent_id": ""}, "agent_id"),
        ({"identity": ("order",)}, "'order', which is none of its arguments: flight_id"),
        ({"identity": "flight_id"}, "tuple of keys"),
        ({"retry": 3}, "RetryPolicy"),
        ({"on_unknown": "hope"}, "on_unknown"),
        ({"compensating_action": lambda seat: None}, "needs an argument 'seat'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(options, problem):
    def act(flight_id):
        pass

    with pytest.raises((DefinitionError, InvalidData), match=problem):
        step(**options)(act)


def test_a_step_is_declared_in_one_place():
    @step
    def act():
        pass

    for function in (act, functools.wraps(act)(functools.partial(act))):
        with pytest.raises(DefinitionError, match=r"is the step .*act' already"):
            step(compensating_action="undo")(function)


def test_what_partial_has_bound_is_no_data(make_sync):
    def send(client, text: str, *, urgent: object = None):
        return client.append((text, urgent))

    client: list[Any] = []
    mark = object()
    made = step(name="partial")(functools.partial(send, client, urgent=mark))
    with make_sync().transaction() as tx:
        made("hello")
    assert client == [("hello", mark)]
    assert tx.steps[0].data == {"text": "hello"}


def test_an_object_that_is_called_can_be_a_step(make_sync):
    class Booker:
        async def __call__(self, flight_id: str) -> str:
            return flight_id

    with pytest.raises(DefinitionError, match="no name of its own"):
        step(Booker())
    made = step(name="booker")(Booker())
    with make_sync().transaction() as tx:
        assert asyncio.run(made("F1")) == "F1"
    assert [one.action for one in tx.steps] == ["booker"]


def test_a_result_is_that_of_the_step_and_not_of_one_that_ran_in_it(make_sync):
    from aumai_transactions import Done

    @step(name="inner.of")
    def inner() -> str:
        return "inner"

    @step(probe=lambda data: Done("outer"))
    def outer() -> str:
        require_transaction().execute("agent", "inner.of")  # type: ignore[attr-defined]
        raise TimeoutError

    with make_sync().transaction() as tx:
        assert outer() == "outer"
    assert [one.action.rpartition(".")[2] for one in tx.steps] == ["outer", "of"]


def test_every_manager_has_the_steps_and_its_own_actions_first(make_sync):
    @step(name="everywhere")
    def everywhere() -> str:
        return "step"

    for manager in (make_sync(), make_sync()):
        with manager.transaction() as tx:
            assert tx.execute("agent", "everywhere") == "step"
    mine = make_sync({"everywhere": lambda action, data: "mine"})
    with mine.transaction() as tx:
        assert tx.execute("agent", "everywhere") == "mine"
        with pytest.raises(DefinitionError, match="knows another function as 'everywhere'"):
            everywhere()


def test_an_async_manager_has_the_same_steps():
    made = step(name="async.book")(book_later)
    plain = step(name="async.plain")(lambda flight_id: flight_id)

    async def story():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            return await made("F1"), plain("F2"), [one.action for one in tx.steps]

    assert asyncio.run(story()) == (Booking("F1", NOW), "F2", ["async.book", "async.plain"])
