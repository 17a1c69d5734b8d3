"""A node of a bare graph, without an agent around it."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState
from langgraph.types import Command, RetryPolicy, Send, interrupt
from tests.frameworks.langchain.scene import World, call, told

from aumai_transactions import (
    AsyncTransactionManager,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    TransactionNotFinal,
    TransactionRolledBack,
    step,
)
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.langchain import TransactionToolNode

GO = {"messages": [("user", "go")]}
THREAD: Any = {"configurable": {"thread_id": "ann"}}
WAITS: Any = {"on_crash": "wait", "resume_within_seconds": 3600}


@pytest.fixture
def tools(world: World) -> list[Any]:
    @tool
    def book(what: str, messages: Annotated[list[Any], InjectedState("messages")]) -> str:
        """Book something."""
        assert messages
        return world.book(what)

    @tool
    def seat(what: str) -> str:
        """Book a seat, and ask which one."""
        where = interrupt(f"where in the {what}?")
        return world.book(f"{what} {where}")

    return [book, seat]


def graph_of(calls: list[Any], node: Any, *, apart: bool = False, **options: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("plan", lambda _state: {"messages": [AIMessage("", tool_calls=calls)]})
    graph.add_node("tools", node, **options)
    graph.add_edge(START, "plan")
    if apart:
        sends = lambda state: [  # noqa: E731
            Send("tools", [{**one, "type": "tool_call"}])
            for one in state["messages"][-1].tool_calls
        ]
        graph.add_conditional_edges("plan", sends, ["tools"])
    else:
        graph.add_edge("plan", "tools")
    return graph.compile(checkpointer=InMemorySaver())


def rules_of(world: World, *, asks: str = "") -> dict[str, Any]:
    wanted = ToolRule(
        world.cancel, requires_approval=lambda data: bool(asks) and asks in data["what"]
    )
    return {"book": wanted, "seat": ToolRule(lambda what, result: None)}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_ends_commits_and_a_tools_error_is_told(world, tools, *, is_async):
    calls = [call("book", what="flight"), call("book", what="full hotel"), call("nothing")]
    graph = graph_of(calls, TransactionToolNode(tools, rules_of(world)))

    async def main() -> Any:
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            answer = await graph.ainvoke(GO, THREAD)
        return answer, tx

    if is_async:
        answer, tx = asyncio.run(main())
    else:
        with TransactionManager().transaction() as tx:
            answer = graph.invoke(GO, THREAD)
    assert tx.result.state == "committed"
    assert [status for status, _ in told(answer)] == ["success", "error", "error"]
    assert told(answer)[1][1] == "Error: ValueError: full hotel is not to be had"
    assert world.booked == ["flight"]


def test_arguments_that_do_not_fit_are_told_to_the_model(world, tools):
    graph = graph_of([call("book", wrong="flight")], TransactionToolNode(tools, rules_of(world)))
    with TransactionManager().transaction() as tx:
        answer = graph.invoke(GO, THREAD)
    assert told(answer)[0][0] == "error"
    assert [one.state.value for one in tx.steps] == ["failed"]


def test_the_node_runs_again_after_an_interrupt_and_books_nothing_twice(world, tools):
    calls = [call("book", what="flight"), call("seat", what="train")]
    graph = graph_of(calls, TransactionToolNode(tools, rules_of(world)))
    with TransactionManager().transaction() as tx:
        assert "__interrupt__" in graph.invoke(GO, THREAD)
        assert world.booked == ["flight"]
        answer = graph.invoke(Command(resume="front"), THREAD)
    assert tx.result.state == "committed"
    assert told(answer) == [("success", "flight 7"), ("success", "train front 7")]
    assert world.calls == ["flight", "train front"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_block_that_is_left_while_a_tool_waits_is_not_committed(world, tools, *, waits):
    calls = [call("book", what="flight"), call("seat", what="train")]
    graph = graph_of(calls, TransactionToolNode(tools, rules_of(world)))
    manager = TransactionManager()
    error = TransactionNotFinal if waits else TransactionRolledBack
    with pytest.raises(error), manager.transaction(**(WAITS if waits else {})) as tx:
        graph.invoke(GO, THREAD)
    assert world.booked == (["flight"] if waits else [])
    if waits:
        with manager.resume(tx.transaction_id) as tx:
            graph.invoke(Command(resume="front"), THREAD)
        assert tx.result.state == "committed"
        assert world.calls == ["flight", "train front"]


def test_a_person_is_asked_and_answers_for_one_call_at_a_time(world, tools):
    calls = [call("book", what=what) for what in ("flight", "dear hotel", "dear car")]
    graph = graph_of(calls, TransactionToolNode(tools, rules_of(world, asks="dear")))
    with TransactionManager().transaction():
        [question] = graph.invoke(GO, THREAD)["__interrupt__"]
        assert question.value["arguments"] == {"what": "dear hotel"}
        answer = graph.invoke(Command(resume=True), THREAD)
    assert [status for status, _ in told(answer)] == ["success", "success", "error"]
    assert "one call at a time" in told(answer)[2][1]
    assert world.calls == ["flight", "dear hotel"]


def test_calls_that_are_sent_to_the_node_one_by_one_are_each_asked_about(world, tools):
    calls = [call("book", what=what) for what in ("dear hotel", "dear car")]
    node = TransactionToolNode(tools, rules_of(world, asks="dear"))
    graph = graph_of(calls, node, apart=True)
    with TransactionManager().transaction():
        questions = graph.invoke(GO, THREAD)["__interrupt__"]
        asked = {one.id: one.value["arguments"]["what"] for one in questions}
        assert sorted(asked.values()) == ["dear car", "dear hotel"]
        answers = {one: {"approved": True} for one in asked}
        graph.invoke(Command(resume=answers), THREAD)
    assert sorted(world.booked) == ["dear car", "dear hotel"]


def test_the_retries_of_a_node_have_one_effect(world, tools):
    failed: list[int] = []

    @tool
    def flaky(what: str) -> str:
        """Let the whole node fail once, which no error of a tool does."""
        if not failed:
            failed.append(1)
            raise TransactionNotActive("another one", "committed", "execute a step in")
        return world.book(what)

    retry = RetryPolicy(max_attempts=3, initial_interval=0.001, retry_on=Exception)
    calls = [call("book", what="flight"), call("flaky", what="hotel")]
    node = TransactionToolNode([*tools, flaky], rules_of(world))
    graph = graph_of(calls, node, retry_policy=retry)
    with TransactionManager().transaction():
        answer = graph.invoke(GO, THREAD)
    assert told(answer) == [("success", "flight 7"), ("success", "hotel 7")]
    assert world.calls == ["flight", "hotel"]


def test_a_call_outside_of_a_transaction_or_after_its_end_ends_the_run(world, tools):
    graph = graph_of([call("book", what="flight")], TransactionToolNode(tools, rules_of(world)))
    with pytest.raises(NoActiveTransaction):
        graph.invoke(GO, THREAD)
    with TransactionManager().transaction() as tx:
        tx.rollback("enough")
        with pytest.raises(TransactionNotActive):
            graph.invoke(GO, THREAD)
        with pytest.raises(TransactionNotActive):
            asyncio.run(graph.ainvoke(GO, THREAD))
    assert world.calls == []


def test_a_tool_that_leads_to_a_node_of_the_graph_around_has_done_its_work(world):
    @tool
    def book(what: str) -> str:
        """Book something in a graph of its own, which leads out of it."""
        world.book(what)
        graph = StateGraph(MessagesState)
        graph.add_node("out", lambda _state: Command(graph=Command.PARENT, goto="after"))
        graph.add_edge(START, "out")
        return str(graph.compile().invoke({"messages": []}))

    graph = StateGraph(MessagesState)
    calls = [call("book", what="flight")]
    graph.add_node("plan", lambda _state: {"messages": [AIMessage("", tool_calls=calls)]})
    graph.add_node("tools", TransactionToolNode([book], rules_of(world)))
    graph.add_node("after", lambda _state: {"messages": [AIMessage("after")]})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "tools")
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        answer = graph.compile().invoke(GO)
        assert answer["messages"][-1].content == "after"
        raise KeyError
    assert [one.state.value for one in tx.steps] == ["compensated"]
    assert world.booked == []


RESERVED: list[str] = []


def free(result: str) -> None:
    RESERVED.remove(result)


@step(name="langgraph: reserve", compensating_action=free)
def reserve(what: str) -> str:
    """Reserve something."""
    RESERVED.append(what)
    return what


def test_a_step_under_the_tool_decorator_is_journaled_once():
    graph = graph_of([call("reserve", what="room")], TransactionToolNode([tool(reserve)]))
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        graph.invoke(GO, THREAD)
        assert RESERVED == ["room"]
        raise KeyError
    assert [one.action for one in tx.steps] == ["langgraph: reserve"]
    assert RESERVED == []
