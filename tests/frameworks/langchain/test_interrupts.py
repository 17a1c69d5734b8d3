"""Interrupts of the graph: approvals, tools that ask, and blocks that are left meanwhile."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from tests.frameworks.langchain.scene import Script, World, call, told

from aumai_transactions import (
    AsyncTransactionManager,
    TransactionManager,
    TransactionNotFinal,
    TransactionRolledBack,
)
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.langchain import TransactionMiddleware

GO = {"messages": [("user", "go")]}
THREAD: Any = {"configurable": {"thread_id": "ann"}}
NOT_OVER = "a run of the agent is not over"
WAITS: Any = {"on_crash": "wait", "resume_within_seconds": 3600}


@pytest.fixture
def tools(world: World) -> list[Any]:
    @tool
    def book(what: str) -> str:
        """Book something."""
        return world.book(what)

    @tool
    def seat(what: str) -> str:
        """Book a seat, and ask which one."""
        where = interrupt(f"where in the {what}?")
        return world.book(f"{what} {where}")

    return [book, seat]


def agent_of(turns: list[Any], tools: list[Any], *middleware: Any, **options: Any) -> Any:
    model = Script(turns=turns)
    options.setdefault("checkpointer", InMemorySaver())
    return create_agent(model, tools, middleware=list(middleware), **options)


def with_approval(world: World) -> TransactionMiddleware:
    wanted = ToolRule(world.cancel, requires_approval=lambda data: data["what"] == "hotel")
    return TransactionMiddleware({"book": wanted, "seat": lambda what, result: None})


TRIP = [[call("book", what="flight")], [call("book", what="hotel")]]


def test_a_person_is_asked_by_an_interrupt_and_the_run_goes_on(world, tools):
    agent = agent_of(TRIP, tools, with_approval(world))
    with TransactionManager().transaction() as tx:
        asked = agent.invoke(GO, THREAD)
        [question] = asked["__interrupt__"]
        assert question.value["tool"] == "book"
        assert question.value["arguments"] == {"what": "hotel"}
        assert question.value["transaction_id"] == tx.transaction_id
        assert world.booked == ["flight"]
        answer = agent.invoke(Command(resume=True), THREAD)
    assert told(answer) == [("success", "flight 7"), ("success", "hotel 7")]
    assert tx.result.state == "committed"
    assert "LangGraph thread ann allowed step s2" in " ".join(tx.result.warnings)


def test_the_same_holds_for_tasks(world, tools):
    agent = agent_of(TRIP, tools, with_approval(world))

    async def main() -> None:
        async with AsyncTransactionManager() as manager, manager.transaction():
            assert "__interrupt__" in await agent.ainvoke(GO, THREAD)
            await agent.ainvoke(Command(resume=True), THREAD)

    asyncio.run(main())
    assert world.calls == ["flight", "hotel"]


@pytest.mark.parametrize("no", [False, {"approved": False}])
def test_a_no_undoes_everything(world, tools, no):
    agent = agent_of(TRIP, tools, with_approval(world))
    with pytest.raises(TransactionRolledBack), TransactionManager().transaction() as tx:
        agent.invoke(GO, THREAD)
        agent.invoke(Command(resume=no), THREAD)
    assert tx.result.reason == "denied"
    assert world.calls == ["flight"]
    assert world.booked == []


def test_what_is_no_answer_to_this_question_is_asked_again(world, tools):
    agent = agent_of(TRIP, tools, with_approval(world))
    with TransactionManager().transaction():
        asked = agent.invoke(GO, THREAD)
        for says in ("yes", 1, {"approved": True, "digest": "of another step"}):
            asked = agent.invoke(Command(resume=says), THREAD)
            assert "True or False" in asked["__interrupt__"][0].value["answer"]
        assert world.booked == ["flight"]
        digest = asked["__interrupt__"][0].value["digest"]
        agent.invoke(Command(resume={"approved": True, "digest": digest}), THREAD)
    assert world.booked == ["flight", "hotel"]


def test_an_interrupt_of_a_tool_is_no_failure_and_what_was_done_is_not_done_again(world, tools):
    turns = [[call("book", what="flight"), call("seat", what="train")]]
    agent = agent_of(turns, tools, with_approval(world))
    with TransactionManager().transaction() as tx:
        asked = agent.invoke(GO, THREAD)
        assert asked["__interrupt__"][0].value == "where in the train?"
        assert "Suspended" in str(tx.describe())
        agent.invoke(Command(resume="front"), THREAD)
    assert tx.result.state == "committed"
    assert world.booked == ["flight", "train front"]


def test_a_block_that_is_left_while_the_run_waits_is_undone_and_not_committed(world, tools):
    manager = TransactionManager()
    hitl = HumanInTheLoopMiddleware(interrupt_on={"book": True})
    for turns, others in (
        (TRIP, []),
        ([TRIP[0], [call("seat", what="train")]], []),
        (TRIP, [hitl]),
    ):
        agent = agent_of(turns, tools, with_approval(world), *others)
        with pytest.raises(TransactionRolledBack, match=NOT_OVER), manager.transaction() as tx:
            assert "__interrupt__" in agent.invoke(GO, THREAD)
        assert tx.result.state == "rolled_back"
        assert world.booked == []


def test_a_run_that_is_stopped_before_a_node_keeps_its_block_from_committing(world, tools):
    agent = agent_of(TRIP, tools, with_approval(world), interrupt_before=["tools"])
    with pytest.raises(TransactionRolledBack), TransactionManager().transaction():
        agent.invoke(GO, THREAD)
    agent = agent_of([TRIP[0]], tools, with_approval(world), interrupt_before=["tools"])
    with TransactionManager().transaction():
        agent.invoke(GO, THREAD)
        agent.invoke(None, THREAD)
    assert world.booked == ["flight"]


def test_a_stream_that_is_not_read_to_its_end_is_a_run_that_is_not_over(world, tools):
    agent = agent_of(TRIP, tools, with_approval(world))
    with pytest.raises(TransactionRolledBack, match=NOT_OVER), TransactionManager().transaction():
        for chunk in agent.stream(GO, THREAD):
            if "tools" in chunk:
                break
    assert world.calls == ["flight"]
    assert world.booked == []


def test_a_run_that_an_error_has_ended_leaves_the_decision_to_the_program(world, tools):
    class Down(Exception):
        pass

    class Broken(Script):
        def _generate(self, messages: Any, *arguments: Any, **options: Any):
            if messages[-1].type == "tool":
                raise Down
            return super()._generate(messages, *arguments, **options)

    agent = create_agent(Broken(turns=TRIP), tools, middleware=[with_approval(world)])
    with TransactionManager().transaction() as tx:
        with pytest.raises(Down):
            agent.invoke(GO)
        assert world.booked == ["flight"]
    assert tx.result.state == "committed"


def test_a_run_is_gone_on_with_in_another_process_that_shares_nothing_but_the_stores(
    world, tools, tmp_path
):
    saver = InMemorySaver()
    store = f"sqlite:///{tmp_path}/trips.db"
    with TransactionManager(store=store) as manager:
        agent = agent_of(TRIP, tools, with_approval(world), checkpointer=saver)
        with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
            config = {"configurable": {"thread_id": tx.transaction_id}}
            assert "__interrupt__" in agent.invoke(GO, config)
        assert tx.result.waiting.reason == "approval"
        assert world.booked == ["flight"]
    with TransactionManager(store=store) as manager:
        manager.recover()
        agent = agent_of(TRIP, tools, with_approval(world), checkpointer=saver)
        with manager.resume(config["configurable"]["thread_id"]) as tx:
            answer = agent.invoke(Command(resume=True), config)
        assert tx.result.state == "committed"
    assert told(answer)[-1] == ("success", "hotel 7")
    assert world.calls == ["flight", "hotel"]


def test_a_resumed_run_that_waits_again_is_not_committed_either(world, tools):
    turns = [*TRIP, [call("seat", what="train")]]
    agent = agent_of(turns, tools, with_approval(world))
    manager = TransactionManager()
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        agent.invoke(GO, THREAD)
    with pytest.raises(TransactionNotFinal), manager.resume(tx.transaction_id):
        agent.invoke(Command(resume=True), THREAD)
    with manager.resume(tx.transaction_id) as tx:
        agent.invoke(Command(resume="front"), THREAD)
    assert tx.result.state == "committed"
    assert world.calls == ["flight", "hotel", "train front"]


def test_an_agent_that_is_a_tool_of_another_one_ends_no_run_but_its_own(world, tools):
    inner = create_agent(
        Script(turns=[[call("seat", what="train")]]), tools, middleware=[with_approval(world)]
    )

    @tool
    def delegate(task: str) -> str:
        """Let somebody else do it."""
        return str(inner.invoke({"messages": [("user", task)]})["messages"][-1].content)

    agent = agent_of([[call("delegate", task="train")]], [delegate], with_approval(world))
    with pytest.raises(TransactionRolledBack), TransactionManager().transaction():
        assert "__interrupt__" in agent.invoke(GO, THREAD)
    agent = agent_of([[call("delegate", task="train")]], [delegate], with_approval(world))
    with TransactionManager().transaction():
        assert "__interrupt__" in agent.invoke(GO, THREAD)
        agent.invoke(Command(resume="front"), THREAD)
    assert world.booked == ["train front"]


@pytest.mark.parametrize("between", ["nothing", "recover"])
def test_a_person_may_answer_in_the_journal_while_nobody_runs_the_graph(world, tools, between):
    agent = agent_of(TRIP, tools, with_approval(world))
    manager = TransactionManager()
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        [question] = agent.invoke(GO, THREAD)["__interrupt__"]
    about = question.value
    manager.approve(tx.transaction_id, about["step_id"], by="ann", digest=about["digest"])
    if between == "recover":
        manager.recover()
    with manager.resume(tx.transaction_id) as tx:
        agent.invoke(Command(resume=True), THREAD)
    assert tx.result.state == "committed"
    assert world.calls == ["flight", "hotel"]
