"""Decorated functions that are given as what undoes or confirms a step."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="arg-type, union-attr, no-untyped-call"

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from aumai_transactions import (
    AsyncSagaOrchestrator,
    AsyncTransactionManager,
    DefinitionError,
    RetryPolicy,
    SagaOrchestrator,
    StepContext,
    TransactionManager,
    TransactionNotActive,
    step,
)

LOG: list[Any] = []


class Room(BaseModel):
    number: int


@step(name="tests.behind.cancel", idempotent=True, retry=RetryPolicy(attempts_max=3))
def cancel(hotel: str, result: dict | None, context: StepContext) -> None:
    LOG.append(("cancel", hotel, result, context.operation, context.in_doubt))


@step(name="tests.behind.cancel_later")
async def cancel_later(hotel: str, result: Any, **more: Any) -> None:
    await asyncio.sleep(0)
    LOG.append(("cancel", hotel, result, more))


@step(name="tests.behind.confirm", idempotent=True)
def confirm(result: dict) -> None:
    LOG.append(("confirm", result))


@step(name="tests.behind.book")
def book(hotel: str, nights: int = 1) -> Room:
    return Room(number=nights)


@step(name="tests.behind.cancel_room")
def cancel_room(result: Room, nights: int) -> None:
    LOG.append(("cancel", result, nights))


def reserve(action, data):
    return {"room": 7}


def fail(action, data):
    raise ValueError("no")


HANDLERS = {"reserve": reserve, "fail": fail}
DATA = {"hotel": "Ritz", "nights": 2}


@pytest.fixture(autouse=True)
def log():
    LOG.clear()
    return LOG


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return None if request.param == "memory" else str(tmp_path / "trips.db")


def test_a_decorated_function_undoes_a_planned_step_and_takes_what_it_needs(place, log):
    with TransactionManager(HANDLERS, store=place) as manager:
        tx = manager.begin()
        added = manager.add_step(tx, "agent", "reserve", DATA, cancel)
        manager.add_step(tx, "agent", "fail", {})
        result = manager.commit(tx)
    assert added.compensating_action == "tests.behind.cancel"
    assert result.compensated_steps == ["s1"]
    assert log == [("cancel", "Ritz", {"room": 7}, "compensation", False)]


def test_the_same_under_its_name(place, log):
    with TransactionManager(HANDLERS, store=place) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "reserve", DATA, "tests.behind.cancel")
        manager.add_step(tx, "agent", "fail", {})
        assert manager.commit(tx).clean
    assert log == [("cancel", "Ritz", {"room": 7}, "compensation", False)]


@pytest.mark.parametrize("undo", [cancel, cancel_later])
def test_a_saga_a_block_and_an_action_take_one_as_well(place, log, undo):
    with TransactionManager(HANDLERS, store=place) as manager:
        manager.action("hold", compensating_action=undo)(reserve)
        saga = SagaOrchestrator(manager)
        saga.register("agent", "reserve", DATA, undo)
        saga.register("agent", "hold", DATA)
        saga.register("agent", "fail", {})
        assert saga.execute().compensated_steps == ["s2", "s1"]
        with manager.transaction() as tx:
            tx.execute("agent", "reserve", DATA, undo)
            tx.undo("s1")
    said = ("Ritz", {"room": 7})
    assert [entry[1:3] for entry in log] == [said, said, said]


@pytest.mark.parametrize("undo", [cancel, cancel_later])
def test_asyncio_takes_one_as_well(place, log, undo):
    async def main():
        async with AsyncTransactionManager(HANDLERS, store=place) as manager:
            saga = AsyncSagaOrchestrator(manager)
            saga.register("agent", "reserve", DATA, undo)
            saga.register("agent", "fail", {})
            assert (await saga.execute()).compensated_steps == ["s1"]
            async with manager.transaction() as tx:
                await tx.execute("agent", "reserve", DATA, undo)
                await tx.undo("s1")

    asyncio.run(main())
    assert [entry[1:3] for entry in log] == [("Ritz", {"room": 7})] * 2
    if undo is cancel_later:
        assert log[0][3] == {"nights": 2}


def test_it_confirms_a_step_as_well(place, log):
    with TransactionManager(HANDLERS, store=place) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "reserve", DATA, cancel, confirming_action=confirm)
        assert manager.commit(tx).state == "committed"
        with manager.transaction() as block:
            block.execute("agent", "reserve", DATA, cancel, confirming_action=confirm)
    assert log == [("confirm", {"room": 7})] * 2


def test_what_undoes_a_decorated_function_reads_its_values_as_that_does(place, log):
    with TransactionManager(store=place) as manager, manager.transaction() as tx:
        tx.execute("agent", "tests.behind.book", {"hotel": "Ritz"}, cancel_room)
        tx.undo("s1")
    assert log == [("cancel", Room(number=1), 1)]


def test_what_it_declares_of_itself_holds_for_the_undo(log):
    with TransactionManager(HANDLERS) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "reserve", DATA, cancel)
        manager.add_step(tx, "agent", "fail", {})
        manager.commit(tx)
        plan = next(iter(manager.get_events(tx.transaction_id))).fields["definition"]
    assert plan["steps"][0]["policy"]["undo_retry"]["attempts_max"] == 3


def test_one_that_would_lack_an_argument_is_refused_before_anything_is_done(place, log):
    with TransactionManager(HANDLERS, store=place) as manager:
        tx = manager.begin()
        with pytest.raises(DefinitionError, match=r"needs hotel, which is not in the step's data"):
            manager.add_step(tx, "agent", "reserve", {"nights": 2}, cancel)
        with pytest.raises(DefinitionError, match="confirming action, needs hotel"):
            manager.add_step(tx, "agent", "reserve", {}, confirming_action=cancel)
        with pytest.raises(DefinitionError, match="'room' that no undo is given"):
            manager.add_step(tx, "agent", "tests.behind.book", {"hotel": "Ritz"}, needs_room)
        assert tx.steps == []
    assert log == []


@step(name="tests.behind.needs_room")
def needs_room(room: int) -> None:
    raise AssertionError


def test_one_that_is_named_and_lacks_an_argument_leaves_the_step_to_a_person(log):
    with TransactionManager(HANDLERS) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "reserve", {"nights": 2}, "tests.behind.cancel")
        manager.add_step(tx, "agent", "fail", {})
        (left,) = manager.commit(tx).outstanding
    assert "hotel: is missing" in str(left.error)


def test_one_that_could_not_be_found_again_is_refused_where_the_store_outlives_the_process(place):
    done = []

    @step
    def nested(hotel: str) -> None:
        done.append(hotel)

    with TransactionManager(HANDLERS, store=place) as manager:
        tx = manager.begin()
        if place is not None:
            with pytest.raises(DefinitionError, match="cannot be found again after a restart"):
                manager.add_step(tx, "agent", "reserve", DATA, nested)
            return
        manager.add_step(tx, "agent", "reserve", DATA, nested)
        manager.add_step(tx, "agent", "fail", {})
        assert manager.commit(tx).clean
    assert done == ["Ritz"]


def test_another_action_of_its_name_is_not_called_in_its_place():
    with TransactionManager({**HANDLERS, "tests.behind.cancel": reserve}) as manager:
        tx = manager.begin()
        with pytest.raises(DefinitionError, match="knows another function as"):
            manager.add_step(tx, "agent", "reserve", DATA, cancel)


def test_another_process_that_recovers_finds_it_by_its_name(tmp_path, log):
    place = str(tmp_path / "trips.db")
    dead = TransactionManager(HANDLERS, store=place)
    with pytest.raises(TransactionNotActive), dead.transaction() as block:
        block.execute("agent", "reserve", DATA, cancel)
        dead.close()
    with TransactionManager(HANDLERS, store=place) as manager:
        manager.recover()
        assert manager.get_result(block.transaction_id).compensated_steps == ["s1"]
    assert log == [("cancel", "Ritz", {"room": 7}, "compensation", False)]
