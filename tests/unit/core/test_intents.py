"""How a step that was asked for before is found again."""
# mypy: disable-error-code="arg-type, call-arg"

import pytest

from aumai_transactions.core.intents import CHARACTERS, intent_of, named_intent, occurrences

ASKED = ("agent", ("trip", "hotel"), "book", {"room": 1, "note": "x"}, None)


def changed(place, value):
    return intent_of(*ASKED[:place], value, *ASKED[place + 1 :])


def test_an_intent_never_changes():
    assert intent_of(*ASKED) == "ec0cdf6f5083d99c6265ac6f11981f41"
    assert len(intent_of(*ASKED)) == CHARACTERS


@pytest.mark.parametrize(
    "place,value",
    [
        (0, "other"),
        (1, ("trip",)),
        (1, ("hotel", "trip")),
        (1, ()),
        (2, "cancel"),
        (3, {"room": 2, "note": "x"}),
        (3, {"room": True, "note": "x"}),
        (3, {"room": 1.0, "note": "x"}),
        (3, {}),
        (4, ("room",)),
    ],
    ids=str,
)
def test_who_where_what_and_with_what_make_an_intent(place, value):
    assert changed(place, value) != intent_of(*ASKED)


def test_the_order_of_keys_does_not_matter():
    assert changed(3, {"note": "x", "room": 1}) == intent_of(*ASKED)


def test_only_the_keys_that_identify_it_count_where_they_are_named():
    one = intent_of("a", (), "book", {"room": 1, "note": "x"}, ("room",))
    assert one == intent_of("a", (), "book", {"room": 1, "note": "y"}, ("room",))
    assert one != intent_of("a", (), "book", {"room": 2, "note": "x"}, ("room",))


def test_a_named_intent_does_not_depend_on_what_is_done():
    assert named_intent("a", ("g",), "the hotel") == named_intent("a", ["g"], "the hotel")
    assert named_intent("a", ("g",), "the hotel") != named_intent("b", ("g",), "the hotel")
    assert named_intent("a", ("g",), "book") != intent_of("a", ("g",), "book", {}, None)


def test_what_succeeded_or_is_in_doubt_counts_and_what_failed_or_was_undone_does_not(program):
    options = {"intent": "i1", "on_unknown": "ask"}
    tx = program().did("done", **options).ask("doubt", **options).raised("doubt", "in_doubt")
    tx.ask("no", **options).raised("no").did("gone", **options).undo("gone").returned("gone")
    tx.did("kept", compensating_action=None, **options).undo("kept")
    tx.did("other", intent="i2").did("again", **options)
    assert [step.step_id for step in occurrences(tx.saga, "i1")] == ["done", "doubt", "again"]
    assert list(occurrences(tx.saga, "i3")) == []
