"""How long `serve` takes to answer while many look, pages follow live, and workers run.

    python benchmarks/web.py [--stored 100000] [--rate 500] [--seconds 30] [--pages 50] [--json]

Owns: the command line; nothing asserts here. What is promised: 500 reads a second of all kinds,
99 of 100 within 50 ms, on two cores that the workers and this program share with the server.
Rules:
  1. A request is sent when its time has come, whether or not others have been answered, and its
     time counts from then on: a server that stands still is not asked less.
  2. All transactions are real: each is read with its whole chain.
It needs the extra `web`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from race.machine import machine

from aumai_transactions import AsyncTransactionManager

PROGRAM = (sys.executable, "-m", "aumai_transactions")
TARGET_MS = 50.0
AT_ONCE = 64
CONNECTIONS = 40
AGENTS = tuple(f"agent-{number}" for number in range(20))


def fails(action: str, data: dict[str, Any]) -> None:
    """Fail, as a tool does now and then."""
    raise ValueError("no seats")


def done(action: str, data: dict[str, Any]) -> str:
    """Do nothing, well."""
    return "done"


def manager_of(store: Path) -> AsyncTransactionManager:
    """Return a manager with the actions."""
    manager = AsyncTransactionManager(store=f"sqlite:///{store}")
    manager.action("act", compensating_action="undo", idempotent=True)(done)
    manager.action("undo", idempotent=True)(done)
    manager.action("fails")(fails)
    return manager


app = {"act": done, "undo": done, "fails": fails}


async def fill(store: Path, count: int) -> list[str]:
    """Carry out so many transactions of three steps, every tenth of which goes back."""
    names: list[str] = []
    left = iter(range(count))
    async with manager_of(store) as manager:

        async def work() -> None:
            for number in left:
                tx = await manager.begin(name=f"trip {number}", metadata={"trip": str(number)})
                for place in range(3):
                    action = "fails" if place == 2 and number % 10 == 0 else "act"
                    manager.add_step(tx, AGENTS[number % 20], action, {"number": number})
                await manager.commit(tx)
                names.append(tx.transaction_id)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return names


async def submit(store: Path, per_second: float) -> None:
    """Give the workers something to do."""
    async with manager_of(store) as manager:
        while True:
            tx = await manager.begin(name="in between")
            for _ in range(3):
                manager.add_step(tx, random.choice(AGENTS), "act", {})
            await manager.submit(tx)
            await asyncio.sleep(1 / per_second)


class Way(NamedTuple):
    """Hold one kind of request.

    Args:
        name: What it is.
        path: Its path; `{id}` for a transaction.
        share: How many of a hundred.
    """

    name: str
    path: str
    share: int


API = "/api/v1"
WAYS = (
    Way("API: list", f"{API}/transactions?limit=50", 15),
    Way("API: list of an agent", f"{API}/transactions?agent=agent-7&limit=50", 10),
    Way("API: list, rolled back", f"{API}/transactions?state=rolled_back&limit=50", 10),
    Way("API: transaction", f"{API}/transactions/{{id}}", 25),
    Way("API: journal", f"{API}/transactions/{{id}}/events", 15),
    Way("API: attention", f"{API}/attention", 5),
    Way("page: list", "/", 5),
    Way("page: search", "/?q=trip+7", 3),
    Way("page: transaction", "/transactions/{id}", 10),
    Way("page: attention", "/attention", 2),
)


class Server:
    """Be the server, as whoever asks it knows it."""

    def __init__(self, said: str, token: str) -> None:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        code = re.search(r"/login\?code=(\S+)", said)
        if found is None or code is None:
            raise SystemExit(f"the server did not begin:\n{said}")
        self.port = int(found[1])
        self.token = token
        self.cookie = self._log_in(code[1])

    def _log_in(self, code: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/login", urlencode({"code": code}), kind)
            answer = connection.getresponse()
            answer.read()
            return (answer.getheader("set-cookie") or "").partition(";")[0]

    def request(self, path: str, accept: str = "*/*") -> bytes:
        """Return the bytes of a request."""
        who = f"Cookie: {self.cookie}"
        if path.startswith(API):
            who = f"Authorization: Bearer {self.token}"
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{who}\r\nAccept: {accept}"
        return f"{head}\r\n\r\n".encode()


class Link:
    """Be one connection, over which one request is sent after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> int:
        """Return the status of an answer, read to its end."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length is None:
            raise SystemExit(f"an answer without a length:\n{head.decode()}")
        await self._reader.readexactly(int(length[1]))
        return int(head[9:12])

    def close(self) -> None:
        """Let go of it."""
        self._writer.close()


async def load(server: Server, names: list[str], rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a steady rate, and return how long it took."""
    links: asyncio.Queue[Link] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        link = Link(*await asyncio.open_connection("127.0.0.1", server.port, limit=2**22))
        links.put_nowait(link)
    took: dict[str, list[float]] = {}
    statuses: dict[int, int] = {}

    async def ask(way: Way, at: float) -> None:
        link = await links.get()
        try:
            path = way.path.replace("{id}", random.choice(names))
            status = await link.ask(server.request(path))
        finally:
            links.put_nowait(link)
        statuses[status] = statuses.get(status, 0) + 1
        took.setdefault(way.name, []).append((time.perf_counter() - at) * 1_000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, way in enumerate(
            random.choices(WAYS, [w.share for w in WAYS], k=int(rate * seconds))
        ):
            at = began + number / rate
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(ask(way, at))
    spent = time.perf_counter() - began
    every = [one for values in took.values() for one in values]
    return {
        "rate": len(every) / spent,
        "statuses": statuses,
        "all": figures(every),
        **{name: figures(values) for name, values in sorted(took.items())},
    }


def figures(values: list[float]) -> dict[str, float]:
    """Return what is told of some times, in milliseconds."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    return {"count": len(values), "p50": cuts[49], "p99": cuts[98], "max": max(values)}


@contextlib.asynccontextmanager
async def followed(server: Server, pages: int) -> AsyncIterator[list[int]]:
    """Follow the list live, so many times, and count what arrives."""
    arrived = [0] * pages

    async def follow(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**22)
        writer.write(server.request(f"{API}/events", "text/event-stream"))
        with contextlib.closing(writer):
            while line := await reader.readline():
                arrived[number] += line.startswith(b"id:")

    tasks = [asyncio.create_task(follow(number)) for number in range(pages)]
    try:
        yield arrived
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def process(*words: str) -> Any:
    """Run a command until the block is left."""
    running = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield running
    finally:
        running.terminate()
        running.communicate()


async def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill a store, serve it, and ask."""
    store = folder / "store.db"
    print(f"carrying out {options.stored:,} transactions", file=sys.stderr)
    names = await fill(store, options.stored)
    tokens = str(folder / "tokens.json")
    words = [*PROGRAM, "tokens", "add", "bench", "--tokens", tokens]
    token = (await asyncio.to_thread(subprocess.check_output, words, text=True)).strip()
    common = ["--store", str(store)]
    serve = [*PROGRAM, "serve", "--http", "127.0.0.1:0", "--tokens", tokens, *common]
    worker = [*PROGRAM, "worker", "--quiet", "--app", "web:app", *common]
    with process(*serve) as serving, process(*worker):
        said = "".join(serving.stderr.readline() for _ in range(3))
        server = Server(said, token)
        async with followed(server, options.pages) as arrived:
            submitting = asyncio.create_task(submit(store, options.submitted))
            await load(server, names, options.rate, 2)  # Warm, as a server is that runs.
            found = await load(server, names, options.rate, options.seconds)
            submitting.cancel()
            await asyncio.gather(submitting, return_exceptions=True)
        found["events that each page got"] = {"least": min(arrived), "most": max(arrived)}
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--submitted", type=float, default=10, help="transactions a second")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aumai-web-") as name:
        about = machine(Path(name))
        found = asyncio.run(measure(Path(name), options))
    if options.json:
        print(json.dumps({"machine": about, **found}, indent=2))
        return
    print(about)
    print(f"{found['rate']:.0f} requests a second, answers {found['statuses']}")
    print(f"{'':26}{'count':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for title, row in found.items():
        if isinstance(row, dict) and "p99" in row:
            print(f"{title:26}{row['count']:8,}{row['p50']:9.1f}{row['p99']:9.1f}{row['max']:9.1f}")
    verdict = "within" if found["all"]["p99"] <= TARGET_MS else "NOT within"
    print(
        f"99 of 100 {verdict} {TARGET_MS:.0f} ms; live pages: {found['events that each page got']}"
    )


if __name__ == "__main__":
    main()
