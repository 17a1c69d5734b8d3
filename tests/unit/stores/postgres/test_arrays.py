"""What PostgreSQL makes of our arrays."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aumai_transactions.stores.postgres.arrays import flags, numbers, texts

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ODD = ["", "NULL", "null", '"', "\\", "{}", ",", "a b", " ", "\n", "'; --", "\\x41", '\\"', "🚂"]
once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@once
@given(st.lists(st.none() | TEXT))
def test_texts_come_back_letter_by_letter(database, values):
    found = database.execute(b"SELECT %s::text[]", [texts(values)]).fetchone()[0]
    assert found == values


@pytest.mark.parametrize("value", ODD)
def test_an_odd_text_comes_back(database, value):
    assert database.execute(b"SELECT %s::text[]", [texts([value])]).fetchone()[0] == [value]


@once
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_numbers_come_back(database, values):
    found = database.execute(b"SELECT %s::bigint[]", [numbers(values)]).fetchone()[0]
    assert found == values


def test_flags_come_back(database):
    found = database.execute(b"SELECT %s::boolean[]", [flags([True, False, True])]).fetchone()[0]
    assert found == [True, False, True]
