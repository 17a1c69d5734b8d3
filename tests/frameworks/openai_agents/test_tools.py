"""Tests of tools of the OpenAI Agents SDK as steps, against the real SDK with a model offline."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import threading
import warnings
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    MaxTurnsExceeded,
    Runner,
    ToolGuardrailFunctionOutput,
    UserError,
    WebSearchTool,
    function_tool,
    handoff,
    tool_output_guardrail,
)

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    step,
)
from aumai_transactions.integrations import (
    READ,
    roll_back_transaction,
    transaction_status,
)
from aumai_transactions.integrations.openai_agents import (
    NotProtected,
    tool_error,
    transactional_agent,
    transactional_tools,
    with_status,
)

RITZ = ("book", {"hotel": "Ritz"})
SAVOY = ("book", {"hotel": "Savoy"})
ASTORIA = ("book", {"hotel": "Astoria"})
GIVE_UP = ("roll_back_transaction", {"reason": "too dear"})


def tool(world: Any, *, is_async: bool = False, **options: Any) -> FunctionTool:
    function = world.book_async if is_async else world.book
    return function_tool(function, name_override="book", **options)


def states(tx: Any) -> list[str]:
    return [one.state.value for one in tx.steps]


def run(agent: Agent[Any], **options: Any) -> Any:
    """Run an agent in a transaction; return it, and the result or what was raised."""

    async def main() -> Any:
        async with AsyncTransactionManager() as manager:
            block = manager.transaction()
            try:
                async with block as tx:
                    found = await Runner.run(agent, "go", **options)
            except Exception as error:
                return block, error
            return tx, found

    return asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_ends_commits_and_an_exception_in_the_block_undoes_it(world, *, is_async):
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            agent = world.agent(RITZ, tools=[tool(world, is_async=is_async)])
            async with manager.transaction() as tx:
                done = await Runner.run(transactional_agent(agent, {"book": world.cancel}), "go")
                assert done.final_output == "done"
            assert tx.state == "committed"
            agent = world.agent(SAVOY, tools=[tool(world, is_async=is_async)])
            with pytest.raises(KeyError):
                async with manager.transaction() as tx:
                    await Runner.run(transactional_agent(agent, {"book": world.cancel}), "go")
                    raise KeyError
            assert tx.state == "rolled_back"

    asyncio.run(main())
    assert world.rooms == ["Ritz"]
    assert world.undone == [("Savoy", "Savoy 7")]


def test_a_sync_run_in_a_sync_block_does(world):
    agent = transactional_agent(world.agent(RITZ, tools=[tool(world)]), {"book": world.cancel})
    with pytest.raises(KeyError), TransactionManager().transaction():
        Runner.run_sync(agent, "go")
        assert world.rooms == ["Ritz"]
        raise KeyError
    assert world.rooms == []


def test_a_streamed_run_stands_in_the_block_too(world):
    async def main() -> None:
        agent = transactional_agent(world.agent(RITZ, tools=[tool(world)]), {"book": world.cancel})
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction() as tx:
                    streamed = Runner.run_streamed(agent, "go")
                    assert [one async for one in streamed.stream_events()]
                    assert states(tx) == ["succeeded"]
                    raise KeyError

    asyncio.run(main())
    assert world.rooms == []


def test_a_step_under_the_decorator_keeps_its_schema_and_is_one_step(world):
    def reserve(hotel: str, nights: int = 1) -> str:
        """Reserve a room.

        Args:
            hotel: Where.
            nights: How long.
        """
        return world.book(hotel)

    decorated = step(name="reserve of openai-agents", compensating_action=world.cancel)(reserve)
    made = function_tool(decorated)
    assert made.params_json_schema == function_tool(reserve).params_json_schema
    for tools in ([made], transactional_tools([made])):
        tx, _ = run(world.agent(("reserve", {"hotel": "Ritz", "nights": 2}), tools=tools))
        assert [one.action for one in tx.steps] == ["reserve of openai-agents"]
    assert world.rooms == ["Ritz", "Ritz"]
    with pytest.raises(UserError) as raised:
        asyncio.run(
            Runner.run(world.agent(("reserve", {"hotel": "Ritz", "nights": 2}), tools=tools), "go")
        )
    assert isinstance(raised.value.__cause__, NoActiveTransaction)


def test_an_async_step_is_one_step_with_and_without_the_adapter(world):
    @step(name="async reserve of openai-agents", compensating_action=world.cancel)
    async def reserve(hotel: str) -> str:
        """Reserve a room."""
        return await world.book_async(hotel)

    made = function_tool(reserve)
    for tools in ([made], transactional_tools([made])):
        tx, _ = run(world.agent(("reserve", {"hotel": "Ritz"}), tools=tools))
        assert [one.action for one in tx.steps] == ["async reserve of openai-agents"]


def test_an_error_that_becomes_a_text_for_the_model_is_no_success_in_the_journal(world):
    agent = world.agent(ASTORIA, RITZ, tools=[tool(world)])
    tx, result = run(transactional_agent(agent, {"book": world.cancel}))
    assert result.final_output == "done"
    assert "error occurred" in world.model.told[1][0]
    assert states(tx) == ["failed", "succeeded"]
    assert "ValueError: the Astoria is full" in str(tx.describe())
    assert tx.state == "committed"


def test_a_tools_own_policy_for_errors_stays(world):
    says = tool(world, failure_error_function=lambda _context, error: f"no: {error}")
    agent = world.agent(ASTORIA, tools=[says])
    _, result = run(transactional_agent(agent, {"book": world.cancel}))
    assert world.model.told[1] == ["no: the Astoria is full"]
    raises = tool(world, failure_error_function=None)
    agent = world.agent(RITZ, ASTORIA, tools=[raises])
    tx, result = run(transactional_agent(agent, {"book": world.cancel}))
    assert "the Astoria is full" in str(result)
    assert tx.state == "rolled_back"
    assert world.rooms == []


def test_a_failure_that_is_returned_is_no_success(world):
    def fails(hotel: str) -> str:
        """Book a room."""
        return "ERROR: full"

    agent = world.agent(RITZ, tools=[function_tool(fails, name_override="book")])
    tx, _ = run(
        transactional_agent(
            agent,
            {"book": world.cancel},
            failed=lambda result: result if str(result).startswith("ERROR") else None,
        )
    )
    assert world.model.told[1] == ["ERROR: full"]
    assert states(tx) == ["failed"]
    assert world.undone == []


def test_the_same_call_under_a_new_id_is_answered_from_the_record(world):
    agent = world.agent(RITZ, RITZ, tools=[tool(world)])
    tx, _ = run(transactional_agent(agent, {"book": world.cancel}))
    assert world.calls == ["Ritz"]
    assert world.model.told[2] == ["Ritz 7", "Ritz 7"]
    assert states(tx) == ["succeeded"]


def test_what_failed_and_is_tried_again_takes_effect_once(world):
    tries: list[str] = []

    def flaky(hotel: str) -> str:
        """Book a room."""
        tries.append(hotel)
        if len(tries) == 1:
            raise ValueError("busy")
        return world.book(hotel)

    agent = world.agent(RITZ, RITZ, RITZ, tools=[function_tool(flaky, name_override="book")])
    tx, _ = run(transactional_agent(agent, {"book": world.cancel}))
    assert states(tx) == ["failed", "succeeded"]
    assert world.rooms == ["Ritz"]


def test_calls_side_by_side_take_effect_once_each_and_a_failure_stops_none(world):
    turn = [RITZ, RITZ, SAVOY, ASTORIA]
    agent = world.agent(turn, tools=[tool(world)])
    tx, _ = run(transactional_agent(agent, {"book": world.cancel}))
    assert sorted(world.rooms) == ["Ritz", "Savoy"]
    assert world.model.told[1][:3] == ["Ritz 7", "Ritz 7", "Savoy 7"]
    assert sorted(states(tx)) == ["failed", "succeeded", "succeeded"]


def test_a_sync_tool_in_a_worker_thread_stands_in_the_transaction(world):
    threads: list[Any] = []

    @step(name="note of openai-agents")
    def note(hotel: str) -> str:
        threads.append(threading.current_thread())
        return hotel

    def book(hotel: str) -> str:
        """Book a room."""
        return note(hotel)

    agent = transactional_agent(world.agent(RITZ, tools=[function_tool(book)]))
    with TransactionManager().transaction() as tx:
        Runner.run_sync(agent, "go")
    assert [one.action for one in tx.steps] == ["book", "note of openai-agents"]
    assert threads[0] is not threading.main_thread()


def test_a_call_after_the_end_ends_the_run_whatever_becomes_of_errors(world):
    tools = [tool(world), function_tool(roll_back_transaction)]
    agent = world.agent(RITZ, GIVE_UP, SAVOY, tools=tools)
    tx, error = run(transactional_agent(agent, {"book": world.cancel}))
    assert isinstance(error.__cause__, TransactionNotActive)
    assert tx.state == "rolled_back"
    assert world.calls == ["Ritz"]
    assert world.rooms == []


def test_a_step_after_the_end_ends_the_run_as_well(world):
    def own(hotel: str) -> str:
        """Book a room."""
        return world.book(hotel)

    decorated = step(name="own of openai-agents", compensating_action=world.cancel)(own)
    call = ("own", {"hotel": "Ritz"})
    gives_up = function_tool(roll_back_transaction)
    safe = function_tool(decorated, failure_error_function=tool_error)
    for tools in (transactional_tools([function_tool(decorated)]), [safe]):
        tx, error = run(world.agent(call, GIVE_UP, call, tools=[*tools, gives_up]))
        assert isinstance(error.__cause__, TransactionNotActive)
        assert tx.state == "rolled_back"
    assert world.rooms == []
    # What a tool alone says of its errors: the model is told, and the journal all the same.
    run(world.agent(("own", {"hotel": "Astoria"}), tools=[safe]))
    assert "error occurred" in world.model.told[1][0]


def test_an_agent_that_is_a_tool_hides_no_end_of_the_transaction(world):
    inner = transactional_agent(
        world.agent(
            RITZ, GIVE_UP, SAVOY, tools=[tool(world), function_tool(roll_back_transaction)]
        ),
        {"book": world.cancel},
    )
    as_tool = inner.as_tool("ask", "Ask another agent.")
    outer = transactional_agent(world.agent(("ask", {"input": "book"}), tools=[as_tool]))
    tx, error = run(outer)
    assert isinstance(error.__cause__, TransactionNotActive)
    assert tx.state == "rolled_back"
    assert world.calls == ["Ritz"]


def test_an_agent_that_is_a_tool_is_no_step_but_its_tools_are(world):
    inner = transactional_agent(
        world.agent(RITZ, name="inner", tools=[tool(world)]), {"book": world.cancel}
    )
    as_tool = inner.as_tool("ask", "Ask another agent.")
    tx, _ = run(transactional_agent(world.agent(("ask", {"input": "book"}), tools=[as_tool])))
    assert [one.action for one in tx.steps] == ["book"]
    assert world.model.told[1] == ["done"]


def test_agents_that_hand_over_to_each_other_share_the_transaction(world):
    first = Agent("first", handoffs=[], tools=[tool(world)])
    second = Agent("second", handoffs=[first], tools=[tool(world)])
    first.handoffs = [second]
    model = world.agent(RITZ, ("transfer_to_second", {}), SAVOY, RITZ, ASTORIA).model
    first.model = second.model = model
    agent = transactional_agent(first, {"book": world.cancel})
    assert agent.handoffs[0].handoffs[0] is agent
    tx, result = run(agent)
    assert result.last_agent.name == "second"
    assert world.calls == ["Ritz", "Savoy", "Astoria"]
    assert states(tx) == ["succeeded", "succeeded", "failed"]


def test_a_handoff_leads_to_the_agent_that_it_was_made_of(world):
    second = transactional_agent(Agent("second", tools=[tool(world)]), {"book": world.cancel})
    second.model = world.agent(("transfer_to_second", {}), RITZ).model
    first = transactional_agent(Agent("first", model=second.model, handoffs=[handoff(second)]))
    tx, _ = run(first)
    assert states(tx) == ["succeeded"]


def test_agents_that_were_not_made_transactional_are_named_loudly(world):
    plain = Agent("plain", tools=[tool(world)])
    with pytest.warns(NotProtected, match="'plain' was not made transactional first: book"):
        transactional_agent(Agent("first", tools=[plain.as_tool("ask", "Ask.")]))
    with pytest.warns(NotProtected, match="'plain' was not made transactional first: book"):
        transactional_agent(Agent("first", handoffs=[handoff(plain)]))
    with pytest.raises(DefinitionError, match="plain"):
        transactional_agent(Agent("first", handoffs=[handoff(plain)]), others="deny")
    safe = transactional_agent(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = Agent("first", tools=[safe.as_tool("ask", "Ask.")], handoffs=[handoff(safe)])
        transactional_agent(made)


def test_an_agent_that_is_made_transactional_twice_keeps_its_first_rules(world):
    once = transactional_agent(world.agent(RITZ, tools=[tool(world)]), {"book": world.cancel})
    tx, _ = run(transactional_agent(once))
    assert [(one.action, one.compensating_action) for one in tx.steps] == [("book", "book.undo")]


def test_what_cannot_be_protected_is_named_loudly_or_refused(world):
    tools = [tool(world), WebSearchTool()]
    with pytest.warns(NotProtected, match="web_search"):
        made = transactional_tools(tools, {"book": world.cancel})
    assert made[1] is tools[1]
    with pytest.raises(DefinitionError, match="web_search"):
        transactional_tools(tools, {"book": world.cancel}, others="deny")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transactional_tools([tool(world)], {"book": world.cancel})


def test_nothing_runs_outside_of_a_transaction_unless_it_may(world):
    agent = world.agent(RITZ, tools=[tool(world)])
    with pytest.raises(UserError) as raised:
        asyncio.run(Runner.run(transactional_agent(agent, {"book": world.cancel}), "go"))
    assert isinstance(raised.value.__cause__, NoActiveTransaction)
    assert world.calls == []
    agent = world.agent(RITZ, tools=[tool(world)])
    free = transactional_agent(agent, {"book": world.cancel}, required=False)
    asyncio.run(Runner.run(free, "go"))
    assert world.calls == ["Ritz"]


def test_a_timeout_of_the_sdk_undoes_what_may_have_happened(world):
    async def slow(hotel: str) -> str:
        """Book a room."""
        world.book(hotel)
        await asyncio.Event().wait()
        return hotel

    made = function_tool(slow, name_override="book", timeout=0.05)
    tx, result = run(transactional_agent(world.agent(RITZ, tools=[made]), {"book": world.cancel}))
    assert result.final_output == "done"
    assert "timed out" in world.model.told[1][0]
    assert states(tx) == ["compensated"]
    assert world.undone == [("Ritz", None)]


def test_a_cancelled_run_is_undone(world):
    async def main() -> Any:
        has_begun = asyncio.Event()

        async def wait(hotel: str) -> str:
            """Wait."""
            has_begun.set()
            await asyncio.Event().wait()
            return hotel

        tools = [tool(world), function_tool(wait)]
        agent = world.agent(RITZ, ("wait", {"hotel": "Ritz"}), tools=tools)
        async with AsyncTransactionManager() as manager:
            block = manager.transaction()

            async def program() -> None:
                async with block:
                    rules = {"book": world.cancel, "wait": READ}
                    await Runner.run(transactional_agent(agent, rules), "go")

            task = asyncio.create_task(program())
            await has_begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return block.state

    assert asyncio.run(main()) == "rolled_back"
    assert world.rooms == []


def test_a_run_that_ends_with_an_error_of_the_sdk_is_undone(world):
    agent = world.agent(RITZ, SAVOY, tools=[tool(world)])
    tx, error = run(transactional_agent(agent, {"book": world.cancel}), max_turns=1)
    assert isinstance(error, MaxTurnsExceeded)
    assert tx.state == "rolled_back"
    assert world.rooms == []


def test_a_guardrail_that_refuses_a_result_does_not_unmake_what_has_happened(world):
    @tool_output_guardrail
    def never(_data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("you may not see this")

    agent = world.agent(RITZ, tools=[tool(world, tool_output_guardrails=[never])])
    tx, _ = run(transactional_agent(agent, {"book": world.cancel}))
    assert world.model.told[1] == ["you may not see this"]
    assert states(tx) == ["succeeded"]


def test_the_model_is_told_how_things_stand_as_a_tool_and_as_instructions(world):
    tools = [tool(world), function_tool(transaction_status)]
    agent = world.agent(
        RITZ, ("transaction_status", {}), tools=tools, instructions=with_status("You book trips.")
    )
    tx, _ = run(transactional_agent(agent, {"book": world.cancel}))
    assert "s1 default: book" in world.model.told[2][1]
    assert world.model.instructions[1].startswith("You book trips.")
    assert "s1 default: book" in world.model.instructions[1]
    assert [one.action for one in tx.steps] == ["book"]


def test_arguments_that_cannot_be_are_the_models_business(world):
    agent = world.agent(("book", {"inn": "Ritz"}), tools=[tool(world)])
    tx, result = run(transactional_agent(agent, {"book": world.cancel}))
    assert result.final_output == "done"
    assert world.calls == []
    assert states(tx) == ["failed"]
