"""What a server of the MCP Python SDK asks of a client's user, and what a client gives up."""

# mypy: disable-error-code="arg-type,union-attr"

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest
from mcp import Client
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp_types import ElicitResult
from pydantic import BaseModel
from tests.frameworks.mcp.hotels import (
    CALLS,
    ERAS,
    ROOMS,
    Trip,
    book,
    cancel,
    run,
    server,
    text_of,
)

from aumai_transactions import NoActiveTransaction, step
from aumai_transactions.integrations import ToolRule
from aumai_transactions.integrations.mcp_server import told_to_model
from aumai_transactions.integrations.tool_calls import is_step


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
            assert ("Suspended: " in str(held.block.describe())) == (era == "auto")
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


def test_an_answer_to_what_nobody_has_asked_allows_nothing():
    async def refuses(_context, _params):
        return ElicitResult(action="decline")

    async def test():
        made, added = server(rules={"book": ToolRule(cancel, requires_approval=True)})
        async with Client(made, elicitation_callback=refuses) as client:
            trip = Trip(client)
            await trip.begin()
            yes = ElicitResult(action="accept", content={"approve": True})
            result = await client.call_tool(
                "book",
                {"city": "Oslo"},
                input_responses={"dev.aumai/approve": yes},
                meta={"dev.aumai/tx": trip.name},
            )
            assert result.is_error
            assert (await added.open.result(trip.name)).reason == "denied"
            assert CALLS == []

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
