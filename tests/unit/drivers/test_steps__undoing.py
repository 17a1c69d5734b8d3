"""What undoes a decorated function, and what it is given."""
# mypy: disable-error-code="arg-type, union-attr"

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from aumai_transactions import (
    AsyncTransactionManager,
    Clean,
    DefinitionError,
    Done,
    NothingToUndo,
    RetryPolicy,
    StepContext,
    require_transaction,
    step,
    transactional,
)
from aumai_transactions.drivers.ambient import AMBIENT

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class GaveUp(Exception):
    pass


class Booking(BaseModel):
    ref: str
    at: datetime


def given_up(manager, *calls):
    """Call steps in a transaction that is given up then; return the block."""
    with pytest.raises(GaveUp), manager.transaction() as tx:  # noqa: PT012
        for call in calls:
            call()
        raise GaveUp
    return tx


def test_an_undo_gets_what_the_step_was_given_and_what_it_returned(make_sync):
    log: list[Any] = []

    def cancel(result: Booking, flight_id: str, when: datetime, context: StepContext):
        log.append((result, flight_id, when, context.operation))

    @step(compensating_action=cancel)
    def book(flight_id: str, seats: int = 1, *, when: datetime = NOW) -> Booking:
        return Booking(ref=f"{flight_id}/{seats}", at=when)

    tx = given_up(make_sync(), lambda: book("F1", 2))
    assert log == [(Booking(ref="F1/2", at=NOW), "F1", NOW, "compensation")]
    assert tx.result.compensated_steps == ["s1"]
    assert tx.steps[0].compensating_action.endswith("book.undo")


def test_the_last_is_undone_first(make_sync):
    log: list[Any] = []

    def forget(n):
        log.append(n)

    @step(compensating_action=forget)
    def count(n):
        pass

    given_up(make_sync(), *[lambda n=n: count(n) for n in range(3)])
    assert log == [2, 1, 0]


def test_an_undo_may_be_named(make_sync):
    log: list[Any] = []

    @step(compensating_action="cancel")
    def book(flight_id):
        return "ref"

    def cancel(action, data, context):
        log.append((action, data, context.output))

    given_up(make_sync({"cancel": cancel}), lambda: book("F1"))
    assert log == [("cancel", {"flight_id": "F1"}, "ref")]


def test_an_action_of_a_manager_undoes_under_every_manager(make_sync):
    log: list[Any] = []
    mine, other = make_sync(), make_sync()

    @mine.action("everywhere.cancel")
    def cancel(action, data):
        log.append(data)

    @step(compensating_action=cancel)
    def book(flight_id):
        pass

    for manager in (mine, other):
        assert given_up(manager, lambda: book("F1")).result.clean
    assert log == [{"flight_id": "F1"}] * 2


@pytest.mark.parametrize("given", ["function", "name", "name, declared later"])
def test_a_step_undoes_a_step_with_what_it_asks_for(make_sync, given):
    log: list[Any] = []
    kept = f"release, given by {given}"

    def declared():
        @step(name=kept, idempotent=True)
        def release(token: str, result: Booking | None = None) -> None:
            log.append((token, result, AMBIENT.get()))

        return release

    undo: Any = declared() if given != "name, declared later" else None

    @step(compensating_action=undo if given == "function" else kept, name=f"hold, {given}")
    def hold(token: str, seats: int) -> Booking:
        return Booking(ref=token, at=NOW)

    if undo is None:
        undo = declared()
    tx = given_up(make_sync(), lambda: hold("T", 3))
    assert log == [("T", Booking(ref="T", at=NOW), None)]
    assert (tx.result.clean, len(tx.steps)) == (True, 1)
    undo("U")
    assert log[1:] == [("U", None, None)]


def test_what_a_step_declares_of_itself_holds_where_it_undoes(make_sync):
    left = [GaveUp(), GaveUp()]

    @step(name="release, often", retry=RetryPolicy(attempts_max=3, first_delay_seconds=0.001))
    def release(token):
        if left:
            raise left.pop()

    @step(compensating_action=release)
    def hold(token):
        pass

    assert given_up(make_sync(), lambda: hold("T")).result.clean
    assert left == []


def test_a_step_that_cannot_undo_what_names_it_is_refused_by_whichever_comes_last():
    @step(name="hold, alone", compensating_action="release, unfit")
    def hold(token):
        pass

    with pytest.raises(DefinitionError, match=r"release, which undoes .*hold, needs .* 'why'"):

        @step(name="release, unfit")
        def release(token, why):
            pass

    with pytest.raises(DefinitionError, match="'colour'"):

        @step(name="paint, alone", compensating_action=step(lambda colour: None))
        def paint(wall):
            pass


def test_a_step_makes_final_what_another_has_tried(make_sync):
    log: list[Any] = []

    @step(name="capture", idempotent=True)
    def capture(token: str, result: int) -> None:
        log.append((token, result))

    for name, given in (("by name", "capture"), ("by function", capture)):

        @step(name=f"reserve {name}", confirming_action=given, compensating_action=lambda: None)
        def reserve(token: str) -> int:
            return 5

        log.clear()
        with make_sync().transaction() as tx:
            reserve("T")
            assert log == []
        assert (log, tx.result.state.value) == ([("T", 5)], "committed")


def test_what_an_undo_returns_is_heard(make_sync):
    @step(compensating_action=lambda: NothingToUndo("never there"))
    def act():
        pass

    manager = make_sync()
    tx = given_up(manager, act)
    assert tx.result.clean
    assert "never there" in str(manager.get_events(tx.transaction_id))


def test_an_undo_in_doubt_gets_no_result(make_sync):
    log: list[Any] = []

    def cancel(flight_id, result, context):
        log.append((flight_id, result, context.in_doubt))

    @step(compensating_action=cancel)
    def book(flight_id: str) -> str:
        raise TimeoutError

    manager = make_sync()
    with pytest.raises(GaveUp), manager.transaction():  # noqa: PT012
        with pytest.raises(Exception, match="undone"):
            book("F1")
        assert log == [("F1", None, True)]
        raise GaveUp
    assert len(log) == 1


@pytest.mark.parametrize("asked", ["undo", "probe", "verify", "reread", "confirm"])
def test_a_step_that_a_transaction_calls_on_its_own_is_just_the_function(make_sync, asked):
    around: list[Any] = []

    @step(name=f"plain in {asked}")
    def look(answer=None):
        around.append(AMBIENT.get())
        return answer

    own: dict[str, Any] = {
        "undo": {"compensating_action": lambda: look()},  # noqa: PLW0108 (the step is inside)
        "probe": {"probe": lambda data: look(Done(1))},
        "verify": {"verify": lambda data: look(Clean())},
        "reread": {"reread": lambda data: look(True)},
        "confirm": {"confirming_action": "confirm it"},
    }
    options = {"compensating_action": lambda: None} | own[asked]

    @step(**options)
    def act():
        if asked == "probe":
            raise TimeoutError
        return 1

    manager = make_sync()
    manager.action("confirm it", idempotent=True)(lambda action, data: look())
    if asked in ("undo", "verify"):
        tx = given_up(manager, act)
    else:
        with manager.transaction() as tx:
            act()
    assert len(tx.steps) == 1
    assert around == [None]


@pytest.mark.parametrize("is_async", [True, False])
def test_under_tasks_too_an_undo_stands_in_no_transaction(is_async):
    around: list[Any] = []
    look = step(lambda: around.append(AMBIENT.get()))

    def undo():
        look()

    async def undo_later():
        look()

    @step(compensating_action=undo_later if is_async else undo)
    async def act():
        pass

    async def story():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            await act()
            await tx.rollback()
            return tx.steps

    assert len(asyncio.run(story())) == 1
    assert around == [None]


def test_a_step_that_another_calls_is_a_step_of_its_own(make_sync):
    log: list[Any] = []

    @step(compensating_action=lambda n: log.append(f"undo inner {n}"))
    def inner(n):
        return n

    @step(compensating_action=lambda result: log.append(f"undo outer {result}"))
    def outer(n):
        return inner(n) + inner(n + 1)

    def function():
        assert outer(1) == 3

    tx = given_up(make_sync(), function)
    assert [one.action.rpartition(".")[2] for one in tx.steps] == ["outer", "inner", "inner"]
    assert log == ["undo outer 3", "undo inner 2", "undo inner 1"]


def test_an_async_undo_of_an_async_step(make_sync):
    log: list[Any] = []

    async def cancel(flight_id, result):
        await asyncio.sleep(0)
        log.append((flight_id, result))

    @step(compensating_action=cancel)
    async def book(flight_id: str) -> str:
        return "ref"

    @step(compensating_action=cancel)
    def book_now(flight_id: str) -> str:
        return "now"

    async def story():
        async with AsyncTransactionManager() as manager, manager.transaction():
            await book("F1")
            book_now("F2")
            raise GaveUp

    with pytest.raises(GaveUp):
        asyncio.run(story())
    assert log == [("F2", "now"), ("F1", "ref")]
    log.clear()
    given_up(make_sync(), lambda: asyncio.run(book("F3")))
    assert log == [("F3", "ref")]


# ----------------------------------------------------------------------------- many, in one line


def test_functions_of_others_become_steps_in_one_line(make_sync):
    log: list[Any] = []

    def book(flight_id):
        return require_transaction().transaction_id

    def look(flight_id):
        return AMBIENT.get()

    def cancel(flight_id):
        log.append(flight_id)

    undos = {"book": cancel}
    for tools in ([book, look], (book, look), {"book": book, "look": look}):
        made = transactional(tools, compensating_actions=undos, agent_id="flight_agent")
        assert type(made) is type(tools)
        first, second = made.values() if isinstance(made, dict) else made
        tx = given_up(make_sync(), lambda f=first: f("F1"), lambda f=second: f("F1"))
        assert [one.agent_id for one in tx.steps] == ["flight_agent"] * 2
        assert [one.compensating_action is None for one in tx.steps] == [False, True]
    assert log == ["F1"] * 3
    assert undos == {"book": cancel}
    assert transactional(look)("F1") is None


def test_a_mapping_names_its_functions_by_its_keys(make_sync):
    log: list[Any] = []
    tools = {"a": lambda n: n, "b": lambda n: n}
    made = transactional(tools, compensating_actions={"b": lambda n: log.append([n])})
    given_up(make_sync(), lambda: made["a"](1), lambda: made["b"](2))
    assert log == [[2]]


def test_what_is_a_step_already_stays_what_it_is():
    made = step(name="made already")(lambda n: n)
    assert transactional([made]) == [made]
    with pytest.raises(DefinitionError, match="already"):
        transactional({"made": made}, compensating_actions={"made": "undo"})


def test_an_undo_of_none_or_of_more_than_one_of_them_is_refused():
    def book():
        pass

    other = [book, step(name="another book")(lambda: None)]
    other[1].__name__ = "book"
    for tools, problem in (([book], "none of the tools"), (other, "more than one tool")):
        undos = {"book" if tools is other else "bok": "undo"}
        with pytest.raises(DefinitionError, match=f"{problem}.*They are: book"):
            transactional(tools, compensating_actions=undos)


def test_required_holds_for_all_of_them():
    from aumai_transactions import NoActiveTransaction

    with pytest.raises(NoActiveTransaction):
        transactional(lambda: None, required=True)()
