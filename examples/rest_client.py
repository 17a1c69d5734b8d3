"""A transaction from a program that only speaks HTTP: begin, steps, a failure, and all is undone.

It uses nothing of this package: every language can do the same. Before it runs, a server is there:

    aumai-transactions tokens add trip --scope act
    aumai-transactions serve --allow-actions --app trip:manager

It reads two environment variables: `API`, such as http://127.0.0.1:8470/api/v1, and `TOKEN`. Where
they are not set, it starts a server of its own for as long as it runs.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

APP = """
from aumai_transactions import StepRejected, TransactionManager

manager = TransactionManager()

@manager.action("book_flight", compensating_action="cancel_flight", idempotent=True)
def book_flight(action, data):
    return {"seat": "12A"}

@manager.action("cancel_flight", idempotent=True)
def cancel_flight(action, data): ...

@manager.action("pay")
def pay(action, data):
    raise StepRejected("card declined")
"""


class Api:
    """Speak to the API: JSON out, JSON in."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.url}{path}", method="POST")  # noqa: S310
        request.add_header("Authorization", f"Bearer {self.token}")
        # One name for one request: whatever becomes of the answer, it can be sent again.
        request.add_header("Idempotency-Key", headers.pop("key", str(uuid.uuid4())))
        for name, value in headers.items():
            request.add_header(name, value)
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, json.load(problem)


def run(api: Api) -> None:
    _, trip = api.post("/transactions", {"mode": "interactive", "name": "trip"})
    here = f"/transactions/{trip['transaction_id']}"
    status, booked = api.post(f"{here}/steps", {"action": "book_flight", "data": {"to": "Lisbon"}})
    print("flight:", status, booked["step"]["output"])
    status, problem = api.post(f"{here}/steps", {"action": "pay", "data": {"euros": 90}})
    print("payment:", status, problem["detail"])
    status, ended = api.post(f"{here}/rollback", {"note": "no money"}, Prefer="wait=30")
    print("end:", ended["state"], "undone:", ", ".join(ended["result"]["compensated_steps"]))


@contextlib.contextmanager
def own_server() -> Iterator[Api]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trip.py").write_text(APP)
        ours = [sys.executable, "-m", "aumai_transactions"]
        tokens = ["--tokens", f"{folder}/tokens.json"]
        words = [*ours, "tokens", "add", "trip", "--scope", "act", *tokens]
        made = subprocess.run(words, check=True, capture_output=True, text=True)
        words = [
            *ours,
            "serve",
            "--http",
            "127.0.0.1:0",
            "--allow-actions",
            "--app",
            "trip:manager",
        ]
        words += ["--store", f"{folder}/trip.db", *tokens]
        server = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            found = re.search(r"http://\S+", server.stderr.readline())
            yield Api(f"{found[0]}/api/v1", made.stdout.strip())
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    if "API" in os.environ:
        run(Api(os.environ["API"], os.environ["TOKEN"]))
    else:
        with own_server() as api:
            run(api)
