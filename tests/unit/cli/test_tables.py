import io

import pytest

from aumai_transactions.cli.screen import Screen
from aumai_transactions.cli.tables import table
from aumai_transactions.wording.words import Cell

HEAD = ("ID", "NAME", "NOTE")
ROWS = [
    [Cell("0d1c90a8-9eeb-4a7d-8333-ea664ac1d21d"), Cell("東京"), Cell("")],
    [Cell("1478175c-bc66-426f-8f17-8c8b2a55228e"), Cell("trip"), Cell("")],
]


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    return Screen(io.StringIO(), is_terminal=True)


def test_columns_are_aligned_by_what_a_terminal_shows():
    lines = table(
        Screen(io.StringIO()),
        ("NAME", "STATE"),
        [
            [Cell("東京"), Cell("a")],
            [Cell("trip"), Cell("b")],
        ],
    )
    assert lines == ["NAME  STATE", "東京  a", "trip  b"]


def test_an_empty_column_is_left_out():
    assert table(Screen(io.StringIO()), HEAD, ROWS)[0].split() == ["ID", "NAME"]


def test_nothing_is_shortened_where_the_terminal_is_too_narrow(narrow):
    lines = table(narrow, HEAD, ROWS)
    assert lines[0] == "0d1c90a8-9eeb-4a7d-8333-ea664ac1d21d"
    assert lines[1] == "  NAME  東京"


def test_a_column_that_is_optional_gives_way_first(narrow):
    lines = table(narrow, HEAD, ROWS, optional=("NAME",))
    assert lines[0] == "ID"
    assert lines[1] == "0d1c90a8-9eeb-4a7d-8333-ea664ac1d21d"
    assert len(lines) == 3
