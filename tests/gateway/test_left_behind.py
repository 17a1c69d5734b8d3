"""What is left by a gateway that was killed, or by a commit that waits: settled, or said."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.bench import Bench, asked, begun, refused, run, toy
from tests.gateway.test_broken_off import until


async def left_by_a_dead_one(bench: Bench, *, hangs: bool = False) -> str:
    """Change a room in a transaction, kill the gateway, and return the transaction's id."""
    with bench.http() as serving:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(serving.client())
            await asked(client, "toy__give", name="1", guest="Ann")
            tx = await begun(client)
            if hangs:
                bench.orders("hang-after")
            about = {"name": "1", "guest": "Bob", "transaction_id": tx}
            call = asyncio.create_task(client.call_tool("toy__give", about))
            await until(lambda: bench.has() == {"1": "Bob"})
            if not hangs:
                await call
            serving.kill()
            call.cancel()
            with contextlib.suppress(BaseException):
                await call
            with contextlib.suppress(BaseException):
                await stack.aclose()
    return tx


def test_what_was_in_doubt_is_settled_also_where_nobody_asks_for_a_transaction(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    run(left_by_a_dead_one(bench, hangs=True))

    async def main() -> None:
        async with bench.stdio():
            await until(lambda: bench.has() == {"1": "Ann"})

    run(main())


@pytest.mark.parametrize("tools", [{}, {"give": {"effect": "irreversible", "approve": True}}])
def test_what_was_called_under_another_rule_is_undone_as_that_said(
    tmp_path: Path, tools: dict[str, Any]
) -> None:
    bench = Bench(tmp_path)
    tx = run(left_by_a_dead_one(bench))
    bench.servers = {"toy": toy(bench.rooms, tools)}
    bench.write({})

    async def main() -> None:
        async with bench.stdio() as client:
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert told["needs_a_person"] == []

    run(main())
    assert bench.has() == {"1": "Ann"}


def test_what_nobody_here_can_undo_is_said_and_left_for_who_can(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    tx = run(left_by_a_dead_one(bench))
    bench.servers = {"other": toy(tmp_path / "other.json")}
    bench.write({})
    with bench.http() as serving:

        async def main() -> None:
            async with serving.client() as client:
                await begun(client)  # It looks what is left before that.

        run(main())
    assert any(tx in line and "toy__give" in line for line in serving.said), serving.said
    assert bench.has() == {"1": "Bob"}
    bench.servers = {"toy": toy(bench.rooms)}
    bench.write({})

    async def again() -> None:
        async with bench.stdio() as client:
            await asked(client, "tx_rollback", transaction_id=tx)

    run(again())
    assert bench.has() == {"1": "Ann"}


def test_a_commit_that_waits_for_a_person_can_be_asked_about_and_rolled_back(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            for ends in ("rolled back", "approved"):
                tx = await begun(client)
                await asked(client, "toy__give", name="1", guest="Bob", transaction_id=tx)
                waits = await refused(client, "toy__shout", text=ends, transaction_id=tx)
                assert "waits until a person" in waits
                for _ in range(2):
                    told = (await asked(client, "tx_commit", transaction_id=tx)).structured_content
                    assert (told["state"], told["waits_for"]) == ("active", "approval")
                if ends == "rolled back":
                    for _ in range(2):
                        told = await asked(client, "tx_rollback", transaction_id=tx)
                        assert told.structured_content["state"] == "rolled_back"
                    assert bench.has() == {}
                else:
                    step = waits.split()[1]
                    bench.cli("approve", tx, step, "--by", "eve")
                    told = (await asked(client, "tx_commit", transaction_id=tx)).structured_content
                    assert told["state"] == "committed"

    run(main())
    assert bench.log()[-1] == "shout approved"
