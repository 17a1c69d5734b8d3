"""The extension in a server of the MCP Python SDK, in both eras of the protocol."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="arg-type,union-attr"

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.server.extension import Extension
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ElicitResult, TextContent
from pydantic import BaseModel

from aumai_transactions import AsyncTransactionManager, DefinitionError, NoActiveTransaction, step
from aumai_transactions.integrations import READ, ToolRule
from aumai_transactions.integrations.mcp_server import Transactions, told_to_model
from aumai_transactions.integrations.tool_calls import ToolFailed, is_step

if TYPE_CHECKING:
    from collections.abc import Coroutine

ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])

ROOMS: list[str] = []
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def empty_world():
    ROOMS.clear()
    CALLS.clear()


def cancel(city: str) -> None:
    CALLS.append(f"cancel {city}")
    if city in ROOMS:
        ROOMS.remove(city)


def book(city: str) -> str:
    """Book a room."""
    CALLS.append(f"book {city}")
    if city == "Full":
        raise ToolError("the hotel is full")
    if city == "Crash":
        raise RuntimeError("a secret of the server")
    ROOMS.append(city)
    return f"a room in {city}"


async def book_later(city: str) -> str:
    """Book a room."""
    await asyncio.sleep(0)
    return book(city)


@step(name="mcp own_book", compensating_action=cancel)
def own_book(city: str) -> str:
    """Book a room."""
    return book(city)


@step(name="mcp own_book_later", compensating_action=cancel)
async def own_book_later(city: str) -> str:
    """Book a room."""
    return await book_later(city)


def undeclared(city: str) -> str:
    """Book a room, without anybody's having said how that is undone."""
    return book(city)


def look(city: str) -> int:
    """Look how many rooms there are."""
    CALLS.append(f"look {city}")
    return ROOMS.count(city)


class Trip:
    """Be a client of a server with transactions."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = ""

    async def begin(self, **options: Any) -> str:
        self.name = (await self.tell("tx_begin", **options))["transaction_id"]
        return self.name

    async def call(self, tool: str, city: str, name: str | None = None) -> CallToolResult:
        meta = {"dev.aumai/tx": name or self.name}
        return await self.client.call_tool(tool, {"city": city}, meta=meta)

    async def tell(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        return result.structured_content

    async def end(self, how: str, **arguments: Any) -> str:
        return (await self.tell(f"tx_{how}", transaction_id=self.name, **arguments))["state"]


def text_of(result: CallToolResult) -> str:
    return "\n".join(one.text for one in result.content if isinstance(one, TextContent))


def server(
    *extensions: Extension, tools: tuple[Any, ...] = (), **options: Any
) -> tuple[MCPServer, Transactions]:
    """A server with tools that it does not know to be steps, and with others that are."""
    rules = {"book": cancel, "book_later": cancel, "look": READ}
    options.setdefault("rules", rules)
    added = Transactions(AsyncTransactionManager(), **options)
    made = MCPServer("hotels", log_level="CRITICAL", extensions=[*extensions, added])
    for one in tools or (book, book_later, own_book, own_book_later, look):
        made.add_tool(one)
    return made, added


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@ERAS
def test_it_says_that_it_is_there_and_changes_no_tool(era):
    async def test():
        made, _ = server()
        plain = MCPServer("plain")
        for one in (book, book_later, look):
            plain.add_tool(one)
        for one in (own_book, own_book_later):
            plain.add_tool(inspect.unwrap(one))
        async with Client(made, mode=era) as client, Client(plain, mode=era) as other:
            told = client.server_capabilities.extensions
            if era == "auto":  # The older era has no place for it.
                assert told == {
                    "dev.aumai/transactions": {
                        "version": "1",
                        "meta": "dev.aumai/tx",
                        "savepoints": True,
                    }
                }
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            plain_ones = {tool.name: tool for tool in (await other.list_tools()).tools}
            assert {name: tools[name] for name in plain_ones} == plain_ones
            assert {*tools} - {*plain_ones} == {
                "tx_begin",
                "tx_savepoint",
                "tx_rollback",
                "tx_commit",
                "tx_status",
            }
            assert tools["tx_status"].annotations.read_only_hint

    run(test())


@ERAS
@pytest.mark.parametrize("tool", ["book", "book_later", "own_book", "own_book_later"])
def test_a_call_that_names_a_transaction_is_one_step_of_it(era, tool):
    async def test():
        made, added = server()
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            first = await trip.begin(name="kept")
            result = await trip.call(tool, "Oslo")
            assert text_of(result) == "a room in Oslo"
            assert result.structured_content == {"result": "a room in Oslo"}
            (held,) = added.open.of()
            assert [one.state.value for one in held.block.steps] == ["succeeded"]
            assert await trip.end("commit") == "committed"
            await trip.begin()
            await trip.call(tool, "Rome")
            assert ROOMS == ["Oslo", "Rome"]
            assert await trip.end("rollback", reason="no") == "rolled_back"
            assert ROOMS == ["Oslo"]
            told = await trip.tell("tx_status", transaction_id=first)
            assert told["state"] == "committed"

    run(test())


@ERAS
def test_a_failure_that_is_returned_is_no_success_and_ends_nothing(era):
    async def test():
        made, added = server()
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            for city, says in (("Full", "the hotel is full"), ("Crash", "Error executing tool")):
                result = await trip.call("book", city)
                assert result.is_error
                assert says in text_of(result)
                assert "secret" not in text_of(result)
            await trip.call("book", "Oslo")
            (held,) = added.open.of()
            states = [one.state.value for one in held.block.steps]
            assert states == ["failed", "failed", "succeeded"]
            assert await trip.end("rollback") == "rolled_back"
            assert CALLS == ["book Full", "book Crash", "book Oslo", "cancel Oslo"]

    run(test())


def test_a_failure_can_be_declared_to_leave_it_open_whether_it_happened():
    async def test():
        rule = ToolRule(cancel, in_doubt_on=(ToolFailed,))
        made, _ = server(rules={"book": rule})
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            result = await trip.call("book", "Crash")
            assert result.is_error
            assert "It was undone; try something else" in text_of(result)
            assert CALLS == ["book Crash", "cancel Crash"]
            assert await trip.end("commit") == "committed"

    run(test())


@ERAS
def test_the_same_call_again_takes_effect_once_and_a_look_is_made(era):
    async def test():
        made, _ = server()
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            first = await trip.call("book", "Oslo")
            again = await trip.call("book", "Oslo")
            assert (again.content, again.structured_content) == (
                first.content,
                first.structured_content,
            )
            looks = [await trip.call("look", "Oslo"), await trip.call("look", "Oslo")]
            assert [text_of(one) for one in looks] == ["1", "1"]
            assert CALLS == ["book Oslo", "look Oslo", "look Oslo"]

    run(test())


@ERAS
def test_calls_side_by_side_are_each_a_step_and_equal_ones_one(era):
    async def test():
        made, _ = server()
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            cities = ["Oslo", "Rome", "Bern", "Oslo", "Rome", "Oslo"]
            told = await asyncio.gather(*[trip.call("book", city) for city in cities])
            assert [text_of(one) for one in told] == [f"a room in {one}" for one in cities]
            assert sorted(ROOMS) == ["Bern", "Oslo", "Rome"]
            assert await trip.end("rollback") == "rolled_back"
            assert ROOMS == []

    run(test())


@ERAS
@pytest.mark.parametrize("tool", ["book", "own_book"])
def test_a_call_after_the_end_is_refused_in_words_and_nothing_happens(era, tool):
    async def test():
        made, _ = server()
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            await trip.call(tool, "Oslo")
            await trip.end("rollback")
            for _ in range(3):
                result = await trip.call(tool, "Rome")
                assert result.is_error
                assert "it is rolled back. Nothing was done" in text_of(result)
            result = await trip.call(tool, "Rome", "no such one")
            assert result.is_error
            assert "no transaction 'no such one' in mcp" in text_of(result)
            for name in ("tx_commit", "tx_rollback"):
                result = await client.call_tool(name, {"transaction_id": trip.name})
                assert result.is_error
                assert "Nothing was done" in text_of(result)
            assert CALLS == ["book Oslo", "cancel Oslo"]
            assert ROOMS == []

    run(test())


def test_a_client_goes_back_to_a_savepoint():
    async def test():
        made, _ = server()
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            await trip.call("book", "Oslo")
            await trip.end("savepoint", name="detour")
            await trip.call("own_book", "Rome")
            await trip.call("book", "Bern")
            assert await trip.end("rollback", savepoint="detour") == "active"
            assert ROOMS == ["Oslo"]
            arguments = {"transaction_id": trip.name, "savepoint": "other"}
            result = await client.call_tool("tx_rollback", arguments)
            assert result.is_error
            assert "It has detour. Nothing was undone." in text_of(result)
            assert await trip.end("commit") == "committed"
            assert ROOMS == ["Oslo"]

    run(test())


def test_a_call_without_a_transaction_is_just_made_or_refused():
    async def test():
        made, _ = server()
        async with Client(made) as client:
            assert text_of(await client.call_tool("book", {"city": "Oslo"})) == "a room in Oslo"
        made, _ = server(required=True)
        async with Client(made) as client:
            for tool in ("book", "own_book"):
                result = await client.call_tool(tool, {"city": "Rome"})
                assert result.is_error
                assert "must run inside a transaction" in text_of(result)
            trip = Trip(client)
            await trip.begin()
            assert text_of(await trip.call("book", "Bern")) == "a room in Bern"

    run(test())  # At the end of the loop what nobody has committed is undone.
    assert CALLS == ["book Oslo", "book Bern", "cancel Bern"]


@ERAS
@pytest.mark.parametrize("tool", ["own_book", "own_book_later", "book"])
def test_a_block_around_a_client_in_this_process_is_found(era, tool):
    async def test():
        made, added = server()
        async with Client(made, mode=era) as client:
            with pytest.raises(KeyError):
                async with added.open.manager.transaction() as tx:
                    result = await client.call_tool(tool, {"city": "Oslo"})
                    assert text_of(result) == "a room in Oslo"
                    assert len(tx.steps) == 1
                    raise KeyError
            assert CALLS == ["book Oslo", "cancel Oslo"]

    run(test())


def test_tools_that_nobody_has_declared_are_journaled_or_denied():
    async def test():
        made, _ = server(rules={"look": READ}, tools=(undeclared, own_book))
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            await trip.call("undeclared", "Oslo")
            told = await trip.tell("tx_rollback", transaction_id=trip.name)
            assert "s1" in told["text"]
            assert "cannot be undone, nothing declared: s1" in told["text"]
        made, _ = server(rules={}, tools=(undeclared, own_book), others="deny")
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            result = await trip.call("undeclared", "Rome")
            assert result.is_error
            assert "it was not called" in text_of(result)
            assert text_of(await trip.call("own_book", "Bern")) == "a room in Bern"
        assert "book Rome" not in CALLS

    run(test())


class Wish(BaseModel):
    """Hold what a user is asked."""

    floor: int


async def asked_for_floor(city: str) -> Elicit[Wish]:
    return Elicit(f"Which floor in {city}?", Wish)


async def book_floor(city: str, wish: Annotated[Wish, Resolve(asked_for_floor)]) -> str:
    """Book a room on a floor."""
    ROOMS.append(city)
    return f"floor {wish.floor}"


async def book_asking(city: str, ctx: Context) -> str:
    """Book a room on a floor."""
    answer = await ctx.elicit("Which floor?", Wish)
    ROOMS.append(city)
    return f"floor {answer.data.floor}"


def test_a_question_to_the_user_is_no_failure_and_the_call_is_made_once():
    asked: list[str] = []

    async def person(_context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={"floor": 7})

    async def test(era, tool):
        tools = (book_floor, book_asking)
        made, added = server(tools=tools, rules={"book_floor": cancel, "book_asking": cancel})
        async with Client(made, mode=era, elicitation_callback=person) as client:
            trip = Trip(client)
            await trip.begin()
            assert text_of(await trip.call(tool, "Oslo")) == "floor 7"
            (held,) = added.open.of()
            states = [one.state.value for one in held.block.steps]
            assert states == (["failed", "succeeded"] if era == "auto" else ["succeeded"])
            assert ROOMS == ["Oslo"]
            assert await trip.end("rollback") == "rolled_back"
            assert CALLS == ["cancel Oslo"]
            assert ROOMS == []
            CALLS.clear()

    run(test("auto", "book_floor"))
    run(test("legacy", "book_floor"))
    run(test("legacy", "book_asking"))
    assert len(asked) == 3


@ERAS
def test_a_user_of_the_client_allows_or_refuses_what_needs_an_approval(era):
    answers = [("accept", {"approve": True}), ("accept", {"approve": False}), ("decline", None)]
    asked: list[str] = []

    async def person(_context, params):
        asked.append(params.message)
        action, content = answers[len(asked) - 1]
        return ElicitResult(action=action, content=content)

    async def test():
        made, added = server(rules={"book": ToolRule(cancel, requires_approval=True)})
        async with Client(made, mode=era, elicitation_callback=person) as client:
            trip = Trip(client)
            await trip.begin()
            assert text_of(await trip.call("book", "Oslo")) == "a room in Oslo"
            assert await trip.end("commit") == "committed"
            for city in ("Rome", "Bern"):
                await trip.begin()
                result = await trip.call("book", city)
                assert result.is_error
                assert "denied" in text_of(result)
                assert (await added.open.result(trip.name)).reason == "denied"
            assert len(asked) == 3
            assert "Oslo" in asked[0]
            assert CALLS == ["book Oslo"]

    run(test())


@ERAS
def test_where_no_user_can_be_asked_the_model_is_told_who_has_to_allow_it(era):
    async def test():
        rule = ToolRule(cancel, requires_approval=True)
        made, added = server(rules={"book": rule}, asks_client=era == "auto")
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            asking = asyncio.create_task(trip.call("book", "Oslo"))
            (held,) = added.open.of()
            while not held.block.steps:
                await asyncio.wait([asking], timeout=0.01)
            await added.open.manager.approve(trip.name, "s1", by="ann")
            assert text_of(await asking) == "a room in Oslo"

    run(test())


@ERAS
@pytest.mark.parametrize("tool", ["block_foreign", "block_own"])
def test_a_call_that_its_client_gives_up_is_undone_and_the_transaction_goes_on(era, tool):
    async def test():
        begun, gone = asyncio.Event(), asyncio.Event()

        async def block(city: str) -> str:
            if city == "Oslo":
                ROOMS.append(city)
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    gone.set()
            return book(city)

        async def block_foreign(city: str) -> str:
            return await block(city)

        @step(name=f"mcp block_own {era}", compensating_action=cancel)
        async def block_own(city: str) -> str:
            return await block(city)

        tools = (block_foreign, block_own)
        made, added = server(tools=tools, rules={"block_foreign": cancel})
        async with Client(made, mode=era) as client:
            trip = Trip(client)
            await trip.begin()
            calling = asyncio.create_task(trip.call(tool, "Oslo"))
            await begun.wait()
            calling.cancel()
            await gone.wait()
            assert text_of(await trip.call(tool, "Rome")) == "a room in Rome"
            assert await trip.end("commit") == "committed"
            assert ROOMS == ["Rome"]
            result = await added.open.result(trip.name)
            assert result.state == "committed"

    run(test())


@ERAS
def test_what_a_step_says_of_its_transaction_can_be_shown_to_the_model(era):
    @told_to_model
    @step(name=f"mcp refusing {era}", compensating_action=cancel)
    def refusing(city: str) -> str:
        raise NoActiveTransaction(city)

    @told_to_model
    @step(name=f"mcp refusing later {era}", required=True)
    async def refusing_later(city: str) -> str:
        return city

    assert not is_step(refusing)

    async def test():
        made, added = server(tools=(refusing, refusing_later), rules={})
        async with Client(made, mode=era) as client:
            result = await client.call_tool("refusing_later", {"city": "Oslo"})
            assert "must run inside a transaction" in text_of(result)
            trip = Trip(client)
            await trip.begin()
            assert "Oslo must run inside" in text_of(await trip.call("refusing", "Oslo"))
            assert not (await trip.call("refusing_later", "Oslo")).is_error
            (held,) = added.open.of()
            states = [one.state.value for one in held.block.steps]
            assert states == ["failed", "succeeded"]

    run(test())


def test_another_extension_around_it_changes_nothing():
    class Other(Extension):
        identifier = "org.example/other"

        async def intercept_tool_call(self, params, ctx, call_next):
            return await call_next(ctx)

    async def test():
        made, added = server(Other())
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            await trip.call("own_book", "Oslo")
            (held,) = added.open.of()
            assert [one.action for one in held.block.steps] == ["mcp own_book"]

    run(test())


def test_no_more_transactions_are_open_than_may_be():
    async def test():
        made, _ = server(open_max=2)
        async with Client(made) as client:
            trip = Trip(client)
            await trip.begin()
            await trip.begin()
            result = await client.call_tool("tx_begin", {})
            assert result.is_error
            assert "2 transactions are open already" in text_of(result)
            result = await client.call_tool("tx_begin", {"timeout_seconds": 1e9})
            assert result.is_error

    run(test())


def test_what_cannot_be_is_refused_when_the_server_is_made():
    with pytest.raises(DefinitionError, match="tx_begin can have no rule"):
        server(rules={"tx_begin": READ})
    with pytest.raises(DefinitionError, match="others"):
        server(others="maybe")
