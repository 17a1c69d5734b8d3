import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aumai_transactions.errors import NotDelivered, StepRejected
from aumai_transactions.participants.identity import step_headers
from aumai_transactions.participants.request import (
    HEADER_CHARACTERS_MAX,
    RequestTable,
    RequestTemplate,
)

from .conftest import CONTEXT, answer


def template_of(url, **keys):
    return RequestTemplate.of(RequestTable.model_validate({"url": url, **keys}))


def send(url, context, data, **keys):
    return template_of(url, **keys).delivered(data, context)


# ------------------------------------------------------------------------------ what is sent


def test_values_stand_where_the_author_refers_to_them(serve_bytes, acting):
    service = serve_bytes(answer(200, "{}"))
    data = {"flight_id": "F 1", "seat": 12, "who": {"name": "Ada ü"}, "note": "{data.seat}"}
    send(
        f"{service.url}/{{data.flight_id}}?seat={{data.seat}}",
        acting,
        data,
        method="PUT",
        headers={"X-Seat": "no {data.seat}", "X-Braces": "{{}}"},
        json={"who": "{data.who}", "note": "{data.note}", "text": "seat {data.seat}"},
    )
    (request,) = service.requests
    assert request.line == "PUT /do/it/F%201?seat=12 HTTP/1.1"
    assert request.headers["X-Seat"] == "no 12"
    assert request.headers["X-Braces"] == "{}"
    assert json.loads(request.body) == {
        "who": {"name": "Ada ü"},
        "note": "{data.seat}",
        "text": "seat 12",
    }


def test_an_undo_can_name_what_the_action_returned(serve_bytes, undoing):
    service = serve_bytes(answer(200, "{}"))
    context = replace(undoing, output={"id": "R/17", "total": 8.5})
    send(
        f"{service.url}?id={{output.id}}",
        context,
        {},
        json={"id": "{output.id}", "all": "{output}", "of": "{forward_key}", "as": "{key}"},
    )
    (request,) = service.requests
    assert request.line == "POST /do/it?id=R%2F17 HTTP/1.1"
    assert json.loads(request.body) == {
        "id": "R/17",
        "all": {"id": "R/17", "total": 8.5},
        "of": "tx-1/flight/action",
        "as": "tx-1/flight/compensation",
    }


@pytest.mark.parametrize("body", [0, False, "", [], {}])
def test_a_body_that_is_nothing_much_is_sent_all_the_same(body, serve_bytes, acting):
    service = serve_bytes(answer(200, "{}"))
    send(service.url, acting, {"n": 1}, json=body)
    assert json.loads(service.requests[0].body) == body


def test_one_template_serves_many_calls(serve_bytes, acting):
    service = serve_bytes(answer(200, "{}"))
    template = template_of(service.url, json=["{data.x}"], headers={"X-X": "{data.x}"})
    for x in ("a", "b"):
        template.delivered({"x": x}, acting)
    assert [json.loads(request.body) for request in service.requests] == [["a"], ["b"]]
    assert [request.headers["X-X"] for request in service.requests] == ["a", "b"]


# ------------------------------------------------------------------------ what is never sent


@pytest.mark.parametrize(
    "keys,data,told",
    [
        ({"url": "/{data.id}"}, {}, "{data.id} leads to nothing"),
        ({"url": "/{data.id}"}, {"id": "../admin"}, "{data.id} holds a /"),
        ({"url": "/{data.id}"}, {"id": ".."}, '{data.id} makes a part of the path "." or ".."'),
        ({"url": "?q={data.id}"}, {"id": None}, "{data.id} is null"),
        ({"headers": {"X": "{data.id}"}}, {"id": "a\r\nX-Evil: 1"}, "{data.id} holds a line break"),
        ({"headers": {"X": "{data.id}"}}, {"id": "a\0"}, "{data.id} holds a line break"),
        ({"headers": {"X": "{data.id}"}}, {"id": "ü"}, "a letter outside ASCII"),
        ({"headers": {"X": "a {data.id}"}}, {"id": " b"}, "{data.id} begins or ends with a space"),
        ({"headers": {"X": "{data.id} b"}}, {"id": "a "}, "{data.id} begins or ends with a space"),
        ({"headers": {"X": "{data.id}"}}, {"id": ""}, "{data.id} is empty"),
        ({"headers": {"X": "{data.id}"}}, {"id": ["a"]}, "{data.id} is a list"),
        ({"headers": {"X": "{data.id}"}}, {"id": "x" * (HEADER_CHARACTERS_MAX + 1)}, "longer than"),
        ({"json": {"a": "{data.id}"}}, {}, "{data.id} leads to nothing"),
        ({"json": {"a": "x{data.id}"}}, {"id": None}, "{data.id} is null"),
        ({"json": {"a": "x{data.id}"}}, {"id": {}}, "{data.id} is an object"),
        ({"json": {"a": "{output.id}"}}, {}, "{output.id} is known only in an undo"),
        ({"json": {"a": "{data.id}"}}, {"id": "\ud800"}, "cannot be written as JSON"),
        ({}, {"id": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_a_value_that_cannot_be_sent_is_rejected_before_anything_leaves(
    keys, data, told, serve_bytes, acting
):
    service = serve_bytes(answer(200, "{}"))
    url = service.url + keys.get("url", "")
    with pytest.raises(StepRejected, match="was not sent") as caught:
        send(url, acting, data, **{key: keys[key] for key in keys if key != "url"})
    assert told in str(caught.value)
    assert str(caught.value).isprintable()
    assert service.requests == []


def test_a_later_attempt_that_cannot_be_sent_says_nothing_about_an_earlier_one(acting):
    with pytest.raises(NotDelivered, match="leads to nothing"):
        send("http://127.0.0.1:1/{data.id}", replace(acting, attempt=2), {})


def test_a_message_does_not_show_the_value(acting):
    with pytest.raises(StepRejected) as caught:
        send("http://h.example/x/{data.id}?q={data.id}", acting, {"id": "secret/value"})
    assert str(caught.value).startswith("POST http://h.example/x/{data.id} was not sent: {data")
    assert "secret" not in str(caught.value)


def test_a_long_path_does_not_flood_a_message(acting):
    with pytest.raises(NotDelivered) as caught:
        send("http://127.0.0.1:1/{data.id}", acting, {"id": "x" * 3_000})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "keys,told",
    [
        ({"method": "GET", "json": {}}, "has json, and GET sends no body"),
        ({"method": "DELETE", "json": 0}, "has json, and DELETE sends no body"),
        ({"url": "http://{data.h}/"}, "scheme, host and port are fixed"),
        ({"url": "http://h/{id}"}, "did you mean {data.id}?"),
        ({"headers": {"X": "{id}"}}, "header X holds {id}; did you mean {data.id}?"),
        ({"headers": {"X": "{data}"}}, "header X holds {data}, which is an object"),
        ({"headers": {"X": " {data.id}"}}, "begins or ends with a space"),
        ({"headers": {"X": "ü{data.id}"}}, "outside ASCII"),
        ({"headers": {"{data.name}": "x"}}, "is not the name of a header"),
        ({"headers": {"Idempotency-Key": "{data.id}"}}, "is set by every call itself"),
        ({"headers": {"aumai-token": "{data.id}"}}, "is set by every call itself"),
        ({"headers": {"Content-Length": "{data.id}"}}, "is set by every call itself"),
        ({"json": {"a": [{"b": "{"}]}}, "a[1].b: holds a single {"),
        ({"json": {"a": float("nan")}}, "a: nan is not a JSON number"),
        ({"json": {"a": {1}}}, "a: is of type set"),
    ],
)
def test_a_request_that_cannot_be_is_refused_when_it_is_declared(keys, told):
    with pytest.raises(ValidationError) as caught:
        RequestTable.model_validate({"url": "http://h/", **keys})
    assert told in str(caught.value)


def test_a_secret_is_never_looked_at_for_references(serve_bytes, acting, monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "{data.id}{{")
    service = serve_bytes(answer(200, "{}"))
    setting = {"env": "TRIP_TOKEN", "prefix": "{x} "}
    delivered = send(service.url, acting, {"id": "F1"}, headers={"X-Key": setting})
    assert service.requests[0].headers["X-Key"] == "{x} {data.id}{{"
    assert delivered.secrets == ("{data.id}{{",)
    assert delivered.told("said {data.id}{{") == f"POST {service.url} said •••"


HOSTILE = st.text() | st.text(alphabet="\r\n:/.?#&% {}=ü\tX") | st.integers() | st.booleans()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(value=HOSTILE)
def test_no_value_can_change_another_part_of_the_request(value, serve_once):
    service = serve_once
    service.requests.clear()
    data = {"v": value}
    keys = {
        "headers": {"X-Before": "b", "X-Value": "<{data.v}>", "X-After": "a"},
        "json": {"before": 1, "v": "{data.v}", "after": "x{data.v}"},
    }
    url = f"{service.url}/{{data.v}}/end?a={{data.v}}&b=c"
    try:
        send(url, CONTEXT, data, **keys)
    except StepRejected:
        assert service.requests == []
        return
    (request,) = service.requests
    method, request_target, version = request.line.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    path, _, query = request_target.partition("?")
    assert [*path.split("/")[:3], path.split("/")[4]] == ["", "do", "it", "end"]
    assert len(path.split("/")) == 5
    assert [part.partition("=")[0] for part in query.split("&")] == ["a", "b"]
    ours = {*step_headers(CONTEXT), "Host", "Connection", "Accept", "User-Agent"}
    sent = {"Content-Type", "Content-Length", "Accept-Encoding", "X-Before", "X-Value", "X-After"}
    assert set(request.headers) == ours | sent
    assert request.headers["Host"] == f"127.0.0.1:{service.port}"
    assert (request.headers["X-Before"], request.headers["X-After"]) == ("b", "a")
    body = json.loads(request.body)
    assert (body["before"], body["v"], list(body)) == (1, value, ["after", "before", "v"])
