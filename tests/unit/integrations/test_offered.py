"""Tests of what a model is offered about its transaction."""

from __future__ import annotations

import asyncio

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.integrations import (
    READ,
    ToolCall,
    ToolCalls,
    roll_back_transaction,
    transaction_status,
)

CALL: ToolCall[str] = ToolCall(name="offered look", arguments={"at": "it"}, call=lambda _data: "!")


def test_a_model_reads_how_things_stand() -> None:
    with TransactionManager().transaction(name="trip"):
        ToolCalls({"offered look": READ}).run(CALL)
        assert "offered look" in transaction_status()
        assert "(trip)" in transaction_status()
    assert transaction_status() == "No transaction is open."


def test_a_model_gives_up_and_the_block_ends_without_an_error() -> None:
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction() as tx:
                await ToolCalls({"offered look": READ}).run_async(CALL)
                assert "rolled_back" in await roll_back_transaction("the user has left")
            assert tx.result is not None
            assert tx.result.state == "rolled_back"
        with TransactionManager().transaction() as block:
            assert "rolled_back" in await roll_back_transaction("the user has left")
        assert block.result is not None
        assert block.result.state == "rolled_back"
        assert await roll_back_transaction("again") == "No transaction is open."

    asyncio.run(main())
