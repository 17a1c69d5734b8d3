"""What transactions are searched by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.labels import folded, labels_of, named_in, term, told_by

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(NAMES, max_size=4, unique=True),
    st.lists(NAMES, max_size=4, unique=True),
    st.dictionaries(NAMES, NAMES, max_size=4),
    NAMES,
)
def test_a_term_is_found_where_it_was_named_and_nowhere_else(agents, actions, metadata, asked):
    terms = labels_of("t", None, tuple(agents), tuple(actions), metadata).terms
    assert told_by(terms) == (tuple(actions), metadata or None)
    assert (term("agent", asked) in terms) is (asked in agents)
    assert (term("action", asked) in terms) is (asked in actions)
    assert (term("metadata", asked, asked) in terms) is (metadata.get(asked) == asked)
    for key, text in metadata.items():
        assert term("metadata", key, text) in terms


def test_words_are_without_case_and_do_not_run_into_each_other():
    words = labels_of("TX", "Straße\nÄ", ("Böse", "b"), ("PAY",), {"secret": "note"}).words
    for text in ("tx", "STRASSE", "ä", "böse", "pay", "straße ä"):
        assert folded(text) in words
    for text in ("böseb", "tx\nstraße", "secret", "note"):
        assert folded(text) not in words


@pytest.mark.parametrize("terms", ["\naction x\n", "\nmetadata 1 2\n", '\nmetadata "a"\n'])
def test_damaged_terms_are_refused(terms):
    with pytest.raises(ValueError, match=r"."):
        told_by(terms)


def test_what_an_older_journal_names_is_read_as_far_as_it_can_be():
    saved = b'{"kind":"plan_recorded","definition":{"steps":[{"action":"old"}]}}'
    plan = b'{"definition":{"steps":[{"action":"a"},3,{"action":1}],"metadata":{"k":"v","n":1}}}'
    added = b'{"kind":"step_added","step":{"action":"b"}}'
    damaged = [b"\xff", b"[]", b"3", b'{"definition":{"steps":7}}']
    assert named_in([saved, plan, damaged[0], added, *damaged[:3]]) == (("a", "b"), {"k": "v"})
    assert named_in(damaged) == ((), None)
