"""The middleware around a real agent of LangChain, whose model follows a script."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.types import Command
from tests.frameworks.langchain.scene import Script, World, call, told

from aumai_transactions import (
    AsyncTransactionManager,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    step,
)
from aumai_transactions.integrations import READ
from aumai_transactions.integrations.langchain import TransactionMiddleware

GO = {"messages": [("user", "go")]}


@pytest.fixture
def tools(world: World) -> list[Any]:
    @tool
    def book(what: str) -> str:
        """Book something."""
        return world.book(what)

    @tool
    async def book_async(what: str) -> str:
        """Book something."""
        await asyncio.sleep(0)
        return world.book(what)

    return [book, book_async]


def agent_of(turns: list[Any], tools: list[Any], *middleware: Any, **options: Any) -> Any:
    return create_agent(Script(turns=turns), tools, middleware=list(middleware), **options)


def rules_of(world: World) -> dict[str, Any]:
    return {"book": world.cancel, "book_async": world.cancel}


def test_a_run_that_ends_commits_and_one_that_raises_is_undone(world, tools):
    agent = agent_of([[call("book", what="flight")]], tools, TransactionMiddleware(rules_of(world)))
    manager = TransactionManager()
    with manager.transaction() as tx:
        answer = agent.invoke(GO)
    assert told(answer) == [("success", "flight 7")]
    assert tx.result.state == "committed"
    assert tx.steps[0].data == {"what": "flight"}
    with pytest.raises(KeyError), manager.transaction() as tx:
        agent.invoke(GO)
        raise KeyError
    assert tx.result.state == "rolled_back"
    assert world.booked == ["flight"]
    assert world.undone == ["flight 7"]


def test_the_same_holds_for_tasks_with_tools_of_both_kinds(world, tools):
    turns = [[call("book", what="flight"), call("book_async", what="hotel")]]
    agent = agent_of(turns, tools, TransactionMiddleware(rules_of(world)))

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction():
                await agent.ainvoke(GO)
            assert sorted(world.booked) == ["flight", "hotel"]
            with pytest.raises(KeyError):
                async with manager.transaction():
                    await agent.ainvoke({"messages": [("user", "again")]})
                    raise KeyError
        with TransactionManager().transaction():
            await agent.ainvoke(GO)

    asyncio.run(main())
    assert sorted(world.booked) == ["flight", "flight", "hotel", "hotel"]
    assert sorted(world.undone) == ["flight 7", "hotel 7"]


def test_a_tools_error_goes_to_the_model_which_finds_another_way(world, tools):
    turns = [[call("book", what="full hotel")], [call("book", what="hotel")]]
    agent = agent_of(turns, tools, TransactionMiddleware(rules_of(world)))
    with TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
    assert told(answer) == [
        ("error", "Error: ValueError: full hotel is not to be had"),
        ("success", "hotel 7"),
    ]
    assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]


def test_a_failure_that_is_returned_is_no_success(world, tools):
    @tool
    def pay(tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Pay."""
        return ToolMessage("no money", tool_call_id=tool_call_id, status="error")

    @tool
    def mail() -> None:
        """Mail."""
        raise ToolException("no address")

    mail.handle_tool_error = True
    rules = {"pay": world.cancel, "mail": world.cancel}
    agent = agent_of([[call("pay")], [call("mail")]], [pay, mail], TransactionMiddleware(rules))
    with TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
    assert told(answer) == [("error", "no money"), ("error", "no address")]
    assert [one.state.value for one in tx.steps] == ["failed", "failed"]


@pytest.mark.parametrize("is_inside", [True, False])
def test_the_retries_of_a_middleware_have_one_effect(world, tools, *, is_inside):
    attempts: list[int] = []

    @tool
    def book(what: str) -> str:
        """Book something, at the second attempt."""
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("the line is dead")
        return world.book(what)

    class Again(AgentMiddleware):
        """Try a tool that fails once more, and know both kinds of failure."""

        def wrap_tool_call(self, request, handler):
            try:
                made = handler(request)
            except ValueError:
                return handler(request)
            return handler(request) if made.status == "error" else made

    ours = TransactionMiddleware(rules_of(world))
    order = [ours, Again()] if is_inside else [Again(), ours]
    agent = agent_of([[call("book", what="flight")]], [book], *order)
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        agent.invoke(GO)
        raise KeyError
    states = [one.state.value for one in tx.steps]
    assert states == (["compensated"] if is_inside else ["failed", "compensated"])
    assert world.calls == ["flight"]
    assert world.undone == ["flight 7"]


def test_what_is_planned_again_under_a_new_call_id_is_answered_from_the_record(world, tools):
    turns = [[call("book", 1, what="flight")], [call("book", 2, what="flight")]]
    agent = agent_of(turns, tools, TransactionMiddleware(rules_of(world)))
    with TransactionManager().transaction():
        answer = agent.invoke(GO)
    assert told(answer) == [("success", "flight 7")] * 2
    ids = [one.tool_call_id for one in answer["messages"] if one.type == "tool"]
    assert len(set(ids)) == 2
    assert world.booked == ["flight"]


def test_calls_side_by_side_in_worker_threads_stand_in_the_transaction(world):
    together = threading.Barrier(3)
    threads: set[int] = set()

    @tool
    def book(what: str) -> str:
        """Book something."""
        threads.add(threading.get_ident())
        together.wait(20)
        return world.book(what)

    calls = [call("book", what=what) for what in ("flight", "hotel", "car")]
    same = [call("book", number, what="car") for number in (1, 2)]
    agent = agent_of([[*calls, *same]], [book], TransactionMiddleware(rules_of(world)))
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
        raise KeyError
    assert len(told(answer)) == 5
    assert len(threads) == 3
    assert len(tx.steps) == 3
    assert sorted(world.calls) == ["car", "flight", "hotel"]
    assert world.booked == []


def test_a_call_outside_of_a_transaction_is_refused_and_nothing_happens(world, tools):
    agent = agent_of([[call("book", what="flight")]], tools, TransactionMiddleware(rules_of(world)))
    with pytest.raises(NoActiveTransaction):
        agent.invoke(GO)
    with pytest.raises(NoActiveTransaction):
        asyncio.run(agent.ainvoke(GO))
    assert world.calls == []


def test_a_call_after_the_end_is_refused_and_ends_the_run(world, tools):
    turns = [
        [call("book", what="flight")],
        [call("roll_back_transaction", reason="too dear")],
        [call("book", what="hotel")],
    ]
    agent = agent_of(turns, tools, TransactionMiddleware(rules_of(world), describe=True))
    with pytest.raises(TransactionNotActive), TransactionManager().transaction() as tx:
        agent.invoke(GO)
    assert tx.result.state == "rolled_back"
    assert world.calls == ["flight"]
    assert world.booked == []


def test_the_model_is_told_how_the_transaction_stands(world, tools):
    turns = [[call("book", what="flight")], [call("transaction_status")]]
    ours = TransactionMiddleware(rules_of(world), describe=True)
    model = Script(turns=turns)
    agent = create_agent(model, tools, middleware=[ours], system_prompt="You book trips.")
    with TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
        assert "s1 default: book" in told(answer)[1][1]
    prompts = [str(one[0].content) for one in model.seen]
    assert all(one.startswith("You book trips.") for one in prompts)
    assert "s1 default: book" not in prompts[0]
    assert "s1 default: book" in prompts[1]
    assert [one.action for one in tx.steps] == ["book"]


RESERVED: list[str] = []


def free(result: str) -> None:
    RESERVED.remove(result)


@step(name="langchain: reserve", compensating_action=free)
def reserve(what: str, nights: int = 1) -> str:
    """Reserve something.

    Args:
        what: What to reserve.
        nights: For how long.
    """
    RESERVED.append(f"{what} for {nights}")
    return RESERVED[-1]


@step(name="langchain: reserve later", compensating_action=free)
async def reserve_later(what: str) -> str:
    """Reserve something."""
    await asyncio.sleep(0)
    RESERVED.append(what)
    return what


def test_a_step_under_the_tool_decorator_keeps_its_schema_and_is_journaled_once():
    mine, theirs = tool(reserve), tool(inspect.unwrap(reserve))
    assert mine.args_schema.model_json_schema() == theirs.args_schema.model_json_schema()
    assert (mine.name, mine.description) == (theirs.name, theirs.description)

    agent = agent_of([[call("reserve", what="room")]], [mine], TransactionMiddleware())
    bare = agent_of([[call("reserve", what="room")]], [mine])
    for one in (agent, bare):
        with pytest.raises(KeyError), TransactionManager().transaction() as tx:
            one.invoke(GO)
            assert RESERVED == ["room for 1"]
            raise KeyError
        assert [each.action for each in tx.steps] == ["langchain: reserve"]
        assert RESERVED == []
    with pytest.raises(NoActiveTransaction):
        agent.invoke(GO)


def test_an_async_step_under_the_tool_decorator_finds_the_transaction():
    agent = agent_of([[call("reserve_later", what="room")]], [tool(reserve_later)])

    async def main() -> None:
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            await agent.ainvoke(GO)
            assert RESERVED == ["room"]
            await tx.rollback("enough")
        assert RESERVED == []

    asyncio.run(main())


def test_a_command_changes_the_state_is_recorded_and_answers_the_new_call(world):
    @tool
    def book(what: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Book something."""
        answer = ToolMessage(world.book(what), tool_call_id=tool_call_id)
        return Command(update={"messages": [answer, HumanMessage("and now?")]})

    turns = [[call("book", 1, what="flight")], [call("book", 2, what="flight")]]
    agent = agent_of(turns, [book], TransactionMiddleware(rules_of(world)))
    with TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
    kinds = [(one.type, one.text) for one in answer["messages"] if one.type != "ai"]
    assert kinds[1:] == [("tool", "flight 7"), ("human", "and now?")] * 2
    ids = [one.tool_call_id for one in answer["messages"] if one.type == "tool"]
    assert ids == [turns[0][0]["id"], turns[1][0]["id"]]
    assert tx.result.warnings == []
    assert world.booked == ["flight"]


def test_what_cannot_be_recorded_is_given_to_the_graph_all_the_same(world):
    @tool
    def book(what: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Book something."""
        booked = world.book(what)
        answer = ToolMessage(booked, tool_call_id=tool_call_id, artifact={"a set", "is no JSON"})
        return Command(update={"messages": [answer]})

    turns = [[call("book", 1, what="flight")], [call("book", 2, what="flight")]]
    agent = agent_of(turns, [book], TransactionMiddleware(rules_of(world)))
    with TransactionManager().transaction() as tx:
        answer = agent.invoke(GO)
    first, again = (one for one in answer["messages"] if one.type == "tool")
    assert first.artifact == {"a set", "is no JSON"}
    assert "done already" in again.text
    assert "could not be recorded" in " ".join(tx.result.warnings)
    assert world.booked == ["flight"]


def test_an_artifact_is_recorded_and_given_again(world):
    @tool(response_format="content_and_artifact")
    def book(what: str) -> tuple[str, Any]:
        """Book something."""
        return world.book(what), {"rate": 7}

    turns = [[call("book", 1, what="flight")], [call("book", 2, what="flight")]]
    agent = agent_of(turns, [book], TransactionMiddleware(rules_of(world)))
    with TransactionManager().transaction():
        answer = agent.invoke(GO)
    artifacts = [one.artifact for one in answer["messages"] if one.type == "tool"]
    assert artifacts == [{"rate": 7}] * 2
    assert told(answer) == [("success", "flight 7")] * 2
    assert world.booked == ["flight"]


def test_an_undo_is_given_what_the_tool_returned_and_not_a_text_of_it(world):
    @tool
    def book(what: str) -> dict[str, Any]:
        """Book something."""
        return {"room": world.book(what), "nights": [1, 2]}

    @tool
    def look(what: str) -> int:
        """Look something up, each time it is asked for."""
        world.calls.append(f"look at {what}")
        return len(world.calls)

    turns = [[call("book", what="room")], *([call("look", n, what="x")] for n in (1, 2))]
    rules = rules_of(world) | {"look": READ}
    agent = agent_of(turns, [book, look], TransactionMiddleware(rules))
    with pytest.raises(KeyError), TransactionManager().transaction():
        answer = agent.invoke(GO)
        raise KeyError
    assert [one for _, one in told(answer)] == ['{"room": "room 7", "nights": [1, 2]}', "2", "3"]
    assert world.undone == [{"room": "room 7", "nights": [1, 2]}]


def test_a_cancelled_run_is_undone(world):
    begun = asyncio.Event()

    @tool
    async def book(what: str) -> str:
        """Book something, and hang."""
        booked = world.book(what)
        if what == "hotel":
            begun.set()
            await asyncio.Event().wait()
        return booked

    turns = [[call("book", what="flight")], [call("book", what="hotel")]]
    agent = agent_of(turns, [book], TransactionMiddleware(rules_of(world)))

    async def run(manager: AsyncTransactionManager) -> None:
        async with manager.transaction():
            await agent.ainvoke(GO)

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            running = asyncio.create_task(run(manager))
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert world.calls == ["flight", "hotel"]
    assert world.booked == []
