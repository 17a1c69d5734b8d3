"""Steps as tools of an agent of Google's ADK, whose model follows a script."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool
from google.genai import types

from aumai_transactions import (
    AsyncTransactionManager,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    step,
    transactional,
)

BOOKED: list[str] = []
CALLS: list[str] = []
HANGS: list[asyncio.Event] = []


def cancel(what: str, result: Any) -> None:
    BOOKED.remove(what)


def _book(what: str) -> dict[str, str]:
    CALLS.append(what)
    if what.startswith("full"):
        raise ValueError(f"{what} is not to be had")
    BOOKED.append(what)
    return {"room": f"{what} 7"}


@step(name="adk: book", compensating_action=cancel, once=True, required=True)
def book(what: str) -> dict[str, str]:
    """Book something.

    Args:
        what: What to book.
    """
    return _book(what)


@step(name="adk: book async", compensating_action=cancel, once=True, required=True)
async def book_async(what: str) -> dict[str, str]:
    """Book something, in a task."""
    booked = _book(what)
    if HANGS:
        HANGS[0].set()
        await asyncio.Event().wait()
    return booked


class Script(BaseLlm):
    """Answer by a script: the turn is told by how many answers the conversation holds."""

    turns: list[Any]

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        said = sum(one.role == "model" for one in llm_request.contents)
        if said >= len(self.turns):
            parts = [types.Part(text="done")]
        else:
            parts = [
                types.Part(function_call=types.FunctionCall(id=f"{said}-{n}", name=name, args=args))
                for n, (name, args) in enumerate(self.turns[said])
            ]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


@pytest.fixture(autouse=True)
def world() -> None:
    BOOKED.clear()
    CALLS.clear()
    HANGS.clear()


def runner_of(turns: list[Any], tools: list[Any], *plugins: Any) -> InMemoryRunner:
    agent = LlmAgent(name="trip", model=Script(model="script", turns=turns), tools=tools)
    return InMemoryRunner(agent, app_name="trip", plugins=list(plugins))


async def run(runner: InMemoryRunner) -> list[Any]:
    """Let the agent run, and return what its tools have answered."""
    session = await runner.session_service.create_session(app_name="trip", user_id="ann")
    asked = types.Content(role="user", parts=[types.Part(text="go")])
    answers = []
    async for event in runner.run_async(user_id="ann", session_id=session.id, new_message=asked):
        answers += [one.response for one in event.get_function_responses()]
    return answers


def of(name: str, *things: str) -> list[Any]:
    return [(name, {"what": thing}) for thing in things]


def test_the_schema_of_a_tool_is_unchanged() -> None:
    mine = FunctionTool(book)._get_declaration()
    theirs = FunctionTool(inspect.unwrap(book))._get_declaration()
    assert mine.model_dump() == theirs.model_dump()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_ends_commits_and_one_that_raises_is_undone(*, is_async: bool) -> None:
    tool = book_async if is_async else book
    turns = [of(tool.__name__, "flight", "hotel")]

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx:
                answers = await run(runner_of(turns, [tool]))
            assert answers == [{"room": "flight 7"}, {"room": "hotel 7"}]
            assert tx.result.state == "committed"
            with pytest.raises(KeyError):
                async with manager.transaction():
                    await run(runner_of([of(tool.__name__, "car")], [tool]))
                    raise KeyError

    asyncio.run(main())
    assert sorted(CALLS) == ["car", "flight", "hotel"]
    assert sorted(BOOKED) == ["flight", "hotel"]


def test_a_tools_error_ends_the_run_and_undoes_it() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="full hotel"), TransactionManager().transaction():
            await run(runner_of([of("book", "flight"), of("book", "full hotel")], [book]))

    asyncio.run(main())
    assert CALLS == ["flight", "full hotel"]
    assert BOOKED == []


def test_a_plugin_that_swallows_errors_lets_the_model_find_another_way() -> None:
    plugin = ReflectAndRetryToolPlugin(max_retries=3)

    async def main() -> None:
        with TransactionManager().transaction() as tx:
            await run(runner_of([of("book", "full hotel"), of("book", "hotel")], [book], plugin))
        assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]

    asyncio.run(main())
    assert BOOKED == ["hotel"]


def test_what_is_planned_again_under_a_new_call_id_is_answered_from_the_record() -> None:
    async def main() -> list[Any]:
        with TransactionManager().transaction():
            return await run(runner_of([of("book", "flight"), of("book", "flight")], [book]))

    assert asyncio.run(main()) == [{"room": "flight 7"}] * 2
    assert CALLS == ["flight"]


def test_equal_calls_side_by_side_have_one_effect() -> None:
    async def main() -> list[Any]:
        async with AsyncTransactionManager() as manager, manager.transaction():
            return await run(runner_of([of("book_async", "car", "car", "car")], [book_async]))

    assert asyncio.run(main()) == [{"room": "car 7"}] * 3
    assert CALLS == ["car"]


def test_a_call_after_the_end_does_nothing_even_where_a_plugin_swallows_the_refusal() -> None:
    plugin = ReflectAndRetryToolPlugin(max_retries=3, throw_exception_if_retry_exceeded=False)

    async def main() -> None:
        with TransactionManager().transaction() as tx:
            tx.rollback("enough")
            with pytest.raises(TransactionNotActive):
                await run(runner_of([of("book", "flight")], [book]))
            await run(runner_of([of("book", "flight")] * 6, [book], plugin))

    asyncio.run(main())
    assert CALLS == []


def test_the_sync_runner_has_a_thread_of_its_own_where_a_step_is_bound_or_refused() -> None:
    asked = types.Content(role="user", parts=[types.Part(text="go")])

    def run_sync(tool: Any) -> None:
        runner = runner_of([of("book", "flight")], [tool])
        creating = runner.session_service.create_session(
            app_name="trip", user_id="ann", session_id="one"
        )
        asyncio.run(creating)
        list(runner.run(user_id="ann", session_id="one", new_message=asked))

    with TransactionManager().transaction() as tx:
        # Older ones start the thread without the context, and swallow what it raises.
        with contextlib.suppress(NoActiveTransaction):
            run_sync(book)
        assert len(CALLS) == len(tx.steps)
        run_sync(tx.bind(book))
    assert BOOKED == ["flight"]


def test_a_cancelled_run_is_undone() -> None:
    HANGS.append(asyncio.Event())

    async def trip(manager: AsyncTransactionManager) -> None:
        async with manager.transaction():
            await run(runner_of([of("book", "flight"), of("book_async", "hotel")], TOOLS))

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            running = asyncio.create_task(trip(manager))
            await HANGS[0].wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert CALLS == ["flight", "hotel"]
    assert BOOKED == []


TOOLS = [book, book_async]


def test_a_confirmation_that_is_waited_for_is_no_step_and_the_run_has_ended_all_the_same() -> None:
    tool = FunctionTool(book, require_confirmation=True)

    async def main() -> None:
        with TransactionManager().transaction() as tx:
            answers = await run(runner_of([of("book", "flight")], [tool]))
        assert "requires confirmation" in str(answers)
        assert tx.steps == []

    asyncio.run(main())
    assert CALLS == []


def test_tools_that_one_does_not_own_are_made_steps_in_one_line() -> None:
    def theirs(what: str) -> dict[str, str]:
        """Book something."""
        return _book(what)

    [tool] = transactional([theirs], compensating_actions={"theirs": cancel}, required=True)

    async def main() -> None:
        with pytest.raises(KeyError), TransactionManager().transaction():
            await run(runner_of([of("theirs", "flight")], [tool]))
            assert BOOKED == ["flight"]
            raise KeyError

    asyncio.run(main())
    assert BOOKED == []
