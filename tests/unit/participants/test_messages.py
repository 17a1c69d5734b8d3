import pytest

from aumai_transactions.participants.messages import first_line, last_line, printable, without


@pytest.mark.parametrize(
    "text,shown",
    [
        ("plain ü €", "plain ü €"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\u202egnp", r"\u202egnp"),
        ("a\u2028b\x85c\0", r"a\u2028b\x85c\x00"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert printable(text) == shown


def test_what_is_long_is_cut():
    assert printable("a" * 400) == "a" * 300 + "…"
    assert len(printable("\x1b" * 10**7)) < 2_000


def test_the_first_and_the_last_line_with_something_in_them_are_found():
    text = "\r\n \n one \rtwo\n three\x0cfour\n\n"
    assert first_line(text) == "one"
    assert last_line(text) == r"three\x0cfour"
    assert first_line("\n") == last_line("") == ""


def test_secrets_are_painted_over_longest_first():
    assert without("abcdef abcd abc", ["abcd", "abcdef", "abc", ""]) == "••• ••• abc"
