"""Tools of one's own under the Claude Agent SDK, with something else in Claude Code's place."""
# ruff: noqa: PT012, SIM117 (an exception leaves a whole block, and a client ends before it)
# mypy: disable-error-code="arg-type,union-attr"

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import create_sdk_mcp_server, tool

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    TransactionManager,
    TransactionRolledBack,
    step,
)
from aumai_transactions.integrations import READ, ToolRule
from aumai_transactions.integrations.claude_agent_sdk import ClaudeTools

ROOMS: list[str] = []
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def empty_world():
    ROOMS.clear()
    CALLS.clear()


def cancel(city: str) -> None:
    CALLS.append(f"cancel {city}")
    ROOMS.remove(city)


def told(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def text_of(result: dict[str, Any]) -> str:
    return "\n".join(one["text"] for one in result["content"])


@tool("book", "Book a room.", {"city": str})
async def book(arguments):
    city = arguments["city"]
    CALLS.append(f"book {city}")
    await asyncio.sleep(0)
    if city == "Full":
        raise ValueError("the hotel is full")
    if city == "Shut":
        return told("the hotel is shut", is_error=True)
    if city == "Gone":
        return told("the hotel is gone", isError=True)
    ROOMS.append(city)
    return told(f"a room in {city}")


@tool("look", "Look what is booked.", {"city": str})
async def look(arguments):
    CALLS.append(f"look {arguments['city']}")
    return told(f"{ROOMS.count(arguments['city'])} rooms")


def undo_own(arguments: dict[str, Any]) -> None:
    cancel(arguments["city"])


@step(name="claude own_book", compensating_action=undo_own)
async def own_book(arguments: dict[str, Any]) -> dict[str, Any]:
    """Book a room."""
    return await book.handler(arguments)


own_tool = tool("own_book", "Book a room.", {"city": str})(own_book)

RULES = {"book": cancel, "look": READ}
SERVERS = {"trip": [book, look, own_tool]}
BOOK, LOOK, OWN = "mcp__trip__book", "mcp__trip__look", "mcp__trip__own_book"


def run(test: Any) -> None:
    asyncio.run(test)


def test_the_schema_of_a_tool_is_what_it_was(connect):
    async def test():
        plain = create_sdk_mcp_server("plain", tools=[book, look, own_tool])
        async with connect(ClaudeTools(RULES, required=False), SERVERS) as code:
            mine = (await code.call("trip", "tools/list", {}))["tools"]
        options = {"plain": [*SERVERS["trip"]]}

        class Untouched(ClaudeTools):
            def servers(self, tools):
                return {"plain": plain}

        async with connect(Untouched(required=False), options) as code:
            assert (await code.call("plain", "tools/list", {}))["tools"] == mine

    run(test())


@pytest.mark.parametrize("use", [BOOK, OWN])
def test_a_run_that_ends_commits_and_one_that_raises_is_undone(connect, use):
    async def test():
        tools = ClaudeTools(RULES)
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx, connect(tools, SERVERS) as code:
                assert text_of(await code.use(use, {"city": "Oslo"})) == "a room in Oslo"
            assert tx.result.state == "committed"
            assert len(tx.steps) == 1
            with pytest.raises(KeyError):
                async with manager.transaction() as tx, connect(tools, SERVERS) as code:
                    await code.use(use, {"city": "Rome"})
                    assert ROOMS == ["Oslo", "Rome"]
                    raise KeyError
            assert ROOMS == ["Oslo"]

    run(test())


@pytest.mark.parametrize("use", [BOOK, OWN])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_client_that_was_connected_before_is_told_its_transaction(connect, use, kind):
    async def test():
        tools = ClaudeTools(RULES)
        async with connect(tools, SERVERS) as code:
            result = await code.use(use, {"city": "Oslo"})
            assert "must run inside a transaction" in text_of(result)
            assert CALLS == []
            with pytest.raises(KeyError):
                if kind == "async":
                    async with AsyncTransactionManager() as manager, manager.transaction() as tx:
                        tools.transaction = tx
                        await code.use(use, {"city": "Rome"})
                        raise KeyError
                with TransactionManager().transaction() as tx:
                    tools.transaction = tx
                    await code.use(BOOK, {"city": "Rome"})
                    raise KeyError
        assert CALLS == ["book Rome", "cancel Rome"]

    run(test())


def test_a_failure_goes_back_to_the_model_and_ends_nothing(connect):
    async def test():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(ClaudeTools(RULES), SERVERS) as code:
                for city, says in (("Full", "full"), ("Shut", "shut"), ("Gone", "gone")):
                    result = await code.use(BOOK, {"city": city})
                    assert result["isError"]
                    assert says in text_of(result)
                result = await code.use(BOOK, {"city": "Oslo"})
                assert not result.get("isError")
                assert code.stopped is None
        states = [one.state.value for one in tx.steps]
        assert states == ["failed", "failed", "failed", "succeeded"]
        assert tx.result.state == "committed"

    run(test())


def test_the_same_call_under_another_id_takes_effect_once_and_a_look_is_made(connect):
    async def test():
        async with AsyncTransactionManager() as manager, manager.transaction():
            async with connect(ClaudeTools(RULES), SERVERS) as code:
                first = await code.use(BOOK, {"city": "Oslo"})
                assert await code.use(BOOK, {"city": "Oslo"}) == first
                await code.use(LOOK, {"city": "Oslo"})
                await code.use(LOOK, {"city": "Oslo"})
        assert CALLS == ["book Oslo", "look Oslo", "look Oslo"]

    run(test())


def test_calls_side_by_side_are_each_a_step_and_equal_ones_one(connect):
    async def test():
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction(), connect(ClaudeTools(RULES), SERVERS) as code:
                    cities = ["Oslo", "Rome", "Oslo", "Bern", "Oslo"]
                    uses = [code.use(BOOK, {"city": city}) for city in cities]
                    results = await asyncio.gather(*uses)
                    assert [text_of(one) for one in results] == [f"a room in {c}" for c in cities]
                    assert sorted(ROOMS) == ["Bern", "Oslo", "Rome"]
                    raise KeyError
        assert ROOMS == []

    run(test())


@pytest.mark.parametrize("use", [BOOK, OWN])
def test_after_the_end_a_call_is_refused_and_the_run_is_stopped(connect, use):
    async def test():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(ClaudeTools(RULES), SERVERS) as code:
                await code.use(use, {"city": "Oslo"})
                await tx.rollback("enough")
                refused = await code.use(use, {"city": "Rome"})
                assert "has ended: it is rolled back" in refused["refused"]
                assert code.stopped == refused["refused"]
                # Even where no hook was asked, nothing happens.
                arguments = {"name": use.rpartition("__")[2], "arguments": {"city": "Rome"}}
                result = await code.call("trip", "tools/call", arguments)
                assert result["isError"]
        assert CALLS == ["book Oslo", "cancel Oslo"]

    run(test())


def test_a_model_looks_how_things_stand_and_gives_up(connect):
    async def test():
        tools = ClaudeTools(RULES)
        servers = {"trip": [book, *tools.offered()]}
        async with AsyncTransactionManager() as manager, manager.transaction(name="trip") as tx:
            async with connect(tools, servers) as code:
                await code.use(BOOK, {"city": "Oslo"})
                status = await code.use("mcp__trip__transaction_status", {})
                assert 'book {"city":"Oslo"}' in text_of(status)
                said = await code.hook("UserPromptSubmit", prompt="go on")
                assert said["hookSpecificOutput"]["additionalContext"] == text_of(status)
                told = await code.use("mcp__trip__roll_back_transaction", {"reason": "no use"})
                assert "rolled_back" in text_of(told)
                assert "has ended" in code.stopped
        assert tx.result.state == "rolled_back"
        assert [one.action for one in tx.steps] == ["book"]
        assert ROOMS == []

    run(test())


def test_what_needs_an_approval_is_asked_of_the_user_of_claude_code(connect):
    async def test():
        tools = ClaudeTools({"book": ToolRule(cancel, requires_approval=True)})
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, SERVERS) as code:
                refused = await code.use(BOOK, {"city": "Rome"}, allows=False)
                assert "not want" in refused["refused"]
                assert text_of(await code.use(BOOK, {"city": "Oslo"})) == "a room in Oslo"
                events = [event.kind for event in await manager.get_events(tx.transaction_id)]
                assert "approval_given" in events
        assert CALLS == ["book Oslo"]
        assert [one.state.value for one in tx.steps] == ["succeeded"]

    run(test())


def test_a_call_that_nobody_was_asked_about_waits_for_an_approval(connect):
    async def test():
        tools = ClaudeTools({"book": ToolRule(cancel, requires_approval=True)})
        async with AsyncTransactionManager() as manager:
            with pytest.raises(TransactionRolledBack):
                async with manager.transaction() as tx, connect(tools, SERVERS) as code:
                    arguments = {"name": "book", "arguments": {"city": "Oslo"}}
                    calling = asyncio.create_task(code.call("trip", "tools/call", arguments))
                    while not tx.steps:
                        await asyncio.wait([calling], timeout=0.01)
                    await manager.deny(tx.transaction_id, "s1", by="ann")
                    assert (await calling)["isError"]
        assert CALLS == []

    run(test())


def test_a_tool_that_nobody_has_declared_can_be_denied(connect):
    async def test():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(ClaudeTools(others="deny"), SERVERS) as code:
                result = await code.use(BOOK, {"city": "Oslo"})
                assert "it was not called" in text_of(result)
                assert text_of(await code.use(OWN, {"city": "Oslo"})) == "a room in Oslo"
        assert [one.action for one in tx.steps] == ["claude own_book"]

    run(test())


def test_a_call_that_claude_code_cancels_is_undone_and_the_transaction_goes_on(connect):
    async def test():
        begun, gone = asyncio.Event(), asyncio.Event()

        @tool("block", "Wait.", {"city": str})
        async def block(arguments):
            ROOMS.append(arguments["city"])
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

        tools = ClaudeTools({"block": cancel, "book": cancel})
        servers = {"trip": [book, block]}
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, servers) as code:
                arguments = {"name": "block", "arguments": {"city": "Oslo"}}
                message = {"jsonrpc": "2.0", "id": "c1", "method": "tools/call"}
                calling = asyncio.create_task(
                    code.ask(
                        subtype="mcp_message",
                        server_name="trip",
                        message={**message, "params": arguments},
                    )
                )
                await begun.wait()
                cancelled = {"method": "notifications/cancelled", "params": {"requestId": "c1"}}
                await code.ask(
                    subtype="mcp_message",
                    server_name="trip",
                    message={"jsonrpc": "2.0", **cancelled},
                )
                await gone.wait()
                assert "error" in (await calling)["mcp_response"]
                assert text_of(await code.use(BOOK, {"city": "Rome"})) == "a room in Rome"
        assert ROOMS == ["Rome"]
        assert tx.result.state == "committed"

    run(test())


def test_what_is_no_tool_is_refused_when_it_is_declared():
    with pytest.raises(DefinitionError, match="what @tool returned"):
        ClaudeTools().servers({"trip": [print]})
    with pytest.raises(DefinitionError, match="others"):
        ClaudeTools(others="maybe")
