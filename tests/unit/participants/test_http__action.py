"""Actions over HTTP that are made in Python, without a plan file."""

import inspect
from dataclasses import replace

import pytest

from aumai_transactions.actions import ActionRegistry
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import Resource, RetryPolicy
from aumai_transactions.participants.http import HttpDefinition, http_action

from .conftest import CONTEXT, answer


def test_an_action_made_in_python_does_what_a_plan_file_says(serve_bytes):
    service = serve_bytes(answer(200, '{"id": "R1"}'))
    action = http_action(
        "reserve",
        url=f"{service.url}/{{data.flight_id}}",
        json={"who": "{data.who}"},
        headers={"X-Seat": "{data.seat}"},
        compensating_action="cancel",
        idempotent=True,
        on_unknown="ask",
        retry=RetryPolicy(attempts_max=3),
        probe={"url": service.url, "retry": RetryPolicy(attempts_max=4)},
        verify={"url": service.url, "retry": {"attempts_max": 5}},
        hosts=("127.0.0.1",),
        resources=("seat:{seat}", Resource.shared("flight:{flight_id}")),
    )
    registry = ActionRegistry()
    registry.add(action)
    callee = registry.get("reserve")
    assert callee is not None
    assert callee.context_parameter == "context"
    assert (action.compensating_action, action.idempotent, action.on_unknown) == (
        "cancel",
        True,
        "ask",
    )
    assert action.resources == ["seat:{seat}", Resource.shared("flight:{flight_id}")]
    policies = (action.retry, action.probe_retry, action.verify_retry)
    assert policies == tuple(RetryPolicy(attempts_max=n) for n in (3, 4, 5))
    assert (action.timeout_seconds, action.abandon_after_seconds) == (None, None)
    data = {"flight_id": "F1", "who": ["Ada"], "seat": 3}
    assert action.handler("reserve", data, CONTEXT) == {"id": "R1"}
    (request,) = service.requests
    assert request.line == "POST /do/it/F1 HTTP/1.1"
    assert request.body == b'{"who":["Ada"]}'


def test_an_undo_made_in_python_names_what_the_action_returned(serve_bytes, undoing):
    service = serve_bytes(answer(200, "{}"))
    cancel = http_action("cancel", url=service.url, json={"id": "{output.id}"}, idempotent=True)
    cancel.handler("cancel", {}, replace(undoing, output={"id": "R1"}))
    assert service.requests[0].body == b'{"id":"R1"}'


def test_without_options_it_is_what_a_plan_file_makes_of_a_url():
    action = http_action("reserve", url="http://h.example/")
    declared = HttpDefinition.model_validate({"kind": "http", "url": "http://h.example/"})
    assert action == declared.action("reserve")


@pytest.mark.parametrize(
    "keys,told",
    [
        ({"url": "h.example"}, "http_action 'reserve': url: must begin with http://"),
        ({"url": "http://{data.h}/"}, "url: has a brace before its path"),
        ({"url": "http://h/{id}"}, "url: holds {id}; did you mean {data.id}?"),
        ({"method": "get"}, "method: Input should be 'GET'"),
        ({"method": "GET", "json": {}}, "'reserve': has json, and GET sends no body."),
        ({"json": {"a": ["{"]}}, "json: a[1]: holds a single {"),
        ({"json": {"when": object()}}, "json: when: is of type object"),
        ({"headers": {"Host": "x"}}, "headers: header Host is set by every call itself"),
        ({"hosts": ["other.example"]}, "url calls h, which hosts does not name"),
        ({"hosts": ["h"], "probe": {"url": "http://i/"}}, "probe.url calls i, which hosts does"),
        ({"hosts": "h"}, "hosts: Input should be a valid list"),
        ({"hosts": ["http://h/"]}, 'hosts.0: "http://h/" is not a host'),
        ({"probe": {"url": "ftp://h/"}}, "probe.url: must begin with http"),
        ({"probe": {"ur": "http://h/"}}, "probe.url: Field required"),
        ({"verify": "http://h/"}, "verify: Input should be"),
        ({"retry": {"attempts_max": 0}}, "retry.attempts_max: Input should be greater"),
        ({"retry": {"attempts_max": "3"}}, "retry.attempts_max: Input should be a valid integer"),
        ({"retry": 3}, "retry: Input should be"),
        ({"probe": {"url": "http://h/", "retry": 3}}, "probe.retry: Input should be"),
        ({"resources": "seat:1"}, "resources: Input should be a valid list"),
        ({"resources": [3]}, "resources.0: "),
        ({"timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0"),
        ({"effect": "none", "compensating_action": "x"}, "Remove one of the two."),
    ],
)
def test_a_mistake_is_named_by_its_place(keys, told):
    with pytest.raises(DefinitionError) as caught:
        http_action("reserve", **{"url": "http://h/", **keys})
    assert told in str(caught.value)
    assert str(caught.value).startswith("http_action 'reserve': ")
    assert str(caught.value).endswith(".")


def test_every_key_of_a_plan_file_is_an_argument_with_the_same_default():
    parameters = inspect.signature(http_action).parameters
    for name, field in HttpDefinition.model_fields.items():
        key = field.alias or name
        if key in ("kind", "url", "headers"):
            continue
        assert parameters[key].default == field.default, key
