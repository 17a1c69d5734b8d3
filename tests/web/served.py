"""A real `serve` on a port of this machine, and requests written byte by byte."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PROGRAM = (sys.executable, "-m", "aumai_transactions")
LINES = 3
"""How many it says when it is up."""
STOP_SECONDS_MAX = 60


class Answer(NamedTuple):
    """Hold what a server has answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(found) if found else None


class Served:
    """Be a server that runs; `served` starts and stops it."""

    def __init__(self, home: Path, process: subprocess.Popen[str], said: list[str]) -> None:
        self.home = home
        self.process = process
        self.said = said
        found = re.search(r"at (?:https?://\S+:(\d+)|the socket) ", said[0])
        assert found, said
        self.port = int(found[1] or 0)
        self.name = f"127.0.0.1:{self.port}"
        link = re.search(r"/login\?code=(\S+)", " ".join(said))
        assert link, said
        self.code = link[1]

    @property
    def tokens(self) -> Path:
        return self.home / "tokens.json"

    def token(self, name: str, *options: str) -> str:
        words = [*PROGRAM, "tokens", "add", name, "--tokens", str(self.tokens), *options]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def raw(self, request: bytes) -> Answer:
        """Send these very bytes, and return the first answer."""
        with self.connect() as link:
            with contextlib.suppress(ConnectionError):  # It may answer and close before the end.
                link.sendall(request)
            return answer_of(link)


def answer_of(link: socket.socket) -> Answer:
    """Read one answer; status 0 where the connection was closed without one."""
    response = http.client.HTTPResponse(link)
    try:
        response.begin()
    except (http.client.BadStatusLine, ConnectionError):
        return Answer(0, [], b"")
    return Answer(response.status, response.getheaders(), response.read())


@contextlib.contextmanager
def served(home: Path, *options: str) -> Iterator[Served]:
    """Run `serve` on a free port, with a store and tokens in a folder.

    Args:
        home: The folder; the store is `store.db` in it, and is made where it is missing.
        *options: More words for the command.
    """
    store = home / "store.db"
    if not store.exists():
        words = [*PROGRAM, "create", "--store", str(store)]
        subprocess.run(words, check=True, capture_output=True)
    words = [*PROGRAM, "serve", "--http", "127.0.0.1:0", "--store", str(store)]
    words += ["--tokens", str(home / "tokens.json"), *options]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=home)
    assert process.stderr is not None
    try:
        yield Served(home, process, [process.stderr.readline() for _ in range(LINES)])
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=STOP_SECONDS_MAX)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def refused_to_start(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `serve` where it must not begin."""
    words = [*PROGRAM, "serve", "--store", str(home / "store.db"), *options]
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
