"""Tests of approvals of a rule as the deferred approvals of pydantic-ai."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic_ai import DeferredToolRequests, Tool, ToolApproved, ToolDenied
from pydantic_ai.capabilities import HandleDeferredToolCalls

from aumai_transactions import (
    InvalidTransactionState,
    TransactionManager,
    TransactionNotFinal,
    TransactionRolledBack,
)
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.pydantic_ai import Transactional

RITZ = ("book", {"hotel": "Ritz"})
SAVOY = ("book", {"hotel": "Savoy"})
# Newer versions say who has answered; for the others it stands in the metadata.
KNOWS_WHO = "answered_by" in inspect.signature(DeferredToolRequests.build_results).parameters


def agent_of(world: Any, *turns: Any, **options: Any) -> Any:
    rule = ToolRule(world.cancel, requires_approval=lambda data: data["hotel"] != "Savoy")
    transactional = Transactional({"book": rule}, **options)
    return world.agent(
        *turns,
        tools=[Tool(world.book, name="book")],
        output_type=[str, DeferredToolRequests],
        capabilities=[transactional],
    )


def go_on(agent: Any, result: Any, answer: Any, **options: Any) -> Any:
    (asked,) = result.output.approvals
    answers = result.output.build_results(approvals={asked.tool_call_id: answer}, **options)
    return agent.run_sync(message_history=result.all_messages(), deferred_tool_results=answers)


def test_a_call_waits_for_the_frameworks_answer_and_the_journal_says_who(world):
    agent = agent_of(world, SAVOY, RITZ)
    with TransactionManager().transaction() as tx:
        result = agent.run_sync("go")
        assert [one.state.value for one in tx.steps] == ["succeeded", "pending"]
        assert world.calls == ["Savoy"]
        told = {"transaction_id": tx.transaction_id, "step_id": "s2"}
        assert result.output.metadata == {"call 1.0": told}
        go_on(agent, result, answer=True, metadata={"call 1.0": {"by": "ann"}})
    assert world.calls == ["Savoy", "Ritz"]
    assert [one.state.value for one in tx.steps] == ["succeeded", "succeeded"]
    assert "ann allowed step s2" in str(tx.result)


def test_who_the_framework_says_has_answered_is_recorded(world):
    agent = agent_of(world, RITZ)
    by_call = {"call 0.0": "bob"} if KNOWS_WHO else {"call 0.0": {"by": "bob"}}
    told: dict[str, Any] = {"answered_by" if KNOWS_WHO else "metadata": by_call}
    with TransactionManager().transaction() as tx:
        go_on(agent, agent.run_sync("go"), answer=True, **told)
    assert "bob allowed step s1" in str(tx.result)


@pytest.mark.parametrize("answer", [False, ToolDenied("too dear")])
def test_a_denial_undoes_the_transaction(world, answer):
    agent = agent_of(world, SAVOY, RITZ, asked_by="ann")
    with pytest.raises(TransactionRolledBack) as raised, TransactionManager().transaction():
        go_on(agent, agent.run_sync("go"), answer)
    assert raised.value.result.reason == "denied"
    assert "ann denied step s2" in str(raised.value)
    assert world.calls == ["Savoy"]
    assert world.rooms == []


def test_nothing_else_that_was_allowed_is_done_once_one_call_was_denied(world):
    agent = agent_of(world, [RITZ, ("book", {"hotel": "Lux"})])
    with pytest.raises(TransactionRolledBack), TransactionManager().transaction():
        result = agent.run_sync("go")
        answers = {one.tool_call_id: at == 0 for at, one in enumerate(result.output.approvals)}
        agent.run_sync(
            message_history=result.all_messages(),
            deferred_tool_results=result.output.build_results(approvals=answers),
        )
    assert world.calls == []


@pytest.mark.parametrize("is_given", [True, False])
def test_an_answer_inside_of_the_run_is_heard(world, *, is_given):
    async def answers(_ctx: Any, requests: DeferredToolRequests) -> Any:
        (asked,) = requests.approvals
        return requests.build_results(approvals={asked.tool_call_id: is_given})

    manager = TransactionManager()
    agent = world.agent(
        SAVOY,
        RITZ,
        tools=[Tool(world.book, name="book")],
        capabilities=[
            Transactional(
                {"book": ToolRule(world.cancel, requires_approval=lambda d: d["hotel"] == "Ritz")},
                manager=manager,
            ),
            HandleDeferredToolCalls(answers),
        ],
    )
    if is_given:
        agent.run_sync("go")
        assert world.rooms == ["Savoy", "Ritz"]
        return
    with pytest.raises(TransactionRolledBack) as raised:
        agent.run_sync("go")
    assert raised.value.result.reason == "denied"
    assert world.rooms == []


def test_what_is_allowed_with_other_arguments_takes_the_place_of_what_was_asked(world):
    agent = agent_of(world, RITZ)
    with TransactionManager().transaction() as tx:
        other = ToolApproved(override_args={"hotel": "Carlton"})
        go_on(agent, agent.run_sync("go"), other)
    assert world.rooms == ["Carlton"]
    assert [one.state.value for one in tx.steps] == ["skipped", "succeeded"]
    assert tx.state == "committed"


def test_a_question_that_nobody_answers_is_no_success(world):
    agent = agent_of(world, RITZ)
    with pytest.raises(TransactionNotFinal), TransactionManager().transaction():
        agent.run_sync("go")
    assert world.calls == []


def test_a_run_that_is_a_transaction_of_its_own_cannot_wait_for_another_run(world):
    agent = agent_of(world, SAVOY, RITZ, manager=TransactionManager())
    with pytest.raises(InvalidTransactionState, match="one block around both"):
        agent.run_sync("go")
    assert world.rooms == []


def test_a_call_that_the_framework_asks_about_by_itself_is_a_step_once_it_is_allowed(world):
    agent = world.agent(
        RITZ,
        tools=[Tool(world.book, name="book", requires_approval=True)],
        output_type=[str, DeferredToolRequests],
        capabilities=[Transactional({"book": world.cancel})],
    )
    with TransactionManager().transaction() as tx:
        result = agent.run_sync("go")
        assert tx.steps == []
        go_on(agent, result, answer=True)
    assert [one.state.value for one in tx.steps] == ["succeeded"]
