"""Services on loopback, as honest or as hostile as a test wants them.

Owns: a server that speaks in raw bytes, and the context of a call.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import pytest

from aumai_transactions.actions import StepContext

PATIENCE_SECONDS = 10


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RawService:
    """Answer every connection with the same behaviour; keep the requests."""

    port: int
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/do/it"


def read_request(connection: socket.socket) -> Request:
    stream = connection.makefile("rb")
    line = stream.readline().decode("latin-1").strip()
    headers = {}
    while text := stream.readline().decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.strip()] = value.strip()
    body = stream.read(int(headers.get("Content-Length", "0")))
    return Request(line, headers, body)


def answer(
    status: int | str, body: bytes | str = b"", *headers: str, kind: str = "application/json"
) -> bytes:
    """An honest answer, as bytes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(content)}", *headers]
    if content and kind:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@contextmanager
def _listening(behaviour: Callable[[socket.socket, RawService], None]) -> Iterator[RawService]:
    listener = socket.create_server(("127.0.0.1", 0))
    service = RawService(listener.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_SECONDS)
            with connection:
                try:
                    behaviour(connection, service)
                except OSError:
                    continue  # The client hung up: that is for the test to judge.

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        # Why shutdown: on Linux, closing alone does not wake a thread that waits in accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., RawService]]:
    """Start a service: `serve(behaviour)`, a function (connection, service)."""
    with ExitStack() as stack:
        yield lambda behaviour: stack.enter_context(_listening(behaviour))


@pytest.fixture
def serve_bytes(serve) -> Callable[[bytes], RawService]:
    """Start a service that reads each request and answers with these bytes."""

    def start(content: bytes) -> RawService:
        def behave(connection, service):
            service.requests.append(read_request(connection))
            connection.sendall(content)

        return serve(behave)

    return start


@pytest.fixture(scope="module")
def serve_once() -> Iterator[RawService]:
    """One service for many calls: it says {} to everything."""

    def behave(connection, service):
        service.requests.append(read_request(connection))
        connection.sendall(answer(200, "{}"))

    with _listening(behave) as service:
        yield service


CONTEXT = StepContext(
    transaction_id="tx-1",
    step_id="flight",
    agent_id="flight_agent",
    action="reserve_flight",
    operation="action",
    attempt=1,
    idempotency_key="tx-1/flight/action",
    token=7,
)


@pytest.fixture
def acting() -> StepContext:
    return CONTEXT


@pytest.fixture
def undoing() -> StepContext:
    return replace(
        CONTEXT,
        action="cancel_flight",
        operation="compensation",
        idempotency_key="tx-1/flight/compensation",
    )
