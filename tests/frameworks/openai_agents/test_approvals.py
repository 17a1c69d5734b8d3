"""Tests of approvals of a rule as interruptions of the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Runner, RunState, function_tool

from aumai_transactions import (
    AsyncTransactionManager,
    TransactionNotFinal,
    TransactionRolledBack,
)
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.openai_agents import transactional_agent

RITZ = ("book", {"hotel": "Ritz"})
SAVOY = ("book", {"hotel": "Savoy"})
LUX = ("book", {"hotel": "Lux"})


def agent_of(world: Any, *turns: Any, asked_by: Any = "ann", **options: Any) -> Any:
    rule = ToolRule(world.cancel, requires_approval=lambda data: data["hotel"] != "Savoy")
    tool = function_tool(world.book, name_override="book", **options)
    return transactional_agent(world.agent(*turns, tools=[tool]), {"book": rule}, asked_by=asked_by)


def states(tx: Any) -> list[str]:
    return [one.state.value for one in tx.steps]


def in_transaction(program: Any) -> Any:
    async def main() -> Any:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx:
                await program(tx)
            return tx

    return asyncio.run(main())


def test_a_call_waits_for_the_sdks_answer_and_the_journal_says_who(world):
    agent = agent_of(world, SAVOY, RITZ, asked_by=lambda context: context.context["user"])

    async def program(tx: Any) -> None:
        result = await Runner.run(agent, "go", context={"user": "bob"})
        assert states(tx) == ["succeeded", "pending"]
        assert world.calls == ["Savoy"]
        (asked,) = result.interruptions
        state = result.to_state()
        state.approve(asked)
        result = await Runner.run(agent, state)
        assert result.final_output == "done"

    tx = in_transaction(program)
    assert world.calls == ["Savoy", "Ritz"]
    assert states(tx) == ["succeeded", "succeeded"]
    assert "bob allowed step s2" in str(tx.result)


def test_a_refusal_undoes_the_transaction(world):
    agent = agent_of(world, SAVOY, RITZ)

    async def program(_tx: Any) -> None:
        result = await Runner.run(agent, "go")
        state = result.to_state()
        state.reject(result.interruptions[0])
        await Runner.run(agent, state)

    with pytest.raises(TransactionRolledBack) as raised:
        in_transaction(program)
    assert raised.value.result.reason == "denied"
    assert "ann denied step s2" in str(raised.value)
    assert world.calls == ["Savoy"]
    assert world.rooms == []


def test_a_question_that_nobody_answers_is_no_success(world):
    agent = agent_of(world, RITZ)

    async def program(_tx: Any) -> None:
        await Runner.run(agent, "go")

    with pytest.raises(TransactionNotFinal):
        in_transaction(program)
    assert world.calls == []


def test_who_is_always_allowed_is_asked_about_once(world):
    agent = agent_of(world, RITZ, LUX)

    async def program(_tx: Any) -> None:
        result = await Runner.run(agent, "go")
        state = result.to_state()
        state.approve(result.interruptions[0], always_approve=True)
        result = await Runner.run(agent, state)
        assert result.interruptions == []

    tx = in_transaction(program)
    assert world.rooms == ["Ritz", "Lux"]
    assert "ann allowed step s2" in str(tx.result)


def test_a_state_that_was_written_down_goes_on(world):
    agent = agent_of(world, RITZ)

    async def program(_tx: Any) -> None:
        result = await Runner.run(agent, "go")
        written = result.to_state().to_string()
        state = await RunState.from_string(agent, written)
        (asked,) = state.get_interruptions()
        state.approve(asked)
        await Runner.run(agent, state)

    in_transaction(program)
    assert world.rooms == ["Ritz"]


def test_two_calls_side_by_side_wait_each_for_itself(world):
    agent = agent_of(world, [RITZ, LUX, SAVOY])

    async def program(tx: Any) -> None:
        result = await Runner.run(agent, "go")
        assert len(result.interruptions) == 2
        assert sorted(states(tx)) == ["pending", "pending", "succeeded"]
        state = result.to_state()
        for asked in result.interruptions:
            state.approve(asked)
        await Runner.run(agent, state)

    in_transaction(program)
    assert sorted(world.calls) == ["Lux", "Ritz", "Savoy"]


def test_what_the_sdk_asks_about_by_itself_is_a_step_once_it_is_allowed(world):
    agent = agent_of(world, SAVOY, needs_approval=True)

    async def program(tx: Any) -> None:
        result = await Runner.run(agent, "go")
        assert tx.steps == []
        state = result.to_state()
        state.approve(result.interruptions[0])
        await Runner.run(agent, state)

    assert states(in_transaction(program)) == ["succeeded"]


def test_a_tool_in_an_agent_that_is_a_tool_asks_through_it(world):
    inner = agent_of(world, RITZ)
    tools = [inner.as_tool("ask", "Ask another agent.")]
    outer = transactional_agent(world.agent(("ask", {"input": "book"}), tools=tools))

    async def program(tx: Any) -> None:
        result = await Runner.run(outer, "go")
        assert states(tx) == ["pending"]
        state = result.to_state()
        state.approve(result.interruptions[0])
        result = await Runner.run(outer, state)
        assert result.final_output == "done"

    assert states(in_transaction(program)) == ["succeeded"]
    assert world.rooms == ["Ritz"]


def test_what_the_sdk_was_not_asked_about_waits_for_an_answer_from_elsewhere(world):
    def cleaned(_step: Any) -> dict[str, Any]:
        return {"hotel": "Ritz"}

    agent = agent_of(world, SAVOY)

    async def main() -> Any:
        asked = asyncio.Event()

        def heard(event: Any) -> None:
            if event.kind == "approval_requested":
                asked.set()

        hooks: Any = {"before_record": cleaned, "on_event": heard}
        async with AsyncTransactionManager(**hooks) as manager:
            async with manager.transaction() as tx:
                task = asyncio.create_task(Runner.run(agent, "go"))
                await asked.wait()
                await manager.approve(tx.transaction_id, "s1", by="bob")
                assert (await task).interruptions == []
            return tx

    tx = asyncio.run(main())
    assert world.calls == ["Ritz"]
    assert "bob allowed step s1" in str(tx.result)
