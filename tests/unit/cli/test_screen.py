import io
import os

import pytest

from aumai_transactions.cli.screen import Screen, clipped, columns_of, wants_colour
from aumai_transactions.wording.characters import shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("plain text", "plain text"),
        ("Zürich 東京", "Zürich 東京"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("\udcff", r"\udcff"),
        ("nul\0", r"nul\x00"),
    ],
)
def test_text_from_outside_cannot_steer_a_terminal(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    "variables,is_terminal,expected",
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colour_is_a_question_of_terminal_and_environment(
    variables, is_terminal, expected, monkeypatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(Terminal() if is_terminal else io.StringIO()) is expected


def test_wide_characters_take_two_columns_and_accents_none():
    assert columns_of("東京") == 4
    assert columns_of("e\u0301") == 1


def test_a_text_is_clipped_to_columns_not_to_characters():
    assert clipped("東京都", 5) == "東京…"
    assert clipped("trip", 4) == "trip"


def test_a_reader_that_left_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        screen = Screen.of(stream)
        screen.say("nobody reads this")
        screen.say("nor this")
    assert not screen.problem


def test_a_full_disk_is_told():
    with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123
        screen = Screen.of(stream)
        screen.say("lost")
        assert screen.problem


def test_a_process_without_standard_output_writes_nothing():
    Screen.of(None).say("nothing")
