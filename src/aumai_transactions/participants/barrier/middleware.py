"""The barrier in front of an ASGI application.

Owns: which request passes the barrier, in which transaction its endpoint runs, and which answer
is recorded and replayed.
Rules:
  1. The request is read whole before a transaction is opened: a slow caller holds no locks.
  2. Each request's connection has a thread of its own from `connect` to `close`. Threads of a
     shared pool would all wait for a rival, whose commit would wait for a thread.
  3. 2xx is done, and recorded with the effect. A definite 4xx of a forward call is a refusal, and
     recorded without it. Everything else is rolled back, and nothing is recorded.
  4. However a request ends, cancelled too, its transaction is either committed whole, or the
     connection is closed with it open, which rolls it back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aumai_transactions.errors import (
    DefinitionError,
    InvalidData,
    NotDelivered,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
)
from aumai_transactions.participants.barrier.block import Admission, barrier
from aumai_transactions.participants.barrier.calls import (
    BarrierCall,
    CallRefused,
    CallUndone,
    InvalidCall,
    KeyReused,
    StaleDriver,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Result = TypeVar("Result")

BODY_BYTES_MAX = 1024 * 1024
RESPONSE_BYTES_MAX = 256 * 1024
AT_ONCE_MAX = 64
STATE_KEY: Final = "aumai_barrier"
_READING: Final = {"GET", "HEAD", "OPTIONS", "TRACE"}
# Why these are no refusals: whoever gets one may come again with the same key.
_NOT_FINAL: Final = {408, 409, 425, 429}
_JSON: Final = "application/json"


@dataclass(slots=True, frozen=True)
class Guarded:
    """Hold what an endpoint behind the barrier works with.

    Args:
        connection: What `connect` returned, inside the barrier's transaction. Do not commit it.
        admission: What the barrier says; `is_due` is always true here.
        call: The call that the headers describe.
    """

    connection: Any
    admission: Admission
    call: BarrierCall


@dataclass(slots=True, frozen=True)
class _Response:
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


_current: ContextVar[Guarded | None] = ContextVar("aumai_barrier", default=None)


def current_barrier() -> Guarded:
    """Return what the endpoint of this request works with.

    It is reachable from the endpoint's task and from threads that asyncio starts for it; also as
    `scope["state"]["aumai_barrier"]`.

    Raises:
        LookupError: This request did not pass the barrier: it carries no `Idempotency-Key`, or
            it is a probe or a verification.
    """
    guarded = _current.get()
    if guarded is None:
        message = "this request did not pass the barrier; does it carry an Idempotency-Key?"
        raise LookupError(message)
    return guarded


class BarrierMiddleware:
    """Let each request that carries an `Idempotency-Key` act once, and never after its undo.

    Pure ASGI, for asyncio. A duplicate gets the recorded status, content type and body, and
    the header `Idempotent-Replayed: true`; a call after its undo 410; a key that comes with another
    request 422; a stale driver 412; a database that is busy 429; an undo of nothing 200 without
    running the application. Requests without the header, probes and verifications pass untouched.

    Args:
        app: The ASGI application.
        connect: Returns a connection of the participant's database, which is closed after the
            request. It is called in a thread; a connection of sqlite3 needs
            `check_same_thread=False`, for the endpoint uses it from another one.
        required: True to answer 400 to a request without the header, unless it only reads.
        body_bytes_max: How large a request may be; else 413.
        response_bytes_max: How large an answer may be; else it is rolled back, and 500.
        at_once_max: How many requests may be behind the barrier at once; others wait before it.
    """

    def __init__(
        self,
        app: Application,
        connect: Callable[[], Any],
        *,
        required: bool = False,
        body_bytes_max: int = BODY_BYTES_MAX,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
        at_once_max: int = AT_ONCE_MAX,
    ) -> None:
        import asyncio

        self._app = app
        self._connect = connect
        self._required = required
        self._body_bytes_max = body_bytes_max
        self._response_bytes_max = response_bytes_max
        self._turns = asyncio.Semaphore(at_once_max)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection of any kind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not any(name.lower() == b"idempotency-key" for name, _ in scope["headers"]):
            if self._required and scope["method"] not in _READING:
                await _send(send, _told(400, "the header Idempotency-Key is missing"))
            else:
                await self._app(scope, receive, send)
            return
        try:
            call = BarrierCall.from_headers(scope["headers"])
        except InvalidCall as error:
            await _send(send, _told(400, f"header {error}"))
            return
        if call.operation not in ("action", "compensation"):
            await self._app(scope, receive, send)
            return
        body = await _read(receive, self._body_bytes_max)
        if body is None:
            return  # The caller is gone, and nothing was begun.
        if len(body) > self._body_bytes_max:
            await _send(send, _told(413, f"the body is larger than {self._body_bytes_max:,} bytes"))
            return
        async with self._turns:
            response = await self._answer(scope, _Replaying(body, receive), call, body)
        await _send(send, response)

    async def _answer(
        self, scope: Message, receive: Receive, call: BarrierCall, body: bytes
    ) -> _Response:
        request = b"\n".join(
            (scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), body)
        )
        visit = _Visit(self._connect, call, request)
        try:
            admission = await visit.run(visit.enter)
            if not admission.is_due:
                return await visit.run(lambda: visit.leave_without_acting(admission))
            try:
                visit.check_thread()
                guarded = Guarded(visit.connection, admission, call)
                response = await self._respond(scope, receive, guarded)
            except Exception:
                # Why wait here: the caller may come again as soon as it is told of the failure.
                await visit.run(visit.drop)
                raise
            return await visit.run(lambda: visit.leave(admission, response))
        except (StepRejected, RetryLater, NotDelivered, OutcomeUnknown) as error:
            return _refusal(error)
        finally:
            visit.end()

    async def _respond(self, scope: Message, receive: Receive, guarded: Guarded) -> _Response:
        capture = _Capture(self._response_bytes_max)
        state = {**scope.get("state", {}), STATE_KEY: guarded}
        token = _current.set(guarded)
        try:
            # Why no extensions: they are ways around the messages that are recorded here.
            await self._app({**scope, "state": state, "extensions": {}}, receive, capture)
        finally:
            _current.reset(token)
        return capture.response()


class _Visit:
    """One request's connection, and the thread that it lives in."""

    def __init__(self, connect: Callable[[], Any], call: BarrierCall, request: bytes) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.connection: Any = None
        self._connect = connect
        self._call = call
        self._request = request
        self._passage: AbstractContextManager[Admission] | None = None
        self._thread: ThreadPoolExecutor = ThreadPoolExecutor(1, "aumai-barrier")

    async def run(self, job: Callable[[], Result]) -> Result:
        """Run a job in the thread. A cancelled one is not run, or run to its end."""
        import asyncio

        return await asyncio.wrap_future(self._thread.submit(job))

    def enter(self) -> Admission:
        """Connect and begin."""
        self.connection = self._connect()
        passage = barrier(self.connection, self._call, request=self._request)
        admission = passage.__enter__()
        self._passage = passage
        return admission

    def check_thread(self) -> None:
        """Refuse a connection that the endpoint could not use."""
        if type(self.connection).__module__ != "sqlite3":
            return
        try:
            self.connection.cursor().close()
        except Exception as error:
            raise DefinitionError(
                "connect() of BarrierMiddleware has to open sqlite3 with check_same_thread=False."
            ) from error

    def leave_without_acting(self, admission: Admission) -> _Response:
        """End the transaction of a call that is not due; return what it is told."""
        if not admission.is_duplicate:
            admission.answer = _recorded(_told_json(200, {"undone": False}))
        self._leave()
        return _replay(admission.answer) if admission.is_duplicate else _response(admission.answer)

    def leave(self, admission: Admission, response: _Response) -> _Response:
        """End the transaction as the response says."""
        status = response.status
        is_done = 200 <= status < 300
        if not is_done and (not 400 <= status < 500 or status in _NOT_FINAL):
            self.drop()
            return response
        try:
            admission.answer = _recorded(response)
        except InvalidData as error:
            self.drop()
            return _told(500, f"the answer cannot be recorded: {error}; nothing was done")
        if is_done:
            self._leave()
        else:
            # In an undo the barrier records no refusal, but rolls back all the same.
            self._refuse(f"answered {status}")
        return response

    def end(self) -> None:
        """Close the connection, whatever state it is in, and let the thread go; wait for nothing.

        Why close before anything else: an endpoint that was cancelled may have a thread that still
        uses the connection, and after a rollback its next statement would commit by itself.
        """
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        passage, self._passage = self._passage, None
        try:
            if self.connection is not None:
                self.connection.close()
        finally:
            if passage is not None:
                _thrown_out(passage)

    def _leave(self) -> None:
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.__exit__(None, None, None)

    def _refuse(self, reason: str) -> None:
        passage, self._passage = self._passage, None
        if passage is not None:
            refusal = StepRejected(reason)
            passage.__exit__(StepRejected, refusal, None)

    def drop(self) -> None:
        """Roll back."""
        passage, self._passage = self._passage, None
        if passage is not None:
            _thrown_out(passage)


class _Dropped(Exception):
    """Make the barrier roll back."""


def _thrown_out(passage: AbstractContextManager[Admission]) -> None:
    passage.__exit__(_Dropped, _Dropped(), None)


class _Replaying:
    """Hand the request's body to the application, then whatever comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        first, self._first = self._first, None
        return first if first is not None else await self._receive()


class _Capture:
    """Keep what the application sends, up to a limit."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._body = bytearray()
        self._start: Message | None = None
        self._is_whole = False

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self._is_whole:
            self._body += message.get("body", b"")
            if len(self._body) > self._bytes_max:
                problem = f"the answer is larger than {self._bytes_max:,} bytes, and is rolled back"
                raise ValueError(problem)
            self._is_whole = not message.get("more_body", False)
        else:
            problem = f"the application sent {kind} out of place, behind the barrier"
            raise RuntimeError(problem)

    def response(self) -> _Response:
        if self._start is None or not self._is_whole:
            problem = "the application ended without a whole answer, and is rolled back"
            raise RuntimeError(problem)
        headers = tuple((bytes(n), bytes(v)) for n, v in self._start.get("headers", ()))
        return _Response(self._start["status"], bytes(self._body), headers)


async def _read(receive: Receive, bytes_max: int) -> bytes | None:
    """Return the body, or a little more than is allowed of it; None where the caller has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > bytes_max or not message.get("more_body", False):
            return bytes(body)


async def _send(send: Send, response: _Response) -> None:
    start = {
        "type": "http.response.start",
        "status": response.status,
        "headers": list(response.headers),
    }
    await send(start)
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


# -------------------------------------------------------------------- what is told and recorded


def _refusal(error: Exception) -> _Response:
    match error:
        case CallRefused():
            if _is_response(error.answer):
                return _replay(error.answer)
            return _told(422, error.reason, _REPLAYED)
        case CallUndone():
            return _told(410, str(error))
        case KeyReused():
            return _told(422, str(error))
        case StaleDriver():
            return _told(412, str(error))
        case RetryLater(after_seconds=seconds):
            return _told(429, str(error), (b"retry-after", str(max(1, round(seconds))).encode()))
        case NotDelivered():
            return _told(503, str(error))
        case StepRejected():
            return _told(422, str(error))
        case _:
            return _told(500, str(error))


_REPLAYED: Final = (b"idempotent-replayed", b"true")


def _told(status: int, sentence: str, *headers: tuple[bytes, bytes]) -> _Response:
    return _told_json(status, {"error": sentence}, *headers)


def _told_json(status: int, body: object, *headers: tuple[bytes, bytes]) -> _Response:
    return _made(status, _JSON, json.dumps(body).encode(), headers)


def _made(
    status: int, content_type: str, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> _Response:
    own = [(b"content-length", str(len(body)).encode())]
    if content_type:
        own.append((b"content-type", content_type.encode("latin-1")))
    return _Response(status, body, (*own, *headers))


def _recorded(response: _Response) -> dict[str, Any]:
    """Return a response as JSON: what the barrier's table keeps of it."""
    content_type = next((v for n, v in response.headers if n.lower() == b"content-type"), b"")
    kept: dict[str, Any] = {
        "status": response.status,
        "content_type": content_type.decode("latin-1"),
    }
    try:
        text = response.body.decode()
    except UnicodeDecodeError:
        text = "\0"
    # Why not every text: PostgreSQL holds none with a NUL, and so no JSON value here does.
    if "\0" in text:
        kept["base64"] = base64.b64encode(response.body).decode()
    else:
        kept["text"] = text
    return kept


def _is_response(answer: object) -> bool:
    return isinstance(answer, dict) and {"status", "content_type"} < answer.keys()


def _response(answer: dict[str, Any], *headers: tuple[bytes, bytes]) -> _Response:
    body = base64.b64decode(answer["base64"]) if "base64" in answer else answer["text"].encode()
    return _made(answer["status"], answer["content_type"], body, headers)


def _replay(answer: Any) -> _Response:
    """Return what was recorded; an answer that a block of Python recorded, as JSON."""
    if _is_response(answer):
        return _response(answer, _REPLAYED)
    return _told_json(200, answer, _REPLAYED)
