"""Services that are called by HTTP, as the operator says, and not as a caller does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.web.api.bench import shop, step

Called = list[tuple[str, dict[str, object], str]]


@pytest.fixture
def hotel() -> Iterator[tuple[int, Called]]:
    """Run a service that notes what it was called with."""
    called: Called = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            called.append((self.path, body, self.headers["Idempotency-Key"]))
            answer = b'{"room": 7}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield service.server_address[1], called
        service.shutdown()
        thread.join()


def test_a_service_is_called_and_called_back_under_the_names_of_a_file(
    tmp_path: Path, hotel: tuple[int, Called]
) -> None:
    port, called = hotel
    (tmp_path / "actions.toml").write_text(
        f"""
        http_hosts = ["127.0.0.1:{port}"]
        [actions.book_room]
        kind = "http"
        url = "http://127.0.0.1:{port}/book"
        json = {{ guest = "{{data.guest}}" }}
        [actions.cancel_room]
        kind = "http"
        url = "http://127.0.0.1:{port}/cancel"
        json = {{ guest = "{{data.guest}}" }}
        """
    )
    with shop(tmp_path, "--actions", str(tmp_path / "actions.toml")) as server:
        program = server.client("buyer")
        names = {one["name"] for one in program.get("/actions").json["items"]}
        assert {"book_room", "cancel_room", "reserve"} <= names
        tx = program.begin(mode="interactive")
        wanted = {**step("book_room", guest="Ann"), "compensating_action": "cancel_room"}
        done = program.post(f"{tx}/steps", wanted)
        assert (done.status, done.json["step"]["output"]) == (200, {"room": 7})
        back = program.post(f"{tx}/rollback", None, Prefer="wait=30")
        assert back.json["state"] == "rolled_back"
    assert [path for path, _, _ in called] == ["/book", "/cancel"]
    assert len({key for _, _, key in called}) == 2


def test_a_caller_cannot_say_what_is_to_be_called(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        program = server.client("buyer")
        tx = program.begin(mode="interactive")
        for action in ("http://127.0.0.1/", "os:system", "sh -c id", "shop_app:done"):
            found = program.post(f"{tx}/steps", step(action))
            assert (found.status, found.code) == (422, "unknown-action"), action
        definition = {"kind": "http", "url": "http://169.254.169.254/"}
        for body in ({"actions": {"x": definition}}, {"steps": [{**step("x"), **definition}]}):
            assert program.post("/transactions", body).status == 422
