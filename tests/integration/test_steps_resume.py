"""A program that is run again after its process died: what it had done is not done again.

Here the process dies by its manager, which lets go of everything at once; with a real SIGKILL it
is in `tests/crash/test_steps_resume.py`.
"""
# mypy: disable-error-code="union-attr"

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from aumai_transactions import (
    AsyncTransactionManager,
    InvalidTransactionState,
    TransactionManager,
    require_transaction,
    step,
)

NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
CALLED: list[Any] = []
UNDONE: list[Any] = []


class GaveUp(Exception):
    pass


@dataclass
class Booking:
    ref: str
    at: datetime


class Fare(BaseModel):
    amount: Decimal


class Seat(NamedTuple):
    row: int
    letter: str


RESULTS = [Booking("F1", NOW), NOW, Fare(amount=Decimal("10.50")), Seat(3, "a"), None, {"a": [1]}]


@step
def booking() -> Booking:
    CALLED.append("booking")
    return Booking("F1", NOW)


@step
def today() -> datetime:
    CALLED.append("today")
    return NOW


@step
async def fare() -> Fare:
    CALLED.append("fare")
    return Fare(amount=Decimal("10.50"))


@step
def seat() -> Seat:
    CALLED.append("seat")
    return Seat(3, "a")


@step
def nothing() -> None:
    CALLED.append("nothing")


@step
async def untyped():
    CALLED.append("untyped")
    return {"a": [1]}


def forget(n):
    UNDONE.append(n)


@step(compensating_action=forget)
def act(n: int, note: str = "") -> str:
    CALLED.append(n)
    return f"{n} at {len(CALLED)}"


@step(identity=("order_id",))
def order(order_id: str, note: str = "", when: datetime | None = None) -> str:
    CALLED.append(order_id)
    return f"{order_id} {note}"


@pytest.fixture(autouse=True)
def journal(tmp_path):
    CALLED.clear()
    UNDONE.clear()
    return tmp_path / "trips.db"


@pytest.fixture
def died(journal, in_thread):
    """Let a program die in its transaction; return the id."""

    def run(program, *arguments):
        def story():
            manager = TransactionManager(store=journal)
            block = manager.transaction(on_crash="wait", resume_within_seconds=600)
            block.__enter__()
            program(*arguments)
            manager.close()
            return block.transaction_id

        return in_thread(story).result()

    return run


@pytest.fixture
def resumed(make_sync, journal):
    """Run a program again in the transaction in which it died; return the block."""

    def run(name, program, *arguments):
        with make_sync(store=journal).resume(name) as tx:
            tx.value = program(*arguments)
        return tx

    return run


def forks(manager, name):
    events = manager.get_events(name)
    return [event.fields.get("fork") for event in events if event.kind == "step_added"]


@pytest.fixture
def forks_of(make_sync, journal):
    return lambda name: forks(make_sync(store=journal), name)


# ----------------------------------------------------------------------------- what was recorded


def everything():
    return [
        *(booking(), today(), asyncio.run(fare()), seat(), nothing()),
        asyncio.run(untyped()),
    ]


def test_what_was_done_is_answered_as_it_was_with_its_types(died, resumed, forks_of):
    name = died(everything)
    assert CALLED == ["booking", "today", "fare", "seat", "nothing", "untyped"]
    tx = resumed(name, everything)
    assert len(CALLED) == 6
    assert tx.value == RESULTS
    assert [type(value) for value in tx.value] == [type(value) for value in RESULTS]
    assert (tx.result.state.value, len(tx.steps)) == ("committed", 6)
    assert forks_of(name) == [None] * 6


def test_tasks_find_what_was_done_too(died, journal):
    name = died(everything)

    async def story():
        async with AsyncTransactionManager(store=journal) as manager:
            async with await manager.resume(name) as tx:
                later = await asyncio.gather(fare(), untyped(), asyncio.to_thread(booking))
                found: list[Any] = [*later, today(), seat(), nothing()]
            return found, tx.result.state.value

    found, state = asyncio.run(story())
    assert len(CALLED) == 6
    assert all(value in RESULTS for value in found)
    assert {type(value) for value in found} == {type(value) for value in RESULTS}
    assert state == "committed"


def test_a_result_that_could_not_be_recorded_is_none_then(died, resumed):
    def program():
        return unrecordable()

    name = died(program)
    assert resumed(name, program).value is None
    assert CALLED == ["unrecordable"]


@step
def unrecordable() -> Any:
    CALLED.append("unrecordable")
    return object()


def test_the_program_goes_on_where_it_died(died, resumed, forks_of):
    def program(count):
        return [act(n) for n in range(count)]

    name = died(program, 2)
    tx = resumed(name, program, 5)
    assert CALLED == [0, 1, 2, 3, 4]
    assert tx.value == [f"{n} at {n + 1}" for n in range(5)]
    assert forks_of(name) == [None] * 5


def test_what_was_done_before_is_undone_with_the_rest(died, make_sync, journal):
    name = died(act, 1)
    with pytest.raises(GaveUp), make_sync(store=journal).resume(name) as tx:  # noqa: PT012
        act(1)
        act(2)
        raise GaveUp
    assert (CALLED, UNDONE) == ([1, 2], [2, 1])
    assert tx.result.clean


def test_what_the_program_does_not_ask_for_any_more_stays(died, resumed):
    name = died(act, 1)
    tx = resumed(name, act, 2)
    assert [one.state.value for one in tx.steps] == ["succeeded", "succeeded"]


def test_a_program_may_die_more_than_once(died, resumed, in_thread, journal):
    name = died(act, 1)

    def again():
        manager = TransactionManager(store=journal)
        manager.resume(name).__enter__()
        act(1)
        act(2)
        manager.close()

    in_thread(again).result()
    tx = resumed(name, lambda: [act(1), act(2), act(3)])
    assert CALLED == [1, 2, 3]
    assert tx.value == ["1 at 1", "2 at 2", "3 at 3"]


def test_what_is_over_or_has_a_program_cannot_be_resumed(make_sync, journal):
    manager = make_sync(store=journal)
    with manager.transaction() as tx:
        act(1)
        with pytest.raises(InvalidTransactionState, match="living process"):
            make_sync(store=journal).resume(tx.transaction_id)
    with pytest.raises(InvalidTransactionState, match="committed"):
        make_sync(store=journal).resume(tx.transaction_id)


# -------------------------------------------------------------------- what makes two requests one


def test_a_changed_argument_is_a_new_step_in_the_place_of_the_first_unmatched(
    died, resumed, forks_of
):
    def program(*numbers):
        return [act(n) for n in numbers]

    name = died(program, 1, 2, 3)
    tx = resumed(name, program, 1, 20, 30, 3)
    assert CALLED == [1, 2, 3, 20, 30]
    assert tx.value == ["1 at 1", "20 at 4", "30 at 5", "3 at 3"]
    assert forks_of(name) == [None, None, None, "s2", "s2"]


def test_only_what_identifies_it_counts(died, resumed, forks_of):
    name = died(lambda: [order("a", "first", NOW), order("b")])
    tx = resumed(name, lambda: [order("b", "other"), order("a", note="other", when=None)])
    assert CALLED == ["a", "b"]
    assert tx.value == ["b ", "a first"]
    assert forks_of(name) == [None, None]


def test_equal_requests_are_matched_one_by_one(died, resumed, forks_of):
    name = died(lambda: [act(1), act(1), act(2), act(1)])
    tx = resumed(name, lambda: [act(1) for _ in range(4)] + [act(2)])
    assert tx.value == ["1 at 1", "1 at 2", "1 at 4", "1 at 5", "2 at 3"]
    assert CALLED == [1, 1, 2, 1, 1]
    assert forks_of(name)[-1] == "s3"


def test_what_failed_is_tried_anew(died, resumed, forks_of):
    left: list[Exception] = [GaveUp()]

    def program():
        tries.append(left)
        return fragile()

    def first():
        with pytest.raises(GaveUp):
            program()

    name = died(first)
    tx = resumed(name, program)
    assert tx.value == "done"
    assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]
    assert forks_of(name) == [None, None]


tries: list[list[Exception]] = []


@step
def fragile() -> str:
    if tries[-1]:
        raise tries[-1].pop()
    return "done"


def test_what_was_taken_back_is_never_answered_as_done(died, resumed, forks_of):
    def program():
        tx: Any = require_transaction()
        savepoint = tx.savepoint("try")
        act(1)
        savepoint.rollback()

    def again():
        return act(1)

    name = died(program)
    assert (CALLED, UNDONE) == ([1], [1])
    tx = resumed(name, again)
    assert tx.value == "1 at 2"
    assert [one.state.value for one in tx.steps] == ["compensated", "succeeded"]
    assert forks_of(name) == [None, None]


def test_a_step_asked_for_once_is_once_also_then(died, resumed):
    def program():
        return [only_once(1), only_once(1), only_once(2)]

    name = died(program)
    tx = resumed(name, program)
    assert tx.value == ["1 at 1", "1 at 1", "2 at 2"]
    assert CALLED == [1, 2]


@step(once=True)
def only_once(n: int) -> str:
    CALLED.append(n)
    return f"{n} at {len(CALLED)}"


ACT = f"{__name__}:act"


def executed(n, **options):
    tx: Any = require_transaction()
    return tx.execute(None, ACT, {"n": n, "note": ""}, **options)


def test_again_is_again(died, resumed):
    name = died(act, 1)
    tx = resumed(name, lambda: [executed(1, again=True), act(1), executed(1, once=True)])
    assert tx.value == ["1 at 2", "1 at 1", "1 at 2"]
    assert CALLED == [1, 1]


def test_a_step_is_found_by_its_name_as_well_as_by_its_call(died, resumed):
    name = died(lambda: [executed(1), act(2)])
    assert resumed(name, lambda: [executed(2), act(1)]).value == ["2 at 2", "1 at 1"]
    assert CALLED == [1, 2]


def test_agents_do_not_take_each_others_answers(died, resumed, forks_of):
    def program(*agents):
        values = []
        for agent in agents:
            tx: Any = require_transaction()
            with tx.agent(agent):
                values.append(act(1))
        return values

    name = died(program, "one", "two")
    assert resumed(name, program, "two", "one", "three").value == ["1 at 2", "1 at 1", "1 at 3"]
    assert forks_of(name) == [None, None, None]


@pytest.mark.parametrize("names", [("left", "right"), ("right", "left")])
def test_equal_requests_at_once_are_told_apart_by_their_intent(died, resumed, in_thread, names):
    def program(order):
        tx: Any = require_transaction()
        asked = tx.bind(lambda intent: executed(1, intent=intent))
        return {intent: in_thread(asked, intent).result() for intent in order}

    name = died(program, ("left", "right"))
    tx = resumed(name, program, names)
    assert tx.value == {"left": "1 at 1", "right": "1 at 2"}
    assert CALLED == [1, 1]


# ----------------------------------------------------------------------------------------- groups


def in_group(kind, name, *numbers, error=None):
    tx: Any = require_transaction()
    with tx.transaction(name) if kind == "child" else tx.savepoint(name):
        values = [act(n) for n in numbers]
        if error is not None:
            raise error
    return values


@pytest.mark.parametrize("kind", ["child", "savepoint"])
def test_what_was_done_in_a_group_is_found_in_the_one_of_the_same_name(
    died, resumed, forks_of, kind
):
    name = died(lambda: [in_group(kind, "one", 1), in_group(kind, "two", 1)])
    tx = resumed(name, lambda: [in_group(kind, "two", 1), in_group(kind, "one", 1, 2)])
    assert tx.value == [["1 at 2"], ["1 at 1", "2 at 3"]]
    assert forks_of(name) == [None, None, None]


def dying_inside(kind, name, *numbers):
    """Do something in a group, and die in it: neither its end nor an undo is recorded."""
    tx: Any = require_transaction()
    block = tx.transaction(name) if kind == "child" else tx.savepoint(name)
    block.__enter__()
    for n in numbers:
        act(n)


@pytest.mark.parametrize("kind", ["child", "savepoint"])
def test_what_was_done_in_a_group_before_is_undone_with_it(died, resumed, kind):
    name = died(dying_inside, kind, "part", 1)

    def program():
        with pytest.raises(GaveUp):
            in_group(kind, "part", 1, 2, error=GaveUp())
        return act(3)

    tx = resumed(name, program)
    assert (CALLED, UNDONE) == ([1, 2, 3], [2, 1])
    assert [one.state.value for one in tx.steps] == ["compensated", "compensated", "succeeded"]
