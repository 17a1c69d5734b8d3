"""The extension in a server of the MCP Python SDK, in both eras of the protocol."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="arg-type,union-attr"

from __future__ import annotations

import asyncio
import inspect

import pytest
from mcp import Client
from mcp.server import MCPServer
from mcp.server.extension import Extension
from tests.frameworks.mcp.hotels import (
    CALLS,
    ERAS,
    ROOMS,
    Trip,
    book,
    book_later,
    cancel,
    look,
    own_book,
    own_book_later,
    run,
    server,
    text_of,
    undeclared,
)

from aumai_transactions import DefinitionError
from aumai_transactions.integrations import READ, ToolRule
from aumai_transactions.integrations.tool_calls import ToolFailed


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
