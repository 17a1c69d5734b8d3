"""Steps as tools of a crew of CrewAI, whose model follows a script."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

from aumai_transactions import (
    AsyncTransactionManager,
    TransactionManager,
    step,
    transactional,
)

BOOKED: list[str] = []
CALLS: list[str] = []


def cancel(what: str, result: Any) -> None:
    BOOKED.remove(what)


def _book(what: str) -> str:
    CALLS.append(what)
    if what.startswith("full"):
        raise ValueError(f"{what} is not to be had")
    BOOKED.append(what)
    return f"{what} 7"


@step(name="crewai: book", compensating_action=cancel, once=True, required=True)
def book(what: str) -> str:
    """Book something."""
    return _book(what)


@step(name="crewai: book async", compensating_action=cancel, once=True, required=True)
async def book_async(what: str) -> str:
    """Book something, in a task."""
    await asyncio.sleep(0)
    return _book(what)


class Script(BaseLLM):
    """Answer by a script of calls, one a turn, and keep what it was told."""

    def __init__(self, *turns: tuple[str, str]) -> None:
        super().__init__(model="script")
        object.__setattr__(self, "turns", list(turns))
        object.__setattr__(self, "told", [])

    def call(self, messages: Any, *arguments: Any, **options: Any) -> str:
        self.told.append(str(messages))
        if not self.turns:
            return "Thought: done\nFinal Answer: done"
        name, what = self.turns.pop(0)
        given = json.dumps({"what": what})
        return f"Thought: go\nAction: {name}\nAction Input: {given}\n"

    async def acall(self, messages: Any, *arguments: Any, **options: Any) -> str:
        return self.call(messages)

    def supports_function_calling(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def world() -> None:
    BOOKED.clear()
    CALLS.clear()


def crew_of(script: Script, *tools: Any, **options: Any) -> Crew:
    agent = Agent(
        role="traveller",
        goal="a trip",
        backstory="none",
        llm=script,
        tools=list(tools),
        max_retry_limit=0,
    )
    work = Task(description="book a trip", expected_output="a trip", agent=agent)
    return Crew(agents=[agent], tasks=[work], **{"cache": False, **options})


TOOL = tool("book")(book)


def test_the_schema_of_a_tool_is_unchanged():
    theirs = tool("book")(inspect.unwrap(book))
    assert TOOL.args_schema.model_json_schema() == theirs.args_schema.model_json_schema()
    assert TOOL.description == theirs.description


def test_a_run_that_ends_commits_and_one_that_raises_is_undone():
    manager = TransactionManager()
    with manager.transaction() as tx:
        out = crew_of(Script(("book", "flight"), ("book", "hotel")), TOOL).kickoff()
    assert out.raw == "done"
    assert tx.result.state == "committed"
    with pytest.raises(KeyError), manager.transaction():
        crew_of(Script(("book", "car")), TOOL).kickoff()
        assert "car" in BOOKED
        raise KeyError
    assert BOOKED == ["flight", "hotel"]


def test_an_async_tool_stands_in_the_block_around_the_crew():
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx:
                crew = crew_of(Script(("book", "flight")), tool("book")(book_async))
                await crew.akickoff()
            assert [one.action for one in tx.steps] == ["crewai: book async"]

    asyncio.run(main())
    assert BOOKED == ["flight"]


def test_a_tool_that_fails_is_called_again_by_the_crew_and_its_error_swallowed():
    script = Script(("book", "full hotel"), ("book", "hotel"))
    with TransactionManager().transaction() as tx:
        out = crew_of(script, TOOL).kickoff()
    assert out.raw == "done"
    assert len(CALLS) > 2
    states = [one.state.value for one in tx.steps]
    assert set(states[:-1]) == {"failed"}
    assert states[-1] == "succeeded"
    assert BOOKED == ["hotel"]
    assert "not to be had" in script.told[1]


def test_the_calls_that_the_crew_repeats_by_itself_have_one_effect():
    attempts: list[str] = []

    @step(name="crewai: flaky", compensating_action=cancel, once=True, required=True)
    def flaky(what: str) -> str:
        """Book something, at the second attempt."""
        attempts.append(what)
        if len(attempts) == 1:
            raise ValueError("the line is dead")
        return _book(what)

    with pytest.raises(KeyError), TransactionManager().transaction():
        crew_of(Script(("flaky", "flight")), tool("flaky")(flaky)).kickoff()
        assert BOOKED == ["flight"]
        raise KeyError
    assert CALLS == ["flight"]
    assert BOOKED == []


def test_what_is_planned_again_is_answered_from_the_record():
    script = Script(("book", "flight"), ("book", "hotel"), ("book", "flight"))
    with TransactionManager().transaction() as tx:
        crew_of(script, TOOL).kickoff()
    assert CALLS == ["flight", "hotel"]
    assert len(tx.steps) == 2


def test_after_the_end_nothing_happens_however_often_the_crew_tries():
    script = Script(("book", "flight"), ("book", "hotel"), ("book", "car"))
    with TransactionManager().transaction() as tx:
        tx.rollback("enough")
        out = crew_of(script, TOOL).kickoff()
    assert out.raw == "done"
    assert CALLS == []
    assert "cannot execute" in script.told[-1]


def test_outside_of_a_transaction_nothing_happens():
    crew_of(Script(("book", "flight")), TOOL).kickoff()
    assert CALLS == []


@pytest.mark.parametrize("keeps", [True, False])
def test_what_a_crew_keeps_of_a_transaction_that_was_undone_is_no_step_of_the_next(*, keeps):
    one = tool("book")(book)
    if not keeps:
        one.cache_function = lambda _arguments, _result: False
    script = Script(("book", "flight"))
    crew = crew_of(script, one, cache=True)
    manager = TransactionManager()
    with pytest.raises(KeyError), manager.transaction():
        crew.kickoff()
        raise KeyError
    script.turns.append(("book", "flight"))
    with manager.transaction() as tx:
        crew.kickoff()
    # With its cache the crew believes in a flight that was given back, and books none.
    booked = [] if keeps else ["flight"]
    assert booked == BOOKED
    assert len(tx.steps) == len(booked)


def test_a_thread_without_the_context_is_refused_and_not_unprotected():
    async def main() -> None:
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            await crew_of(Script(("book", "flight")), TOOL).akickoff()
            assert len(CALLS) == len(tx.steps)
            await crew_of(Script(("book", "hotel")), tool("book")(tx.bind(book))).akickoff()
            assert "hotel" in BOOKED

    asyncio.run(main())


def test_tools_that_one_does_not_own_are_made_steps_in_one_line():
    def theirs(what: str) -> str:
        """Book something."""
        return _book(what)

    [mine] = transactional([theirs], compensating_actions={"theirs": cancel}, required=True)
    with pytest.raises(KeyError), TransactionManager().transaction():
        crew_of(Script(("theirs", "flight")), tool("theirs")(mine)).kickoff()
        assert BOOKED == ["flight"]
        raise KeyError
    assert BOOKED == []
