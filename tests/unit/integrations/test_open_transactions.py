"""Tests of transactions that stay open under their ids between two requests."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    InvalidTransactionState,
    TransactionManager,
    TransactionNotActive,
    TransactionNotFound,
    require_transaction,
)
from aumai_transactions.integrations import READ, ToolCall, ToolCalls
from aumai_transactions.integrations.open_transaction import OpenTransaction
from aumai_transactions.integrations.open_transactions import OpenTransactions, TooManyTransactions

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

ROOMS: list[str] = []


UNDONE: list[str] = []


def cancel(hotel: str) -> None:
    UNDONE.append(hotel)
    if hotel in ROOMS:  # Another process may have booked it.
        ROOMS.remove(hotel)


TOOLS = ToolCalls({"open book": cancel, "open look": READ})


@pytest.fixture(autouse=True)
def no_rooms() -> None:
    ROOMS.clear()
    UNDONE.clear()


async def book(one: OpenTransaction, hotel: str) -> str:
    def call(data: dict[str, Any]) -> str:
        ROOMS.append(data["hotel"])
        return f"{data['hotel']} {len(ROOMS)}"

    asked: ToolCall[str] = ToolCall(name="open book", arguments={"hotel": hotel}, call=call)
    with one.inside():
        return await TOOLS.run_async(asked)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_it_is_committed_or_undone_by_whoever_knows_its_id() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            first = (await opened.begin(name="trip")).transaction_id
            second = (await opened.begin()).transaction_id
            await book(await opened.find(first), "Ritz")
            await book(await opened.find(second), "Savoy")
            assert [one.transaction_id for one in opened.of()] == [first, second]
            assert (await (await opened.find(first)).commit()).state == "committed"
            assert (await (await opened.find(second)).rollback("no")).state == "rolled_back"
            assert ROOMS == ["Ritz"]
            assert opened.of() == []
            assert (await opened.result(first)).state == "committed"
            assert (await opened.result(second)).reason == "requested"

    run(test())


def test_what_has_ended_is_refused_and_nothing_happens() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            one = await opened.begin()
            await book(one, "Ritz")
            await one.rollback()
            for _ in range(3):
                with pytest.raises(TransactionNotActive, match="rolled back"):
                    await opened.find(one.transaction_id)
                with pytest.raises(TransactionNotActive):
                    await book(one, "Savoy")
            assert ROOMS == []
            with pytest.raises(TransactionNotFound):
                await opened.find("no such one")
            with pytest.raises(TransactionNotFound):
                await opened.find("")

    run(test())


def test_nobody_but_its_owner_learns_that_it_is_there() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            one = await opened.begin(owner="ann")
            other = OpenTransactions(manager, service="another")
            foreign = await other.begin(owner="ann")
            await book(one, "Ritz")
            await book(foreign, "Savoy")
            told = []
            for name in (one.transaction_id, foreign.transaction_id):
                for owner in ("bob", ""):
                    with pytest.raises(TransactionNotFound) as raised:
                        await opened.find(name, owner=owner)
                    told.append(str(raised.value).replace(name, "it"))
            with pytest.raises(TransactionNotFound):
                await opened.find(foreign.transaction_id, owner="ann")
            with pytest.raises(TransactionNotFound) as raised:
                await opened.find("unknown", owner="bob")
            assert {*told} == {str(raised.value).replace("unknown", "it")}
            await one.commit()
            for ask in (opened.find, opened.result):
                with pytest.raises(TransactionNotFound):
                    await ask(one.transaction_id, owner="bob")
            assert (await opened.result(one.transaction_id, owner="ann")).state == "committed"
            await other.close()

    run(test())


def test_the_code_inside_stands_in_the_transaction_and_outside_it_does_not() -> None:
    async def test() -> None:
        manager = AsyncTransactionManager()
        opened = OpenTransactions(manager)
        async with manager, opened, manager.transaction() as around:
            one = await opened.begin()
            assert one.block.parent is None  # It is no part of what is around its beginning.
            with one.inside():
                assert require_transaction() is one.block
            assert require_transaction() is around

    run(test())


def test_it_goes_back_to_a_savepoint_and_on_from_there() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            one = await opened.begin()
            await book(one, "Ritz")
            await one.savepoint("a")
            await book(one, "Savoy")
            await one.savepoint("b")
            await book(one, "Lux")
            assert one.savepoints == ["a", "b"]
            await one.rollback_to("b")
            assert ROOMS == ["Ritz", "Savoy"]
            await book(one, "Bristol")
            await one.rollback_to("a")
            assert one.savepoints == ["a"]
            assert ROOMS == ["Ritz"]
            await book(one, "Astoria")
            with pytest.raises(InvalidTransactionState, match=r"It has a\. Nothing was undone"):
                await one.rollback_to("b")
            assert (await one.commit()).state == "committed"
            assert ROOMS == ["Ritz", "Astoria"]

    run(test())


def test_what_nobody_commits_in_time_is_undone() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            one = await opened.begin(timeout_seconds=0.05)
            await book(one, "Ritz")
            (held,) = opened._opened.values()
            await held.task
            assert ROOMS == []
            assert opened.of() == []
            assert (await opened.result(one.transaction_id)).state == "rolled_back"
            with pytest.raises(DefinitionError, match="3600 seconds"):
                await opened.begin(timeout_seconds=3_601)
            with pytest.raises(DefinitionError):
                await opened.begin(timeout_seconds=float("nan"))

    run(test())


def test_the_end_of_the_loop_undoes_what_is_open() -> None:
    async def test() -> None:
        opened = OpenTransactions(AsyncTransactionManager())
        await book(await opened.begin(), "Ritz")

    run(test())
    assert ROOMS == []


def test_closing_undoes_what_is_open_and_leaves_the_manager_open() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager:
            async with OpenTransactions(manager) as opened:
                one = await opened.begin()
                await book(one, "Ritz")
            assert ROOMS == []
            assert (await manager.get_result(one.transaction_id)).reason == "cancelled"

    run(test())


def test_no_more_are_open_at_once_than_may_be() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager:
            async with OpenTransactions(manager, open_max=3, open_max_each=2) as opened:
                ann = await opened.begin(owner="ann")
                await opened.begin(owner="ann")
                with pytest.raises(TooManyTransactions, match="2 transactions of yours"):
                    await opened.begin(owner="ann")
                await opened.begin(owner="bob")
                with pytest.raises(TooManyTransactions, match="3 transactions are open"):
                    await opened.begin(owner="cid")
                await ann.rollback()
                await opened.begin(owner="cid")
            with pytest.raises(DefinitionError, match="open_max"):
                OpenTransactions(manager, open_max=0)

    run(test())


def test_many_that_begin_at_once_are_no_more_than_may_be() -> None:
    async def test() -> None:
        manager = AsyncTransactionManager()
        async with manager, OpenTransactions(manager, open_max=8, open_max_each=4) as opened:
            tries = (opened.begin(owner=owner) for owner in "aaaaaaaaaabbbbbbbbbbc")
            ended = await asyncio.gather(*tries, return_exceptions=True)
            refused = [one for one in ended if isinstance(one, TooManyTransactions)]
            assert len(ended) - len(refused) == 8
            assert len(opened.of("a")) == len(opened.of("b")) == 4

    run(test())


def test_who_goes_away_while_it_is_begun_leaves_none_open() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:
            await opened.begin()
            beginning = asyncio.create_task(opened.begin(owner="ann"))
            await asyncio.sleep(0)
            (held,) = opened._opening
            beginning.cancel()
            await asyncio.wait([beginning, held])
            assert beginning.cancelled()
            assert opened.of("ann") == []

    run(test())


def test_a_commit_that_waits_for_a_person_is_let_go_and_needs_no_second_one() -> None:
    async def test() -> None:
        async with AsyncTransactionManager() as manager, OpenTransactions(manager) as opened:

            @manager.action("pay", requires_approval=True, compensating_action="pay back")
            def pay(action: str, data: dict[str, Any]) -> None:
                ROOMS.append("paid")

            @manager.action("pay back")
            def pay_back(action: str, data: dict[str, Any]) -> None:
                ROOMS.remove("paid")

            one = await opened.begin()
            with pytest.raises(Exception, match="waits for an approval"), one.inside() as tx:
                await tx.execute("agent", "pay", wait_max_seconds=0)
            result = await one.commit(wait_max_seconds=0)
            assert result.waiting is not None
            assert result.waiting.reason == "approval"
            assert opened.of() == []
            with pytest.raises(TransactionNotActive):
                await opened.find(one.transaction_id)
            await manager.approve(one.transaction_id, "s1", by="ann")
            assert (await opened.result(one.transaction_id)).state == "committed"
            assert ROOMS == ["paid"]

    run(test())


PROGRAM = """
import asyncio, os, signal, sys
from aumai_transactions import AsyncTransactionManager
from aumai_transactions.integrations import READ, ToolCall, ToolCalls
from aumai_transactions.integrations.open_transactions import OpenTransactions

STORE, SECONDS = sys.argv[1:]
TOOLS = ToolCalls({"open book": lambda hotel: print("undone", hotel), "open look": READ})

async def use(one, name, hotel):
    call = ToolCall(name=name, arguments={"hotel": hotel}, call=lambda data: data["hotel"])
    with one.inside():
        await TOOLS.run_async(call)

async def main():
    seconds = float(SECONDS) or None
    manager = AsyncTransactionManager(store=STORE)
    opened = OpenTransactions(manager, service="hotels", resume_within_seconds=seconds)
    one = await opened.begin(owner="ann")
    await use(one, "open book", "Ritz")
    await use(one, "open look", "Ritz")
    await one.savepoint("a")
    await use(one, "open book", "Savoy")
    await one.savepoint("b")
    await one.rollback_to("a")
    print(one.transaction_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def died(store: str, seconds: float) -> str:
    """The id of a transaction whose program was killed."""
    command = [sys.executable, "-c", PROGRAM, store, str(seconds)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    assert ran.returncode == -signal.SIGKILL
    undone, name = ran.stdout.splitlines()
    assert undone == "undone Savoy"
    return name


@pytest.mark.crash
def test_after_a_kill_its_owner_goes_on_with_it_where_it_stood(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'trips.db'}"
    name = died(store, 3_600)

    async def look(one: OpenTransaction) -> str:
        asked: ToolCall[str] = ToolCall(
            name="open look", arguments={"hotel": "Ritz"}, call=lambda _data: "looked again"
        )
        with one.inside():
            return await TOOLS.run_async(asked)

    async def test() -> None:
        manager = AsyncTransactionManager(store=store)
        async with manager, OpenTransactions(manager, service="hotels") as opened:
            with pytest.raises(TransactionNotFound):
                await opened.find(name, owner="bob")
            one, same = await asyncio.gather(*[opened.find(name, owner="ann") for _ in range(2)])
            assert one is same
            assert one.savepoints == ["a"]
            assert await look(one) == "looked again"
            await book(one, "Lux")
            await one.rollback_to("a")
            result = await one.commit()
            assert result.state == "committed"
            assert result.warnings == []
            booked = [step for step in one.block.steps if step.action == "open book"]
            states = [(step.data["hotel"], step.state.value) for step in booked]
            assert states == [
                ("Ritz", "succeeded"),
                ("Savoy", "compensated"),
                ("Lux", "compensated"),
            ]

    run(test())
    assert UNDONE == ["Lux"]


@pytest.mark.crash
@pytest.mark.parametrize("seconds", [3_600, 0])
def test_what_nobody_may_go_on_with_is_undone_before_anything_is_begun(
    tmp_path: Path, seconds: float
) -> None:
    store = f"sqlite:///{tmp_path / 'trips.db'}"
    name = died(store, seconds)

    async def test() -> None:
        manager = AsyncTransactionManager(store=store)
        async with manager, OpenTransactions(manager, service="hotels") as opened:
            await opened.begin(owner="bob")
            result = await opened.result(name, owner="ann")
            if seconds:
                assert result.waiting is not None
                assert result.waiting.reason == "resume"
                assert UNDONE == []
            else:
                assert result.state == "rolled_back"
                assert UNDONE == ["Ritz"]
                with pytest.raises(TransactionNotActive):
                    await opened.find(name, owner="ann")

    run(test())


STRANGER = """
import os, signal, sys
from aumai_transactions import TransactionManager
from aumai_transactions.integrations import ToolCall, ToolCalls

def die(data):
    os.kill(os.getpid(), signal.SIGKILL)

tools = ToolCalls({"open book": lambda hotel: None})
manager = TransactionManager(store=sys.argv[1])
with manager.transaction():
    tools.run(ToolCall(name="open book", arguments={"hotel": "Ritz"}, call=lambda data: "7"))
    tools.run(ToolCall(name="open stranger", arguments={}, call=die))
"""


@pytest.mark.crash
def test_a_kill_in_a_tool_that_nobody_else_knows_leaves_nothing_else_standing(
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path / 'trips.db'}"
    ran = subprocess.run([sys.executable, "-c", STRANGER, store], check=False)
    assert ran.returncode == -signal.SIGKILL
    with TransactionManager(store=store) as manager:
        (found,) = manager.recover()
    assert found.outcome == "finished"
    assert found.result is not None
    assert (found.result.state, found.result.reason) == ("rolled_back", "crash")
    assert UNDONE == ["Ritz"]
    assert [left.action for left in found.result.outstanding] == ["open stranger"]
