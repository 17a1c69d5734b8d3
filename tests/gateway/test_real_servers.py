"""The official filesystem and memory servers behind the gateway: back to the byte, or as without.

What a rollback leaves is compared with what was there before, and what a commit leaves with what
the same calls leave without a gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from tests.gateway.bench import Bench, asked, begun, run, text, tree
from tests.gateway.random_calls import RandomCalls, fill
from tests.gateway.servers import npm_server

CALLS = 200


class World:
    """Hold the folder and the memory that agents work in."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.files = self.data / "files"
        self.memory = self.data / "memory.jsonl"
        self.files.mkdir(parents=True)
        fill(self.files)
        self.memory.write_text('{"type":"entity","name":"a","entityType":"t","observations":[]}')

    def servers(self) -> dict[str, Any]:
        """Return the servers' tables."""
        return {
            "fs": {
                **command_of([*npm_server("filesystem"), str(self.files)]),
                "transactions": {"rules": "filesystem", "folders": [str(self.files)]},
            },
            "memory": {
                **command_of(npm_server("memory")),
                "env": {"MEMORY_FILE_PATH": str(self.memory)},
                "transactions": {"rules": "memory", "files": [str(self.memory)]},
            },
        }


def command_of(words: list[str]) -> dict[str, Any]:
    return {"command": words[0], "args": words[1:]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


@pytest.fixture
def bench(tmp_path: Path, world: World) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(folder, world.servers())


async def without_gateway(world: World, seed: int) -> None:
    """Make the same calls of the servers themselves."""
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for name, table in world.servers().items():
            parameters = StdioServerParameters(
                command=table["command"], args=table["args"], env=table.get("env")
            )
            clients[name] = await stack.enter_async_context(Client(parameters))
        for server, tool, arguments in RandomCalls(seed, world.files).draw(CALLS):
            await clients[server].call_tool(tool, arguments)


async def with_gateway(client: Client, world: World, seed: int, tx: str, count: int) -> int:
    """Make random calls in a transaction, and return how many changed something or told it."""
    went = 0
    for server, tool, arguments in RandomCalls(seed, world.files).draw(count):
        result = await client.call_tool(f"{server}__{tool}", {**arguments, "transaction_id": tx})
        went += not result.is_error
    return went


@pytest.mark.parametrize("seed", range(2))
def test_what_is_rolled_back_is_as_it_was_to_the_byte(
    bench: Bench, world: World, seed: int
) -> None:
    before = tree(world.data)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            assert await with_gateway(client, world, seed, tx, CALLS) > CALLS / 4
            assert tree(world.data) != before
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert told["needs_a_person"] == []

    run(main())
    assert tree(world.data) == before


def test_what_is_committed_is_what_the_same_calls_leave_without_a_gateway(
    bench: Bench, world: World, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(world.data, kept, symlinks=True)

    async def main() -> None:
        with bench.http() as serving:
            async with serving.client() as client:
                tx = await begun(client)
                await with_gateway(client, world, 3, tx, CALLS)
                await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    through = tree(world.data)
    shutil.rmtree(world.data)
    shutil.copytree(kept, world.data, symlinks=True)
    run(without_gateway(world, 3))
    assert tree(world.data) == through


def test_a_savepoint_is_as_it_was_to_the_byte(bench: Bench, world: World) -> None:
    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await with_gateway(client, world, 5, tx, 40)
            there = tree(world.data)
            await asked(client, "tx_savepoint", transaction_id=tx, savepoint="here")
            await with_gateway(client, world, 6, tx, 60)
            assert tree(world.data) != there
            await asked(client, "tx_rollback", transaction_id=tx, savepoint="here")
            assert tree(world.data) == there
            await asked(client, "tx_commit", transaction_id=tx)
            assert tree(world.data) == there

    run(main())


@pytest.mark.crash
@pytest.mark.parametrize("over, seed", [("http", 0), ("http", 1), ("stdio", 2)])
def test_a_gateway_that_is_killed_anywhere_rolls_back_to_the_byte(
    bench: Bench, world: World, over: str, seed: int
) -> None:
    before = tree(world.data)
    draw = random.Random(seed)

    async def until_killed(client: Client, tx: str | None, count: int, kill: Any) -> str:
        """Make calls, and kill the gateway while one of them is under way."""
        tx = tx or await begun(client)
        await with_gateway(client, world, seed * 100 + count, tx, count)
        last = asyncio.create_task(with_gateway(client, world, seed + 7_000, tx, 50))
        await asyncio.sleep(draw.uniform(0, 0.1))
        kill()
        last.cancel()
        with contextlib.suppress(BaseException):
            await last
        return tx

    async def life(tx: str | None, count: int) -> str:
        found: list[str] = []
        with contextlib.ExitStack() as processes, contextlib.suppress(BaseExceptionGroup):
            if over == "http":
                serving = processes.enter_context(bench.http())
                async with serving.client() as client:
                    found.append(await until_killed(client, tx, count, serving.kill))
            else:
                async with bench.stdio() as client:
                    found.append(await until_killed(client, tx, count, kill_the_other))
        return found[0]

    def kill_the_other() -> None:
        os.kill(int(bench.pid_file.read_text()), signal.SIGKILL)

    tx: str | None = None
    for count in draw.sample(range(5, 40), 3):
        tx = run(life(tx, count))
    assert_rolled_back(bench, str(tx))
    assert tree(world.data) == before


@pytest.mark.crash
def test_servers_that_are_killed_again_and_again_leave_nothing_behind(
    bench: Bench, world: World
) -> None:
    before = tree(world.data)
    draw = random.Random(11)

    async def main() -> str:
        async with bench.stdio() as client:
            tx = await begun(client)
            for number in range(8):
                calls = asyncio.create_task(with_gateway(client, world, 900 + number, tx, 12))
                await asyncio.sleep(draw.uniform(0.02, 0.15))
                for pid in servers_of(world):
                    os.kill(pid, signal.SIGKILL)
                await calls
            assert tree(world.data) != before
            await asked(client, "tx_rollback", transaction_id=tx)
            return tx

    assert_rolled_back(bench, run(main()))
    assert tree(world.data) == before


def servers_of(world: World) -> list[int]:
    """Return the process ids of the servers that work on a world."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            is_server = b"server-filesystem" in said or b"server-memory" in said
            if folder.name.isdigit() and is_server and str(world.data).encode() in said:
                found.append(int(folder.name))
    return found


def assert_rolled_back(bench: Bench, tx: str) -> None:
    """Roll a transaction back, if it is open; nothing must be left for a person."""

    async def end() -> Any:
        async with bench.stdio() as client:
            return (await asked(client, "tx_rollback", transaction_id=tx)).structured_content

    told = run(end())
    assert (told["state"], told["needs_a_person"]) == ("rolled_back", []), told


def test_a_binary_file_is_put_back_whatever_a_text_tool_makes_of_it(
    bench: Bench, world: World
) -> None:
    path = world.files / "a" / "b" / "c"
    before = path.read_bytes()

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "fs__write_file", path=str(path), content="x", transaction_id=tx)
            assert path.read_bytes() == b"x"
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert path.read_bytes() == before


def test_what_cannot_be_kept_is_not_changed(bench: Bench, world: World) -> None:
    huge = world.files / "huge"
    huge.write_bytes(random.Random(1).randbytes(2**21))
    before = tree(world.data)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            for arguments, why in (
                ({"path": str(huge), "content": "x"}, "too large"),
                ({"path": "relative.txt", "content": "x"}, "no absolute path"),
                ({"path": str(world.data / "outside"), "content": "x"}, "none of the folders"),
            ):
                result = await client.call_tool(
                    "fs__write_file", {**arguments, "transaction_id": tx}
                )
                assert result.is_error
                assert why in text(result)
            assert tree(world.data) == before
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())
