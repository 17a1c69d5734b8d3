"""A server with actions that leave marks in a file, and a client that only speaks HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.web.served import PROGRAM

from aumai_transactions.stores import open_store
from aumai_transactions.web.principals import Scope, Tokens

APP = Path(__file__).with_name("shop_app.py")
API = "/api/v1"
LINES = 3


class Reply(NamedTuple):
    """Hold what the API has answered."""

    status: int
    headers: dict[str, str]
    json: Any

    @property
    def code(self) -> str:
        return self.json["type"].rpartition(":")[2]

    @property
    def tag(self) -> str:
        return self.headers["etag"]

    @property
    def is_replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


class Client:
    """Be a program that speaks HTTP and nothing else."""

    def __init__(self, port: int, token: str | None) -> None:
        self.port = port
        self.token = token

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> http.client.HTTPConnection:
        """Send a request, and do not wait for its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, f"{API}{path}", body, sent)
        return connection

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        with contextlib.closing(self.send(method, path, body, **headers)) as connection:
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, json.loads(text) if text else None)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    def begin(self, **body: Any) -> str:
        found = self.post("/transactions", body)
        assert found.status == 201, found
        return f"/transactions/{found.json['transaction_id']}"


class Shop:
    """Be a server whose actions are those of `shop_app.py`."""

    def __init__(self, home: Path, process: subprocess.Popen[str], port: int) -> None:
        self.home = home
        self.process = process
        self.port = port

    def client(self, name: str, scope: Scope = "act", tenant: str | None = None) -> Client:
        """Return a client with a token, which is made where there is none of that name."""
        kept = self.home / f"{name}.token"
        if not kept.exists():
            made = Tokens(self.home / "tokens.json").add(name, scope, tenant)
            kept.write_text(made)
        return Client(self.port, kept.read_text())

    def world(self) -> list[str]:
        """Return what the actions have done, in order."""
        file = self.home / "world.txt"
        return file.read_text().splitlines() if file.exists() else []

    def let(self, name: str) -> None:
        """Let an action go on that waits for this."""
        (self.home / name).touch()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def journal_has(self, transaction_id: str, sequence: int) -> None:
        """Wait until a journal has so many entries."""
        store = open_store(str(self.home / "store.db"), create=False)
        with contextlib.closing(store):
            while True:
                found = store.read(transaction_id)
                if found is not None and found.head_sequence >= sequence:
                    return
                store.wait_for_news(0.05)


@contextlib.contextmanager
def shop(home: Path, *options: str, store: str | None = None) -> Iterator[Shop]:
    """Run a server whose actions are those of `shop_app.py`.

    Args:
        home: The folder of its store, its tokens and its world.
        *options: More words for the command.
        store: The store; a file in the folder where it is not given.
    """
    shutil.copy(APP, home / "shop_app.py")
    words = [*PROGRAM, "serve", "--http", "127.0.0.1:0", "--allow-actions"]
    words += ["--store", store or str(home / "store.db"), "--app", "shop_app:manager"]
    words += ["--tokens", str(home / "tokens.json"), *options]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=home)
    assert process.stderr is not None
    try:
        said = [process.stderr.readline() for _ in range(LINES)]
        found = re.search(r"at https?://\S+:(\d+)", said[0])
        assert found, said + process.stderr.readlines()
        yield Shop(home, process, int(found[1]))
    finally:
        was_killed = process.poll() not in (None, 0)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert was_killed or process.returncode == 0, err
    assert "Traceback" not in err, err


def step(action: str, **data: Any) -> dict[str, Any]:
    return {"action": action, "data": data}


def steps_of(transaction: dict[str, Any]) -> dict[str, str]:
    return {one["step_id"]: one["state"] for one in transaction["steps"]}
