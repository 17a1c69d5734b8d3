"""A right participant keeps everything, and each duty that is left out is found by its name."""

import threading

import pytest
from tests.unit.testing.participant.shop import Shop, running

from aumai_transactions.demo.participants import PARTICIPANTS
from aumai_transactions.demo.services import Service
from aumai_transactions.testing import check_participant
from aumai_transactions.testing.participant import CannotCheck, Participant

ORDER = {"what": "a flight"}


def checked(shop, **options):
    given = {
        "undo_url": f"{shop.url}/undo",
        "data": ORDER,
        "rejected": {"what": "nothing"},
        "other": {"what": "a hotel"},
        "state_url": f"{shop.url}/state",
        "count": "standing",
        "rivals": 4,
    } | options
    return check_participant(f"{shop.url}/order", **given)


def verdicts(report):
    return {line.what: line.verdict for line in report.lines}


def test_a_right_participant_keeps_all_that_can_be_seen():
    with running(Shop()) as shop:
        report = checked(shop)
    assert report.is_sound
    unchecked = [line.promise for line in report.lines if line.verdict == "unchecked"]
    assert unchecked == ["P5", "P6"]
    assert {line.verdict for line in report.lines} == {"kept", "unchecked"}
    assert shop.standing == 0


def test_the_services_of_the_demo_keep_it_with_the_barrier(tmp_path):
    service = Service(PARTICIPANTS["flights"], tmp_path / "flights.db")
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{service.server_port}"
    try:
        report = check_participant(
            Participant(
                f"{url}/reservations",
                undo_url=f"{url}/reservations/cancel",
                data={"flight_id": "F123", "traveller": "Ada"},
                rejected={"flight_id": "F000", "traveller": "Ada"},
                other={"flight_id": "F123", "traveller": "Bob"},
                state_url=f"{url}/state",
                count="available.F123",
            )
        )
    finally:
        service.stop()
        thread.join()
    assert report.is_sound, str(report)
    assert sum(line.verdict == "kept" for line in report.lines) == len(report.lines) - 2


@pytest.mark.parametrize(
    "duty,found",
    [
        ("keys", "the same key again: one effect"),
        ("answers", "the same key again: the same answer"),
        ("lock", "the same key, 4 at once: one effect"),
        ("undoing", "an undo leaves nothing"),
        ("undoing once", "an undo again: does nothing"),
        ("answering again", "an undo again: ok"),
        ("tombstone", "a call that comes after its undo: refused"),
        ("looking first", "an undo of nothing: does nothing"),
        ("undoing nothing", "an undo of nothing: ok"),
        ("refusals", "a refusal again: still a refusal"),
        ("refusing without effect", "a refusal again: no effect"),
        ("bodies", "the same key, another body: refused"),
    ],
)
def test_a_duty_that_is_left_out_is_found(duty, found):
    with running(Shop(duty, rivals=4 if duty == "lock" else 0)) as shop:
        report = checked(shop)
    assert not report.is_sound
    assert found in [line.what for line in report.broken], str(report)


@pytest.mark.parametrize(
    "duty,found",
    [
        ("fencing", "a lower fencing token: refused"),
        ("refusing bodies", "the same key, another body: refused"),
    ],
)
def test_what_is_only_weak_is_said_to_be_and_breaks_nothing(duty, found):
    with running(Shop(duty)) as shop:
        report = checked(shop)
    assert report.is_sound
    assert [line.what for line in report.lines if line.verdict == "weak"] == [found]


def test_what_nobody_can_see_is_not_counted_as_kept():
    with running(Shop("keys")) as shop:
        report = checked(shop, state_url=None, count="", rejected=None)
    seen = verdicts(report)
    assert seen["the same key again: one effect"] == "unchecked"
    assert seen["a refusal again: still a refusal"] == "unchecked"
    # Its answers give it away: each order has another number.
    assert seen["the same key again: the same answer"] == "broken"


def test_a_count_may_come_from_a_function():
    with running(Shop()) as shop:
        report = checked(shop, state_url=None, counts=lambda: 10 - shop.standing)
    assert report.is_sound
    assert verdicts(report)["the same key again: one effect"] == "kept"


@pytest.mark.parametrize(
    "options,told",
    [
        ({"data": {"what": "nothing"}}, "not done even once"),
        ({"count": "list"}, "the count does not change"),
        ({"count": "nowhere.0"}, "'nowhere' is not there"),
        ({"count": "text"}, "is no number, list or object"),
        ({"state_url": "http://127.0.0.1:1/"}, "does not tell its state"),
        ({"undo_url": "ftp://x"}, "must begin with http"),
        ({"state_url": None, "count_command": ["no-such-program"]}, "prints no number"),
    ],
)
def test_what_cannot_be_checked_says_why_and_leaves_nothing(options, told):
    with running(Shop()) as shop:
        with pytest.raises(CannotCheck, match=told):
            checked(shop, **options)
        assert shop.standing == 0
