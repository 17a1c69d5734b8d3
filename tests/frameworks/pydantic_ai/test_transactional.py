"""Tests of tools of pydantic-ai as steps, against the real framework with a model offline."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    ModelRetry,
    RunContext,
    Tool,
    ToolReturn,
    UsageLimitExceeded,
    UsageLimits,
)
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import SkipToolExecution, UnexpectedModelBehavior
from pydantic_ai.toolsets import FunctionToolset

from aumai_transactions import (
    AsyncTransactionManager,
    NoActiveTransaction,
    TransactionManager,
    step,
)
from aumai_transactions.integrations import (
    READ,
    ToolRule,
    transaction_status,
)
from aumai_transactions.integrations.pydantic_ai import Transactional

RITZ = ("book", {"hotel": "Ritz"})
SAVOY = ("book", {"hotel": "Savoy"})
ASTORIA = ("book", {"hotel": "Astoria"})


def tool(world: Any, *, is_async: bool = False, **options: Any) -> Tool[Any]:
    return Tool(world.book_async if is_async else world.book, name="book", **options)


def states(tx: Any) -> list[str]:
    return [one.state.value for one in tx.steps]


def test_a_step_under_the_frameworks_decorator_keeps_its_schema_and_is_one_step(world):
    def reserve(hotel: str, day: date, nights: int = 1) -> str:
        """Reserve a room.

        Args:
            hotel: Where.
            day: When.
            nights: How long.
        """
        return world.book(hotel)

    decorated = step(name="reserve of pydantic-ai", compensating_action=world.cancel)(reserve)
    assert Tool(decorated).function_schema.json_schema == Tool(reserve).function_schema.json_schema
    toolset = FunctionToolset([decorated], id="own")
    call = ("reserve", {"hotel": "Ritz", "day": "2026-05-01"})
    capabilities = [Transactional()]
    agent = world.agent(call, toolsets=[toolset], capabilities=capabilities)
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        agent.run_sync("go")
        raise KeyError
    assert [one.action for one in tx.steps] == ["reserve of pydantic-ai"]
    assert world.undone == [("Ritz", "Ritz 7")]
    with pytest.raises(NoActiveTransaction):
        agent.run_sync("go")


def test_an_async_step_in_an_async_block_is_one_step(world):
    @step(name="async reserve of pydantic-ai", compensating_action=world.cancel)
    async def reserve(hotel: str) -> str:
        """Reserve a room."""
        return await world.book_async(hotel)

    async def main() -> Any:
        async with AsyncTransactionManager() as manager:
            for capabilities in ([], [Transactional()]):
                agent = world.agent(
                    ("reserve", {"hotel": "Ritz"}), tools=[reserve], capabilities=capabilities
                )
                with pytest.raises(KeyError):
                    async with manager.transaction() as tx:
                        await agent.run("go")
                        raise KeyError
                assert [one.action for one in tx.steps] == ["async reserve of pydantic-ai"]

    asyncio.run(main())
    assert world.undone == [("Ritz", "Ritz 7")] * 2


def test_a_tools_error_goes_to_the_model_and_aborts_nothing(world):
    agent = world.agent(
        ASTORIA, RITZ, tools=[tool(world)], capabilities=[Transactional({"book": world.cancel})]
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert world.told[1] == ["ValueError: the Astoria is full"]
    assert states(tx) == ["failed", "succeeded"]
    assert tx.state == "committed"


def test_errors_of_the_framework_end_the_run(world):
    async def nested(hotel: str) -> str:
        """Ask another agent."""
        other = world.agent(("book", {"hotel": hotel}), tools=[tool(world)])
        await other.run("go", usage_limits=UsageLimits(request_limit=0))
        return hotel

    agent = world.agent(
        RITZ, tools=[Tool(nested, name="book")], capabilities=[Transactional({"book": READ})]
    )
    with pytest.raises(UsageLimitExceeded), TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert tx.state == "rolled_back"


def test_a_tool_that_asks_for_another_try_takes_effect_once(world):
    def picky(ctx: RunContext[Any], hotel: str) -> str:
        """Book a room."""
        if ctx.retry == 0:
            raise ModelRetry("say please")
        return world.book(hotel)

    agent = world.agent(
        RITZ,
        RITZ,
        RITZ,
        tools=[Tool(picky, name="book", max_retries=2)],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
        assert "Suspended: ModelRetry" in str(tx.describe())
    assert "say please" in str(world.told[1])
    assert states(tx) == ["failed", "succeeded"]
    assert world.rooms == ["Ritz"]
    assert world.undone == []


def test_retries_that_are_used_up_end_the_run_and_undo_it(world):
    def never(hotel: str) -> str:
        """Book a room."""
        raise ModelRetry("no")

    agent = world.agent(
        SAVOY,
        ("never", {"hotel": "Ritz"}),
        ("never", {"hotel": "Ritz"}),
        tools=[tool(world), Tool(never, max_retries=1)],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with pytest.raises(UnexpectedModelBehavior), TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert tx.state == "rolled_back"
    assert world.rooms == []


def test_a_timeout_of_the_framework_is_in_doubt_and_undone(world):
    async def slow(hotel: str) -> str:
        """Book a room."""
        world.book(hotel)
        await asyncio.Event().wait()
        return hotel

    agent = world.agent(
        RITZ,
        tools=[Tool(slow, name="book", timeout=0.01)],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert states(tx) == ["compensated"]
    assert world.undone == [("Ritz", None)]
    assert "StepInDoubt" in str(world.told[1])


class Hooked(AbstractCapability[Any]):
    """Be another capability, which finds fault with results."""

    def __init__(self, *, skips: bool = False) -> None:
        self.skips = skips
        self.faults = 0

    async def before_tool_execute(self, ctx, *, call, tool_def, args):
        if self.skips:
            raise SkipToolExecution("from a cache")
        return args

    async def after_tool_execute(self, ctx, *, call, tool_def, args, result):
        self.faults += 1
        if self.faults == 1:
            raise ModelRetry("the answer is not in French")
        return result


@pytest.mark.parametrize("is_outer", [False, True])
def test_what_another_capability_makes_of_a_result_does_not_unmake_what_has_happened(
    world, *, is_outer
):
    both = [Hooked(), Transactional({"book": world.cancel})]
    agent = world.agent(
        RITZ,
        RITZ,
        tools=[tool(world, max_retries=3)],
        capabilities=both if is_outer else both[::-1],
    )
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        agent.run_sync("go")
        assert states(tx) == ["succeeded"]
        raise KeyError
    assert world.calls == ["Ritz"]
    assert world.rooms == []


def test_a_call_that_is_skipped_is_no_step(world):
    agent = world.agent(
        RITZ,
        tools=[tool(world)],
        capabilities=[Transactional({"book": world.cancel}), Hooked(skips=True)],
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert tx.steps == []
    assert world.told[1] == ["from a cache"]


def test_the_same_call_under_a_new_id_is_answered_from_the_record(world):
    agent = world.agent(
        RITZ, RITZ, tools=[tool(world)], capabilities=[Transactional({"book": world.cancel})]
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
        agent.run_sync("go")
    assert world.calls == ["Ritz"]
    assert world.told[2] == ["Ritz 7"]
    assert states(tx) == ["succeeded"]


def test_equal_calls_side_by_side_take_effect_once_and_others_go_on(world):
    turn = [RITZ, RITZ, SAVOY, ASTORIA]
    agent = world.agent(
        turn, tools=[tool(world)], capabilities=[Transactional({"book": world.cancel})]
    )

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction():
                    await agent.run("go")
                    assert sorted(world.rooms) == ["Ritz", "Savoy"]
                    raise KeyError

    asyncio.run(main())
    assert world.rooms == []
    assert sorted(map(str, world.told[1])) == [
        "Ritz 7",
        "Ritz 7",
        "Savoy 7",
        "ValueError: the Astoria is full",
    ]


def test_a_sync_tool_in_a_worker_thread_stands_in_the_transaction(world):
    threads: list[Any] = []

    @step(name="note of pydantic-ai")
    def note(hotel: str) -> str:
        threads.append(threading.current_thread())
        return hotel

    def book(hotel: str) -> str:
        """Book a room."""
        return note(hotel)

    agent = world.agent(RITZ, tools=[book], capabilities=[Transactional()])

    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert [one.action for one in tx.steps] == ["book", "note of pydantic-ai"]
    assert threads[0] is not threading.main_thread()


class Stay(BaseModel):
    """Say where and when."""

    hotel: str
    day: date


def test_typed_arguments_and_results_are_recorded_as_json(world):
    def book(stay: Stay, nights: int = 1) -> ToolReturn:
        """Book a room."""
        assert isinstance(stay.day, date)
        return ToolReturn(return_value=stay, content="a picture", metadata={"nights": nights})

    undone: list[Any] = []

    def undo(stay: dict[str, Any], nights: int, result: dict[str, Any]) -> None:
        undone.append((stay, nights, result))

    call = ("book", {"stay": {"hotel": "Ritz", "day": "2026-05-01"}})
    agent = world.agent(call, tools=[book], capabilities=[Transactional({"book": undo})])
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        agent.run_sync("go")
        raise KeyError
    stay = {"hotel": "Ritz", "day": "2026-05-01"}
    assert tx.steps[0].data == {"stay": stay, "nights": 1}
    assert undone == [(stay, 1, stay)]
    assert "a picture" in world.told[1]


def test_the_model_is_told_how_things_stand_as_a_tool_and_as_instructions(world):
    agent = world.agent(
        RITZ,
        ("transaction_status", {}),
        tools=[tool(world), transaction_status],
        instructions=["You book trips.", transaction_status],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with TransactionManager().transaction() as tx:
        agent.run_sync("go")
    assert "s1 default: book" in world.told[2][0]
    assert "s1 default: book" in world.instructions[1]
    assert world.instructions[1].startswith("You book trips.")
    assert [one.action for one in tx.steps] == ["book"]


def test_rules_of_others_are_journaled_denied_or_passed(world):
    def other(hotel: str) -> str:
        """Do something else."""
        return world.book(hotel)

    call = ("other", {"hotel": "Ritz"})
    options: dict[str, Any] = {"tools": [tool(world), other]}
    denies = [Transactional({"book": ToolRule(world.cancel)}, others="deny")]
    with TransactionManager().transaction() as tx:
        world.agent(call, capabilities=denies, **options).run_sync("go")
        assert "was not called" in world.told[1][0]
        assert world.calls == []
        passes = [Transactional({"book": world.cancel}, others="pass")]
        world.agent(call, capabilities=passes, **options).run_sync("go")
        assert world.calls == ["Ritz"]
    assert tx.steps == []
