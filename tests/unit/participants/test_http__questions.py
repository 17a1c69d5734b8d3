"""Probes and verifications over HTTP."""

import threading
from dataclasses import replace

import pytest
from pydantic import ValidationError

from aumai_transactions.answers import Clean, Done, NotDone, Residue, Unknown
from aumai_transactions.participants.http import HttpDefinition

from .conftest import CONTEXT, answer

PROBING = replace(
    CONTEXT,
    operation="probe",
    idempotency_key="tx-1/flight/probe",
    forward_key="tx-1/flight/action",
)
VERIFYING = replace(PROBING, operation="verification", idempotency_key="tx-1/flight/verification")


def action_of(**keys):
    return HttpDefinition.model_validate(
        {"kind": "http", "url": "http://h.example/", **keys}
    ).action("reserve")


def probe(url, data=None, context=PROBING, **keys):
    handler = action_of(probe={"url": url, **keys}).probe
    assert handler is not None
    return handler({"n": 1} if data is None else data, context)


def verify(url, data=None, context=VERIFYING, **keys):
    handler = action_of(verify={"url": url, **keys}).verify
    assert handler is not None
    return handler({"n": 1} if data is None else data, context)


def test_a_probe_asks_by_get_and_says_which_call_it_is_about(serve_bytes):
    service = serve_bytes(answer(200, '{"id": 5}'))
    assert probe(f"{service.url}?key={{forward_key}}") == Done({"id": 5})
    (request,) = service.requests
    assert request.line == "GET /do/it?key=tx-1%2Fflight%2Faction HTTP/1.1"
    assert request.body == b""
    wanted = {
        "Idempotency-Key": "tx-1/flight/probe",
        "Aumai-Forward-Key": "tx-1/flight/action",
        "Aumai-Operation": "probe",
    }
    assert {name: request.headers.get(name) for name in wanted} == wanted
    assert "Aumai-Compensates" not in request.headers


def test_a_probe_may_ask_by_post_with_a_body_of_its_own(serve_bytes, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret-value")
    service = serve_bytes(answer(200, "{}"))
    keys = {
        "method": "POST",
        "json": {"find": "{forward_key}", "n": "{data.n}"},
        "headers": {"X-Key": {"env": "TRIP_TOKEN"}},
    }
    assert probe(service.url, **keys) == Done({})
    (request,) = service.requests
    assert request.body == b'{"find":"tx-1/flight/action","n":1}'
    assert request.headers["X-Key"] == "s3cret-value"


@pytest.mark.parametrize(
    "content,output",
    [(answer(200, "[1]"), [1]), (answer(204), None), (answer(202, '"R-1"'), "R-1")],
)
def test_a_2xx_is_done_and_its_body_is_the_output(content, output, serve_bytes):
    assert probe(serve_bytes(content).url) == Done(output)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_known_yet_may_still_come_unless_the_author_says_otherwise(status, serve_bytes):
    service = serve_bytes(answer(status, "no such key", kind="text/plain"))
    why = f"GET {service.url} answered {status} Because: no such key"
    assert probe(service.url) == Unknown(why)
    assert probe(service.url, missing="unknown") == Unknown(why)
    assert probe(service.url, missing="not_done") == NotDone(why)


NO_ANSWERS = [
    answer(200, "<html>", kind="text/html"),
    answer(200, '{"id": '),
    answer(302, "", "Location: http://127.0.0.1:1/"),
    answer(400, "bad"),
    answer(401, "who?"),
    answer(409, "wait"),
    answer(429, "slow", "Retry-After: 5"),
    answer(500, "oops"),
    b"",
    b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("content", NO_ANSWERS)
@pytest.mark.parametrize("missing", ["unknown", "not_done"])
def test_every_other_answer_of_a_probe_is_no_answer(content, missing, serve_bytes):
    service = serve_bytes(content)
    found = probe(service.url, missing=missing)
    assert isinstance(found, Unknown)
    assert found.why.startswith(f"GET {service.url} ")
    assert len(service.requests) == 1


@pytest.mark.parametrize("content", NO_ANSWERS)
def test_every_other_answer_of_a_verification_is_no_answer(content, serve_bytes):
    found = verify(serve_bytes(content).url)
    assert isinstance(found, Unknown)


@pytest.mark.parametrize("ask", [probe, verify])
def test_what_cannot_be_asked_is_not_known(ask, serve, monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    lacking = ask("http://127.0.0.1:1/", headers={"X": {"env": "TRIP_TOKEN"}})
    assert isinstance(lacking, Unknown)
    assert "TRIP_TOKEN is not set" in lacking.why
    for url, told in [
        ("http://127.0.0.1:1/", "was not sent: ConnectionRefusedError"),
        ("http://127.0.0.1:1/{data.gone}", "{data.gone} leads to nothing"),
        ("http://127.0.0.1:1/{output.id}", "{output.id} leads to nothing"),
    ]:
        found = ask(url)
        assert isinstance(found, Unknown)
        assert told in found.why
    hold = threading.Event()
    service = serve(lambda *_: hold.wait(10))
    try:
        lost = ask(service.url, timeout_seconds=0.2)
    finally:
        hold.set()
    assert isinstance(lost, Unknown)
    assert "its answer was lost" in lost.why


@pytest.mark.parametrize("ask", [probe, verify])
def test_a_secret_that_the_service_repeats_is_not_in_the_answer(ask, serve_bytes, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret-value")
    service = serve_bytes(answer(500, "bad token s3cret-value", kind="text/plain"))
    found = ask(service.url, headers={"X-Key": {"env": "TRIP_TOKEN"}})
    assert found == Unknown(f"GET {service.url} answered 500 Because: bad token •••")


@pytest.mark.parametrize("status", [404, 410])
def test_a_verification_that_finds_nothing_is_clean(status, serve_bytes):
    assert verify(serve_bytes(answer(status, "gone")).url) == Clean()


def test_a_verification_that_finds_something_says_what_is_left(serve_bytes):
    service = serve_bytes(answer(200, '{"id": 5, "state": "held"}'))
    context = replace(VERIFYING, output={"id": 5})
    assert verify(f"{service.url}/{{output.id}}", {}, context) == Residue(
        {"id": 5, "state": "held"}
    )
    (request,) = service.requests
    assert request.line == "GET /do/it/5 HTTP/1.1"
    assert request.headers["Aumai-Forward-Key"] == "tx-1/flight/action"
    assert request.headers["Aumai-Operation"] == "verification"


def test_without_questions_nobody_is_asked():
    action = action_of()
    assert (action.probe, action.verify) == (None, None)


@pytest.mark.parametrize(
    "keys,told",
    [
        ({"probe": {}}, "probe.url"),
        ({"probe": {"url": "ftp://h/"}}, "must begin with http"),
        ({"probe": {"url": "http://h/", "method": "DELETE"}}, "GET"),
        ({"probe": {"url": "http://h/", "json": {}}}, "GET sends no body"),
        ({"probe": {"url": "http://h/", "missing": "ok"}}, "unknown"),
        ({"probe": {"url": "http://h/", "probe": {}}}, "probe.probe"),
        ({"probe": {"url": "http://h/", "idempotent": True}}, "probe.idempotent"),
        ({"verify": {"url": "http://h/", "missing": "not_done"}}, "verify.missing"),
        ({"verify": {"url": "http://h/{id}"}}, "did you mean {data.id}?"),
        ({"probe": {"url": "http://h/", "headers": {"Host": "x"}}}, "is set by every call itself"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(keys, told):
    with pytest.raises(ValidationError) as caught:
        action_of(**keys)
    assert told in str(caught.value)


def test_what_questions_lack_is_known_before_anything_runs(monkeypatch):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    question = {"url": "http://h/", "headers": {"X": {"env": "TRIP_TOKEN"}}}
    definition = HttpDefinition.model_validate(
        {"kind": "http", "url": "http://h/", "probe": question, "verify": question}
    )
    assert definition.problems() == [
        "probe: header X: environment variable TRIP_TOKEN is not set",
        "verify: header X: environment variable TRIP_TOKEN is not set",
    ]
    assert list(definition.targets()) == ["url", "probe.url", "verify.url"]
