"""What a block hands on: the intent that the code around a step says."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr"

import asyncio
from typing import Any

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    InvalidData,
    TransactionManager,
    TransactionNotActive,
    require_transaction,
    step,
)

TAKEN: list[str] = []


@step(name="tests.blocks.take", once=True)
def take(room: str) -> int:
    TAKEN.append(room)
    return len(TAKEN)


@step(name="tests.blocks.hold", once=True)
def hold(room: str) -> str:
    TAKEN.append(f"hold {room}")
    return room


@step(name="tests.blocks.take_later", once=True)
async def take_later(room: str) -> int:
    TAKEN.append(room)
    return len(TAKEN)


@step(name="tests.blocks.both")
def both() -> list[int]:
    return [take("left"), take("right")]


@pytest.fixture(autouse=True)
def taken():
    TAKEN.clear()
    return TAKEN


def test_an_intent_that_is_said_around_a_call_takes_the_place_of_its_data(taken):
    with TransactionManager() as manager, manager.transaction() as tx:
        assert (take("a"), take("a")) == (1, 1)
        with tx.intent("the second"):
            assert (take("a"), take("b")) == (2, 2)
            assert hold("a") == "a"  # Another function is another thing.
        assert take("a") == 1
        assert tx.execute(None, "tests.blocks.take", {"room": "x"}) == 4
        with tx.intent("the second"):
            assert tx.execute(None, "tests.blocks.take", {"room": "y"}) == 2
            assert tx.execute(None, "tests.blocks.take", {"room": "y"}, intent="own words") == 5
    assert taken == ["a", "a", "hold a", "x", "y"]


def test_it_is_not_said_of_the_steps_that_such_a_step_asks_for(taken):
    with TransactionManager() as manager, manager.transaction() as tx:
        with tx.intent("the pair"):
            assert both() == [1, 2]
        assert take("right") == 2
    assert taken == ["left", "right"]


def test_it_reaches_tasks_that_are_begun_in_it(taken):
    async def main() -> list[Any]:
        async with AsyncTransactionManager() as manager, manager.transaction():
            first = await take_later("a")
            with require_transaction().intent("the second"):
                second = await asyncio.create_task(take_later("a"))
                again = await take_later("b")
            return [first, second, again]

    assert asyncio.run(main()) == [1, 2, 2]


def test_a_program_that_is_resumed_finds_a_step_again_by_it(tmp_path, taken):
    place = str(tmp_path / "trips.db")
    dead = TransactionManager(store=place)
    block = dead.transaction(on_crash="wait", resume_within_seconds=3600)
    with pytest.raises(TransactionNotActive), block, block.intent("the second"):
        take("a")
        dead.close()
    with TransactionManager(store=place) as manager:
        with manager.resume(block.transaction_id) as tx:
            with tx.intent("the second"):
                assert take("in other words") == 1
            assert tx.not_asked_again == []
        assert tx.result.state == "committed"
    assert taken == ["a"]


def test_an_intent_without_words_is_refused():
    with (
        TransactionManager() as manager,
        manager.transaction() as tx,
        pytest.raises(InvalidData, match="intent"),
        tx.intent(" "),
    ):
        raise AssertionError
