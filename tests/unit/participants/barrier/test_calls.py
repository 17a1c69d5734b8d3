"""Who a call is, from a context and from hostile headers."""

from dataclasses import replace
from email.message import Message
from typing import Any

import pytest

from aumai_transactions.errors import TransactionError
from aumai_transactions.participants.barrier import BarrierCall, InvalidCall
from aumai_transactions.participants.identity import step_headers

HEADERS = {
    "Idempotency-Key": "tx-1/flight/compensation",
    "Aumai-Transaction": "tx-1",
    "Aumai-Step": "flight",
    "Aumai-Operation": "compensation",
    "Aumai-Attempt": "2",
    "Aumai-Token": "7",
    "Aumai-Compensates": "tx-1/flight/action",
}
CALL = BarrierCall(
    key="tx-1/flight/compensation",
    operation="compensation",
    forward_key="tx-1/flight/action",
    transaction_id="tx-1",
    step_id="flight",
    token=7,
    attempt=2,
)


@pytest.mark.parametrize("operation", ["action", "compensation", "probe", "verification"])
@pytest.mark.parametrize("name", ["tx-1", "100% \t ä🦄\r\nSet-Cookie: x", " ", "a" * 1_000])
def test_what_our_http_action_sends_is_the_call_that_the_handler_would_see(action, operation, name):
    context = replace(
        action,
        transaction_id=name if name.strip() else "tx",
        step_id="a step / % ü",
        operation=operation,
        idempotency_key=f"{name}/s/{operation}",
        forward_key=f"{name}/s/action",
        attempt=2,
    )
    assert BarrierCall.from_headers(step_headers(context)) == BarrierCall.of(context)


def test_headers_come_in_many_shapes():
    message = Message()
    for name, value in HEADERS.items():
        message[name] = value
    shapes: list[Any] = [
        HEADERS,
        {name.lower(): value for name, value in HEADERS.items()},
        {name.upper(): f"  {value} " for name, value in HEADERS.items()},
        list(HEADERS.items()),
        [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()],
        message,
        HEADERS | {"Cookie": "\0" * 10_000, "Aumai-Unknown": "\n"},
    ]
    assert [BarrierCall.from_headers(shape) for shape in shapes] == [CALL] * len(shapes)


def test_a_caller_that_is_not_ours_needs_only_a_key():
    call = BarrierCall.from_headers({"Idempotency-Key": "8e03978e-40d5-43e8"})
    assert call == BarrierCall("8e03978e-40d5-43e8")
    assert (call.operation, call.forward_key, call.token) == ("action", call.key, 0)


def test_what_it_compensates_makes_it_a_compensation():
    headers = {"Idempotency-Key": "u", "Aumai-Compensates": "k"}
    assert BarrierCall.from_headers(headers) == BarrierCall("u", "compensation", "k")


def without(name):
    return {key: value for key, value in HEADERS.items() if key != name}


@pytest.mark.parametrize(
    "headers,name",
    [
        ({}, "Idempotency-Key"),
        (without("Idempotency-Key"), "Idempotency-Key"),
        (without("Aumai-Compensates"), "Aumai-Compensates"),
        (HEADERS | {"Idempotency-Key": ""}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "%20"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "a\0b"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "a%00b"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "a\nb"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "ä"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "%ff"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "%ed%a0%80"}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "k" * 2_021}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "k" * 1_000_000}, "Idempotency-Key"),
        (HEADERS | {"Idempotency-Key": "%6b" * 2_000}, "Idempotency-Key"),
        (HEADERS | {"Aumai-Compensates": "k" * 2_021}, "Aumai-Compensates"),
        (HEADERS | {"Aumai-Transaction": "t" * 1_001}, "transaction_id"),
        (HEADERS | {"Aumai-Operation": "undo"}, "Aumai-Operation"),
        (HEADERS | {"Aumai-Operation": "COMPENSATION"}, "Aumai-Operation"),
        (HEADERS | {"Aumai-Operation": "probe"}, "Aumai-Forward-Key"),
        *(
            (HEADERS | {name: number}, name)
            for name in ("Aumai-Token", "Aumai-Attempt")
            for number in ("-1", "1.0", "1e3", "", "x", "٣", "0x1", "1_0", "9" * 19)
        ),
        (HEADERS | {"Aumai-Attempt": "0"}, "attempt"),
        ([*HEADERS.items(), ("idempotency-key", "other")], "Idempotency-Key"),
        ([*HEADERS.items(), ("Aumai-Token", "7")], "Aumai-Token"),
    ],
)
def test_bad_headers_are_refused_by_name(headers, name):
    with pytest.raises(InvalidCall) as caught:
        BarrierCall.from_headers(headers)
    assert caught.value.name == name
    assert str(caught.value).startswith(f"{name} ")
    assert len(str(caught.value)) < 200
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TransactionError)


@pytest.mark.parametrize(
    "fields",
    [
        {"key": ""},
        {"key": None},
        {"key": "a\ud800"},
        {"key": "k", "operation": "undo"},
        {"key": "k", "forward_key": "other"},
        {"key": "k", "operation": "compensation"},
        {"key": "k", "token": -1},
        {"key": "k", "token": True},
        {"key": "k", "token": 2**63},
        {"key": "k", "attempt": 0},
        {"key": "k", "transaction_id": "a\0"},
        {"key": "k", "step_id": None},
    ],
)
def test_a_call_that_could_not_be_stored_cannot_be_made(fields):
    with pytest.raises(InvalidCall):
        BarrierCall(**fields)


def test_a_context_without_a_forward_key_still_names_the_step_that_it_undoes(action):
    context = replace(action, operation="compensation", idempotency_key="u", forward_key="")
    assert BarrierCall.of(context).forward_key == "tx-1/flight/action"
    own = replace(action, idempotency_key="my own", forward_key="")
    assert BarrierCall.of(own).forward_key == "my own"
