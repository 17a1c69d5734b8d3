"""A saga that calls a participant over real HTTP, with the barrier in front of it.

Owns: the smallest ASGI server that will do, and a network that loses what it is told to lose.
"""

import asyncio
import http.client
import json
import re
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aumai_transactions import Action, TransactionManager
from aumai_transactions.errors import OutcomeUnknown, StepRejected
from aumai_transactions.participants.barrier import (
    BarrierMiddleware,
    create_barrier_table,
    current_barrier,
)
from aumai_transactions.participants.identity import step_headers

SECONDS_MAX = 60
MANUAL = Path(__file__).resolve().parents[2] / "docs" / "barrier.md"


class Flights:
    """The participant: an ASGI application over SQLite, behind the barrier."""

    def __init__(self, place):
        self.place = place
        self.ran = []
        self.app = BarrierMiddleware(self.sell, self.connect, required=True)
        with closing(self.connect()) as db:
            db.execute("CREATE TABLE seats (free integer NOT NULL CHECK (free >= 0))")
            db.execute("INSERT INTO seats VALUES (2)")
            db.commit()
            create_barrier_table(db)

    def connect(self):
        return sqlite3.connect(self.place, timeout=SECONDS_MAX, check_same_thread=False)

    @property
    def free(self):
        with closing(self.connect()) as db:
            return db.execute("SELECT free FROM seats").fetchone()[0]

    async def sell(self, scope, receive, send):
        await receive()
        db = current_barrier().connection
        self.ran.append(scope["path"])
        step = 1 if scope["path"] == "/cancel" else -1
        status, body = 200, {"seat": "17A"}
        try:
            await asyncio.to_thread(db.execute, "UPDATE seats SET free = free + ?", (step,))
        except sqlite3.IntegrityError:
            status, body = 422, {"error": "sold out"}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


class Network:
    """Serve the application on loopback; lose the answers that a test wants lost."""

    def __init__(self, app):
        self.app = app
        self.answers_to_lose = 0
        self.seen = []
        self.port = 0
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def running(self):
        has_begun = threading.Event()

        async def serve():
            self._end = asyncio.Event()
            async with await asyncio.start_server(self._one, "127.0.0.1", 0) as server:
                self.port = server.sockets[0].getsockname()[1]
                has_begun.set()
                await self._end.wait()

        thread = threading.Thread(target=self._loop.run_until_complete, args=[serve()])
        thread.start()
        assert has_begun.wait(SECONDS_MAX)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            thread.join(SECONDS_MAX)
            self._loop.close()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split()
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        body = await reader.readexactly(int(dict(headers).get(b"content-length", b"0")))
        parts = [{"type": "http.request", "body": body}]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        answer = []

        async def receive():
            return parts.pop(0)

        async def send(message):
            answer.append(message)

        await self.app(scope, receive, send)
        is_lost, self.answers_to_lose = self.answers_to_lose > 0, self.answers_to_lose - 1
        start = answer[0]
        self.seen.append((path, start["status"], "lost" if is_lost else "told"))
        if not is_lost:
            lines = [f"HTTP/1.1 {start['status']} X", "Connection: close"]
            lines += [f"{name.decode()}: {value.decode()}" for name, value in start["headers"]]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer[1]["body"])
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def flights(tmp_path):
    return Flights(str(tmp_path / "flights.db"))


@pytest.fixture
def network(flights):
    with Network(flights.app).running() as network:
        yield network


def caller(network, path):
    def call(action, data, context):
        connection = http.client.HTTPConnection("127.0.0.1", network.port, timeout=SECONDS_MAX)
        with closing(connection):
            try:
                connection.request("POST", path, json.dumps(data), step_headers(context))
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                raise OutcomeUnknown("the answer was lost") from error
        if answer.status != 200:
            raise StepRejected(str(body))
        return body

    return call


@pytest.fixture
def manager(network):
    with TransactionManager() as manager:
        manager.actions.add(Action("reserve", caller(network, "/reserve"), idempotent=True))
        manager.actions.add(Action("cancel", caller(network, "/cancel"), idempotent=True))
        yield manager


def trip(manager, *more):
    tx = manager.begin()
    step = manager.add_step(tx, "flight_agent", "reserve", {"who": "Alice"}, "cancel")
    for action in more:
        manager.add_step(tx, "other_agent", action, {})
    result = manager.commit(tx)
    return result, tx.transaction_id, step.step_id


def test_a_lost_answer_is_asked_for_again_and_the_seat_is_taken_once(manager, network, flights):
    network.answers_to_lose = 1
    result, _, _ = trip(manager)
    assert result.state.value == "committed"
    assert network.seen == [("/reserve", 200, "lost"), ("/reserve", 200, "told")]
    assert flights.ran == ["/reserve"]
    assert flights.free == 1


def test_a_rollback_undoes_over_http_once(manager, network, flights):
    def fail(action, data):
        raise ValueError("no room left")

    manager.actions.add(Action("fail", fail))
    network.answers_to_lose = 1
    result, _, _ = trip(manager, "fail")
    assert result.state.value == "rolled_back"
    assert result.clean
    assert flights.ran == ["/reserve", "/cancel"]
    assert flights.free == 2


def test_what_is_sold_out_is_not_done(manager, network, flights):
    results = [trip(manager)[0].state.value for _ in range(3)]
    assert results == ["committed", "committed", "rolled_back"]
    assert flights.free == 0


def test_what_the_manual_shows_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", MANUAL.read_text("utf-8"), re.DOTALL)
    assert block is not None
    shown: dict = {}
    exec(compile(block[1], "barrier.md", "exec"), shown)  # noqa: S102

    def fail(action, data):
        raise ValueError("no room left")

    with TransactionManager(
        {"reserve": shown["reserve"], "cancel": shown["cancel"], "fail": fail}
    ) as manager:
        states = [trip(manager)[0].state.value, trip(manager, "fail")[0].state.value]
    assert states == ["committed", "rolled_back"]
    with closing(sqlite3.connect("flights.db")) as db:
        assert db.execute("SELECT free FROM seats").fetchone() == (9,)
