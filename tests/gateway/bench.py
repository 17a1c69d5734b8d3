"""A gateway as a process, and clients that speak MCP with it, for tests.

Owns: its configuration, starting it over both transports, and killing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

TOY = Path(__file__).with_name("toy_server.py")
TOKEN = "a-token-for-this-test-alone"
READY_SECONDS = 60
ROOMS: dict[str, Any] = {
    "room": {"effect": "none"},
    "give": {
        "before": {"tool": "room", "arguments": {"name": "$args.name"}},
        "undo": {"tool": "give", "arguments": {"name": "$args.name", "guest": "$before.text"}},
        "undo_if_absent": {"tool": "free", "arguments": {"name": "$args.name"}},
        "resources": ["room:{name}"],
        "once": False,
    },
    "invoice": {"pivot": True},
}


class Bench:
    """Hold a folder, and a gateway in it.

    Args:
        folder: An empty one.
        servers: The servers' tables; None for the toy server alone.
        transactions: What is declared about transactions as a whole.
    """

    def __init__(
        self,
        folder: Path,
        servers: dict[str, Any] | None = None,
        transactions: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.rooms = folder / "rooms.json"
        self.store = folder / "journal.db"
        self.config = folder / "mcp.json"
        self.pid_file = folder / "gateway.pid"
        self.home = folder / "home"
        self.home.mkdir()
        self.servers = servers or {"toy": toy(self.rooms)}
        self.write(transactions or {})

    def write(self, transactions: dict[str, Any]) -> None:
        """Write the configuration."""
        text = json.dumps({"mcpServers": self.servers, "transactions": transactions})
        self.config.write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the gateway: an empty home, and nothing of the tests'."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AUMAI_")}
        return {**kept, "HOME": str(self.home), "AUMAI_TRANSACTIONS_MCP_TOKEN": TOKEN}

    def command(self, *more: str) -> list[str]:
        """Return the command line of the gateway."""
        program = [sys.executable, "-m", "aumai_transactions", "mcp", "--config", str(self.config)]
        return [*program, "--store", str(self.store), *more]

    @contextlib.asynccontextmanager
    async def stdio(self, **options: Any) -> AsyncIterator[Client]:
        """Start a gateway for one client, over standard input and output."""
        told = 'echo $$ > "$0"; exec "$@"'
        words = ["-c", told, str(self.pid_file), *self.command("--quiet")]
        parameters = StdioServerParameters(command="sh", args=words, env=self.environment)
        async with Client(parameters, **options) as client:
            yield client

    @contextlib.contextmanager
    def http(self, *more: str, port: int | None = None) -> Iterator[Serving]:
        """Start a gateway for many clients, over HTTP."""
        words = self.command("--http", f"127.0.0.1:{port or 0}", *more)
        process = subprocess.Popen(
            words,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        serving = Serving(process)
        try:
            serving.wait_until_up()
            yield serving
        finally:
            serving.stop()

    def go(self) -> None:
        """Let what was ordered to act late act now, if it still can."""
        self.rooms.with_name(f"{self.rooms.name}.go").touch()

    def orders(self, order: str) -> None:
        """Give the toy server an order for its next change."""
        self.rooms.with_name(f"{self.rooms.name}.orders").write_text(order)

    def log(self) -> list[str]:
        """Return what the toy server has done."""
        file = self.rooms.with_name(f"{self.rooms.name}.log")
        return file.read_text().splitlines() if file.exists() else []

    def has(self) -> dict[str, str]:
        """Return who has which room."""
        return json.loads(self.rooms.read_text()) if self.rooms.exists() else {}

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the store of the gateway."""
        return subprocess.run(
            [sys.executable, "-m", "aumai_transactions", *words, "--store", str(self.store)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


class Serving:
    """Be a gateway that serves over HTTP."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.said: list[str] = []

    def wait_until_up(self) -> None:
        """Read what it says until it serves."""
        for line in self.process.stderr or ():
            self.said.append(line.rstrip())
            if "serving MCP on" in line:
                self.url = line.split()[-1]
                return
        raise AssertionError(f"it did not begin: {self.said}")

    @contextlib.asynccontextmanager
    async def client(self, token: str = TOKEN, **options: Any) -> AsyncIterator[Client]:
        """Connect a client."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, **options) as client:
                yield client

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(READY_SECONDS)
        # What it had started may live, and have its standard error yet.
        if self.process.stderr is not None:
            self.process.stderr.close()

    def stop(self) -> None:
        """End it in order, if it lives."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.said += self.process.stderr.read().splitlines()
            self.process.stderr.close()


def toy(rooms: Path, tools: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the table of the toy server."""
    return {
        "command": sys.executable,
        "args": [str(TOY), str(rooms)],
        "transactions": {"tools": ROOMS if tools is None else tools, **more},
    }


async def asked(client: Client, tool: str, /, **arguments: Any) -> Any:
    """Call a tool, and return its answer; it must be none that is an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    return result


async def refused(client: Client, tool: str, /, **arguments: Any) -> str:
    """Call a tool whose answer must be an error, and return its text."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, text(result)
    return text(result)


async def begun(client: Client) -> str:
    """Begin a transaction, and return its id."""
    return str((await asked(client, "tx_begin")).structured_content["transaction_id"])


def text(result: Any) -> str:
    """Return the text of an answer."""
    return "\n".join(getattr(one, "text", "") for one in result.content)


def run(work: Any) -> Any:
    """Run a coroutine to its end, within a time that is long enough for everything."""

    async def limited() -> Any:
        async with asyncio.timeout(300):
            return await work

    return asyncio.run(limited())


def tree(folder: Path) -> str:
    """Return a digest of everything below a folder: names, kinds, modes and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        digest.update(f"{path.relative_to(folder)}\0{stat.S_IMODE(found.st_mode):o}\0".encode())
        if path.is_symlink():
            digest.update(f"link {path.readlink()}".encode())
        elif path.is_file():
            digest.update(b"file " + path.read_bytes())
        else:
            digest.update(b"folder")
        digest.update(b"\0")
    return digest.hexdigest()
