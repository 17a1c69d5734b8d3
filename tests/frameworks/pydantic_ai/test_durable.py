"""Tests of what a durable run records, and of when it asks the model again."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests, ModelHTTPError, Tool
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from aumai_transactions import TransactionManager
from aumai_transactions.integrations import (
    ToolRule,
    roll_back_transaction,
    transaction_status,
)
from aumai_transactions.integrations.pydantic_ai import Transactional
from aumai_transactions.integrations.pydantic_ai_durability import Durable
from aumai_transactions.stores.memory import MemoryStore

RITZ = ("book", {"hotel": "Ritz"})
ASTORIA = ("book", {"hotel": "Astoria"})


def agent_of(world: Any, *turns: Any, **options: Any) -> Any:
    tools = [Tool(world.book, name="book"), transaction_status, roll_back_transaction]
    capabilities = [Durable(), Transactional({"book": world.cancel})]
    return world.agent(*turns, tools=tools, capabilities=capabilities, **options)


def actions(tx: Any) -> list[tuple[str, str]]:
    return [(one.action, one.state.value) for one in tx.steps]


class Gone(BaseException):
    """Stand for the end of a process."""


def test_requests_are_steps_without_an_effect_beside_those_of_the_tools(world):
    agent = agent_of(world, RITZ)
    with pytest.raises(KeyError), TransactionManager().transaction() as tx:
        agent.run_sync("go")
        assert actions(tx) == [
            ("trip__model.request", "succeeded"),
            ("book", "succeeded"),
            ("trip__model.request", "succeeded"),
        ]
        raise KeyError
    assert tx.result is not None
    assert tx.result.clean
    assert world.rooms == []


def test_outside_of_a_transaction_it_changes_nothing(world):
    agent = world.agent(RITZ, tools=[Tool(world.book, name="book")], capabilities=[Durable()])
    assert agent.run_sync("go").output == "done"


def test_two_runs_and_two_agents_in_one_transaction_do_not_take_each_others_answers(world):
    def other(_messages: Any, _info: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart("other")])

    agent = agent_of(world, RITZ)
    with TransactionManager().transaction() as tx:
        assert agent.run_sync("go").output == "done"
        assert agent.run_sync("go").output == "done"
        assert agent_of_name("other", other).run_sync("go").output == "other"
    assert len(world.told) == 4
    assert world.calls == ["Ritz"]
    assert len(tx.steps) == 6


def agent_of_name(name: str, function: Any) -> Any:
    return Agent(FunctionModel(function), name=name, capabilities=[Durable(), Transactional()])


def resumed(manager: TransactionManager) -> Any:
    (dead,) = manager.get_all_transactions()
    return manager.resume(dead.transaction_id)


def died(manager: TransactionManager, agent: Any) -> None:
    """Run an agent in a transaction whose manager is closed before it ends."""
    block = manager.transaction(on_crash="wait", resume_within_seconds=3_600)
    block.__enter__()
    agent.run_sync("go")
    manager.close()
    block._leave()


def test_what_was_recorded_is_answered_whatever_the_program_says_besides(world):
    store = MemoryStore()
    first = agent_of(world, ASTORIA, ("transaction_status", {}), RITZ, instructions="Be quick.")
    died(TransactionManager(store=store), first)
    assert len(world.told) == 4
    again = agent_of(world, instructions=transaction_status, system_prompt="Be polite.")
    with resumed(TransactionManager(store=store)) as tx:
        assert again.run_sync("go").output == "done"
    # The Astoria is asked again, for it had failed; it says the same, and so the model is not.
    assert world.calls == ["Astoria", "Ritz", "Astoria"]
    assert tx.state == "committed"


def test_a_tool_that_answers_otherwise_than_it_did_is_told_to_the_model(world):
    store = MemoryStore()
    died(TransactionManager(store=store), agent_of(world, ASTORIA))
    told = len(world.told)
    again = world.agent(
        tools=[Tool(lambda hotel: f"{hotel} 9", name="book", description="Book.")],
        capabilities=[Durable(), Transactional({"book": "never"})],
    )
    with resumed(TransactionManager({"never": lambda _action, _data: None}, store=store)):
        again.run_sync("go")
    assert world.told[told:] == [["Astoria 9"]]


@pytest.mark.parametrize("error", [TimeoutError("no answer"), ConnectionResetError("gone")])
def test_a_request_that_failed_is_no_record_and_is_made_again(world, error):
    asked: list[int] = []

    def flaky(_messages: Any, _info: Any) -> ModelResponse:
        asked.append(1)
        if len(asked) == 1:
            raise error
        if len(asked) == 2:
            raise ModelHTTPError(503, "flaky")
        return ModelResponse(parts=[TextPart("at last")])

    agent = agent_of_name("trip", flaky)
    with TransactionManager().transaction() as tx:
        with pytest.raises(type(error)):
            agent.run_sync("go")
        with pytest.raises(ModelHTTPError):
            agent.run_sync("go")
        assert agent.run_sync("go").output == "at last"
    assert [state for _, state in actions(tx)] == ["failed", "failed", "succeeded"]


def test_an_answer_that_is_too_long_to_be_recorded_is_asked_for_again(world):
    asked: list[int] = []

    def long(_messages: Any, _info: Any) -> ModelResponse:
        asked.append(1)
        return ModelResponse(parts=[TextPart("x" * 3_000_000)])

    store = MemoryStore()
    died(TransactionManager(store=store), agent_of_name("trip", long))
    with resumed(TransactionManager(store=store)):
        assert len(agent_of_name("trip", long).run_sync("go").output) == 3_000_000
    assert len(asked) == 2


def test_a_run_that_waits_for_a_person_is_asked_about_again_by_another_process(world):
    def waits(*turns: Any) -> Any:
        rules = {"book": ToolRule(world.cancel, requires_approval=True)}
        return world.agent(
            *turns,
            tools=[Tool(world.book, name="book")],
            output_type=[str, DeferredToolRequests],
            capabilities=[Durable(), Transactional(rules)],
        )

    store = MemoryStore()
    died(TransactionManager(store=store), waits(RITZ))
    agent = waits()
    with resumed(TransactionManager(store=store)) as tx:
        result = agent.run_sync("go")
        assert len(world.told) == 1
        answers = result.output.build_results(approve_all=True)
        again = agent.run_sync(message_history=result.all_messages(), deferred_tool_results=answers)
        assert again.output == "done"
    assert world.rooms == ["Ritz"]
    assert tx.state == "committed"


def test_a_model_that_has_rolled_back_may_say_why(world):
    agent = agent_of(world, RITZ, ("roll_back_transaction", {"reason": "too dear"}))
    with TransactionManager().transaction() as tx:
        assert agent.run_sync("go").output == "done"
    assert tx.state == "rolled_back"
    assert world.rooms == []


def test_an_agent_as_a_tool_is_recorded_by_its_own_name(world):
    def ask(messages: Any, _info: Any) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("delegate", {}, "call")])
        return ModelResponse(parts=[TextPart(str(messages[-1].parts[0].content))])

    sub = agent_of(world, RITZ)

    async def delegate() -> str:
        """Let another agent do it."""
        return str((await sub.run("book")).output)

    main = Agent(
        FunctionModel(ask),
        name="main",
        tools=[delegate],
        capabilities=[Durable(), Transactional({"book": world.cancel}, others="pass")],
    )
    with TransactionManager().transaction() as tx:
        assert main.run_sync("go").output == "done"
    assert sorted({action for action, _ in actions(tx)}) == [
        "book",
        "main__model.request",
        "trip__model.request",
    ]
