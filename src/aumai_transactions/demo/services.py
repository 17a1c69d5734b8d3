"""One of the trip's services as a process of its own: HTTP in front, SQLite behind.

    python -m aumai_transactions.demo.services flights --database flights.db --port 8101

Owns: the HTTP of the services. When it is ready it prints one line of JSON with its port.
Rules:
  1. A service ends when its standard input is closed. The system closes it when the parent dies,
     whatever it dies of, so a service never outlives whoever started it.
  2. What arrives is hostile: its size, its shape and its pace are limited, it reaches SQL only
     as parameters, and the caller is told what is wrong in one sentence, never a traceback.
  3. A definite no is 400, 402, 410 or 422. 409 is not used: callers take it for a maybe.
  4. It listens on loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NoReturn

from aumai_transactions.demo.ledger import Answer, Call, Ledger, Participant, Refused
from aumai_transactions.demo.participants import PARTICIPANTS
from aumai_transactions.participants.barrier import BarrierCall, InvalidCall

LOOPBACK: Final = "127.0.0.1"
BODY_BYTES_MAX = 64 * 1024
DISCARDED_BYTES_MAX = 8 * 1024 * 1024
IDLE_SECONDS_MAX = 15
_WAITING_CONNECTIONS_MAX = 128


class Service(ThreadingHTTPServer):
    """Serve one participant's ledger over HTTP.

    Args:
        participant: What is sold.
        database: The SQLite file.
        port: The port on loopback; 0 takes a free one.
        pause: How to be slow for some seconds; until the service stops, if nothing else is given.
    """

    daemon_threads = True
    request_queue_size = _WAITING_CONNECTIONS_MAX

    def __init__(
        self,
        participant: Participant,
        database: Path,
        port: int = 0,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.participant = participant
        self.ledger = Ledger(database, participant)
        self.is_closing = threading.Event()
        self.pause = pause or self.is_closing.wait
        try:
            super().__init__((LOOPBACK, port), _Request)
        except BaseException:
            self.ledger.close()
            raise

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which can take seconds without a network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name = LOOPBACK
        self.server_port = self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Write down what went wrong, unless it is only that somebody went away."""
        if not self.is_closing.is_set() and not isinstance(
            sys.exception(), ConnectionError | TimeoutError
        ):
            traceback.print_exc()

    def stop(self) -> None:
        """Take no more requests, let the running SQLite transaction end, and let go."""
        self.is_closing.set()
        self.shutdown()
        self.server_close()
        self.ledger.close()


class _Request(BaseHTTPRequestHandler):
    """Answer the requests of one connection."""

    server: Service
    protocol_version = "HTTP/1.1"
    # What names no version is answered with a status line like everything else.
    default_request_version = protocol_version
    server_version = "aumai-demo"
    sys_version = ""
    timeout = IDLE_SECONDS_MAX
    # Why both: an answer in two small packets waits 40 ms for the receipt of the first one.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Show the state."""
        self._reply(self._state)

    def do_POST(self) -> None:
        """Take an order or a cancel."""
        self._reply(self._order)

    def _reply(self, respond: Callable[[], Answer]) -> None:
        try:
            answer = respond()
        except Refused as refused:
            answer = Answer(refused.status, {"error": refused.message})
        except (ConnectionError, TimeoutError):
            # The caller is gone or does not go on: there is nobody to answer.
            self.close_connection = True
            return
        except Exception:  # noqa: BLE001 (a caller is told that it failed; our log says how)
            if not self.server.is_closing.is_set():
                traceback.print_exc()
            answer = Answer(500, {"error": "internal error"})
        self._send(answer)

    def _state(self) -> Answer:
        # A body that nobody reads would be taken for the next request.
        self.close_connection |= self.headers.get("Content-Length", "0") != "0"
        if self.path != "/state":
            raise Refused(404, "there is only GET /state here")
        return Answer(200, self.server.ledger.state())

    def _order(self) -> Answer:
        participant, ledger = self.server.participant, self.server.ledger
        data = self._body()
        identity = self._identity()
        if self.path == participant.cancel_path:
            return ledger.cancel(Call(_checked(identity, "compensation"), {}))
        if self.path != participant.path:
            raise Refused(
                404, f"there are only POST {participant.path} and {participant.cancel_path} here"
            )
        call = Call(_checked(identity, "action"), participant.order(data))
        if not ledger.knows(call.key):
            self._wait(call.data["delay_seconds"])
        answer = ledger.carry_out(call)
        if not answer.replayed:
            self._wait(call.data["answer_delay_seconds"])
        return answer

    def _wait(self, seconds: float) -> None:
        if seconds:
            self.server.pause(seconds)
        if self.server.is_closing.is_set():
            raise ConnectionAbortedError

    def _identity(self) -> BarrierCall:
        try:
            return BarrierCall.from_headers(self.headers.items())
        except InvalidCall as error:
            raise Refused(400, f"the header {error}") from None

    def _body(self) -> dict[str, Any]:
        """Return the request's JSON object; leave the connection in order for the next one."""
        length = self._content_length()
        if length > BODY_BYTES_MAX:
            self._discard(length)
            raise Refused(413, f"the body is larger than {BODY_BYTES_MAX:,} bytes")
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionAbortedError
        try:
            body = json.loads(content, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, "the body is not a JSON object")
        return body

    def _content_length(self) -> int:
        # Without a length nobody knows where the next request begins, so this was the last one.
        if self.headers.get_all("Transfer-Encoding"):
            self.close_connection = True
            raise Refused(411, "send a Content-Length instead of a Transfer-Encoding")
        lengths = self.headers.get_all("Content-Length", [])
        text = str(lengths[0]).strip() if len(lengths) == 1 else ""
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            self.close_connection = True
            raise Refused(400, "send one header Content-Length, with a number")
        return int(text)

    def _discard(self, length: int) -> None:
        # Why read it at all: closing a connection with unread bytes resets it, and the caller
        # would see a reset, which is a maybe, instead of the definite no.
        self.close_connection = True
        left = min(length, DISCARDED_BYTES_MAX)
        while left > 0:
            chunk = self.rfile.read(min(left, 64 * 1024))
            if not chunk:
                return
            left -= len(chunk)

    def _send(self, answer: Answer) -> None:
        # Why sorted: a recorded answer comes back sorted, and must not differ from the first one.
        content = json.dumps(answer.body, sort_keys=True).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if answer.replayed:
            self.send_header("Idempotent-Replayed", "true")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 (it repeats what the caller sent)
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Refuse what is not even a request, in JSON like everything else."""
        self.close_connection = True
        self._send(Answer(code, {"error": HTTPStatus(code).phrase.lower()}))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep quiet: the evidence is in the database."""


def _checked(identity: BarrierCall, operation: str) -> BarrierCall:
    if identity.operation == operation:
        return identity
    if operation == "compensation":
        raise Refused(400, "the header Aumai-Compensates is missing: which call is undone?")
    raise Refused(400, f"this path takes orders, and not the operation {identity.operation}")


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def serve(participant: Participant, database: Path, port: int) -> int:
    """Serve until standard input is closed, and return the process's exit code."""
    try:
        service = Service(participant, database, port)
    except (OSError, OverflowError, sqlite3.Error) as error:
        problem = f"cannot serve {database} on port {port}: {error}"
        sys.stderr.write(f"{participant.name}: {problem}\n")
        return 1
    # Why a daemon: a service whose parent is gone must not be kept alive by a slow caller.
    threading.Thread(
        target=service.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    ).start()
    ready = {"service": participant.name, "port": service.server_port, "pid": os.getpid()}
    try:
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        _wait_for_the_end_of_input()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        service.stop()
    return 0


def _wait_for_the_end_of_input() -> None:
    while sys.stdin is not None and sys.stdin.buffer.read(1):
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one service, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m aumai_transactions.demo.services",
        description="Run one of the trip's services until standard input is closed.",
    )
    parser.add_argument("service", choices=list(PARTICIPANTS))
    parser.add_argument("--database", type=Path, required=True, help="its SQLite file")
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0 takes a free one")
    options = parser.parse_args(arguments)
    return serve(PARTICIPANTS[options.service], options.database, options.port)


if __name__ == "__main__":
    sys.exit(main())
