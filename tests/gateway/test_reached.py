"""A server that the gateway does not start, but reaches over HTTP."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.gateway.bench import ROOMS, TOY, Bench, asked, begun, refused, run


@contextlib.contextmanager
def serving(rooms: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the toy server on a port, and tell which."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        at = int(listening.getsockname()[1])
        words = [sys.executable, str(TOY), str(rooms), str(listening.fileno())]
        process = subprocess.Popen(words, pass_fds=[listening.fileno()])
    try:
        yield process, at
    finally:
        process.kill()
        process.wait()


def bench_of(folder: Path, port: int) -> Bench:
    table = {"url": f"http://127.0.0.1:{port}/mcp", "transactions": {"tools": ROOMS}}
    return Bench(folder, {"toy": table})


def test_its_tools_are_used_in_transactions_like_any_others(tmp_path: Path) -> None:
    with serving(tmp_path / "rooms.json") as (_process, port):
        bench = bench_of(tmp_path, port)

        async def main() -> None:
            async with bench.stdio() as client:
                tx = await begun(client)
                await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
                assert bench.has() == {"1": "Ann"}
                await asked(client, "tx_rollback", transaction_id=tx)
                assert bench.has() == {}

        run(main())


def test_one_that_dies_and_comes_back_is_reached_again_and_nothing_is_left(tmp_path: Path) -> None:
    rooms = tmp_path / "rooms.json"

    async def main() -> None:
        with contextlib.ExitStack() as servers:
            process, port = servers.enter_context(serving(rooms))
            bench = bench_of(tmp_path, port)
            async with bench.stdio() as client:
                tx = await begun(client)
                await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
                process.send_signal(signal.SIGKILL)
                process.wait()
                # Nothing was handed over, and so nothing happened.
                assert await refused(client, "toy__give", name="2", guest="Bob", transaction_id=tx)
                servers.enter_context(serving(rooms, port))
                await asked(client, "toy__give", name="3", guest="Eve", transaction_id=tx)
                told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
                assert told["needs_a_person"] == []
                assert bench.has() == {}

    run(main())
