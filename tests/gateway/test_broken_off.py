"""Calls whose client goes away, or whose server is ended: nothing acts after it was undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.bench import ROOMS, Bench, asked, begun, run, toy

ERAS = ("auto", "legacy")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    while not is_so():  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.02)


async def leave_while_it_acts(bench: Bench, stack: contextlib.AsyncExitStack, call: Any) -> None:
    """Make a call that acts later, and be gone before it has."""
    bench.orders("late")
    waiting = asyncio.create_task(call)
    await until(bench.rooms.with_name(f"{bench.rooms.name}.late").exists)
    waiting.cancel()
    with contextlib.suppress(BaseException):
        await waiting
    with contextlib.suppress(BaseException):
        await stack.aclose()


@pytest.mark.parametrize("era", ERAS)
def test_who_goes_away_in_a_call_has_not_ended_it_for_those_who_share_the_transaction(
    tmp_path: Path, era: str
) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        with bench.http() as serving:
            async with serving.client() as stays:
                await asked(stays, "toy__give", name="1", guest="Ann")
                tx = await begun(stays)
                stack = contextlib.AsyncExitStack()
                leaves = await stack.enter_async_context(serving.client(mode=era))
                about = {"name": "1", "guest": "Bob", "transaction_id": tx}
                await leave_while_it_acts(bench, stack, leaves.call_tool("toy__give", about))
                bench.go()
                await until(lambda: bench.has() == {"1": "Bob"})
                told = (await asked(stays, "tx_rollback", transaction_id=tx)).structured_content
                assert told["undone"] == ["s3"]
        assert bench.log() == ["give 1 Ann", "give 1 Bob", "give 1 Ann"]

    run(main())


@pytest.mark.parametrize("era", ERAS)
def test_a_gateway_that_ends_in_a_call_leaves_nothing_that_acts_later(
    tmp_path: Path, era: str
) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        stack = contextlib.AsyncExitStack()
        client = await stack.enter_async_context(bench.stdio(mode=era))
        await asked(client, "toy__give", name="1", guest="Ann")
        tx = await begun(client)
        about = {"name": "1", "guest": "Bob", "transaction_id": tx}
        await leave_while_it_acts(bench, stack, client.call_tool("toy__give", about))
        # Whoever holds the store has ended when somebody else can have it.
        async with bench.stdio() as client:
            told = (await asked(client, "tx_status", transaction_id=tx)).structured_content
            assert told["state"] == "rolled_back"
            bench.go()
        assert bench.has() == {"1": "Ann"}
        assert bench.log()[-1] == "give 1 Ann"

    run(main())


def test_a_call_that_was_broken_off_with_another_one_is_undone_once_its_server_has_ended(
    tmp_path: Path,
) -> None:
    impatient = {"undo": {"tool": "free", "arguments": {"name": "1"}}, "timeout_seconds": 0.5}
    rooms = tmp_path / "rooms.json"
    bench = Bench(tmp_path, {"toy": toy(rooms, {**ROOMS, "free": impatient})})

    async def main() -> None:
        async with bench.stdio() as client:
            first, second = await begun(client), await begun(client)
            bench.orders("late")
            about = {"name": "2", "guest": "Bob", "transaction_id": first}
            late = asyncio.create_task(client.call_tool("toy__give", about))
            await until(bench.rooms.with_name(f"{bench.rooms.name}.late").exists)
            bench.orders("hang-after")
            # It takes too long, and so the server is ended, with what else it is carrying out.
            in_vain = await client.call_tool("toy__free", {"name": "1", "transaction_id": second})
            assert in_vain.is_error
            assert (await late).is_error
            bench.go()
            await asked(client, "tx_commit", transaction_id=first)
            await asked(client, "tx_commit", transaction_id=second)
        assert bench.has() == {}

    run(main())


def test_what_one_server_has_written_is_not_lost_with_what_another_one_was_writing(
    tmp_path: Path,
) -> None:
    rooms = tmp_path / "rooms.json"
    tools = {"give": {"files": [str(rooms)], "once": False, "timeout_seconds": 1}}
    table = toy(rooms, tools, files=[str(rooms)])
    bench = Bench(tmp_path, {"one": table, "other": table})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            bench.orders("late")
            about = {"name": "1", "guest": "Ann", "transaction_id": tx}
            late = asyncio.create_task(client.call_tool("one__give", about))
            await until(bench.rooms.with_name(f"{bench.rooms.name}.late").exists)
            await asked(client, "other__give", name="2", guest="Bob", transaction_id=tx)
            assert (await late).is_error
            bench.go()
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    assert bench.has() == {"2": "Bob"}
