"""The demo's services as their callers meet them: real HTTP, real SQLite, real processes."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions.demo.evidence import events, holdings
from aumai_transactions.demo.ledger import Refused
from aumai_transactions.demo.participants import Bookings, Payments
from aumai_transactions.demo.services import BODY_BYTES_MAX, LOOPBACK, Service
from aumai_transactions.demo.trip import DemoFailed, TripServices, child_environment

SECONDS_MAX = 30
ORDER = {"flight_id": "F1", "traveller": "Alice"}


@dataclass
class Reply:
    status: int
    body: Any
    is_replayed: bool


class Desk:
    """One running service, and a caller in front of it."""

    def __init__(self, service: Service, database: Path):
        self.service = service
        self.database = database

    def connect(self) -> HTTPConnection:
        return HTTPConnection(LOOPBACK, self.service.server_port, timeout=SECONDS_MAX)

    def ask(self, method, path, body=b"", headers=()) -> Reply:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers))
            return read(connection)

    def post(self, path, data, key, **headers) -> Reply:
        named = {"Idempotency-Key": key, "Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, json.dumps(data).encode(), named)

    def order(self, data=None, key="t1/s1/action", **headers) -> Reply:
        return self.post(self.service.participant.path, data or ORDER, key, **headers)

    def cancel(self, compensates="t1/s1/action", key="t1/s1/compensation") -> Reply:
        path = self.service.participant.cancel_path
        return self.post(path, ORDER, key, Aumai_Compensates=compensates)

    def state(self) -> dict:
        return self.ask("GET", "/state").body

    @property
    def held(self):
        return holdings({"it": self.database})["it"]


def read(connection: HTTPConnection) -> Reply:
    response = connection.getresponse()
    content = response.read()
    assert b"Traceback" not in content
    assert response.headers["Content-Type"] == "application/json"
    return Reply(response.status, json.loads(content), "Idempotent-Replayed" in response.headers)


@contextmanager
def serving(participant, database: Path, **options):
    service = Service(participant, database, **options)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Desk(service, database)
    finally:
        service.stop()
        thread.join()


def seats(**stock: int) -> Bookings:
    return Bookings(
        "flights", path="/reservations", item_field="flight_id", prefix="FL", stock=stock
    )


@pytest.fixture
def flights(tmp_path):
    with serving(seats(F1=2, F0=0), tmp_path / "flights.db") as desk:
        yield desk


@pytest.fixture
def payments(tmp_path):
    cards = Payments({"4242": 100_000, "0002": None})
    with serving(cards, tmp_path / "payments.db") as desk:
        yield desk


def together(call, arguments) -> list:
    """Call once for each argument, all at the same moment."""
    gate = threading.Barrier(len(arguments))

    def wait_and_call(argument):
        gate.wait(SECONDS_MAX)
        return call(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(wait_and_call, arguments))


# ---------------------------------------------------------------------------- what is for sale


def test_a_reservation_takes_a_seat_and_names_its_transaction(flights):
    reply = flights.order(Aumai_Transaction="t1", Aumai_Step="s1")
    assert (reply.status, reply.is_replayed) == (201, False)
    assert reply.body == {"reservation_id": "FL-1001", "flight_id": "F1", "traveller": "Alice"}
    assert flights.state() == {
        "service": "flights",
        "available": {"F0": 0, "F1": 1},
        "open": [
            {
                "reservation_id": "FL-1001",
                "flight_id": "F1",
                "traveller": "Alice",
                "transaction_id": "t1",
            }
        ],
    }
    (held,) = flights.held
    assert (held.transaction_id, held.step_id, held.what) == ("t1", "s1", "F1 for Alice")


@pytest.mark.parametrize("flight", ["F0", "no such flight"])
def test_what_is_not_there_is_a_definite_no(flights, flight):
    reply = flights.order({"flight_id": flight, "traveller": "Alice"})
    assert reply.status == 422
    assert flight in reply.body["error"]
    assert flights.held == []


def test_seats_run_out(flights):
    assert [flights.order(key=str(n)).status for n in range(3)] == [201, 201, 422]
    assert flights.state()["available"]["F1"] == 0


def test_two_callers_cannot_have_the_same_last_seat(flights):
    replies = together(lambda n: flights.order(key=str(n)), range(12))
    assert sorted(reply.status for reply in replies) == [201] * 2 + [422] * 10
    assert len(flights.held) == 2
    assert len({reply.body.get("reservation_id") for reply in replies}) == 3


def test_a_charge_takes_the_money_and_a_refund_gives_it_back(payments):
    charged = payments.order({"card": "4242", "amount": 850.1, "flight": "FL-1001"})
    assert (charged.status, charged.body["amount"]) == (201, 850.1)
    assert payments.state()["available_cents"]["4242"] == 14_990
    assert payments.held[0].what == "850.10 on card 4242"
    refunded = payments.cancel()
    assert refunded.body == {"undone": True, "charge_id": "CH-1001", "amount": 850.1}
    assert payments.state()["available_cents"]["4242"] == 100_000
    assert payments.held == []


@pytest.mark.parametrize("card,amount", [("0002", 1), ("unknown", 1), ("4242", 1000.01)])
def test_a_card_is_declined(payments, card, amount):
    reply = payments.order({"card": card, "amount": amount})
    assert (reply.status, reply.body) == (402, {"error": f"card {card} was declined"})
    assert payments.held == []


# ------------------------------------------------------------------------- again, and again


def test_the_same_key_gets_the_recorded_answer_and_one_seat(flights):
    first, again = flights.order(), flights.order()
    assert (again.status, again.body) == (first.status, first.body)
    assert again.is_replayed
    (held,) = flights.held
    assert held.arrivals == 2


def test_the_same_key_at_the_same_moment_takes_one_seat(flights):
    replies = together(lambda _: flights.order(), range(16))
    assert {reply.status for reply in replies} == {201}
    assert len({json.dumps(reply.body) for reply in replies}) == 1
    assert sum(not reply.is_replayed for reply in replies) == 1
    (held,) = flights.held
    assert held.arrivals == 16


def test_a_refusal_is_recorded_too(flights):
    for n in range(2):
        flights.order(key=str(n))
    assert flights.order(key="late").status == 422
    flights.cancel("0")
    again = flights.order(key="late")
    assert (again.status, again.is_replayed) == (422, True)
    assert flights.order(key="new").status == 201


def test_a_key_is_not_taken_for_another_order(flights):
    flights.order()
    other = flights.order({"flight_id": "F1", "traveller": "Bob"})
    assert other.status == 422
    assert "another request" in other.body["error"]
    assert [held.what for held in flights.held] == ["F1 for Alice"]


def test_a_key_is_not_taken_for_another_operation(flights):
    flights.order()
    assert flights.cancel(key="t1/s1/action").status == 422
    assert len(flights.held) == 1


def test_a_key_whose_call_was_cancelled_early_is_not_taken_for_a_cancel_either(flights):
    flights.cancel("early", key="t1/s1/compensation")
    assert flights.cancel("t1/s1/action", key="early").status == 422


def test_nothing_of_a_refused_effect_stays(tmp_path):
    class ChangesItsMind(Bookings):
        def carry_out(self, database, call):
            super().carry_out(database, call)
            raise Refused(422, "sorry")

    shop = ChangesItsMind("x", path="/x", item_field="flight_id", prefix="X", stock={"F1": 1})
    with serving(shop, tmp_path / "x.db") as desk:
        assert desk.order().body == {"error": "sorry"}
        assert desk.held == []
        assert desk.state()["available"] == {"F1": 1}
        assert desk.order().is_replayed


def test_an_answer_outlives_the_process(tmp_path):
    database = tmp_path / "flights.db"
    with serving(seats(F1=1), database) as desk:
        first = desk.order()
    with serving(seats(F1=1), database) as desk:
        again = desk.order()
        assert (again.body, again.is_replayed) == (first.body, True)
        assert desk.state()["available"] == {"F1": 0}


# ----------------------------------------------------------------------------------- undoing


def test_a_cancel_frees_the_seat(flights):
    flights.order()
    assert flights.cancel().body == {"undone": True, "reservation_id": "FL-1001"}
    assert flights.held == []
    assert flights.state()["available"]["F1"] == 2


@pytest.mark.parametrize("second_key", ["t1/s1/compensation", "another"])
def test_a_second_cancel_is_harmless(flights, second_key):
    flights.order()
    first, second = flights.cancel(), flights.cancel(key=second_key)
    assert (first.status, second.status) == (200, 200)
    assert second.is_replayed == (second_key == "t1/s1/compensation")
    assert flights.state()["available"]["F1"] == 2


def test_cancels_at_the_same_moment_free_one_seat(flights):
    flights.order()
    flights.order(key="another")
    replies = together(lambda n: flights.cancel(key=f"cancel {n}"), range(8))
    assert sorted(reply.body["undone"] for reply in replies) == [False] * 7 + [True]
    assert flights.state()["available"]["F1"] == 1


def test_a_call_that_was_cancelled_is_not_answered_as_if_it_stood(flights):
    flights.order()
    flights.cancel()
    again = flights.order()
    assert (again.status, flights.held) == (410, [])


def test_cancelling_what_never_happened_undoes_nothing_and_succeeds(flights):
    reply = flights.cancel()
    assert (reply.status, reply.body) == (200, {"undone": False})
    assert flights.state()["available"]["F1"] == 2


def test_a_call_that_arrives_after_its_cancel_is_refused(flights):
    flights.cancel()
    late = flights.order()
    assert (late.status, flights.held) == (410, [])
    assert "cancelled before it arrived" in late.body["error"]


def test_cancelling_what_was_refused_undoes_nothing(flights):
    sold_out = {"flight_id": "F0", "traveller": "Alice"}
    flights.order(sold_out)
    assert flights.cancel().body == {"undone": False}
    assert flights.order(sold_out).status == 422


def test_a_cancel_has_to_say_what_it_cancels(flights):
    flights.order()
    reply = flights.post("/reservations/cancel", {}, "k")
    assert (reply.status, len(flights.held)) == (400, 1)


def test_the_books_tell_what_happened_in_the_order_of_time(flights):
    flights.order(Aumai_Transaction="t1")
    flights.order(Aumai_Transaction="t1")
    flights.order({"flight_id": "F0", "traveller": "Bob"}, key="t2/s1/action")
    flights.cancel()
    flights.cancel("never", key="k")
    told = events({"flights": flights.database})
    assert [(event.event, event.what) for event in told] == [
        ("done", "F1 for Alice"),
        ("asked again", "same key, recorded answer: 201"),
        ("refused", "flights: F0 is sold out, or there is no such thing"),
        ("undone", "F1 for Alice"),
        ("nothing to undo", ""),
    ]
    assert {event.transaction_id for event in told[:2]} == {"t1"}
    assert [event.at for event in told] == sorted(event.at for event in told)


# ------------------------------------------------------------------------------------- slowly


class Pause:
    """A service that is slow until it is told to go on."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.asked: list[float] = []

    def __call__(self, seconds):
        self.asked.append(seconds)
        self.has_begun.set()
        assert self.may_end.wait(SECONDS_MAX)


@pytest.fixture
def slow(tmp_path):
    pause = Pause()
    with serving(seats(F1=2), tmp_path / "flights.db", pause=pause) as desk:
        desk.pause = pause
        with ThreadPoolExecutor(1) as pool:
            desk.later = pool.submit
            yield desk
            pause.may_end.set()


def test_a_slow_answer_comes_after_the_effect_and_a_repeat_does_not_wait(slow):
    order = ORDER | {"answer_delay_seconds": 30}
    first = slow.later(slow.order, order)
    assert slow.pause.has_begun.wait(SECONDS_MAX)
    assert len(slow.held) == 1
    again = slow.order(order)
    assert (again.status, again.is_replayed, first.done()) == (201, True, False)
    slow.pause.may_end.set()
    assert first.result(SECONDS_MAX).body == again.body
    assert slow.pause.asked == [30]
    assert len(slow.held) == 1


def test_a_caller_that_dies_leaves_the_effect_and_no_noise(slow, capfd):
    connection = slow.connect()
    body = json.dumps(ORDER | {"answer_delay_seconds": 30})
    connection.request("POST", "/reservations", body, {"Idempotency-Key": "k"})
    assert slow.pause.has_begun.wait(SECONDS_MAX)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    slow.pause.may_end.set()
    assert slow.order(ORDER | {"answer_delay_seconds": 30}, key="k").is_replayed
    assert len(slow.held) == 1
    assert capfd.readouterr().err == ""


def test_a_cancel_overtakes_a_slow_call_which_is_then_refused(slow):
    order = slow.later(slow.order, ORDER | {"delay_seconds": 30})
    assert slow.pause.has_begun.wait(SECONDS_MAX)
    assert slow.held == []
    assert slow.cancel().body == {"undone": False}
    slow.pause.may_end.set()
    assert order.result(SECONDS_MAX).status == 410
    assert slow.held == []


# ------------------------------------------------------------------------------------ hostile

BAD_FLIGHT_ORDERS = [
    {},
    {"flight_id": "F1"},
    {"flight_id": "F1", "traveller": ""},
    {"flight_id": "F1", "traveller": "  "},
    {"flight_id": "F1", "traveller": None},
    {"flight_id": "F1", "traveller": ["Alice"]},
    {"flight_id": "F1", "traveller": "A" * 201},
    {"flight_id": "F1", "traveller": "A\0"},
    {"flight_id": "F1", "traveller": "A\r\nSet-Cookie: x"},
    {"flight_id": "F1", "traveller": "\ud800"},
    {"flight_id": 1, "traveller": "Alice"},
    ORDER | {"delay_seconds": -1},
    ORDER | {"delay_seconds": 1e9},
    ORDER | {"answer_delay_seconds": "1"},
    ORDER | {"answer_delay_seconds": True},
]
BAD_CHARGES = [
    *({"card": "4242"}, {"card": "4242", "amount": "850"}, {"card": "4242", "amount": True}),
    *({"card": "4242", "amount": amount} for amount in (0, -1, 0.001, 1e300, 10**40)),
    {"amount": 1},
]


@pytest.mark.parametrize("data", BAD_FLIGHT_ORDERS)
def test_a_malformed_order_is_refused_and_its_key_stays_free(flights, data):
    refused = flights.order(data or {"nothing": 1})
    assert refused.status == 400
    assert set(refused.body) == {"error"}
    assert flights.held == []
    assert flights.order().status == 201


@pytest.mark.parametrize("data", BAD_CHARGES)
def test_a_malformed_charge_is_refused(payments, data):
    assert payments.order(data).status == 400
    assert payments.held == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"amount": NaN}', b"{'a': 1}"),
        b"[" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_body_that_is_no_json_object_is_refused(flights, body, capfd):
    assert flights.ask("POST", "/reservations", body, {"Idempotency-Key": "k"}).status == 400
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "text", ["x'); DROP TABLE bookings; --", '" OR 1=1 --', "%s {0} ${x}", "Ø 🦄"]
)
def test_hostile_text_is_only_text(flights, text):
    assert flights.order({"flight_id": text, "traveller": text}, key="k").status == 422
    assert flights.order({"flight_id": "F1", "traveller": text}).body["traveller"] == text
    assert [held.what for held in flights.held] == [f"F1 for {text}"]
    assert flights.cancel(compensates="' OR '1'='1").body == {"undone": False}
    assert len(flights.held) == 1


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 4 * 1024 * 1024])
def test_a_body_that_is_too_large_is_a_definite_no(flights, size):
    reply = flights.ask("POST", "/reservations", b" " * size, {"Idempotency-Key": "k"})
    assert reply.status == 413


def test_a_call_without_a_key_is_refused(flights):
    assert flights.ask("POST", "/reservations", json.dumps(ORDER).encode()).status == 400
    assert flights.order(key="k" * 4_097).status == 400
    assert flights.held == []


@pytest.mark.parametrize(
    "head,status",
    [
        (b"POST /reservations HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /reservations HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /reservations HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST /reservations HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /reservations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (
            (
                b"POST /reservations HTTP/1.1\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n"
                b"Content-Length: 2\r\n\r\n{}"
            ),
            400,
        ),
        (b"DELETE /reservations HTTP/1.1\r\n\r\n", 501),
        (b"POST /other HTTP/1.1\r\nIdempotency-Key: a\r\nContent-Length: 2\r\n\r\n{}", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_a_strange_request_gets_a_short_answer(flights, head, status, capfd):
    with closing(flights.connect()) as connection:
        connection.connect()
        connection.sock.sendall(head)
        connection.sock.shutdown(socket.SHUT_WR)
        with connection.sock.makefile("rb") as stream:
            answer = stream.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert set(json.loads(body)) == {"error"}
    assert capfd.readouterr().err == ""


def test_a_body_that_breaks_off_is_no_order_and_no_noise(flights, capfd):
    body = json.dumps(ORDER).encode()
    with closing(flights.connect()) as connection:
        connection.connect()
        head = (
            f"POST /reservations HTTP/1.1\r\nIdempotency-Key: k\r\nContent-Length: {len(body) + 1}"
        )
        connection.sock.sendall(f"{head}\r\n\r\n".encode() + body)
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.sock.recv(4096) == b""
    assert flights.held == []
    assert capfd.readouterr().err == ""


def test_one_connection_serves_many_calls_also_after_a_refusal(flights):
    with closing(flights.connect()) as connection:
        for key, data, status in [("a", {}, 400), ("b", ORDER, 201), ("c", ORDER, 201)]:
            connection.request("POST", "/reservations", json.dumps(data), {"Idempotency-Key": key})
            assert read(connection).status == status
        connection.request("GET", "/state")
        assert len(read(connection).body["open"]) == 2


def test_a_failure_inside_is_an_unknown_outcome_for_the_caller_and_explained_in_the_log(
    flights, capfd
):
    with closing(sqlite3.connect(flights.database, isolation_level=None)) as other:
        other.execute("ALTER TABLE bookings RENAME TO hidden")
        broken = flights.order()
        other.execute("ALTER TABLE hidden RENAME TO bookings")
    assert (broken.status, broken.body) == (500, {"error": "internal error"})
    assert "no such table: bookings" in capfd.readouterr().err
    assert flights.state()["available"]["F1"] == 2
    assert flights.order().status == 201


# ---------------------------------------------------------------------------------- processes


def test_a_service_listens_on_loopback_only(flights):
    assert flights.service.server_address[0] == "127.0.0.1"


def test_the_three_services_run_and_are_gone_after_the_block(tmp_path):
    with TripServices(tmp_path) as services:
        assert list(services.urls) == ["flights", "hotels", "payments"]
        ports = [int(url.rpartition(":")[2]) for url in services.urls.values()]
        for port in ports:
            socket.create_connection((LOOPBACK, port), SECONDS_MAX).close()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), SECONDS_MAX)
    assert holdings(services.database_paths) == {"flights": [], "hotels": [], "payments": []}
    assert [log.read_text() for log in sorted(tmp_path.glob("*.log"))] == ["", "", ""]


def test_a_service_that_cannot_start_is_named_and_the_others_are_stopped(tmp_path):
    (tmp_path / "payments.db").write_bytes(b"this is no database, and nobody may overwrite it")
    with pytest.raises(DemoFailed, match=r"payments did not start: .*not a database"):
        TripServices(tmp_path).__enter__()
    assert (tmp_path / "payments.db").read_bytes().startswith(b"this is no database")


def test_a_port_that_is_taken_is_named(tmp_path, flights):
    taken = flights.service.server_port
    with pytest.raises(DemoFailed, match=rf"hotels did not start: .*port {taken}"):
        TripServices(tmp_path, {"hotels": taken}).__enter__()


def test_a_service_ends_when_its_parent_is_killed(tmp_path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from aumai_transactions.demo.trip import TripServices\n"
        "with TripServices(Path(sys.argv[1])) as services:\n"
        "    print(services.urls['flights'], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        text=True,
    )
    with parent:
        assert parent.stdout
        port = int(parent.stdout.readline().rpartition(":")[2])
        # A connection that is open sees the end of the process, so nothing has to be polled.
        with socket.create_connection((LOOPBACK, port), SECONDS_MAX) as connection:
            connection.sendall(b"GET /state HTTP/1.1\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            parent.send_signal(signal.SIGKILL)
            while connection.recv(4096):
                pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), SECONDS_MAX)
    assert parent.returncode == -signal.SIGKILL
