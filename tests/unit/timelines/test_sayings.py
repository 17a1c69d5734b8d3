from datetime import UTC, datetime

import pytest

from aumai_transactions.timelines.sayings import answered_by, by_whom, declared_text, instant_of

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "step,text",
    [
        ({}, ""),
        ({"after": None, "pivot": False, "requires_approval": None}, ""),
        ({"after": []}, "at once"),
        ({"after": ["a", "b"]}, "after a, b"),
        ({"after": ["a"], "references": [{"step_id": "a"}, {"step_id": "c"}]}, "after a, c"),
        ({"pivot": True}, "the pivot: its success is the commit"),
        ({"on_commit": True}, "held until the commit"),
        ({"confirming_action": "settle"}, "confirmed by settle"),
        ({"requires_approval": True}, "a person must allow it"),
        (
            {"requires_approval": True, "approval_timeout_seconds": 90},
            "a person must allow it within 90 s",
        ),
        ({"undo_within_seconds": 60.0}, "can be undone for 60 s"),
        ({"after": [], "pivot": True}, "at once; the pivot: its success is the commit"),
    ],
)
def test_what_a_step_declares_is_told_in_a_few_words(step, text):
    assert declared_text(step) == text


def test_a_step_that_a_program_asks_for_needs_no_order():
    assert declared_text({"after": []}, is_planned=False) == ""
    assert declared_text({"after": ["a"]}, is_planned=False) == "after a"


def test_who_answered_and_why_is_told_as_far_as_it_is_known():
    assert by_whom({}) == ""
    assert by_whom({"by": "bob"}) == ", by bob"
    assert answered_by({"by": "bob", "note": "no"}) == ", by bob (no)"
    assert answered_by({"by": "", "note": "late"}) == ", for nobody answered in time (late)"


def test_an_instant_may_be_a_text_or_a_number():
    assert instant_of("2026-02-27T12:00:00+00:00") == NOON
    assert instant_of(int(NOON.timestamp() * 1_000_000)) == NOON
    assert instant_of(None) is None
