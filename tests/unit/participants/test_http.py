import json
import threading

import pytest
from pydantic import ValidationError

from aumai_transactions.answers import NothingToUndo
from aumai_transactions.errors import NotDelivered, OutcomeUnknown, RetryLater, StepRejected
from aumai_transactions.participants.http import HttpDefinition

from .conftest import answer


def handler_of(url, **keys):
    return HttpDefinition.model_validate({"kind": "http", "url": url, **keys}).handler()


def call(url, context, data=None, **keys):
    return handler_of(url, **keys)("reserve", {"n": 1} if data is None else data, context)


# -------------------------------------------------------------------------------- what is sent


def test_the_data_is_the_body_and_the_headers_say_which_call_it_is(serve_bytes, acting):
    service = serve_bytes(answer(200, '{"id": 5}'))
    assert call(service.url, acting, {"b": "ü", "a": [1]}) == {"id": 5}
    (request,) = service.requests
    assert request.line == "POST /do/it HTTP/1.1"
    assert request.body == '{"a":[1],"b":"ü"}'.encode()
    wanted = {
        "Host": f"127.0.0.1:{service.port}",
        "Content-Type": "application/json",
        "User-Agent": "aumai-transactions",
        "Idempotency-Key": "tx-1/flight/action",
        "Aumai-Transaction": "tx-1",
        "Aumai-Step": "flight",
        "Aumai-Operation": "action",
        "Aumai-Attempt": "1",
        "Aumai-Token": "7",
    }
    assert {name: request.headers.get(name) for name in wanted} == wanted
    assert "Aumai-Compensates" not in request.headers


def test_an_undo_names_the_key_of_what_it_undoes(serve_bytes, undoing):
    service = serve_bytes(answer(204))
    assert call(service.url, undoing) is None
    headers = service.requests[0].headers
    assert headers["Idempotency-Key"] == "tx-1/flight/compensation"
    assert headers["Aumai-Compensates"] == "tx-1/flight/action"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_get_and_delete_have_no_body(method, serve_bytes, acting):
    service = serve_bytes(answer(200, "{}"))
    call(service.url, acting, method=method)
    (request,) = service.requests
    assert request.line.startswith(method)
    assert request.body == b""
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
def test_the_other_methods_have_one(method, serve_bytes, acting):
    service = serve_bytes(answer(200, "{}"))
    call(service.url, acting, {}, method=method)
    assert service.requests[0].body == b"{}"


def test_a_secret_is_read_when_the_call_is_made(serve_bytes, acting, monkeypatch):
    service = serve_bytes(answer(200, "{}"))
    setting = {"env": "TRIP_TOKEN", "prefix": "Bearer "}
    definition = HttpDefinition.model_validate(
        {"kind": "http", "url": service.url, "headers": {"Authorization": setting, "X-Who": "me"}}
    )
    handler = definition.handler()
    monkeypatch.setenv("TRIP_TOKEN", "s3cret-value")
    handler("reserve", {}, acting)
    assert service.requests[0].headers["Authorization"] == "Bearer s3cret-value"
    assert service.requests[0].headers["X-Who"] == "me"
    assert "s3cret" not in definition.model_dump_json()


def test_a_secret_that_is_missing_or_unfit_means_that_nothing_is_sent(
    serve_bytes, acting, monkeypatch
):
    service = serve_bytes(answer(200, "{}"))
    definition = HttpDefinition.model_validate(
        {"kind": "http", "url": service.url, "headers": {"X-Key": {"env": "TRIP_TOKEN"}}}
    )
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    assert definition.problems() == ["header X-Key: environment variable TRIP_TOKEN is not set"]
    with pytest.raises(NotDelivered, match="TRIP_TOKEN is not set"):
        definition.handler()("reserve", {}, acting)
    monkeypatch.setenv("TRIP_TOKEN", "a\r\nX-Evil: 1")
    assert len(definition.problems()) == 1
    with pytest.raises(NotDelivered, match="line break"):
        definition.handler()("reserve", {}, acting)
    assert service.requests == []
    monkeypatch.setenv("TRIP_TOKEN", "fine")
    assert definition.problems() == []


def test_a_secret_that_the_service_repeats_is_not_in_the_error(serve_bytes, acting, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret-value")
    service = serve_bytes(answer(401, "bad token s3cret-value", kind="text/plain"))
    with pytest.raises(StepRejected) as caught:
        call(service.url, acting, headers={"X-Key": {"env": "TRIP_TOKEN"}})
    assert "s3cret" not in str(caught.value)
    assert "bad token •••" in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"content-length": "1"},
        {"Idempotency-Key": "mine"},
        {"Aumai-Step": "x"},
        {"aumai-anything": "x"},
        {"X Y": "x"},
        {"": "x"},
        {"X\r\nY": "x"},
        {"X": "a\nb"},
        {"X": "ü"},
        {"X": " a"},
        {"X": "a", "x": "b"},
        {"X": {"env": "A B"}},
        {"X": {"env": "A", "prefix": "\n"}},
        {"X": {"env": "A", "default": "x"}},
        {"X": 5},
    ],
)
def test_a_header_that_is_not_safe_is_refused(headers):
    with pytest.raises(ValidationError):
        handler_of("http://a.example/", headers=headers)


# ------------------------------------------------------------------------- what an answer means


@pytest.mark.parametrize(
    "content,output",
    [
        (answer(200, '{"id": 1}'), {"id": 1}),
        (answer(201, "[1, 2]"), [1, 2]),
        (answer(202, '"queued"'), "queued"),
        (answer(200, "null"), None),
        (answer(200, '{"id": 1}', kind=""), {"id": 1}),
        (answer(200, "{}", kind="application/problem+json; charset=utf-8"), {}),
        (answer(200, '{"id": 1}', kind="text/html"), {"id": 1}),
        (answer(200, "17", kind="text/plain"), 17),
        (answer(200, "reserved\n", kind="text/plain; charset=utf-8"), "reserved\n"),
        (answer(200, "NaN", kind="text/plain"), "NaN"),
        (answer(200), None),
        (answer(200, " \r\n", kind="text/html"), None),
        (answer(204), None),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", {}),
        (answer(200, b"\xef\xbb\xbf{}"), {}),
    ],
)
def test_a_well_formed_2xx_is_done(content, output, serve_bytes, acting):
    assert call(serve_bytes(content).url, acting) == output


@pytest.mark.parametrize(
    "content",
    [
        answer(200, "<html>please log in</html>", kind="text/html"),
        answer(200, "oops"),
        answer(200, "oops", kind=""),
        answer(200, '{"id": '),
        answer(200, "NaN"),
        answer(200, b"\xff\xfe\x00"),
        answer(200, "[" * 100_000),
        answer(200, "9" * 5_000),
        answer(200, b"\x1f\x8b\x08gzip", "Content-Encoding: gzip"),
        answer(200, "x" * 2_000_000, kind="text/plain"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        *(answer(status, "{}") for status in (300, 301, 302, 303, 304, 307, 308)),
        *(answer(status, "{}") for status in (408, 409, 425)),
        *(answer(status, "ok", kind="text/plain") for status in (500, 501, 502, 503, 504, 599)),
        answer(503, "{}", "Retry-After: 5"),
        answer(999, "{}"),
        b"",
        b"nonsense\r\n\r\n",
    ],
)
@pytest.mark.parametrize("operation", ["acting", "undoing"])
def test_an_answer_that_is_none_leaves_the_outcome_unknown(
    content, operation, serve_bytes, request
):
    service = serve_bytes(content)
    with pytest.raises(OutcomeUnknown, match=r"POST http://127\.0\.0\.1:\d+/do/it"):
        call(service.url, request.getfixturevalue(operation))
    assert len(service.requests) == 1


def test_no_redirect_is_followed(serve_bytes, acting):
    other = serve_bytes(answer(200, "{}"))
    service = serve_bytes(answer(307, "", f"Location: {other.url}"))
    with pytest.raises(OutcomeUnknown, match="answered 307"):
        call(service.url, acting)
    assert other.requests == []


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 411, 413, 418, 422, 499])
def test_the_other_4xx_are_not_done(status, serve_bytes, acting):
    with pytest.raises(StepRejected, match=f"answered {status} Because: no"):
        call(serve_bytes(answer(status, "no", kind="text/plain")).url, acting)


def test_a_4xx_is_not_done_however_broken_its_body_is(serve_bytes, acting):
    with pytest.raises(StepRejected, match="answered 402"):
        call(serve_bytes(b"HTTP/1.1 402 No\r\nContent-Length: 99\r\n\r\n{").url, acting)


def test_nobody_there_says_nothing_about_an_earlier_call(acting):
    with pytest.raises(NotDelivered, match="was not sent: ConnectionRefusedError"):
        call("http://127.0.0.1:1/", acting)


def test_a_name_that_does_not_exist_says_nothing_about_an_earlier_call(acting):
    with pytest.raises(NotDelivered, match="cannot be resolved"):
        call("http://nowhere.invalid/", acting)


def test_a_timeout_after_sending_leaves_the_outcome_unknown(serve, acting):
    hold = threading.Event()
    service = serve(lambda *_: hold.wait(10))
    try:
        with pytest.raises(OutcomeUnknown, match="its answer was lost"):
            call(service.url, acting, timeout_seconds=0.2)
    finally:
        hold.set()


@pytest.mark.parametrize(
    "header,seconds",
    [
        ("Retry-After: 7", 7),
        ("Retry-After: 0", 0),
        ("Retry-After: 999999", 3600),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Retry-After: soon", 1),
        ("X: y", 1),
    ],
)
def test_too_many_requests_is_not_done_and_says_when(header, seconds, serve_bytes, acting):
    with pytest.raises(RetryLater, match="answered 429") as caught:
        call(serve_bytes(answer(429, "slow down", header, kind="text/plain")).url, acting)
    assert caught.value.after_seconds == seconds


@pytest.mark.parametrize(
    "content,seconds",
    [
        (answer(503, "{}", "Retry-After: 5"), 5),
        (answer(500, "{}", "Retry-After: soon"), 1),
        (answer(409, "{}", "Retry-After: 999999"), 3600),
        (answer(503, "{}"), None),
        (answer(200, "oops", "Retry-After: 5"), None),
        (b"", None),
    ],
)
def test_who_may_have_begun_can_only_set_the_time(content, seconds, serve_bytes, acting):
    with pytest.raises(OutcomeUnknown) as caught:
        call(serve_bytes(content).url, acting)
    assert caught.value.after_seconds == seconds


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_need_not_be_undone(status, serve_bytes, acting, undoing):
    service = serve_bytes(answer(status, "gone", kind="text/plain"))
    assert call(service.url, undoing) == NothingToUndo(f"answered {status} Because")
    with pytest.raises(StepRejected):
        call(service.url, undoing, missing="fail")
    with pytest.raises(StepRejected):
        call(service.url, acting)


# ------------------------------------------------------------------------------ what errors say


@pytest.mark.parametrize(
    "content,told",
    [
        (answer(402, "\n\n  first \nsecond", kind="text/plain"), "402 Because: first"),
        (answer(402, '{"detail": "card declined", "title": "x"}'), ": card declined"),
        (answer(402, '{"error": "card declined"}'), ": card declined"),
        (answer(402, '{\n  "code": 7\n}'), ': {"code": 7}'),
        (answer(402, "{broken"), ": {broken"),
        (answer(402), "402 Because"),
        (answer(402, "\x1b[2J\x07\u202e\x85 hi", kind=""), r"\x1b[2J\x07\u202e\x85 hi"),
    ],
)
def test_an_error_says_what_the_service_said(content, told, serve_bytes, acting):
    with pytest.raises(StepRejected) as caught:
        call(serve_bytes(content).url, acting)
    assert str(caught.value).endswith(told)
    assert str(caught.value).isprintable()


def test_an_error_is_bounded_and_shows_no_query(serve_bytes, acting):
    service = serve_bytes(answer(402, "x" * 100_000, kind="text/plain"))
    with pytest.raises(StepRejected) as caught:
        call(f"{service.url}?key=secret", acting)
    assert service.requests[0].line == "POST /do/it?key=secret HTTP/1.1"
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_hostile_reason_phrase_is_escaped(serve_bytes, acting):
    content = b"HTTP/1.1 418 \x1b]0;owned\x07" + b"z" * 5000 + b"\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(StepRejected) as caught:
        call(serve_bytes(content).url, acting)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_an_output_that_is_valid_json_is_returned_however_deep(serve_bytes, acting):
    deep = "[" * 100 + "]" * 100
    assert call(serve_bytes(answer(200, deep)).url, acting) == json.loads(deep)
