from dataclasses import replace

import pytest

from aumai_transactions.participants.barrier import BarrierCall, InvalidCall
from aumai_transactions.participants.identity import (
    STEP_VARIABLES,
    forward_key_of,
    step_headers,
    step_variables,
)


def test_what_is_not_visible_ascii_in_an_id_is_percent_encoded(acting):
    hostile = replace(acting, step_id="zug\r\nX: 1", idempotency_key="tx/Zü rich%/action")
    headers = step_headers(hostile)
    assert headers["Aumai-Step"] == "zug%0D%0AX:%201"
    assert headers["Idempotency-Key"] == "tx/Z%C3%BC%20rich%25/action"
    assert all(text.isascii() and text.isprintable() for text in headers.values())


def test_every_operation_names_its_own_key_and_what_it_is_about(acting, undoing):
    assert "Aumai-Forward-Key" not in step_headers(acting) | step_headers(undoing)
    assert step_headers(undoing)["Aumai-Compensates"] == "tx-1/flight/action"
    for operation in ("probe", "verification"):
        key = f"tx-1/flight/{operation}"
        asking = replace(acting, operation=operation, idempotency_key=key)
        headers, variables = step_headers(asking), step_variables(asking)
        assert headers["Idempotency-Key"] == variables["AUMAI_IDEMPOTENCY_KEY"] == key
        assert headers["Aumai-Forward-Key"] == variables["AUMAI_FORWARD_KEY"]
        assert headers["Aumai-Forward-Key"] == "tx-1/flight/action"
        assert headers["Aumai-Operation"] == variables["AUMAI_OPERATION"] == operation
        assert "Aumai-Compensates" not in headers


def test_a_question_says_how_many_attempts_it_is_about(acting):
    asking = replace(acting, operation="probe", forward_attempt=3)
    assert step_headers(asking)["Aumai-Forward-Attempt"] == "3"
    assert step_variables(asking)["AUMAI_FORWARD_ATTEMPT"] == "3"
    assert "Aumai-Forward-Attempt" not in step_headers(acting)


def test_the_forward_key_is_the_one_that_the_driver_says(acting):
    assert forward_key_of(acting) == "tx-1/flight/action"
    assert forward_key_of(replace(acting, forward_key="other")) == "other"


@pytest.mark.parametrize("operation", ["action", "compensation", "probe", "verification"])
def test_every_variable_is_one_that_no_action_may_set(operation, acting):
    assert set(step_variables(replace(acting, operation=operation))) <= set(STEP_VARIABLES)


def test_the_tokens_of_what_it_uses_travel_with_every_call(acting, undoing):
    assert "Aumai-Resources" not in step_headers(acting)
    assert "AUMAI_RESOURCES" not in step_variables(acting)
    for call in (acting, undoing):
        using = replace(call, resources={"rate:\u20ac": 7, "account:42": 3})
        assert step_variables(using)["AUMAI_RESOURCES"] == '{"account:42":3,"rate:\u20ac":7}'
        header = step_headers(using)["Aumai-Resources"]
        assert header == '{"account:42":3,"rate:%E2%82%AC":7}'
        call_there = BarrierCall.from_headers(step_headers(using))
        assert call_there.resources == {"account:42": 3, "rate:\u20ac": 7}
        assert BarrierCall.of(using).resources == call_there.resources


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{", '{"a":0}', '{"a":-1}', '{"a":"1"}', "[" * 900]
)
def test_tokens_that_are_none_are_refused_by_name(text):
    with pytest.raises(InvalidCall, match="Aumai-Resources"):
        BarrierCall.from_headers({"Idempotency-Key": "k", "Aumai-Resources": text})


def test_tokens_that_are_too_many_are_refused_by_name():
    with pytest.raises(InvalidCall, match="longer than 8,000"):
        BarrierCall.from_headers({"Idempotency-Key": "k", "Aumai-Resources": "x" * 8_001})
