import pytest

from aumai_transactions.participants.exchange import Answer
from aumai_transactions.participants.response import (
    Refusal,
    is_not_there,
    output_of,
    retry_after_seconds,
    status_of,
    told_by,
)


def answer_of(status, body=b"", kind="application/json", **headers):
    return Answer(status, "Because", {"content-type": kind, **headers}, body)


@pytest.mark.parametrize(
    "value,seconds",
    [
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:01:40 -0000", 60),
        ("Thu, 01 Jan 9999 00:00:00 GMT", 3600),
        ("Thu, 01 Jan 99999 00:00:00 GMT", 1),
        ("-5", 1),
        ("1.5", 1),
        ("٣", 1),
        ("", 1),
        (None, 1),
    ],
)
def test_retry_after_is_read_within_bounds(value, seconds):
    assert retry_after_seconds(value, 40.0) == seconds


@pytest.mark.parametrize(
    "status,meaning",
    [
        *((status, "not_done") for status in (400, 404, 410, 422, 499)),
        *((status, "in_doubt") for status in (100, 199, 302, 408, 409, 425, 500, 503, 999)),
        (429, "later"),
    ],
)
def test_each_answer_that_is_no_2xx_has_one_meaning(status, meaning):
    with pytest.raises(Refusal) as caught:
        output_of(answer_of(status))
    assert caught.value.meaning == meaning


def test_an_answer_is_quoted_by_status_and_first_line():
    assert status_of(answer_of(404)) == "answered 404 Because"
    assert told_by(answer_of(409, b'{"message": "taken"}')) == "answered 409 Because: taken"
    assert [is_not_there(answer_of(status)) for status in (200, 404, 410, 400)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_2xx_that_is_damaged_is_no_output():
    with pytest.raises(Refusal, match="but it broke") as caught:
        output_of(Answer(200, "OK", {}, b"{}", "it broke"))
    assert caught.value.meaning == "in_doubt"
