"""The barrier in front of an ASGI application, spoken to in ASGI, with real databases behind."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.barrier import BarrierMiddleware, current_barrier

KEY = "tx-1/flight/action"
UNDO_KEY = "tx-1/flight/compensation"
DO = {"Idempotency-Key": KEY, "Aumai-Transaction": "tx-1", "Aumai-Token": "3"}
UNDO = DO | {
    "Idempotency-Key": UNDO_KEY,
    "Aumai-Operation": "compensation",
    "Aumai-Compensates": KEY,
}
SECONDS_MAX = 60


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def is_replayed(self):
        return self.headers.get("idempotent-replayed") == "true"


async def speak(app, headers=(), body=b"{}", *, method="POST", path="/seats", query=b"", parts=1):
    """Send one request in some parts, and return the whole answer."""
    size = -(-len(body) // parts) or 1
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
        "state": {"from": "the server"},
        "extensions": {"http.response.pathsend": {}},
    }
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], b"".join(part["body"] for part in rest), found)


@dataclass
class Endpoint:
    """An application that sells a seat, or does what a test says."""

    shop: Any
    status: int = 201
    answer: bytes = b'{"seat": 17}'
    content_type: bytes = b"application/json"
    ran: list = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        request = await receive()
        self.ran.append((scope["method"], scope["path"], request.get("body")))
        if b"idempotency-key" in dict(scope["headers"]) and scope["method"] != "GET":
            guarded = current_barrier()
            assert scope["state"] == {"from": "the server", "aumai_barrier": guarded}
            assert scope["extensions"] == {}
            act = self.shop.take if guarded.call.operation == "action" else self.shop.give_back
            await asyncio.to_thread(act, guarded.connection)
        await self.respond(send)

    async def respond(self, send):
        headers = [(b"content-type", self.content_type), (b"x-own", b"yes")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        half = len(self.answer) // 2
        await send({"type": "http.response.body", "body": self.answer[:half], "more_body": True})
        await send({"type": "http.response.body", "body": self.answer[half:]})


class Site:
    def __init__(self, shop, **options):
        self.shop = shop
        self.endpoint = Endpoint(shop)
        self.middleware = BarrierMiddleware(self.endpoint, shop.connect, **options)

    def ask(self, headers=DO, body=b'{"who": "Alice"}', **options):
        return asyncio.run(speak(self.middleware, headers, body, **options))


@pytest.fixture(params=["sqlite3", "psycopg", "Connection over sqlite", "Session over postgresql"])
def site(request, open_shop):
    return Site(open_shop(request.param))


@pytest.fixture
def plain_site(open_shop):
    return Site(open_shop("sqlite3"))


# ------------------------------------------------------------------------------- what is promised


def test_a_request_acts_once_and_a_duplicate_gets_the_recorded_answer(site):
    first, again = site.ask(), site.ask()
    assert (first.status, first.json, first.is_replayed) == (201, {"seat": 17}, False)
    assert (again.status, again.body, again.is_replayed) == (201, first.body, True)
    assert again.headers["content-type"] == "application/json"
    assert again.headers["content-length"] == str(len(first.body))
    assert first.headers["x-own"] == "yes"
    assert len(site.endpoint.ran) == 1
    assert site.shop.free == 9
    assert site.shop.rows == {KEY: ("action", "done", 2)}


def test_an_undo_undoes_once(site):
    site.ask()
    site.endpoint.answer = b'{"undone": 17}'
    assert [site.ask(UNDO).json, site.ask(UNDO).json] == [{"undone": 17}] * 2
    assert site.shop.free == 10
    assert site.ask().status == 410
    assert site.shop.free == 10


def test_an_undo_of_nothing_is_200_and_the_late_call_410_and_nothing_runs(site):
    empty, again, late = site.ask(UNDO), site.ask(UNDO), site.ask()
    assert (empty.status, empty.json, empty.is_replayed) == (200, {"undone": False}, False)
    assert (again.status, again.json, again.is_replayed) == (200, {"undone": False}, True)
    assert late.status == 410
    assert "refused after its undo" in late.json["error"]
    assert site.endpoint.ran == []
    assert site.shop.free == 10


@pytest.mark.parametrize("status", [400, 402, 404, 410, 422, 451])
def test_a_definite_refusal_is_recorded_without_the_effect(plain_site, status):
    plain_site.endpoint.status = status
    plain_site.endpoint.answer = b"sold out"
    plain_site.endpoint.content_type = b"text/plain"
    first, again = plain_site.ask(), plain_site.ask()
    assert (first.status, again.status) == (status, status)
    assert (again.body, again.headers["content-type"]) == (b"sold out", "text/plain")
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert len(plain_site.endpoint.ran) == 1
    assert plain_site.shop.free == 10
    assert plain_site.shop.rows[KEY] == ("action", "refused", 2)


@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 503])
def test_what_is_no_definite_answer_is_rolled_back_and_may_come_again(plain_site, status):
    plain_site.endpoint.status = status
    assert plain_site.ask().status == status
    assert (plain_site.shop.free, plain_site.shop.rows) == (10, {})
    plain_site.endpoint.status = 201
    assert plain_site.ask().status == 201
    assert plain_site.shop.free == 9


def test_a_refusal_of_an_undo_is_not_recorded(site):
    site.ask()
    site.endpoint.status = 422
    assert site.ask(UNDO).status == 422
    assert site.shop.free == 9
    site.endpoint.status = 200
    assert site.ask(UNDO).status == 200
    assert site.shop.free == 10


@pytest.mark.parametrize("answer", [b"", b"\0\xff\xfe", b"\x00", "ä🦄".encode(), b"x" * 200_000])
def test_any_answer_comes_back_byte_for_byte(plain_site, answer):
    plain_site.endpoint.answer = answer
    assert plain_site.ask().body == plain_site.ask().body == answer
    assert plain_site.shop.free == 9


@pytest.mark.parametrize(
    "other",
    [
        {"body": b'{"who": "Bob"}'},
        {"path": "/rooms"},
        {"method": "PUT"},
        {"query": b"who=Bob"},
    ],
)
def test_a_key_that_comes_with_another_request_is_422(plain_site, other):
    plain_site.ask()
    reply = plain_site.ask(**other)
    assert reply.status == 422
    assert "another request" in reply.json["error"]
    assert plain_site.shop.free == 9
    assert plain_site.ask(parts=3).is_replayed


def test_a_stale_driver_is_412(plain_site):
    plain_site.ask()
    stale = {"Idempotency-Key": "b", "Aumai-Transaction": "tx-1", "Aumai-Token": "2"}
    assert plain_site.ask(stale).status == 412
    assert plain_site.shop.free == 9


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "k" * 5_000},
        DO | {"Aumai-Token": "x"},
        DO | {"Aumai-Operation": "compensation"},
        [*DO.items(), ("idempotency-key", "other")],
    ],
)
def test_bad_headers_are_400_by_name(plain_site, headers):
    reply = plain_site.ask(headers)
    assert reply.status == 400
    assert reply.json["error"].startswith("header ")
    assert plain_site.endpoint.ran == []
    assert plain_site.shop.rows == {}


def test_a_refusal_that_python_recorded_is_told_over_http(plain_site):
    from aumai_transactions.errors import StepRejected
    from aumai_transactions.participants.barrier import BarrierCall, barrier

    with pytest.raises(StepRejected), barrier(plain_site.shop.connect(), BarrierCall(KEY)):
        raise StepRejected("sold out")
    assert (plain_site.ask().status, plain_site.ask().json) == (422, {"error": "sold out"})
    with barrier(plain_site.shop.connect(), BarrierCall("p")) as call:
        call.answer = {"seat": 1}
    reply = plain_site.ask({"Idempotency-Key": "p"})
    assert (reply.status, reply.json, reply.is_replayed) == (200, {"seat": 1}, True)


# ------------------------------------------------------------------------------- what passes by


@pytest.mark.parametrize("headers", [{}, {"X-Idempotency-Key": "k"}])
def test_a_request_without_a_key_passes_untouched(plain_site, headers):
    reply = plain_site.ask(headers)
    assert (reply.status, reply.headers["x-own"]) == (201, "yes")
    assert plain_site.shop.rows == {}
    with pytest.raises(LookupError, match="Idempotency-Key"):
        current_barrier()


def test_where_the_key_is_required_only_reading_passes_without_it(open_shop):
    site = Site(open_shop("sqlite3"), required=True)
    assert site.ask({}).status == 400
    assert site.ask({}, method="GET").status == 201
    assert [method for method, _, _ in site.endpoint.ran] == ["GET"]


def test_probes_pass_untouched(plain_site):
    headers = {"Idempotency-Key": "p", "Aumai-Operation": "probe", "Aumai-Forward-Key": KEY}
    assert plain_site.ask(headers, method="GET").status == 201
    assert plain_site.shop.rows == {}


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_not_http_passes_untouched(kind):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    scope: Any = {"type": kind}
    receive: Any = object()
    send: Any = object()
    asyncio.run(BarrierMiddleware(app, pytest.fail)(scope, receive, send))
    assert seen == [(scope, receive, send)]


# ------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_an_exception_of_the_application_leaves_nothing(site, error):
    async def fail(scope, receive, send):
        site.shop.take(current_barrier().connection)
        raise error

    with pytest.raises(error):
        asyncio.run(speak(BarrierMiddleware(fail, site.shop.connect), DO))
    assert site.ask().status == 201
    assert site.shop.free == 9


async def says_nothing(send):
    pass


async def says_half(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def says_too_much(send):
    await says_half(send)
    for _ in range(300):
        await send({"type": "http.response.body", "body": b"x" * 1_024, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def says_it_twice(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})
    await send({"type": "http.response.body", "body": b"x"})


async def sends_a_file(send):
    await says_half(send)
    await send({"type": "http.response.pathsend", "path": "/"})


@pytest.mark.parametrize(
    "say", [says_nothing, says_half, says_too_much, says_it_twice, sends_a_file]
)
def test_an_answer_that_cannot_be_recorded_rolls_back(plain_site, say):
    async def odd(scope, receive, send):
        plain_site.shop.take(current_barrier().connection)
        await say(send)

    with pytest.raises((RuntimeError, ValueError), match=r"rolled back|out of place"):
        asyncio.run(speak(BarrierMiddleware(odd, plain_site.shop.connect), DO))
    assert (plain_site.shop.free, plain_site.shop.rows) == (10, {})


@pytest.mark.parametrize("status", [201, 422])
def test_an_answer_that_does_not_fit_the_table_rolls_back(open_shop, status):
    site = Site(open_shop("sqlite3"), response_bytes_max=10**9)
    site.endpoint.status = status
    site.endpoint.answer = b"\1" * (2 * 1024 * 1024)
    reply = site.ask()
    assert reply.status == 500
    assert "nothing was done" in reply.json["error"]
    assert (site.shop.free, site.shop.rows) == (10, {})


def test_a_request_that_is_too_large_is_413_and_nothing_is_begun(open_shop):
    site = Site(open_shop("sqlite3"), body_bytes_max=10)
    assert site.ask(body=b"x" * 11, parts=3).status == 413
    assert site.ask(body=b"x" * 10).status == 201
    assert len(site.endpoint.ran) == 1


def test_a_caller_that_goes_away_in_the_middle_of_its_body_begins_nothing(plain_site):
    async def receive():
        return parts.pop(0)

    parts = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"idempotency-key", b"k")]}
    asyncio.run(plain_site.middleware(scope, receive, pytest.fail))
    assert (plain_site.endpoint.ran, plain_site.shop.rows) == ([], {})


def test_a_caller_that_goes_away_later_does_not_undo_what_was_committed(site):
    async def receive():
        return {"type": "http.request", "body": b""}

    async def gone(message):
        raise ConnectionResetError

    headers = [(name.lower().encode(), value.encode()) for name, value in DO.items()]
    scope = {"type": "http", "method": "POST", "path": "/seats", "headers": headers} | {
        "state": {"from": "the server"}
    }
    with pytest.raises(ConnectionResetError):
        asyncio.run(site.middleware(scope, receive, gone))
    assert site.shop.free == 9
    assert site.ask(body=b"").is_replayed


def test_a_cancelled_request_leaves_no_transaction_open(site):
    async def story():
        has_acted = asyncio.Event()

        async def slow(scope, receive, send):
            await asyncio.to_thread(site.shop.take, current_barrier().connection)
            has_acted.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(speak(BarrierMiddleware(slow, site.shop.connect), DO))
        await has_acted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    # The same call again waits until the first one's transaction is gone.
    connection = site.shop.connect()
    if site.shop.is_sqlite:
        site.shop.run(connection, "PRAGMA busy_timeout = 60000")
        connection.rollback()
    middleware = BarrierMiddleware(site.endpoint, lambda: connection)
    assert asyncio.run(speak(middleware, DO)).status == 201
    assert site.shop.free == 9


def test_a_thread_of_a_cancelled_endpoint_cannot_act_after_it(open_shop):
    # In autocommit mode, its next statement would be committed by itself.
    shop = open_shop("sqlite3")
    connection = sqlite3.connect(shop.place, isolation_level=None, check_same_thread=False)

    async def story():
        loop = asyncio.get_running_loop()
        has_begun, may_go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope, receive, send):
            shop.take(current_barrier().connection)
            has_begun.set()
            await may_go_on.wait()

        task = asyncio.create_task(speak(BarrierMiddleware(slow, lambda: connection), DO))
        await has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The connection's own thread closes it; a transaction of ours can begin then.
        with closing(sqlite3.connect(shop.place, timeout=60, isolation_level=None)) as other:
            await loop.run_in_executor(None, lambda: None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                shop.take(connection)

    asyncio.run(story())
    assert (shop.free, shop.rows) == (10, {})


def test_a_connection_that_the_endpoint_could_not_use_is_refused_by_name(open_shop):
    shop = open_shop("sqlite3")
    middleware = BarrierMiddleware(Endpoint(shop), lambda: sqlite3.connect(shop.place))
    with pytest.raises(DefinitionError, match="check_same_thread=False"):
        asyncio.run(speak(middleware, DO))
    assert shop.rows == {}


def test_a_connection_that_cannot_be_made_is_the_servers_problem(open_shop):
    def fail():
        raise OSError("no database today")

    with pytest.raises(OSError, match="no database"):
        asyncio.run(speak(BarrierMiddleware(Endpoint(None), fail), DO))


# ---------------------------------------------------------------------------------- many at once


def test_many_at_once_act_once_and_a_waiting_one_does_not_stop_the_loop(open_shop):
    site = Site(open_shop("psycopg"))
    other = site.shop.connect()

    async def story():
        other.execute("LOCK TABLE aumai_barrier")
        waiting = [asyncio.create_task(speak(site.middleware, DO)) for _ in range(20)]
        await asyncio.sleep(0)
        other.rollback()  # If the loop stood still, nobody would ever come here.
        return await asyncio.gather(*waiting)

    replies = asyncio.run(asyncio.wait_for(story(), SECONDS_MAX))
    assert {reply.status for reply in replies} == {201}
    assert sum(not reply.is_replayed for reply in replies) == 1
    assert site.shop.free == 9
    assert site.shop.rows == {KEY: ("action", "done", 20)}


def test_no_more_than_so_many_are_behind_the_barrier_at_once(open_shop):
    shop = open_shop("psycopg")
    inside = []
    most = []

    async def app(scope, receive, send):
        inside.append(1)
        most.append(len(inside))
        await asyncio.to_thread(shop.run, current_barrier().connection, "SELECT 1")
        inside.pop()
        await Endpoint(shop).respond(send)

    async def story():
        middleware = BarrierMiddleware(app, shop.connect, at_once_max=2)
        keys = [DO | {"Idempotency-Key": str(number)} for number in range(10)]
        return await asyncio.gather(*(speak(middleware, headers) for headers in keys))

    assert {reply.status for reply in asyncio.run(story())} == {201}
    assert max(most) <= 2


def test_a_busy_database_is_429_and_says_when_to_come_again(plain_site):
    with closing(plain_site.shop.connect_driver()) as other:
        other.execute("BEGIN IMMEDIATE")
        reply = plain_site.ask()
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert plain_site.endpoint.ran == []
    assert plain_site.ask().status == 201


def test_a_database_without_the_table_is_503(plain_site):
    with closing(plain_site.shop.connect_driver()) as driver:
        driver.execute("DROP TABLE aumai_barrier")
    reply = plain_site.ask()
    assert reply.status == 503
    assert "create_barrier_table" in reply.json["error"]


def test_an_endpoint_that_commits_by_itself_is_500(plain_site):
    async def bad(scope, receive, send):
        connection = current_barrier().connection
        plain_site.shop.take(connection)
        connection.commit()
        await plain_site.endpoint.respond(send)

    reply = asyncio.run(speak(BarrierMiddleware(bad, plain_site.shop.connect), DO))
    assert reply.status == 500
    assert "ended the barrier's transaction" in reply.json["error"]
    assert plain_site.ask(body=b"{}").status == 500
