"""Steps under FastMCP: as tools of a server, and as calls of somebody else's server."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError

from aumai_transactions import (
    AsyncTransactionManager,
    OutcomeUnknown,
    StepContext,
    StepInDoubt,
    StepRejected,
    TransactionManager,
    TransactionNotActive,
    step,
)

BOOKED: list[str] = []
CALLS: list[str] = []
KEYS: list[str] = []
SERVERS: list[FastMCP] = []
BEGUN: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def world() -> None:
    for one in (BOOKED, CALLS, KEYS, SERVERS, BEGUN):
        one.clear()


def _book(what: str) -> str:
    CALLS.append(what)
    if what.startswith("full"):
        raise ToolError(f"{what} is not to be had")
    BOOKED.append(what)
    return f"{what} 7"


# ------------------------------------------------------------------------ tools of one's own server


def cancel(what: str, result: Any) -> None:
    BOOKED.remove(what)


@step(name="fastmcp: book", compensating_action=cancel, once=True, required=True)
def book(what: str, nights: int = 1) -> str:
    """Book something."""
    return _book(what)


@step(name="fastmcp: book async", compensating_action=cancel, once=True, required=True)
async def book_async(what: str) -> str:
    """Book something, in a task."""
    await asyncio.sleep(0)
    return _book(what)


def server_of(*tools: Any) -> FastMCP:
    server: FastMCP = FastMCP("trips")
    for one in tools:
        server.tool(one)
    return server


def test_the_schema_of_a_tool_is_unchanged():
    async def schemas() -> list[Any]:
        found = []
        for tool in (book, inspect.unwrap(book)):
            async with Client(server_of(tool)) as client:
                [one] = await client.list_tools()
                found.append(one.model_dump())
        return found

    mine, theirs = asyncio.run(schemas())
    assert mine == theirs


def test_a_tool_that_is_a_whole_transaction_is_undone_where_a_part_of_it_fails():
    manager = TransactionManager()
    results = []

    def trip(hotel: str) -> str:
        """Book a whole trip, or nothing."""
        with manager.transaction() as tx:
            results.append(tx)
            return f"{book('flight')}, {book(hotel)}"

    async def main() -> None:
        async with Client(server_of(trip)) as client:
            assert (await client.call_tool("trip", {"hotel": "hotel"})).data == "flight 7, hotel 7"
            with pytest.raises(ToolError, match="full hotel"):
                await client.call_tool("trip", {"hotel": "full hotel"})

    asyncio.run(main())
    assert sorted(BOOKED) == ["flight", "hotel"]
    assert [one.result.state.value for one in results] == ["committed", "rolled_back"]


def test_a_client_in_memory_that_connects_in_a_block_brings_its_transaction_along():
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            server = server_of(book, book_async)
            with pytest.raises(KeyError):
                async with manager.transaction() as tx, Client(server) as client:
                    await client.call_tool("book", {"what": "flight"})
                    await client.call_tool("book_async", {"what": "hotel"})
                    await client.call_tool("book_async", {"what": "hotel"})
                    assert len(tx.steps) == 2
                    raise KeyError
            assert BOOKED == []
            async with Client(server) as client, manager.transaction() as tx:
                # Older servers began before the block, and know nothing of it, as over a network.
                with contextlib.suppress(ToolError):
                    await client.call_tool("book", {"what": "car"})
                assert len(tx.steps) == len(BOOKED)

    asyncio.run(main())
    assert CALLS[:2] == ["flight", "hotel"]


# ------------------------------------------------------------------ tools of somebody else's server


def theirs() -> FastMCP:
    server: FastMCP = FastMCP("theirs")

    @server.tool
    def reserve(what: str) -> str:
        """Reserve something."""
        return _book(what)

    @server.tool
    async def reserve_slowly(what: str) -> str:
        """Reserve something, and never answer."""
        _book(what)
        for begun in BEGUN:
            begun.set()
        await asyncio.Event().wait()
        return what

    @server.tool
    def release(what: str) -> str:
        """Release what was reserved."""
        BOOKED.remove(what)
        return what

    return server


async def release(what: str) -> None:
    async with Client(SERVERS[0]) as client:
        await client.call_tool("release", {"what": what})


@step(name="fastmcp: reserve", compensating_action=release, once=True, required=True)
async def reserve(what: str, context: StepContext | None = None) -> str:
    KEYS.append(context.idempotency_key if context else "")
    async with Client(SERVERS[0]) as client:
        return str((await client.call_tool("reserve", {"what": what})).data)


@step(name="fastmcp: reserve quietly", compensating_action=release, required=True)
async def reserve_quietly(what: str) -> str:
    async with Client(SERVERS[0]) as client:
        result = await client.call_tool("reserve", {"what": what}, raise_on_error=False)
    if result.is_error:
        raise StepRejected(result.content[0].text)
    return str(result.data)


@step(name="fastmcp: reserve carefully", compensating_action=release)
async def reserve_carefully(what: str, tool: str = "reserve_slowly") -> str:
    async with Client(SERVERS[0]) as client:
        try:
            return str((await client.call_tool(tool, {"what": what}, timeout=0.3)).data)
        except ToolError:
            raise
        except Exception as error:
            raise OutcomeUnknown(str(error)) from error


def test_a_call_of_a_remote_tool_is_a_step_and_its_undo_is_another_call():
    async def main() -> None:
        SERVERS.append(theirs())
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction():
                    assert await reserve("flight") == "flight 7"
                    assert await reserve("flight") == "flight 7"
                    assert BOOKED == ["flight"]
                    raise KeyError

    asyncio.run(main())
    assert CALLS == ["flight"]
    assert len(KEYS[0]) > 8
    assert BOOKED == []


@pytest.mark.parametrize("quietly", [False, True])
def test_a_failure_that_the_server_returns_is_a_failed_step_and_the_transaction_goes_on(*, quietly):
    call, error = (reserve_quietly, StepRejected) if quietly else (reserve, ToolError)

    async def main() -> None:
        SERVERS.append(theirs())
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            with pytest.raises(error, match="full hotel"):
                await call("full hotel")
            await call("hotel")
        assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]

    asyncio.run(main())
    assert BOOKED == ["hotel"]


def test_an_answer_that_never_came_is_in_doubt_and_undone():
    async def main() -> None:
        SERVERS.append(theirs())
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            with pytest.raises(StepInDoubt) as raised:
                await reserve_carefully("hotel")
            assert raised.value.undone
            with pytest.raises(ToolError):
                await reserve_carefully("full hotel", "reserve")
        assert tx.result.state == "committed"
        assert [one.state.value for one in tx.steps] == ["compensated", "failed"]

    asyncio.run(main())
    assert CALLS == ["hotel", "full hotel"]
    assert BOOKED == []


def test_a_call_after_the_end_sends_nothing():
    async def main() -> None:
        SERVERS.append(theirs())
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            await tx.rollback("enough")
            for _ in range(3):
                with pytest.raises(TransactionNotActive):
                    await reserve("flight")

    asyncio.run(main())
    assert CALLS == []


def test_a_cancelled_call_is_undone():
    @step(name="fastmcp: hang", compensating_action=release)
    async def hang(what: str) -> str:
        async with Client(SERVERS[0]) as client:
            return str((await client.call_tool("reserve_slowly", {"what": what})).data)

    async def trip(manager: AsyncTransactionManager) -> None:
        async with manager.transaction():
            await reserve("flight")
            await hang("hotel")

    async def main() -> None:
        SERVERS.append(theirs())
        BEGUN.append(asyncio.Event())
        async with AsyncTransactionManager() as manager:
            running = asyncio.create_task(trip(manager))
            await BEGUN[0].wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert CALLS == ["flight", "hotel"]
    assert BOOKED == []
