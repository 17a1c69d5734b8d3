"""Tests of runs of pydantic-ai as transactions: how they begin, and what their ends mean."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_ai import (
    DeferredToolRequests,
    Tool,
    UsageLimitExceeded,
    UsageLimits,
)
from pydantic_ai.exceptions import CallDeferred

from aumai_transactions import (
    AsyncTransactionManager,
    InvalidTransactionState,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    TransactionRolledBack,
)
from aumai_transactions.integrations import (
    READ,
    roll_back_transaction,
)
from aumai_transactions.integrations.pydantic_ai import Transactional

RITZ = ("book", {"hotel": "Ritz"})
SAVOY = ("book", {"hotel": "Savoy"})
ASTORIA = ("book", {"hotel": "Astoria"})


def tool(world: Any, *, is_async: bool = False, **options: Any) -> Tool[Any]:
    return Tool(world.book_async if is_async else world.book, name="book", **options)


def states(tx: Any) -> list[str]:
    return [one.state.value for one in tx.steps]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_ends_commits_and_an_exception_in_the_block_undoes_it(world, *, is_async):
    agent = world.agent(
        RITZ,
        tools=[tool(world, is_async=is_async)],
        capabilities=[Transactional({"book": world.cancel})],
    )

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx:
                assert (await agent.run("go")).output == "done"
            assert tx.state == "committed"
            assert world.rooms == ["Ritz"]
            world.rooms.clear()
            with pytest.raises(KeyError):
                async with manager.transaction() as tx:
                    await agent.run("go")
                    raise KeyError
            assert tx.state == "rolled_back"

    asyncio.run(main())
    assert world.undone == [("Ritz", "Ritz 7")]


def test_a_run_without_a_block_is_a_transaction_of_its_own(world):
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            begins = Transactional({"book": world.cancel}, manager=manager)
            agent = world.agent(RITZ, tools=[tool(world)], capabilities=[begins])
            await agent.run("go")
            (tx,) = [one async for one in manager.get_all_transactions()]
            assert (tx.name, tx.state) == ("trip", "committed")
            agent = world.agent(RITZ, SAVOY, tools=[tool(world)], capabilities=[begins])
            with pytest.raises(UsageLimitExceeded):
                await agent.run("go", usage_limits=UsageLimits(request_limit=2))
            async with manager.transaction() as around:
                await world.agent(SAVOY, tools=[tool(world)], capabilities=[begins]).run("go")
                assert len(around.steps) == 1

    asyncio.run(main())
    assert world.rooms == ["Ritz", "Savoy"]
    assert [one for one, _ in world.undone] == ["Savoy", "Ritz"]


def test_a_sync_run_and_a_sync_manager_do(world):
    manager = TransactionManager()
    begins = Transactional({"book": world.cancel}, manager=manager)
    agent = world.agent(RITZ, tools=[tool(world)], capabilities=[begins])
    agent.run_sync("go")
    assert [one.state.value for one in manager.get_all_transactions()] == ["committed"]
    with pytest.raises(KeyError), manager.transaction():
        world.agent(SAVOY, tools=[tool(world)], capabilities=[begins]).run_sync("go")
        raise KeyError
    assert world.rooms == ["Ritz"]


def test_a_call_after_the_end_is_refused_and_ends_the_run(world):
    agent = world.agent(
        RITZ,
        ("roll_back_transaction", {"reason": "too dear"}),
        SAVOY,
        tools=[tool(world), roll_back_transaction],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with pytest.raises(TransactionNotActive), TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert tx.state == "rolled_back"
    assert world.calls == ["Ritz"]
    assert world.rooms == []


def test_a_run_that_was_rolled_back_by_its_model_is_no_success(world):
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            agent = world.agent(
                RITZ,
                ("roll_back_transaction", {"reason": "too dear"}),
                tools=[tool(world), roll_back_transaction],
                capabilities=[Transactional({"book": world.cancel}, manager=manager)],
            )
            with pytest.raises(TransactionRolledBack):
                await agent.run("go")

    asyncio.run(main())
    assert world.rooms == []
    assert "rolled_back" in world.told[2][0]


def test_nothing_runs_outside_of_a_transaction_unless_it_may(world):
    agent = world.agent(
        RITZ, tools=[tool(world)], capabilities=[Transactional({"book": world.cancel})]
    )
    with pytest.raises(NoActiveTransaction):
        agent.run_sync("go")
    assert world.calls == []
    free = [Transactional({"book": world.cancel}, required=False)]
    world.agent(RITZ, tools=[tool(world)], capabilities=free).run_sync("go")
    assert world.calls == ["Ritz"]


def test_a_cancelled_run_is_undone(world):
    has_begun = asyncio.Event()

    async def wait(hotel: str) -> str:
        """Wait."""
        has_begun.set()
        await asyncio.Event().wait()
        return hotel

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            agent = world.agent(
                RITZ,
                ("wait", {"hotel": "Ritz"}),
                tools=[tool(world), wait],
                capabilities=[Transactional({"book": world.cancel, "wait": READ}, manager=manager)],
            )
            task = asyncio.create_task(agent.run("go"))
            await has_begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (tx,) = [one async for one in manager.get_all_transactions()]
            assert tx.state == "rolled_back"

    asyncio.run(main())
    assert world.rooms == []


def test_a_streamed_run_is_a_transaction_too(world):
    async def main() -> list[str]:
        async with AsyncTransactionManager() as manager:
            begins = Transactional({"book": world.cancel}, manager=manager)
            agent = world.agent(RITZ, tools=[tool(world)], capabilities=[begins])
            async with agent.run_stream("go") as run:
                assert "".join([one async for one in run.stream_text(delta=True)]) == "done"
            agent = world.agent(SAVOY, tools=[tool(world)], capabilities=[begins])
            with pytest.raises(KeyError):
                async with agent.run_stream("go") as run:
                    assert world.rooms == ["Ritz", "Savoy"]
                    raise KeyError
            return sorted([one.state.value async for one in manager.get_all_transactions()])

    assert asyncio.run(main()) == ["committed", "rolled_back"]
    assert world.rooms == ["Ritz"]


def test_a_run_that_is_left_in_its_middle_is_undone(world):
    async def main() -> list[str]:
        async with AsyncTransactionManager() as manager:
            begins = Transactional({"book": world.cancel}, manager=manager)
            agent = world.agent(RITZ, SAVOY, tools=[tool(world)])
            async with agent.iter("go", capabilities=[begins]) as nodes:
                async for _ in nodes:
                    if world.rooms:
                        break
            return [one.state.value async for one in manager.get_all_transactions()]

    assert asyncio.run(main()) == ["rolled_back"]
    assert world.calls == ["Ritz"]
    assert world.rooms == []


def test_a_call_that_is_put_off_did_not_happen_and_is_named_where_the_run_is_over(world):
    def later(hotel: str) -> str:
        """Book a room elsewhere."""
        raise CallDeferred

    options: dict[str, Any] = {
        "tools": [tool(world), Tool(later)],
        "output_type": [str, DeferredToolRequests],
    }
    with TransactionManager().transaction() as tx:
        agent = world.agent(("later", {"hotel": "Ritz"}), capabilities=[Transactional()], **options)
        result = agent.run_sync("go")
        assert [one.tool_name for one in result.output.calls] == ["later"]
        answers = result.output.build_results(calls={"call 0.0": "Ritz 9"})
        agent.run_sync(message_history=result.all_messages(), deferred_tool_results=answers)
        assert world.told[-1] == ["Ritz 9"]
    assert states(tx) == ["failed"]
    begins = Transactional({"book": world.cancel}, manager=TransactionManager())
    agent = world.agent(RITZ, ("later", {"hotel": "Ritz"}), capabilities=[begins], **options)
    with pytest.raises(InvalidTransactionState, match="one block around both"):
        agent.run_sync("go")
    assert world.rooms == []
